//! What collections, comparisons and signing again have in common: a run is a row of the database, one is active at a
//! time across replicas, and it gives signs of life.

use std::error::Error;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A run gives a sign of life so often, and looks whether it is to end.
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// A run without a sign of life for so long is another server's, and that server is dead.
pub const SILENCE: Duration = Duration::from_mins(1);
/// Runs that are remembered.
pub const REMEMBERED: i64 = 1000;

/// Why a run is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody asked for it.
    Asked,
    /// Another server took it for dead.
    Lost,
}

/// Gives signs of life until the run is to end. `beat` gives one, and says whether somebody wants the run to end, or `None`
/// where it is no longer this server's.
pub async fn keep_alive<F, E>(beat: impl Fn() -> F) -> End
where
    F: Future<Output = Result<Option<bool>, E>>,
    E: Error + 'static,
{
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        match beat().await {
            Ok(Some(false)) => {}
            Ok(Some(true)) => return End::Asked,
            Ok(None) => return End::Lost,
            // The database may come back before the silence is noticed.
            Err(error) => tracing::warn!(error = &error as &dyn Error, "no sign of life given"),
        }
    }
}

/// What has this name on the wire, as rows have it too.
pub fn named<T: DeserializeOwned>(name: String) -> serde_json::Result<T> {
    serde_json::from_value(Value::String(name))
}

/// The name that it has on the wire.
pub fn name_of(value: impl Serialize) -> serde_json::Result<String> {
    serde_json::from_value(serde_json::to_value(value)?)
}
