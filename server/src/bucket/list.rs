//! Listing, a page at a time.

use super::{Bucket, BucketError};

/// Some of the keys under a prefix.
#[derive(Debug, Default)]
pub struct Page {
    /// Keys, relative to the cache's prefix.
    pub keys: Vec<String>,
    /// Where the next page begins; the last one has none.
    pub next: Option<String>,
}

impl Bucket {
    /// Lists keys that begin with `prefix`, from where the page before ended.
    pub async fn list(&self, prefix: &str, from: Option<String>) -> Result<Page, BucketError> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.config.bucket)
            .prefix(self.full_key(prefix))
            .set_continuation_token(from)
            .send()
            .await
            .map_err(|error| BucketError::from_sdk("list", prefix, &error))?;
        let keys = answer.contents().iter().filter_map(|object| {
            object.key().and_then(|key| key.strip_prefix(self.config.prefix.as_str())).map(str::to_owned)
        });
        Ok(Page { keys: keys.collect(), next: answer.next_continuation_token().map(str::to_owned) })
    }
}
