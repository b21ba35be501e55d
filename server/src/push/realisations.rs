//! Looking into the realisations an upload brings: Nix believes their signatures, whoever wrote them, so what stands under
//! a key has to be of that key, and lead to a path that the cache has.

use std::collections::HashSet;
use std::io::Read as _;

use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::nix::Realisation;
use niks3_protocol::nix::realisation::MAX_REALISATION;
use niks3_protocol::object_key::{ObjectKey, ObjectKind};
use niks3_protocol::server_config::VerifyUploads;

use super::PushError;
use crate::app::App;
use crate::bucket::{ObjectRead, ReadAnswer, ReadRequest};
use crate::db;

/// Those of one call that are read at a time.
const CONCURRENT_READS: usize = 8;
/// What undoing one may take: 8 MiB, the window of the levels that clients use.
const WINDOW_LOG: u32 = 23;

/// Reads each one that was sent; the first that does not fit fails the commit.
pub(super) async fn look_into(app: &App, own: &[String], missing: &[String]) -> Result<(), PushError> {
    let keys = missing.iter().filter_map(|key| key.parse::<ObjectKey>().ok());
    let sent: Vec<ObjectKey> = keys.filter(|key| key.kind() == ObjectKind::Realisation).collect();
    if sent.is_empty() || app.config.verify == VerifyUploads::None {
        return Ok(());
    }
    let read: Vec<(ObjectKey, String)> = futures::stream::iter(sent)
        .map(|key| async move {
            let path = read(app, &key).await?;
            Ok::<_, PushError>((key, path))
        })
        .buffer_unordered(CONCURRENT_READS)
        .try_collect()
        .await?;
    let own: HashSet<&str> = own.iter().map(String::as_str).collect();
    let elsewhere = read.into_iter().filter(|(_, path)| !own.contains(path.as_str()));
    let (keys, paths): (Vec<ObjectKey>, Vec<String>) = elsewhere.unzip();
    if paths.is_empty() {
        return Ok(());
    }
    let mut conn = app.db.acquire().await?;
    let states = db::objects::list_states(&mut conn, &paths).await?;
    let live: HashSet<&str> =
        states.iter().filter(|state| state.live).map(|state| state.key.as_str()).collect();
    match keys.iter().zip(&paths).find(|(_, path)| !live.contains(path.as_str())) {
        None => Ok(()),
        Some((key, path)) => Err(PushError::Invalid(format!(
            "{key}: its path has the narinfo {path}, which is neither in the upload nor in the cache; push it too"
        ))),
    }
}

/// The key of the narinfo it leads to.
pub(crate) async fn read(app: &App, key: &ObjectKey) -> Result<String, PushError> {
    let name = key.to_string();
    let ReadAnswer::Found(object) = app.bucket.get(&name, ReadRequest::default()).await? else {
        return Err(PushError::NotUploaded(vec![name]));
    };
    let text = plain(*object).await?.map_err(|why| PushError::Invalid(format!("{name}: {why}")))?;
    match Realisation::read(key, &text) {
        Ok(realisation) => Ok(format!("{}.narinfo", realisation.out_path)),
        Err(error) => Err(PushError::Invalid(format!("{name}: {error}"))),
    }
}

/// Its text, and no more of it than there may be.
async fn plain(object: ObjectRead) -> Result<Result<Vec<u8>, String>, PushError> {
    let too_long = || Err(format!("it has more than {MAX_REALISATION} bytes"));
    let encoded = object.content_encoding.as_deref() == Some("zstd");
    let stored = object.read_up_to(MAX_REALISATION + 1).await?;
    if stored.len() > MAX_REALISATION {
        return Ok(too_long());
    }
    if !encoded {
        return Ok(Ok(stored));
    }
    let mut text = Vec::new();
    let decoded = zstd::stream::read::Decoder::new(&*stored).and_then(|mut decoder| {
        decoder.window_log_max(WINDOW_LOG)?;
        decoder.take(MAX_REALISATION as u64 + 1).read_to_end(&mut text)
    });
    Ok(match decoded {
        Ok(length) if length > MAX_REALISATION => too_long(),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("it cannot be read as zstd: {error}")),
    })
}
