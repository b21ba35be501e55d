//! Writing a narinfo that is claimed, for a commit and for signing again, and deleting what is claimed, for a collection
//! and a repair: rules 6, 11 and 13 of docs/gc.md.

use std::time::Duration;

use niks3_protocol::nix::NarInfo;
use niks3_protocol::object_key::ObjectKey;
use tokio::time::Instant;
use zstd::bulk::Compressor;

use crate::app::App;
use crate::bucket::{BucketError, Deletion, Failure};
use crate::db::marks::Claimed;

/// Requests for one narinfo, as long as none is answered.
const ATTEMPTS: u32 = 4;
/// Level of zstd for a few hundred bytes of text.
const LEVEL: i32 = 3;

/// What became of a narinfo that was claimed.
pub enum Sent {
    /// It is in the bucket, and whether nothing is under way any more.
    Written(bool),
    /// S3 will not have it; the same.
    Refused(bool, BucketError),
    /// It may be, or may come to be.
    Unknown(BucketError),
    /// The time for that was over.
    Late,
}

/// What makes narinfos as they are stored: to begin anew with each takes four times as long.
pub fn compressor() -> std::io::Result<Compressor<'static>> {
    Compressor::new(LEVEL)
}

/// A narinfo as it is stored.
pub fn compress(compressor: &mut Compressor<'_>, narinfo: &NarInfo) -> std::io::Result<Vec<u8>> {
    compressor.compress(narinfo.to_string().as_bytes())
}

/// Sends one by requests that are each sent once, none after `until`: retries below this would hide a request that is
/// still outstanding behind a later answer. Who is `patient` waits for as long as S3 asks while it
/// throttles.
pub async fn send(app: &App, key: &ObjectKey, bytes: &[u8], until: Instant, patient: bool) -> Sent {
    let mut pause = Duration::from_millis(100);
    let mut attempt = 1;
    loop {
        if Instant::now() > until {
            return Sent::Late;
        }
        let error = match app.bucket.put_once(key, bytes.to_vec()).await {
            Ok(()) => {
                app.recent.forget(&key.to_string());
                return Sent::Written(attempt == 1);
            }
            Err(error) if error.is_definite() => return Sent::Refused(attempt == 1, error),
            Err(error) => error,
        };
        if patient && let Failure::Throttled(wanted) = error.failure {
            pause = pause.max(wanted);
        }
        if attempt == ATTEMPTS || Instant::now() + pause > until {
            return Sent::Unknown(error);
        }
        tokio::time::sleep(pause).await;
        attempt += 1;
        pause *= 4;
    }
}

/// Sends one delete; what became of each, in their order.
pub async fn delete(app: &App, claimed: &[Claimed]) -> Vec<Deletion> {
    let keys: Vec<String> = claimed.iter().map(|object| object.key.clone()).collect();
    let outcomes = app.bucket.delete(&keys).await;
    for key in &keys {
        app.recent.forget(key);
    }
    outcomes
}
