//! Which narinfos were read through this server, noted in the database in batches and by the day: for policies
//! that keep what is read. A read that is lost with its server makes a policy forget a day, no more.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::app::App;
use crate::db;
use crate::db::marks::STATEMENT;

/// What was read is noted so often.
const PERIOD: Duration = Duration::from_secs(30);
/// So many different ones wait at most; then they are noted at once.
const FULL: usize = 10_000;

/// Reads that are not noted yet.
#[derive(Debug, Default)]
pub struct Reads {
    waiting: Mutex<HashSet<String>>,
    full: Notify,
}

impl Reads {
    /// Notes that a narinfo was read. Never waits; while the database is away, more than [`FULL`] are forgotten.
    pub fn note(&self, key: &str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < FULL && !waiting.contains(key) {
            waiting.insert(key.to_owned());
            if waiting.len() == FULL {
                self.full.notify_one();
            }
        }
    }

    /// Writes down what waits.
    pub async fn flush(&self, pool: &PgPool) -> sqlx::Result<()> {
        let keys: Vec<String> =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
                .into_iter()
                .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let written = async {
            let mut conn = pool.acquire().await?;
            for keys in keys.chunks(STATEMENT) {
                db::reads::upsert(&mut conn, keys, OffsetDateTime::now_utc().date()).await?;
            }
            Ok(())
        };
        let result = written.await;
        if result.is_err() {
            for key in &keys {
                self.note(key);
            }
        }
        result
    }
}

/// Forgets reads of what is no longer there.
pub async fn forget_orphans(conn: &mut PgConnection) -> sqlx::Result<()> {
    let mut after = String::new();
    loop {
        let orphans =
            db::reads::list_orphans(conn, &after, i64::try_from(STATEMENT).unwrap_or(i64::MAX)).await?;
        let Some(last) = orphans.last() else { return Ok(()) };
        after.clone_from(last);
        db::reads::delete_orphans(conn, &orphans).await?;
    }
}

/// Writes down what is read, for as long as the server runs.
pub async fn keep(app: Arc<App>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = app.reads.full.notified() => {}
        }
        if let Err(error) = app.reads.flush(&app.db).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "reads are not noted yet");
            tokio::time::sleep(PERIOD).await;
        }
    }
}
