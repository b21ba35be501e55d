//! Migrations that are run by hand, that fail, and that a newer server ran.

use std::process::Stdio;
use std::time::Duration;

use niks3_protocol::api::health::Dependency;
use niks3_protocol::server_config::MigrationMode;
use niks3_server::db::migrations::MIGRATOR;
use reqwest::{Method, StatusCode};

use crate::start::{program, variables};
use crate::support::closure::{TestPath, begin_request};
use crate::support::{Place, TestServer};

/// Of a server that is to come.
const NEWER: i64 = 99_991_231_235_959;

/// What a command of the program says with niks3 1.7's variables and one more. It ends by itself.
async fn run(place: &Place, command: &[&str], more: Option<(&str, &str)>) -> (Option<i32>, String) {
    let mut program = tokio::process::Command::from(program());
    program.envs(variables(place)).envs(more).args(command).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), program.output()).await;
    let output = output.expect("it should end").unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

async fn by_hand(place: &Place) -> TestServer {
    TestServer::launch(place.clone(), |parts| parts.database.migrations = MigrationMode::Manual).await
}

fn newest() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap()
}

async fn schema_version(server: &TestServer) -> Option<i64> {
    server.readiness().await.1.schema_version
}

/// Takes the newest migration off the list, as where a server of before it ran last. Its own effects stay.
async fn forget_the_newest(place: &Place) {
    let newest = newest();
    place
        .sql(&format!(
            "create table forgotten as select * from _sqlx_migrations where version = {newest}; \
             delete from _sqlx_migrations where version = {newest}"
        ))
        .await;
}

#[tokio::test]
async fn a_server_that_is_told_not_to_migrate_changes_nothing_and_waits() {
    let place = Place::create().await;
    let server = by_hand(&place).await;
    let all = MIGRATOR.iter().count();
    let pending = format!("MigrationPending: {all} of {all} migrations are not applied");
    let said = server.wait_for_problem(Dependency::Database, &pending).await;
    assert!(said.contains("run `niks3-server migrate`"), "{said}");
    assert_eq!(server.get("/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.get("/livez").await.status(), StatusCode::OK, "it is not restarted for that");
    let path = TestPath::new("path", &[]);
    let begin = server.request(Method::POST, "/api/pending_closures").json(&begin_request(&path, &[&path]));
    assert_eq!(begin.send().await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    let manual = ("NIKS3_DB_MIGRATIONS", "manual");
    let (code, said) = run(&place, &["fsck"], Some(manual)).await;
    assert!(code == Some(2) && said.contains("migrations are not applied"), "{code:?} {said}");
    let tables = "select count(*) from pg_tables where schemaname = 'public'";
    assert_eq!(place.rows::<(i64,)>(tables).await, [(0,)], "nobody made any");
    assert_eq!(schema_version(&server).await, None);

    // Whoever runs it means it, whatever the configuration says.
    let (code, said) = run(&place, &["migrate"], Some(manual)).await;
    assert_eq!(code, Some(0), "{said}");
    server.wait_until_ready().await;
    assert_eq!(schema_version(&server).await, Some(newest()));
    server.push(&[&path]).await;
}

#[tokio::test]
async fn servers_of_before_go_on_while_new_ones_wait() {
    let place = Place::create().await;
    let old = TestServer::at(place.clone(), |_| {}).await;
    forget_the_newest(&place).await;
    let new = by_hand(&place).await;
    new.wait_for_problem(Dependency::Database, "MigrationPending: 1 of ").await;
    let before = MIGRATOR.iter().map(|migration| migration.version).filter(|version| *version < newest());
    assert_eq!(schema_version(&new).await, before.max());
    let path = TestPath::new("path", &[]);
    old.push(&[&path]).await;
    assert_eq!(old.get("/readyz").await.status(), StatusCode::OK);
    place.sql("insert into _sqlx_migrations select * from forgotten").await;
    new.wait_until_ready().await;
    assert_eq!(new.get(&format!("/{}", path.key())).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_migration_that_fails_is_named_and_keeps_nobody_from_trying() {
    let place = Place::create().await;
    place.sql("create table objects (somebody_elses text)").await;
    // Each takes the lock, and fails.
    let servers =
        [TestServer::launch(place.clone(), |_| {}).await, TestServer::launch(place.clone(), |_| {}).await];
    let first = MIGRATOR.iter().map(|migration| migration.version).min().unwrap();
    for server in &servers {
        let said = server.wait_for_problem(Dependency::Database, "MigrationFailed").await;
        let expected = format!(
            "MigrationFailed: the database answers migration {first} with error 42P07; see the server's log"
        );
        assert_eq!(said, expected);
    }
    let (code, said) = run(&place, &["migrate"], None).await;
    assert!(code == Some(1) && said.contains("already exists"), "{code:?} {said}");
    place.sql("drop table objects").await;
    for server in &servers {
        server.wait_until_ready().await;
    }
}

#[tokio::test]
async fn a_database_of_a_newer_server_is_left_alone() {
    let place = Place::create().await;
    TestServer::at(place.clone(), |_| {}).await.stop().await;
    place
        .sql(&format!(
            "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
             values ({NEWER}, 'to come', true, '', 0)"
        ))
        .await;
    let servers = [TestServer::launch(place.clone(), |_| {}).await, by_hand(&place).await];
    for server in &servers {
        let said = server.wait_for_problem(Dependency::Database, "SchemaTooNew").await;
        assert!(said.contains(&format!("migration {NEWER}, which this server does not know")), "{said}");
        assert_eq!(schema_version(server).await, Some(NEWER));
    }
    let (code, said) = run(&place, &["migrate"], None).await;
    assert!(code == Some(1) && said.contains(&NEWER.to_string()), "{code:?} {said}");
    place.sql(&format!("delete from _sqlx_migrations where version = {NEWER}")).await;
    for server in &servers {
        server.wait_until_ready().await;
        assert_eq!(schema_version(server).await, Some(newest()));
    }
}
