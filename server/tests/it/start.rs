//! Starting: replicas at once, the program with niks3 1.7's variables alone, and what stops a start.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::CommandFactory as _;
use futures::future::join_all;
use niks3_protocol::nix::SecretKey;
use niks3_server::args::Args;
use reqwest::StatusCode;
use tokio::time::sleep;

use crate::support::closure::TestPath;
use crate::support::{ADMIN, Place, TestServer, environment, s3_address};

pub(crate) fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_niks3-server"));
    program.env_clear().stdout(Stdio::piped()).stderr(Stdio::piped());
    program
}

/// Ends with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn database_url(place: &Place) -> String {
    let url = environment("DATABASE_URL");
    format!("{}/{}", url.rsplit_once('/').unwrap().0, place.bucket())
}

/// What niks3 1.7 is told in a Docker installation.
pub(crate) fn variables(place: &Place) -> Vec<(&'static str, String)> {
    let key = SecretKey::from_seed("test-1", [7; 32]).unwrap();
    vec![
        ("NIKS3_DB", database_url(place)),
        ("NIKS3_HTTP_ADDR", "127.0.0.1:0".to_owned()),
        ("NIKS3_S3_ENDPOINT", s3_address()),
        ("NIKS3_S3_USE_SSL", "false".to_owned()),
        ("NIKS3_S3_BUCKET", place.bucket().to_owned()),
        ("NIKS3_S3_REGION", "us-east-1".to_owned()),
        ("NIKS3_S3_ACCESS_KEY", environment("NIKS3_TEST_S3_ACCESS_KEY")),
        ("NIKS3_S3_SECRET_KEY", environment("NIKS3_TEST_S3_SECRET_KEY")),
        ("NIKS3_API_TOKEN", ADMIN.to_owned()),
        ("NIKS3_SIGN_KEY_PATHS", place.write_file("key", &key.to_secret_text())),
        ("NIKS3_CACHE_URL", "https://cache.example".to_owned()),
        ("NIKS3_ENABLE_READ_PROXY", "true".to_owned()),
    ]
}

/// The address in the line that says where it listens.
pub(crate) fn wait_for_address(child: &mut Child) -> String {
    let output = child.stdout.take().map(|output| Box::new(output) as Box<dyn std::io::Read + Send>);
    let errors = child.stderr.take().map(|output| Box::new(output) as Box<dyn std::io::Read + Send>);
    let (send, receive) = std::sync::mpsc::channel();
    for pipe in [output, errors].into_iter().flatten() {
        let send = send.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
    }
    let mut said = String::new();
    while let Ok(line) = receive.recv_timeout(Duration::from_secs(20)) {
        if let Some(address) = line.split("127.0.0.1:").nth(1).filter(|_| line.contains("listening")) {
            let port: String = address.chars().take_while(char::is_ascii_digit).collect();
            return format!("http://127.0.0.1:{port}");
        }
        said.push_str(&line);
    }
    panic!("it does not listen: {said}");
}

#[tokio::test]
async fn replicas_that_start_at_once_on_an_empty_database_all_serve() {
    let place = Place::create().await;
    let servers = join_all((0..6).map(|_| TestServer::at(place.clone(), |_| {}))).await;
    let path = TestPath::new("path", &[]);
    servers[0].push(&[&path]).await;
    for server in &servers {
        assert_eq!(server.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
    }
    let migrations = place.rows::<(i64,)>("select count(*) from _sqlx_migrations where success").await;
    assert_eq!(migrations, [(i64::try_from(std::fs::read_dir("../migrations").unwrap().count()).unwrap(),)]);
}

#[tokio::test]
async fn the_variables_of_niks3_1_7_alone_are_enough() {
    let place = Place::create().await;
    // As in 1.7 the bucket is there already.
    let first = TestServer::at(place.clone(), |_| {}).await;
    first.stop().await;
    let mut running = Running(program().envs(variables(&place)).spawn().unwrap());
    let url = wait_for_address(&mut running.0);
    let mut server = TestServer::at(place, |_| {}).await;
    server.url = url;
    server.wait_until_ready().await;
    let path = TestPath::new("path", &[]);
    server.push(&[&path]).await;
    let narinfo = server.get(&format!("/{}", path.key())).await.text().await.unwrap();
    assert!(narinfo.contains("Sig: test-1:"), "{narinfo}");
    let config: serde_json::Value = server.get("/api/cache-config").await.json().await.unwrap();
    assert_eq!(config["substituter_url"], "https://cache.example");

    // Asked to stop, it ends by itself and well.
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    for _ in 0..100 {
        if let Some(status) = running.0.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("it should have stopped within 5 s");
}

#[tokio::test]
async fn an_empty_variable_counts_as_absent() {
    let place = Place::create().await;
    let server = TestServer::at(place.clone(), |_| {}).await;
    let with_scheme = ("NIKS3_S3_ENDPOINT", environment("NIKS3_TEST_S3_ENDPOINT"));
    let needed = ["NIKS3_DB", "NIKS3_S3_BUCKET", "NIKS3_S3_ACCESS_KEY", "NIKS3_S3_SECRET_KEY"];
    let needed = variables(&place).into_iter().filter(|(name, _)| needed.contains(name)).collect::<Vec<_>>();
    let definition = Args::command();
    let empty = definition.get_arguments().filter_map(|argument| Some((argument.get_env()?, "")));
    let empty = empty.collect::<Vec<_>>();
    let all = || {
        let mut program = program();
        program.arg("check").envs(empty.iter().copied()).envs(needed.iter().cloned());
        program
    };
    let output = all().envs([with_scheme]).output().unwrap();
    assert!(output.status.success() && text(&output).contains("are in order"), "{}", text(&output));
    // Absent, NIKS3_S3_USE_SSL means https, which the S3 of tests does not speak.
    let output = all().env("NIKS3_S3_ENDPOINT", s3_address()).output().unwrap();
    assert!(
        !output.status.success() && text(&output).contains("no connection: received corrupt message"),
        "{}",
        text(&output)
    );
    drop(server);
}

#[tokio::test]
async fn migrate_and_check_say_what_is_in_order_and_what_is_not() {
    let place = Place::create().await;
    let run = |command: &str, change: Option<(&'static str, &str)>| {
        let output = program().envs(variables(&place)).envs(change).arg(command).output().unwrap();
        (output.status.success(), text(&output))
    };
    let (success, said) = run("migrate", None);
    assert!(success && said.contains("the schema is up to date"), "{said}");
    let (success, said) = run("check", None);
    assert!(!success && said.contains("NoSuchBucket"), "{said}");
    let server = TestServer::at(place.clone(), |_| {}).await;
    let (success, said) = run("check", None);
    assert!(success && said.contains("are in order"), "{said}");
    drop(server);
    let (success, said) = run("check", Some(("NIKS3_DB", "postgres://x:secret-word@127.0.0.1:1/x")));
    assert!(!success && said.contains("the database") && !said.contains("secret-word"), "{said}");
    let (success, said) = run("check", Some(("NIKS3_S3_SECRET_KEY", "another-secret-word")));
    assert!(!success && !said.contains("another-secret-word"), "{said}");
}

#[tokio::test]
async fn a_wrong_configuration_stops_the_start_with_one_line() {
    let place = Place::create().await;
    let file = |name: &str, content: &str| place.write_file(name, content);
    for (name, value, sentence) in [
        ("NIKS3_DB", String::new(), "no database: set NIKS3_DB"),
        ("NIKS3_DB", "nothing".to_owned(), "neither as URL nor as key=value"),
        ("NIKS3_DB", "mysql://x:secret-word@h/d".to_owned(), "the database URL is not postgres://"),
        ("NIKS3_S3_BUCKET", String::new(), "no bucket: set NIKS3_S3_BUCKET"),
        ("NIKS3_S3_SECRET_KEY", String::new(), "belong together; only one is given"),
        ("NIKS3_S3_ENCRYPTION", "sse-c".to_owned(), "is neither aes256 nor kms"),
        ("NIKS3_S3_ENCRYPTION", "kms".to_owned(), "the encryption KMS needs the id of a key"),
        ("NIKS3_S3_KMS_KEY_ID", "key".to_owned(), "a KMS key is given and no encryption"),
        (
            "NIKS3_S3_SESSION_TOKEN_PATH",
            "/t".to_owned(),
            "changes together with its keys: give those as files too",
        ),
        ("NIKS3_S3_BUCKET_LOOKUP", "x".to_owned(), "none of auto, dns and path"),
        ("NIKS3_S3_USE_SSL", "maybe".to_owned(), "neither true nor false"),
        ("NIKS3_PRESIGN_EXPIRY", "8000h".to_owned(), "S3 takes"),
        ("NIKS3_PRESIGN_EXPIRY", "soon".to_owned(), "is not a duration"),
        ("NIKS3_S3_REQUEST_TIMEOUT", "0s".to_owned(), "is not from 1s to 1h"),
        ("NIKS3_API_TOKEN", "secret-word".to_owned(), "has 11 characters; at least 36"),
        ("NIKS3_API_TOKEN_PATH", "/nowhere".to_owned(), "the API token: /nowhere"),
        ("NIKS3_SIGN_KEY_PATHS", "/nowhere".to_owned(), "signing key /nowhere"),
        ("NIKS3_SIGN_KEY_PATHS", file("bad-key", "name:secret-word"), "bad-key"),
        ("NIKS3_DB_MIGRATIONS", "later".to_owned(), "later is neither automatic nor manual"),
        ("NIKS3_TLS_CERT", "/c".to_owned(), "belong together; only one is given"),
        ("NIKS3_TLS_CLIENT_CA", "/c".to_owned(), "NIKS3_TLS_CLIENT_CA needs NIKS3_TLS_CERT"),
        ("NIKS3_MTLS_PROXY_HEADER", "X-Verified".to_owned(), "name the addresses of the proxy that sets it"),
        ("NIKS3_S3_RATE_LIMIT", "-5".to_owned(), "is not a number of requests a second"),
        ("NIKS3_MAX_BODY", "1MX".to_owned(), "NIKS3_MAX_BODY=1MX: "),
        ("NIKS3_MAX_UPLOAD_OBJECTS", "0".to_owned(), "objects_per_upload is 0: nobody could push"),
        ("NIKS3_MAX_NAR_SIZE", "6Ti".to_owned(), "which is not from 1 to 5Ti, the most that S3 can hold"),
        ("NIKS3_CALLS_PER_SECOND", "many".to_owned(), "NIKS3_CALLS_PER_SECOND=many: invalid digit"),
        ("NIKS3_CALL_TIMEOUT", "2h".to_owned(), "which is not from 1s to 1h"),
        (
            "NIKS3_CONFIG",
            file("tls.json", r#"{"tls": {"cert_file": "/nowhere", "key_file": "/nowhere"}}"#),
            "the TLS certificate /nowhere",
        ),
        ("NIKS3_CONFIG", "/nowhere".to_owned(), "the configuration file /nowhere"),
        ("NIKS3_CONFIG", file("cut.json", "{"), "EOF while parsing"),
        ("NIKS3_CONFIG", file("unknown.json", r#"{"databse": {}}"#), "unknown field `databse`"),
        (
            "NIKS3_CONFIG",
            file("pool.json", r#"{"database": {"max_connections": 2, "min_connections": 3}}"#),
            "3 connections at least and 2 at most",
        ),
        (
            "NIKS3_CONFIG",
            file("wait.json", r#"{"database": {"acquire_timeout": "0s"}}"#),
            "which is not from 1s to 10m",
        ),
        ("NIKS3_CONFIG", file("type.json", r#"{"read_proxy": "yes"}"#), "expected a boolean"),
        ("NIKS3_OIDC_CONFIG", file("oidc.json", "[]"), "oidc.json"),
        ("NIKS3_HTTP_ADDR", "nowhere".to_owned(), "listening on nowhere"),
    ] {
        let mut program = program();
        let mut child = Running(program.envs(variables(&place)).env(name, &value).spawn().unwrap());
        let mut waited = 0;
        while child.0.try_wait().unwrap().is_none() {
            waited += 1;
            assert!(waited < 400, "{name}={value} should stop the start");
            sleep(Duration::from_millis(25)).await;
        }
        let mut said = String::new();
        for pipe in [child.0.stdout.take().map(Pipe::Out), child.0.stderr.take().map(Pipe::Err)] {
            said.push_str(&pipe.unwrap().text());
        }
        assert!(!child.0.wait().unwrap().success(), "{name}={value}: {said}");
        assert!(said.contains(sentence), "{name}={value}: {said}");
        assert!(!said.contains("secret-word") && !said.contains("panicked"), "{name}={value}: {said}");
    }
}

enum Pipe {
    Out(std::process::ChildStdout),
    Err(std::process::ChildStderr),
}

impl Pipe {
    fn text(self) -> String {
        match self {
            Self::Out(pipe) => std::io::read_to_string(pipe),
            Self::Err(pipe) => std::io::read_to_string(pipe),
        }
        .unwrap()
    }
}

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
