//! Keys that change in their files: no restart, and what is broken changes nothing.

use std::process::Command;

use niks3_protocol::api::cache_config::CacheConfig;
use niks3_protocol::api::health::{Dependency, KeysInForce, Readiness};

use super::*;
use crate::start::{Running, program, variables, wait_for_address};

/// All servers of this process look at their files.
fn hang_up() {
    let pid = std::process::id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

fn secrets(numbers: &[u8]) -> String {
    numbers.iter().map(|number| key(*number).to_secret_text() + "\n").collect()
}

fn public(numbers: &[u8]) -> Vec<String> {
    numbers.iter().map(|number| key(*number).public_key().to_string()).collect()
}

/// A server whose keys are in one file, and the revoked ones in another.
async fn start(rate: u32) -> (TestServer, Place) {
    let place = Place::create().await;
    let keys = place.write_file("keys", &secrets(&[1])).into();
    let revoked = place.write_file("revoked", "").into();
    let server = TestServer::at(place.clone(), |parts| {
        parts.signing_keys = vec![keys];
        parts.settings.revoked_keys_file = Some(revoked);
        parts.settings.resign.rate = rate;
    })
    .await;
    (server, place)
}

impl TestServer {
    async fn whether_ready(&self) -> Readiness {
        self.get("/readyz?verbose").await.json().await.unwrap()
    }

    /// Lets the server look at its files, and waits until these keys sign and those are revoked.
    async fn takes(&self, keys: &[u8], revoked: &[u8]) {
        let wanted = KeysInForce { keys: public(keys), revoked: public(revoked) };
        hang_up();
        for _ in 0..100 {
            if self.whether_ready().await.signing.as_ref() == Some(&wanted) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}", self.whether_ready().await);
    }

    async fn problem(&self) -> (bool, String) {
        let Readiness { ready, checks, .. } = self.whether_ready().await;
        let check = checks.into_iter().find(|check| check.name == Dependency::SigningKeys).unwrap();
        (ready && check.ok, check.message)
    }

    async fn metric(&self) -> String {
        let metrics = self.get("/metrics").await.text().await.unwrap();
        let line =
            metrics.lines().find(|line| line.starts_with("niks3_signing_keys_last_reload_successful "));
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    }
}

#[tokio::test]
async fn keys_follow_one_another_in_their_files_without_a_restart() {
    let (server, place) = start(0).await;
    let [before, both, after] = ["before", "both", "after"].map(|name| TestPath::new(name, &[]));
    server.push(&[&before]).await;
    assert_eq!(server.signed_by(&before).await, ["test-1"]);

    place.write_file("keys", &secrets(&[1, 2]));
    server.takes(&[1, 2], &[]).await;
    server.push(&[&both]).await;
    assert_eq!(server.signed_by(&both).await, ["test-1", "test-2"]);
    server.resigned(&[1, 2]).await;
    assert_eq!(server.signed_by(&before).await, ["test-1", "test-2"], "the stored ones follow");
    let config: serde_json::Value = server.get("/api/cache-config").await.json().await.unwrap();
    assert_eq!(config["public_keys"], serde_json::json!(public(&[1, 2])));
    let page = server.get("/").await.text().await.unwrap();
    assert!(page.contains(&trust(&[1, 2])), "{page}");
    assert_eq!(place.stored_bytes("index.html").await, page.as_bytes(), "the page in the bucket too");

    // The old one retires: it signs nothing more, and what it signed stays.
    place.write_file("keys", &secrets(&[2]));
    server.takes(&[2], &[]).await;
    server.push(&[&after]).await;
    assert_eq!(server.signed_by(&after).await, ["test-2"]);
    assert_eq!(server.resigned(&[2]).await.counts.signed, 0);
    assert_eq!(server.signed_by(&before).await, ["test-1", "test-2"]);

    // And is revoked.
    place.write_file("revoked", &format!("{}\n", trust(&[1])));
    server.takes(&[2], &[1]).await;
    server.resign_until(&[2], |run| run.state == GcState::Succeeded && run.counts.signed == 2).await;
    for path in [&before, &both, &after] {
        assert_eq!(server.signed_by(path).await, ["test-2"]);
    }
}

#[tokio::test]
async fn a_set_that_cannot_be_read_whole_leaves_the_old_one_in_force() {
    let (server, place) = start(0).await;
    assert_eq!((server.problem().await, server.metric().await), ((true, String::new()), "1".to_owned()));
    let again = SecretKey::from_seed("test-1", [99; 32]).unwrap().to_secret_text();
    for (number, (file, content, said)) in [
        ("keys", secrets(&[2]).replace(':', " "), "line 1"),
        ("keys", format!("{}test-2:c2VjcmV0\n", secrets(&[1])), "line 2"),
        ("keys", format!("{}{again}\n", secrets(&[1])), "two signing keys are named test-1"),
        ("keys", String::new(), "line 1"),
        ("revoked", trust(&[1]), "test-1 is revoked and is to sign"),
    ]
    .into_iter()
    .enumerate()
    {
        place.write_file(file, &content);
        hang_up();
        for _ in 0..150 {
            if server.metric().await == "0" && server.problem().await.1.contains(said) {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        let (ready, problem) = server.problem().await;
        assert!(ready && problem.contains(said), "{problem}");
        assert!(!problem.contains("c2VjcmV0") && !problem.contains("test-2 "), "{problem}");
        let path = TestPath::new(&format!("while-{number}"), &[]);
        server.push(&[&path]).await;
        assert_eq!(server.signed_by(&path).await, ["test-1"]);
        place.write_file("keys", &secrets(&[1]));
        place.write_file("revoked", "");
        hang_up();
        for _ in 0..150 {
            if server.problem().await.1.is_empty() && server.metric().await == "1" {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((server.problem().await, server.metric().await), ((true, String::new()), "1".to_owned()));
    }
}

/// What is brought in line with former keys would be undone at once, and with a revoked one would do harm.
#[tokio::test]
async fn a_run_ends_when_other_keys_are_in_force() {
    let (server, place) = start(1).await;
    let paths: Vec<TestPath> = (0..40).map(|number| TestPath::new(&format!("p{number}"), &[])).collect();
    server.push(&paths.iter().collect::<Vec<_>>()).await;
    server.resigned(&[1]).await;
    place.write_file("keys", &secrets(&[1, 2]));
    server.takes(&[1, 2], &[]).await;
    server.resign_until(&[1, 2], |run| run.state == GcState::Running).await;
    place.write_file("keys", &secrets(&[1]));
    server.takes(&[1], &[]).await;
    // Forty would take 40 s.
    server.resigned(&[1]).await;
    let runs = "select state, coalesce(error, '') from resign_runs order by id";
    let runs = place.rows::<(String, String)>(runs).await;
    let ended =
        ("failed".to_owned(), "other keys are in force meanwhile; a run with those follows".to_owned());
    assert_eq!(runs[1..], [ended, ("succeeded".to_owned(), String::new())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_ends_nothing_and_keys_are_read_at_once() {
    let place = Place::create().await;
    // The bucket is made by a server that is told to.
    TestServer::at(place.clone(), |_| {}).await.stop().await;
    let file = place.write_file("keys", &secrets(&[1]));
    let child = program().envs(variables(&place)).env("NIKS3_SIGN_KEY_PATHS", &file).spawn().unwrap();
    let mut running = Running(child);
    let url = wait_for_address(&mut running.0);
    let keys = async || -> Vec<String> {
        let answer = reqwest::get(format!("{url}/api/cache-config")).await.unwrap();
        // Until it is ready it answers with an error.
        let config: Option<CacheConfig> = answer.json().await.ok();
        config.iter().flat_map(|config| &config.public_keys).map(ToString::to_string).collect()
    };
    let mut begun = Instant::now();
    for numbers in [&[1][..], &[1, 2], &[2], &[2, 3], &[3]] {
        place.write_file("keys", &secrets(numbers));
        if numbers != [1] {
            let pid = running.0.id().to_string();
            assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        }
        while keys().await != public(numbers) {
            assert!(begun.elapsed() < Duration::from_secs(10), "four looks of their own would take 20 s");
            sleep(Duration::from_millis(20)).await;
        }
        begun = if numbers == [1] { Instant::now() } else { begun };
    }
    assert!(running.0.try_wait().unwrap().is_none());
}
