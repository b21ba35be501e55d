//! `fsck --adopt` beside rows that are there already: of a database that was brought back, with a collection at work.

use niks3_server::fsck::{Options, Summary};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::closure::TestPath;
use crate::support::{Place, TestServer};

const CLOSURES: &str = "select key from closures order by key";
const CONDEMNED: &str = "select key from objects where condemned_at is not null";

impl Place {
    async fn adopt(&self) -> (Summary, Vec<Value>) {
        self.fsck(Options { adopt: true, ..Options::default() }).await
    }

    /// As `nix copy` writes it.
    async fn copy(&self, path: &TestPath) {
        self.write_object(&path.nar_key(), &path.stored()[&path.nar_key()]).await;
        self.write_object(&path.key(), path.narinfo(&["elsewhere-1:AAAA"; 0]).as_bytes()).await;
    }
}

/// Two paths, one on top of the other, that no closure reaches any more: they are condemned.
async fn condemned() -> (TestServer, [TestPath; 2]) {
    let server = TestServer::start().await;
    let base = TestPath::new("base", &[]);
    let middle = TestPath::new("middle", &[&base]);
    server.push(&[&middle, &base]).await;
    let condemn = "delete from closures; update objects set condemned_at = now() - interval '1 h'";
    server.place().sql(condemn).await;
    (server, [base, middle])
}

/// A sweep is about to delete it, or has just sent that.
async fn claim(place: &Place, key: &str) {
    place
        .sql(&format!("update objects set deleting_since = now(), deleting_by = 7 where key = '{key}'"))
        .await;
}

#[tokio::test]
async fn all_that_an_adopted_path_reaches_is_wanted_again() {
    let (server, [base, middle]) = condemned().await;
    let (place, top) = (server.place(), TestPath::new("top", &[&middle]));
    place.copy(&top).await;
    let (summary, lines) = place.adopt().await;
    assert!(summary.is_clean() && summary.adopted == 1, "{lines:?}");
    assert_eq!(place.rows::<(String,)>(CONDEMNED).await, [] as [(String,); 0]);
    assert_eq!(place.rows::<(String,)>(CLOSURES).await, [(top.key(),)]);
    assert_eq!(place.rows::<(i64,)>("select count(*) from uploads").await, [(0,)]);
    server.collect_and_wait("older-than=1h&force=true").await;
    assert!(place.in_bucket(&base.nar_key()).await);
}

#[tokio::test]
async fn a_path_that_reaches_what_is_being_deleted_is_not_adopted() {
    let (server, [base, middle]) = condemned().await;
    let (place, top) = (server.place(), TestPath::new("top", &[&middle]));
    place.copy(&top).await;
    claim(place, &base.nar_key()).await;
    let (summary, lines) = place.adopt().await;
    assert_eq!((summary.adopted, summary.incomplete), (0, 1), "{lines:?}");
    assert!(lines[0].to_string().contains(&format!("{} is being deleted", base.nar_key())), "{lines:?}");
    assert_eq!(place.rows::<(String,)>(CLOSURES).await, [] as [(String,); 0]);
    assert_eq!(place.rows::<(i64,)>("select count(*) from uploads").await, [(0,)]);
}

#[tokio::test]
async fn all_that_an_adopted_pin_reaches_is_wanted_again_unless_it_is_being_deleted() {
    let (server, [base, middle]) = condemned().await;
    let place = server.place();
    place.write_object("pins/main", middle.store_path.as_str().as_bytes()).await;
    claim(place, &base.nar_key()).await;
    let (summary, lines) = place.adopt().await;
    assert_eq!((summary.pins, summary.incomplete), (0, 1), "{lines:?}");
    assert_eq!(place.rows::<(String,)>("select name from pins").await, [] as [(String,); 0]);
    assert_eq!(place.rows::<(String,)>(CLOSURES).await, [] as [(String,); 0]);

    place.sql("update objects set deleting_since = null, deleting_by = null").await;
    let (summary, lines) = place.adopt().await;
    assert!(summary.is_clean() && summary.pins == 1, "{lines:?}");
    assert_eq!(place.rows::<(String,)>(CONDEMNED).await, [] as [(String,); 0]);
    server.collect_and_wait("older-than=1h&force=true").await;
    assert!(place.in_bucket(&middle.key()).await && place.in_bucket(&base.nar_key()).await);
}

#[tokio::test]
async fn an_adopted_closure_that_reaches_what_has_no_row_any_more_is_incomplete() {
    let server = TestServer::start().await;
    let place = server.place();
    let base = TestPath::new("base", &[]);
    let middle = TestPath::new("middle", &[&base]);
    let top = TestPath::new("top", &[&middle]);
    for path in [&base, &middle, &top] {
        place.copy(path).await;
    }
    assert_eq!(place.adopt().await.0.adopted, 3);
    assert_eq!(place.rows::<(String,)>(CLOSURES).await, [(top.key(),)]);
    for key in [base.key(), base.nar_key()] {
        place.lose_object(&key).await;
        place.sql(&format!("delete from objects where key = '{key}'")).await;
    }
    let (summary, lines) = place.adopt().await;
    assert_eq!((summary.adopted, summary.incomplete), (0, 1), "{lines:?}");
    assert!(lines[0].to_string().contains(&top.key()), "{lines:?}");
    assert_eq!(place.rows::<(String,)>(CLOSURES).await, [] as [(String,); 0]);
}

/// What was adopted and is pushed, or asked for as a push asks, is a closure of its own from then on.
#[tokio::test]
async fn what_somebody_pushed_stays_a_closure_whatever_is_adopted_above_it() {
    let server = TestServer::start().await;
    let place = server.place();
    let [adopted, pushed, asked_for] =
        ["adopted", "pushed", "asked-for"].map(|name| TestPath::new(name, &[]));
    for path in [&adopted, &pushed, &asked_for] {
        place.copy(path).await;
    }
    assert_eq!(place.adopt().await.0.adopted, 3);
    // A client of niks3 sends the listing, which nix copy does not.
    server.push(&[&pushed]).await;
    let refresh = json!({ "closures": [asked_for.key()] });
    let answer = server.request(Method::POST, "/api/closures/refresh").json(&refresh).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);

    let top = TestPath::new("top", &[&adopted, &pushed, &asked_for]);
    place.copy(&top).await;
    let (summary, lines) = place.adopt().await;
    assert!(summary.is_clean() && summary.adopted == 1, "{lines:?}");
    let mut closures = [top.key(), pushed.key(), asked_for.key()];
    closures.sort_unstable();
    assert_eq!(place.rows::<(String,)>(CLOSURES).await, closures.map(|key| (key,)));
    server.pin("main", &pushed).await;
    server.pin("next", &asked_for).await;
}
