//! Ways to the database: verified TLS, a schema of the cache's own, and how many connections there are.

use std::process::Command;
use std::time::{Duration, Instant};

use niks3_protocol::api::health::{Dependency, Readiness};
use niks3_server::db::Connections;
use reqwest::{Method, StatusCode};
use sqlx::postgres::PgSslMode;
use sqlx::{AssertSqlSafe, ConnectOptions as _};

use crate::support::closure::TestPath;
use crate::support::tls::Ca;
use crate::support::{Place, TestServer, environment, refusal};

/// What `niks3-server migrate` says with these variables.
fn migrate(variables: &[(&str, &str)]) -> (bool, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_niks3-server"));
    let output = program
        .env_clear()
        .env("NIKS3_S3_BUCKET", "unused")
        .envs(variables.iter().copied())
        .arg("migrate")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn with_a_ca_file_the_database_has_to_prove_its_name() {
    let place = Place::create().await;
    let server = environment("DATABASE_URL");
    let server = server.rsplit_once('/').unwrap().0;
    let by_address = format!("{server}/{}", place.bucket());
    let by_name = by_address.replace("127.0.0.1", "localhost");
    let (ca, other) = (environment("NIKS3_TEST_DB_CA_FILE"), place.write_file("other.pem", Ca::new().pem()));
    for (url, mode, ca, expected) in [
        (&by_address, "", &ca, Ok(())),
        (&by_address, "?sslmode=require", &ca, Ok(())),
        (&by_name, "?sslmode=verify-ca", &ca, Ok(())),
        (&by_name, "", &ca, Err("certificate not valid for name")),
        (&by_address, "", &other, Err("UnknownIssuer")),
        (&by_address, "?sslmode=require", &other, Err("UnknownIssuer")),
        (&by_address, "?sslmode=disable", &ca, Err("its sslmode allows connections that are not encrypted")),
    ] {
        let (success, said) = migrate(&[("NIKS3_DB", &format!("{url}{mode}")), ("NIKS3_DB_CA_FILE", ca)]);
        match expected {
            Ok(()) => assert!(success, "{url}{mode}: {said}"),
            Err(sentence) => assert!(!success && said.contains(sentence), "{url}{mode}: {said}"),
        }
    }
    // As libpq says it, in the URL.
    let (success, said) =
        migrate(&[("NIKS3_DB", &format!("{by_address}?sslmode=verify-full&sslrootcert={ca}"))]);
    assert!(success, "{said}");
    for (file, sentence) in [
        ("/nowhere".to_owned(), "the CA file of the database: /nowhere"),
        (place.write_file("empty.pem", "nothing\n"), "has no certificate"),
    ] {
        let (success, said) = migrate(&[("NIKS3_DB", &by_address), ("NIKS3_DB_CA_FILE", &file)]);
        assert!(!success && said.contains(sentence), "{said}");
    }
}

#[tokio::test]
async fn a_database_that_does_not_prove_its_name_is_told_from_one_that_is_away() {
    let place = Place::create().await;
    let (ca, other) = (environment("NIKS3_TEST_DB_CA_FILE"), place.write_file("other.pem", Ca::new().pem()));
    let by_address = place.database().clone().ssl_mode(PgSslMode::VerifyFull);
    let away = by_address.clone().ssl_root_cert(&ca).port(1);
    for (options, expected) in [
        (by_address.clone().ssl_root_cert(&other), "TLSVerificationFailed: the database's certificate"),
        (by_address.clone().ssl_root_cert(&ca).host("localhost"), "TLSVerificationFailed: "),
        (away, "ConnectionFailed: the database cannot be reached"),
    ] {
        let server = TestServer::launch(place.clone(), |parts| parts.database.options = options).await;
        server.wait_for_problem(Dependency::Database, expected).await;
    }
}

#[tokio::test]
async fn caches_share_a_database_by_schemas() {
    let shared = Place::create().await;
    let at = async |schema: &str| {
        let database = shared.database().clone().options([("search_path", schema)]);
        TestServer::with(|parts| {
            parts.database.options = database;
            parts.database.schema = Some(schema.to_owned());
        })
        .await
    };
    let (alpha, beta) = (at("alpha").await, at("beta").await);
    let path = TestPath::new("of-alpha", &[]);
    alpha.push(&[&path]).await;
    let closure = format!("/api/closures/{}", path.key());
    for (server, expected) in [(&alpha, StatusCode::OK), (&beta, StatusCode::NOT_FOUND)] {
        let answer = server.request(Method::GET, &closure).send().await.unwrap();
        assert_eq!(answer.status(), expected);
    }
    let tables = shared.rows::<(String, i64)>(
        "select schemaname::text, count(*) from pg_tables where tablename in ('objects', '_sqlx_migrations') \
         group by 1 order by 1",
    );
    assert_eq!(tables.await, [("alpha".to_owned(), 2), ("beta".to_owned(), 2)]);
}

#[tokio::test]
async fn who_may_not_make_schemas_may_be_given_one() {
    let place = Place::create().await;
    let role = format!("{}-role", place.bucket());
    place
        .sql(&format!(
            "create role \"{role}\" login; create schema given authorization \"{role}\"; \
             revoke all on schema public from public"
        ))
        .await;
    let url = environment("DATABASE_URL");
    let host = url.rsplit_once('/').unwrap().0.split_once('@').unwrap().1;
    let url = format!("postgres://{role}@{host}/{}", place.bucket());
    let (success, said) = migrate(&[("NIKS3_DB", &url), ("NIKS3_DB_SCHEMA", "given")]);
    assert!(success, "{said}");
    let (success, said) = migrate(&[("NIKS3_DB", &url), ("NIKS3_DB_SCHEMA", "other")]);
    assert!(!success && said.contains("permission denied"), "{said}");
    for name in ["Other", "a\"b", "pg_x", "1a", "a b"] {
        let (success, said) = migrate(&[("NIKS3_DB", &url), ("NIKS3_DB_SCHEMA", name)]);
        assert!(!success && said.contains("is not a name of lower case letters"), "{name}: {said}");
    }
    place.sql(&format!("drop owned by \"{role}\"; drop role \"{role}\"")).await;
}

/// The number that `/metrics` has under a name.
async fn metric(server: &TestServer, name: &str) -> u32 {
    let text = server.get("/metrics").await.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
}

#[tokio::test]
async fn as_many_connections_are_kept_as_are_wanted() {
    let server = TestServer::with(|parts| {
        parts.database.connections = Connections { min: 7, ..Connections::at_most(9) }
    });
    let server = server.await;
    for _ in 0..100 {
        // Two looks at once may have opened one more.
        if metric(&server, "niks3_db_idle_connections").await >= 7 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("there should be seven at least, without anything to do");
}

#[tokio::test]
async fn a_call_waits_for_a_connection_as_long_as_it_is_told_to() {
    let connections = Connections { max: 2, min: 0, wait: Duration::from_secs(1) };
    let server = TestServer::with(|parts| parts.database.connections = connections).await;
    let mut holder = server.place().database().connect().await.unwrap();
    let lock = "begin; lock table pins in access exclusive mode";
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut holder).await.unwrap();
    let call = || server.request(Method::GET, "/api/pins").send();
    // Two have the connections and wait for the table, as long as a call may; the third waits for a connection.
    let waiting = [tokio::spawn(call()), tokio::spawn(call())];
    while metric(&server, "niks3_db_connections").await < 2
        || metric(&server, "niks3_db_idle_connections").await > 0
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let started = Instant::now();
    let (status, text) = refusal(call().await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.contains("the cache's database is not available"), "{text}");
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(waiting.iter().all(|call| !call.is_finished()), "nobody gets past the lock");
}

#[tokio::test]
async fn how_many_connections_there_may_be_is_told() {
    let place = Place::create().await;
    let server = TestServer::at(place.clone(), |_| {}).await;
    let told = async || {
        let readiness: Readiness = server.get("/readyz?verbose").await.json().await.unwrap();
        readiness.database_connections
    };
    let configured = place.rows::<(i32,)>(
        "select (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int \
         - coalesce(current_setting('reserved_connections', true)::int, 0))",
    );
    assert_eq!(told().await, u32::try_from(configured.await[0].0).ok());
    place.sql(&format!("alter database \"{}\" connection limit 23", place.bucket())).await;
    assert_eq!(told().await, Some(23));
}
