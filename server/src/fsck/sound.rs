//! Whether what is in the bucket under a key is as good as what was committed there.

use niks3_protocol::object_key::{ObjectKey, ObjectKind};

use crate::app::App;
use crate::db;
use crate::push::{self, PushError, Stored};

/// Whether an object of another size is as good as what was committed. A NAR is where it is another compression of the
/// same. Listings, logs and realisations are where each machine that builds a path writes its own: of two pushes
/// at once one commits, and what is in the bucket may be what the other sent a moment later.
pub(super) async fn is_sound(app: &App, key: &str) -> anyhow::Result<bool> {
    let Ok(parsed) = key.parse::<ObjectKey>() else { return Ok(false) };
    match parsed.kind() {
        ObjectKind::Nar => Ok(damage(app, key).await?.is_none()),
        ObjectKind::Listing | ObjectKind::BuildLog => Ok(true),
        ObjectKind::Realisation => match push::read_realisation(app, &parsed).await {
            Ok(_) => Ok(true),
            Err(PushError::Invalid(_) | PushError::NotUploaded(_)) => Ok(false),
            Err(error) => Err(error.into()),
        },
        ObjectKind::Narinfo => Ok(false),
    }
}

/// Reads a NAR back; what is wrong with it, twice: all that leads to it goes with it.
pub(super) async fn damage(app: &App, key: &str) -> anyhow::Result<Option<String>> {
    match read_back(app, key).await? {
        None => Ok(None),
        Some(_) => read_back(app, key).await,
    }
}

/// One whose bytes stop coming is an error of the run, and not damaged.
async fn read_back(app: &App, key: &str) -> anyhow::Result<Option<String>> {
    let mut conn = app.db.acquire().await?;
    let Some((_, compression, hash, size)) = db::fsck::find_nar(&mut conn, key).await? else {
        return Ok(None);
    };
    drop(conn);
    let limit = u64::try_from(size).unwrap_or(0);
    let Some(Stored { content, .. }) = push::digest_of(app, key, &compression, limit).await? else {
        return Ok(Some("it is not in the bucket".to_owned()));
    };
    Ok(match content {
        Ok((found, length)) if found.to_string() == hash && length == limit => None,
        Ok((found, length)) => {
            Some(format!("{length} bytes with the hash {found}, and {limit} with {hash} were committed"))
        }
        Err(error) => Some(format!("it cannot be read as {compression}: {error}")),
    })
}
