//! The bucket at the start: whether it can be used, whether it is this cache's, and what Nix and people look for.

use niks3_protocol::object_key::{CACHE_INFO, IDENTITY_MARKER, LANDING_PAGE};

use crate::app::App;
use crate::bucket::{BucketConfig, BucketError, PLAIN_TEXT, ReadAnswer, ReadRequest};
use crate::db;
use crate::http::{cache_info, landing};

/// The longest marker that is read.
const MAX_MARKER: usize = 1 << 10;

/// Why the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// S3.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// PostgreSQL.
    #[error("database")]
    Database(#[from] sqlx::Error),
    /// It has the marker of another database.
    #[error(
        "the bucket {bucket:?} with the prefix {prefix:?} belongs to another cache: its marker {IDENTITY_MARKER} says \
         {found:?}, the database {expected:?}; give each cache a bucket or prefix of its own, or where the database \
         of this one was lost, run `niks3-server fsck --adopt`"
    )]
    Foreign {
        /// Its name.
        bucket: String,
        /// Before every key.
        prefix: String,
        /// What its marker says.
        found: String,
        /// What the database says.
        expected: String,
    },
}

impl StorageError {
    /// The reason of the condition `StorageReady`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Bucket(error) => error.reason(),
            Self::Database(_) => "DatabaseUnavailable",
            Self::Foreign { .. } => "StorageIdentityMismatch",
        }
    }
}

/// Makes the bucket where asked to, tries all that a cache does in it, makes sure that it is this cache's, and writes what Nix and
/// people look for in it.
pub async fn prepare(app: &App) -> Result<(), StorageError> {
    app.bucket.prepare().await?;
    try_all(app).await?;
    claim(app).await?;
    app.bucket.put_own(CACHE_INFO, "text/x-nix-cache-info", cache_info(&app.config).into_bytes()).await?;
    write_page(app).await
}

/// Tries all that a cache does in its bucket, and logs what its administrator should know.
pub async fn try_all(app: &App) -> Result<(), BucketError> {
    for notice in app.bucket.try_all(app.config.bound).await? {
        tracing::warn!("{notice}");
    }
    Ok(())
}

/// Writes the page that people see who open the bucket in a browser.
pub async fn write_page(app: &App) -> Result<(), StorageError> {
    // Without a URL there is nothing to say, and as in niks3 1.7 a page that is there stays.
    if app.config.cache_url.is_empty() {
        return Ok(());
    }
    let page = landing::page(app).into_bytes();
    Ok(app.bucket.put_own(LANDING_PAGE, "text/html; charset=utf-8", page).await?)
}

/// Writes the marker where there is none, and looks again: of two caches that start at once, one finds the
/// other's.
async fn claim(app: &App) -> Result<(), StorageError> {
    if check_identity(app, false).await? {
        return Ok(());
    }
    let mut conn = app.db.acquire().await?;
    let identity = db::cache_identity::find_or_create(&mut conn).await?;
    drop(conn);
    app.bucket.put_own(IDENTITY_MARKER, PLAIN_TEXT, format!("{identity}\n").into_bytes()).await?;
    check_identity(app, false).await.map(drop)
}

/// Refuses a bucket of another cache; with `adopt`, a database in which nothing was committed becomes that cache's.
/// False where the bucket has no marker yet.
pub async fn check_identity(app: &App, adopt: bool) -> Result<bool, StorageError> {
    let Some(found) = read_marker(app).await? else { return Ok(false) };
    let mut conn = app.db.acquire().await?;
    let expected = db::cache_identity::find_or_create(&mut conn).await?;
    if found == expected || (adopt && db::cache_identity::replace(&mut conn, &found).await?) {
        return Ok(true);
    }
    let BucketConfig { bucket, prefix, .. } = app.bucket.config();
    Err(StorageError::Foreign { bucket: bucket.clone(), prefix: prefix.clone(), found, expected })
}

async fn read_marker(app: &App) -> Result<Option<String>, StorageError> {
    let ReadAnswer::Found(object) = app.bucket.get(IDENTITY_MARKER, ReadRequest::default()).await? else {
        return Ok(None);
    };
    let bytes = object.read_up_to(MAX_MARKER).await?;
    Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
}
