//! A database and a bucket of one run's own, and the straight way to them that the judge takes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use niks3_protocol::object_key::{ObjectKey, STAGING_PREFIX};
use niks3_server::bucket::{Bucket, BucketConfig, ReadAnswer, ReadRequest, StaticCredentials};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgPool};

/// Where a run keeps its things.
#[derive(Debug, Clone)]
pub struct Place {
    /// Of the database, and of the bucket.
    pub name: String,
    /// The key of S3.
    pub access_key: String,
    /// Its secret.
    pub secret_key: String,
    /// `host:port` of PostgreSQL.
    pub database: String,
    /// `host:port` of S3.
    pub s3: String,
    /// Straight to the database.
    pub db: PgPool,
    /// Straight to the bucket.
    pub bucket: Bucket,
}

/// PostgreSQL and S3, as e2e/services starts them.
#[derive(Debug, Clone, clap::Args)]
pub struct Services {
    /// A database to make others from.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,
    /// Origin of S3.
    #[arg(long, env = "NIKS3_TEST_S3_ENDPOINT")]
    pub s3_endpoint: String,
    /// Access key id.
    #[arg(long, env = "NIKS3_TEST_S3_ACCESS_KEY", hide_env_values = true)]
    pub s3_access_key: String,
    /// Secret access key.
    #[arg(long, env = "NIKS3_TEST_S3_SECRET_KEY", hide_env_values = true)]
    pub s3_secret_key: String,
}

impl Place {
    /// An empty database and an empty bucket.
    pub async fn create(services: &Services) -> anyhow::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no random name: {error}"))?;
        let name = format!("chaos-{:016x}", u64::from_le_bytes(random));
        let server: PgConnectOptions = services.database_url.parse().context("DATABASE_URL")?;
        let mut connection = server.connect().await.context("PostgreSQL; run inside e2e/services")?;
        let create = format!("create database \"{name}\" template template0");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await?;
        connection.close().await?;
        let database = format!("{}:{}", server.get_host(), server.get_port());
        let db = PgPoolOptions::new().max_connections(4).connect_lazy_with(server.database(&name));
        let bucket = Bucket::open(BucketConfig {
            endpoint: Some(services.s3_endpoint.clone()),
            public_endpoint: None,
            bucket: name.clone(),
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            path_style: true,
            credentials: Some(StaticCredentials {
                access_key: services.s3_access_key.clone(),
                secret_key: services.s3_secret_key.clone(),
            }),
            request_timeout: Duration::from_secs(30),
            create_bucket: true,
            ..BucketConfig::default()
        })
        .await?;
        bucket.prepare().await?;
        Ok(Self {
            name,
            access_key: services.s3_access_key.clone(),
            secret_key: services.s3_secret_key.clone(),
            database,
            s3: services.s3_endpoint.trim_start_matches("http://").to_owned(),
            db,
            bucket,
        })
    }

    /// The URL of the database over a way, which reads what passes: so without TLS.
    pub fn database_at(&self, address: &str) -> String {
        format!("postgres://postgres@{address}/{}?sslmode=disable", self.name)
    }

    /// An object's stored bytes; `None` where it is not there.
    pub async fn read(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self.bucket.get(key, ReadRequest::default()).await? {
            ReadAnswer::Found(object) => Ok(Some(object.body.collect().await?.to_vec())),
            _ => Ok(None),
        }
    }

    /// The keys of the bucket that are a closure's, not the server's own, with their bytes.
    pub async fn list_objects(&self) -> anyhow::Result<BTreeMap<String, i64>> {
        let mut found = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.bucket.list("", after.as_deref()).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.key.clone());
            let objects = page.into_iter().filter(|object| object.key.parse::<ObjectKey>().is_ok());
            found.extend(objects.map(|object| (object.key, object.size)));
        }
    }

    /// What clients of 1.7 sent and nobody removed.
    pub async fn list_staged(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.bucket.list(STAGING_PREFIX, None).await?.into_iter().map(|object| object.key).collect())
    }

    /// Lets an upload expire: what a minute and T would do to one whose client is gone.
    pub async fn expire(&self, upload: &str) -> anyhow::Result<()> {
        sqlx::query(
            "update uploads set addresses_until = addresses_until - interval '1 day',
                 started_at = started_at - interval '1 day' where id = $1",
        )
        .bind(upload.parse::<i64>()?)
        .execute(&self.db)
        .await?;
        Ok(())
    }

    /// Runs a statement past the servers: for what only time would bring about.
    pub async fn sql(&self, statement: &'static str) -> anyhow::Result<()> {
        sqlx::raw_sql(statement).execute(&self.db).await?;
        Ok(())
    }
}
