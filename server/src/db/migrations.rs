//! `_sqlx_migrations`: which migrations were applied, and applying those that were not.

use niks3_protocol::server_config::MigrationMode;
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

/// The migrations, run under a lock of the database: several replicas may start at once.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Why the tables cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Somebody has to run migrations.
    #[error(
        "{pending} of {all} migrations are not applied, and this server is told not to run them: run `niks3-server \
         migrate` with its configuration"
    )]
    Pending {
        /// How many of them.
        pending: usize,
        /// How many there are.
        all: usize,
    },
    /// They cannot be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

impl SchemaError {
    /// Whether the database was asked and answered.
    pub fn was_answered(&self) -> bool {
        !matches!(self, Self::Migrate(MigrateError::Execute(_)))
    }
}

/// Brings schema and tables up to date, or where somebody else is to do that, sees whether they are.
pub async fn prepare(pool: &PgPool, schema: Option<&str>, mode: MigrationMode) -> Result<(), SchemaError> {
    match mode {
        MigrationMode::Automatic => Ok(run(pool, schema).await?),
        MigrationMode::Manual => {
            let mut conn = pool.acquire().await.map_err(MigrateError::Execute)?;
            compare(&mut conn).await
        }
    }
}

/// Makes the schema where one is named and missing, and brings the tables up to date.
pub async fn run(pool: &PgPool, schema: Option<&str>) -> Result<(), MigrateError> {
    if let Some(schema) = schema {
        create_schema(pool, schema).await?;
    }
    // sqlx lets its lock go where it succeeds; else only the end of the connection does. Other servers, and who puts things
    // right by hand, would wait for it.
    let own = super::pool((*pool.connect_options()).clone(), super::Connections::at_most(1));
    let ran = MIGRATOR.run(&own).await;
    own.close().await;
    ran
}

/// As sqlx does before it applies anything, but without its lock and without making its table.
async fn compare(conn: &mut PgConnection) -> Result<(), SchemaError> {
    let all = MIGRATOR.iter().count();
    let mut pending = all;
    if has_table(conn).await.map_err(MigrateError::Execute)? {
        if let Some(version) = conn.dirty_version(&MIGRATOR.table_name).await? {
            return Err(MigrateError::Dirty(version).into());
        }
        for applied in conn.list_applied_migrations(&MIGRATOR.table_name).await? {
            match MIGRATOR.iter().find(|known| known.version == applied.version) {
                None => return Err(MigrateError::VersionMissing(applied.version).into()),
                Some(known) if known.checksum != applied.checksum => {
                    return Err(MigrateError::VersionMismatch(applied.version).into());
                }
                Some(_) => pending -= 1,
            }
        }
    }
    if pending == 0 { Ok(()) } else { Err(SchemaError::Pending { pending, all }) }
}

/// The newest one that was applied.
pub async fn newest(pool: &PgPool) -> Result<Option<i64>, MigrateError> {
    let mut conn = pool.acquire().await?;
    if !has_table(&mut conn).await? {
        return Ok(None);
    }
    let applied = conn.list_applied_migrations(&MIGRATOR.table_name).await?;
    Ok(applied.iter().map(|migration| migration.version).max())
}

async fn has_table(conn: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::query_scalar!("select to_regclass('_sqlx_migrations') is not null as \"exists!\"")
        .fetch_one(conn)
        .await
}

/// Who may not make schemas may be given one: that it is there is asked first. The name was checked where it was
/// read.
async fn create_schema(pool: &PgPool, schema: &str) -> sqlx::Result<()> {
    let exists = || {
        sqlx::query_scalar!("select to_regnamespace($1) is not null as \"exists!\"", schema).fetch_one(pool)
    };
    if exists().await? {
        return Ok(());
    }
    let create = format!("create schema \"{schema}\"");
    match sqlx::raw_sql(AssertSqlSafe(create)).execute(pool).await {
        // Another replica was quicker.
        Err(error) if !exists().await? => Err(error),
        _ => Ok(()),
    }
}
