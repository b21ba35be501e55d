//! Multipart uploads: opened and ended here, their parts sent by clients to presigned addresses.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use niks3_protocol::api::multipart::CompletedPart as WirePart;
use niks3_protocol::object_key::ObjectKey;

use super::{Bucket, BucketError, Encryption, Failure};

impl Bucket {
    /// Opens a multipart upload and gives its id.
    pub async fn create_multipart(&self, key: &ObjectKey) -> Result<String, BucketError> {
        self.create_multipart_as(&key.to_string(), key.kind().content_type()).await
    }

    /// The same for any key.
    pub(super) async fn create_multipart_as(
        &self,
        key: &str,
        content_type: &str,
    ) -> Result<String, BucketError> {
        let request = self.client.create_multipart_upload().bucket(&self.config.bucket);
        let encryption = self.config.encryption.as_ref();
        let request = request
            .key(self.full_key(key))
            .content_type(content_type)
            .set_server_side_encryption(encryption.map(Encryption::sdk))
            .set_ssekms_key_id(encryption.and_then(Encryption::key).map(str::to_owned));
        let answer = self.call("create multipart upload of", key, request.send()).await?;
        answer.upload_id().map(str::to_owned).ok_or_else(|| BucketError {
            operation: "create multipart upload of",
            key: key.to_owned(),
            failure: Failure::Refused,
            message: "the answer names no upload".to_owned(),
        })
    }

    /// The parts S3 has, in order.
    pub async fn list_parts(&self, key: &str, upload_id: &str) -> Result<Vec<WirePart>, BucketError> {
        let request = self.client.list_parts().bucket(&self.config.bucket);
        let mut pages = request.key(self.full_key(key)).upload_id(upload_id).into_paginator().send();
        let mut parts = Vec::new();
        while let Some(page) = self.call("list parts of", key, pages.try_next()).await? {
            parts.extend(page.parts().iter().filter_map(|part| {
                let part_number = u32::try_from(part.part_number()?).ok()?;
                Some(WirePart { part_number, etag: part.e_tag()?.to_owned() })
            }));
        }
        Ok(parts)
    }

    /// Puts the parts together.
    pub async fn complete_multipart(
        &self,
        key: &str,
        upload_id: &str,
        parts: &[WirePart],
    ) -> Result<(), BucketError> {
        let parts = parts.iter().map(|part| {
            let number = i32::try_from(part.part_number).unwrap_or(i32::MAX);
            CompletedPart::builder().part_number(number).e_tag(&part.etag).build()
        });
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let request = self.client.complete_multipart_upload().bucket(&self.config.bucket);
        let request = request.key(self.full_key(key)).upload_id(upload_id).multipart_upload(parts);
        self.call("complete multipart upload of", key, request.send()).await.map(drop)
    }

    /// Drops the parts. One that is already gone is not an error.
    pub async fn abort_multipart(&self, key: &str, upload_id: &str) -> Result<(), BucketError> {
        let request = self.client.abort_multipart_upload().bucket(&self.config.bucket);
        let request = request.key(self.full_key(key)).upload_id(upload_id);
        match self.call("abort multipart upload of", key, request.send()).await {
            Err(error) if matches!(error.failure, Failure::UploadNotFound | Failure::NotFound) => Ok(()),
            answer => answer.map(drop),
        }
    }
}
