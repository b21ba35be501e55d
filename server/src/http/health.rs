//! Whether the server lives, and whether it can work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use niks3_protocol::api::health::{Dependency, Readiness, ReadinessCheck};
use niks3_protocol::server_config::MigrationMode;
use sqlx::migrate::MigrateError;
use tokio::time::Instant;

use super::usage;
use crate::app::App;
use crate::db::migrations::SchemaError;
use crate::error::ApiError;
use crate::storage::StorageError;

/// The limit on asking one dependency.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Dependencies are asked at most so often, however many probes there are.
const CHECK_AGE: Duration = Duration::from_secs(1);
/// The same while something is missing: a start should not wait for the second to be over.
const BAD_CHECK_AGE: Duration = Duration::from_millis(50);

/// What is known of the dependencies.
#[derive(Debug, Default)]
pub struct Health {
    state: Mutex<State_>,
    /// The last checks, and when they began. Held while they run: one round at a time is the point.
    last: tokio::sync::Mutex<Option<(Instant, Vec<ReadinessCheck>)>>,
}

#[derive(Debug, Default)]
struct State_ {
    migrated: bool,
    stopping: bool,
    migration_problem: Option<(&'static str, String)>,
    schema_version: Option<i64>,
    /// The bucket was tried and is this cache's.
    storage: bool,
    storage_problem: Option<(&'static str, String)>,
    /// When one of them became usable.
    changed: Option<Instant>,
}

impl Health {
    fn state(&self) -> std::sync::MutexGuard<'_, State_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The schema is up to date.
    pub fn database_ready(&self) {
        let mut state = self.state();
        state.migrated = true;
        state.migration_problem = None;
        state.changed = Some(Instant::now());
    }

    /// The tables cannot be used. Whether that, and why, is news.
    pub fn database_failed(&self, error: &SchemaError) -> bool {
        let problem = Some(match error {
            SchemaError::Pending { .. } => ("MigrationPending", error.to_string()),
            SchemaError::Migrate(error) => describe_migration(error),
        });
        std::mem::replace(&mut self.state().migration_problem, problem.clone()) != problem
    }

    /// The newest migration that was applied.
    pub fn schema_is(&self, version: Option<i64>) {
        self.state().schema_version = version;
    }

    /// The bucket can be used, and is this cache's.
    pub fn storage_ready(&self) {
        let mut state = self.state();
        state.storage = true;
        state.storage_problem = None;
        state.changed = Some(Instant::now());
    }

    /// It cannot, or is not.
    pub fn storage_failed(&self, error: &StorageError) {
        self.state().storage_problem = Some((error.reason(), error.to_string()));
    }

    /// Refuses what changes the bucket before it is known to be this cache's.
    pub fn require_storage(&self) -> Result<(), ApiError> {
        let state = self.state();
        if state.storage {
            return Ok(());
        }
        let why = state.storage_problem.as_ref().map_or("it was not tried yet", |(reason, _)| *reason);
        let message = format!("the cache's storage is not available ({why})");
        Err(ApiError::Unavailable { after: Duration::from_secs(5), message })
    }

    /// What the start found wrong with the bucket.
    fn storage_problem(&self) -> Option<(&'static str, String)> {
        let state = self.state();
        let untried = || ("EndpointUnreachable", "the bucket is being tried".to_owned());
        state.storage_problem.clone().or_else(|| (!state.storage).then(untried))
    }

    /// The server is asked to stop: no new requests, please.
    pub fn stop(&self) {
        self.state().stopping = true;
    }

    /// Refuses what needs the database before the schema is there.
    pub fn require_database(&self) -> Result<(), ApiError> {
        if self.state().migrated {
            return Ok(());
        }
        let message = "the cache's database is not available".to_owned();
        Err(ApiError::Unavailable { after: Duration::from_secs(5), message })
    }

    async fn checks(&self, app: &App) -> Vec<ReadinessCheck> {
        let mut last = self.last.lock().await;
        if let Some((at, checks)) = last.as_ref() {
            let age = if checks.iter().all(|check| check.ok) { CHECK_AGE } else { BAD_CHECK_AGE };
            let overtaken = self.state().changed.is_some_and(|changed| changed >= *at);
            if at.elapsed() < age && !overtaken {
                return checks.clone();
            }
        }
        let began = Instant::now();
        let (database, storage) = tokio::join!(self.check_database(app), check_storage(app));
        let checks = vec![database, storage, check_keys(app)];
        *last = Some((began, checks.clone()));
        checks
    }

    async fn check_database(&self, app: &App) -> ReadinessCheck {
        let problem = self.state().migration_problem.clone();
        let answer = tokio::time::timeout(CHECK_TIMEOUT, crate::db::ping(&app.db)).await;
        let outcome = match (problem, answer) {
            (Some(problem), _) => Some(problem),
            (None, Ok(Ok(()))) if !self.state().migrated => {
                let doing = match app.migrations {
                    MigrationMode::Automatic => "the schema is being brought up to date",
                    MigrationMode::Manual => "whether migrations are to be run is not known yet",
                };
                Some(("MigrationPending", doing.to_owned()))
            }
            (None, Ok(Ok(()))) => None,
            (None, Ok(Err(error))) => Some(describe(&error)),
            (None, Err(_)) => Some(("ConnectionFailed", format!("no answer within {CHECK_TIMEOUT:?}"))),
        };
        check(Dependency::Database, outcome)
    }
}

/// What keeps migrations from being applied.
fn describe_migration(error: &MigrateError) -> (&'static str, String) {
    let failed = |what: String| ("MigrationFailed", format!("{what}; see the server's log"));
    match error {
        MigrateError::Execute(error) => describe(error),
        MigrateError::ExecuteMigration(error, version) => {
            let said = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
            // It may be shutting down (57) or be short of something (53); else it will not do it the next time either.
            match said.filter(|code| !code.starts_with("57") && !code.starts_with("53")) {
                Some(code) => failed(format!("the database answers migration {version} with error {code}")),
                None => describe(error),
            }
        }
        MigrateError::VersionMissing(version) => {
            let message = format!(
                "the database has migration {version}, which this server does not know: it is of a newer version of it"
            );
            ("SchemaTooNew", message)
        }
        MigrateError::VersionMismatch(version) => {
            failed(format!("migration {version} was applied in another form than this server knows"))
        }
        MigrateError::Dirty(version) => failed(format!("migration {version} was applied in part")),
        _ => failed("the schema could not be brought up to date".to_owned()),
    }
}

/// A database's error as a condition's reason and sentence; neither names host or user.
fn describe(error: &sqlx::Error) -> (&'static str, String) {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match (error, code.as_deref()) {
        (_, Some("28P01" | "28000")) => {
            ("AuthenticationFailed", "the database refuses the credentials".to_owned())
        }
        (_, Some(code)) => ("ConnectionFailed", format!("the database answers with error {code}")),
        _ if is_distrusted(error) => {
            ("TLSVerificationFailed", "the database's certificate is not trusted for its name".to_owned())
        }
        _ => ("ConnectionFailed", "the database cannot be reached".to_owned()),
    }
}

/// sqlx says it of a CA it cannot read; a certificate that a CA did not sign comes as an error of reading.
fn is_distrusted(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Io(error) => error
            .get_ref()
            .and_then(|cause| cause.downcast_ref())
            .is_some_and(|cause| matches!(cause, rustls::Error::InvalidCertificate(_))),
        _ => false,
    }
}

async fn check_storage(app: &App) -> ReadinessCheck {
    let outcome = match tokio::time::timeout(CHECK_TIMEOUT, app.bucket.probe()).await {
        Ok(Ok(())) => app.health.storage_problem(),
        Ok(Err(error)) => Some((error.reason(), format!("the bucket cannot be used: {}", error.message))),
        Err(_) => Some(app.bucket.without_credentials().map_or_else(
            || ("EndpointUnreachable", format!("S3 did not answer within {CHECK_TIMEOUT:?}")),
            |why| ("CredentialsUnavailable", format!("the bucket cannot be used: {why}")),
        )),
    };
    check(Dependency::Storage, outcome)
}

/// A cache without keys serves and stores, as niks3 1.7 does; only the operator insists on one.
fn check_keys(app: &App) -> ReadinessCheck {
    let mut check = check(Dependency::SigningKeys, None);
    if let Some(problem) = app.keys.problem() {
        "InvalidKey".clone_into(&mut check.reason);
        check.message =
            format!("the key files cannot be used now; what they held before still is: {problem}");
    } else if app.keys.now().signer.public_keys().is_empty() {
        "NoActiveKey".clone_into(&mut check.reason);
        "no signing key is configured: narinfos are not signed".clone_into(&mut check.message);
    }
    check
}

fn check(name: Dependency, problem: Option<(&'static str, String)>) -> ReadinessCheck {
    let ok = problem.is_none();
    let (reason, message) = problem.unwrap_or_default();
    ReadinessCheck { name, ok, reason: reason.to_owned(), message }
}

/// `GET /health`, as niks3 1.7 has it.
pub async fn health() -> &'static str {
    "OK"
}

/// `GET /livez`: the process answers; nothing else is asked.
pub async fn livez() -> &'static str {
    "ok"
}

/// `GET /readyz`, with `?verbose` as JSON.
pub async fn readyz(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let checks = app.health.checks(&app).await;
    let stopping = app.health.state().stopping;
    let ready = !stopping && checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if query.is_some_and(|query| query.starts_with("verbose")) {
        let database_connections = database_connections(&app, &checks).await;
        let readiness = Readiness {
            ready,
            checks,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            signing: Some(app.keys.now().told()),
            database_connections,
            issuers: Some(app.auth.issuers()),
            kubernetes_issuer: app.auth.kubernetes_issuer(),
            schema_version: app.health.state().schema_version,
        };
        return (status, Json(readiness)).into_response();
    }
    if ready {
        return (status, "ok").into_response();
    }
    let mut lines: Vec<String> = checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| format!("{:?}: {}: {}", check.name, check.reason, check.message))
        .collect();
    if stopping {
        lines.push("the server is stopping".to_owned());
    }
    (status, lines.join("\n")).into_response()
}

/// Nothing where the database does not tell, as what only resembles PostgreSQL may not.
async fn database_connections(app: &App, checks: &[ReadinessCheck]) -> Option<u32> {
    checks.iter().find(|check| check.name == Dependency::Database && check.ok)?;
    let limit = tokio::time::timeout(CHECK_TIMEOUT, crate::db::connection_limit(&app.db)).await;
    u32::try_from(limit.ok()?.ok()?).ok()
}

/// `GET /metrics`
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    usage::note_inventory(&app).await;
    let text = app.metrics.render(&app.db).map_err(|error| ApiError::Internal(Box::new(error)))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
