//! What a database and a bucket hold, seen from outside the server.

use std::collections::BTreeSet;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::operation::head_object::HeadObjectError;
use aws_sdk_s3::primitives::ByteStream;
use niks3_protocol::object_key::ObjectKey;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, FromRow};

use super::{Place, environment};

impl Place {
    /// Runs statements: for what only time or an accident would bring about.
    pub(crate) async fn sql(&self, statements: &str) {
        let mut connection = self.database().connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// What a query gives.
    pub(crate) async fn rows<T: for<'row> FromRow<'row, PgRow> + Send + Unpin>(&self, query: &str) -> Vec<T> {
        let mut connection = self.database().connect().await.unwrap();
        let rows = sqlx::query_as(AssertSqlSafe(query)).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows
    }

    /// How many connections wait for what another has locked.
    pub(crate) async fn waiting(&self) -> i64 {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        self.rows::<(i64,)>(waiting).await[0].0
    }

    /// Every key of the bucket.
    pub(crate) async fn list_bucket(&self) -> BTreeSet<String> {
        let mut pages = s3().list_objects_v2().bucket(self.bucket()).into_paginator().send();
        let mut keys = BTreeSet::new();
        while let Some(page) = pages.next().await {
            let page = page.unwrap();
            keys.extend(page.contents().iter().map(|object| object.key().unwrap().to_owned()));
        }
        keys
    }

    /// The keys of the bucket that are a closure's, not the server's own.
    pub(crate) async fn list_objects(&self) -> Vec<String> {
        self.list_bucket().await.into_iter().filter(|key| key.parse::<ObjectKey>().is_ok()).collect()
    }

    /// Whether the bucket has a key.
    pub(crate) async fn in_bucket(&self, key: &str) -> bool {
        match s3().head_object().bucket(self.bucket()).key(key).send().await {
            Ok(_) => true,
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => false,
            Err(error) => panic!("HEAD {key}: {error:?}"),
        }
    }

    /// An object's stored bytes.
    pub(crate) async fn stored_bytes(&self, key: &str) -> Vec<u8> {
        let object = s3().get_object().bucket(self.bucket()).key(key).send().await.unwrap();
        object.body.collect().await.unwrap().to_vec()
    }

    /// Writes an object past the server.
    pub(crate) async fn write_object(&self, key: &str, bytes: &[u8]) {
        let put = s3().put_object().bucket(self.bucket()).key(key).body(ByteStream::from(bytes.to_vec()));
        put.send().await.unwrap();
    }

    /// Writes an object as zstd that says so.
    pub(crate) async fn write_encoded(&self, key: &str, bytes: &[u8]) {
        let body = ByteStream::from(zstd::encode_all(bytes, 3).unwrap());
        let put = s3().put_object().bucket(self.bucket()).key(key).content_encoding("zstd").body(body);
        put.send().await.unwrap();
    }

    /// Removes an object past the server: an accident.
    pub(crate) async fn lose_object(&self, key: &str) {
        s3().delete_object().bucket(self.bucket()).key(key).send().await.unwrap();
    }

    /// Multipart uploads that S3 holds open.
    pub(crate) async fn open_multiparts(&self) -> usize {
        let open = s3().list_multipart_uploads().bucket(self.bucket()).send().await.unwrap();
        open.uploads().len()
    }
}

pub(crate) fn s3() -> Client {
    let [endpoint, id, secret] =
        ["NIKS3_TEST_S3_ENDPOINT", "NIKS3_TEST_S3_ACCESS_KEY", "NIKS3_TEST_S3_SECRET_KEY"].map(environment);
    s3_at(&endpoint, &id, &secret)
}

/// Another S3 server than that of all tests.
pub(crate) fn s3_at(endpoint: &str, id: &str, secret: &str) -> Client {
    let keys = Credentials::new(id, secret, None, None, "tests");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(keys)
        .endpoint_url(endpoint)
        .force_path_style(true);
    Client::from_conf(config.build())
}
