//! Callers that go away at any moment, as handlers do when their client hangs up, leave nothing behind.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use niks3_server::db;
use sqlx::{AssertSqlSafe, PgPool};

use crate::support::Place;

/// Polls a future so often at most, letting others go on in between, and drops it.
async fn drop_after(polls: usize, future: impl Future) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_micros(50)).await;
    }
}

/// Of a transaction that was being opened, the next statement on that connection knows nothing. (Found by e2e/chaos: an
/// upload was written, and gone when its states were to be read.)
#[tokio::test]
async fn a_begin_that_is_dropped_takes_nothing_with_it() {
    let place = Place::create().await;
    let pool: PgPool = db::pool(place.database().clone(), db::Connections::at_most(1));
    let run = async |sql: String| sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    run("create table written (round int)".to_owned()).await;
    for round in 0..60 {
        drop_after(round % 6, db::begin(&pool)).await;
        run(format!("insert into written values ({round})")).await;
        let seen = place.rows::<(i64,)>("select count(*) from written").await;
        assert_eq!(seen, [(i64::from(i32::try_from(round).unwrap()) + 1,)], "after {} polls", round % 6);
    }
}
