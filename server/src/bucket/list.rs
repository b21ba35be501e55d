//! Listing, a page at a time.

use super::{Bucket, BucketError};

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, relative to the cache's prefix.
    pub key: String,
    /// Stored bytes.
    pub size: i64,
    /// When it was written, in seconds since 1970.
    pub modified: i64,
}

impl Bucket {
    /// The next objects under a prefix after a key, at most a thousand; none at the end. S3 orders keys by their
    /// bytes, so who was interrupted goes on after the last key.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, BucketError> {
        self.list_page(prefix, after, None).await
    }

    /// The same of those that are in the folder `prefix` (with its slash; none is that of all), and in no folder of it.
    pub async fn list_folder(&self, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>, BucketError> {
        self.list_page(prefix, after, Some("/")).await
    }

    async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
        delimiter: Option<&str>,
    ) -> Result<Vec<Listed>, BucketError> {
        let request = self.client.list_objects_v2().bucket(&self.config.bucket);
        let request = request.prefix(self.full_key(prefix)).set_delimiter(delimiter.map(ToOwned::to_owned));
        let request = request.set_start_after(after.map(|key| self.full_key(key)));
        let answer = self.call("list", after.unwrap_or(prefix), request.send()).await?;
        let objects = answer.contents.unwrap_or_default();
        Ok(objects
            .into_iter()
            .filter_map(|object| {
                let key = object.key?.strip_prefix(&self.config.prefix)?.to_owned();
                let modified = object.last_modified.map_or(0, |date| date.secs());
                Some(Listed { key, size: object.size.unwrap_or(0), modified })
            })
            .collect())
    }
}
