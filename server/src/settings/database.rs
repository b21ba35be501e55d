//! How to reach PostgreSQL.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, bail};
use niks3_protocol::duration::GoDuration;
use niks3_protocol::server_config::{DatabaseSection, MigrationMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::{ca, read_secret, text};
use crate::args::DatabaseArgs;
use crate::db::{Connections, Database};

/// A call lasts no longer than that by default.
const WAITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
/// A schema's name is written into statements.
const MAX_NAME: usize = 63;

/// The database as it was given, with the CA and the schema of arguments or file.
pub(super) fn database(args: DatabaseArgs, file: DatabaseSection) -> anyhow::Result<Database> {
    let url = match text(args.db) {
        Some(url) => url,
        None => read_secret("the database URL", file.url_file.as_ref())?
            .context("no database: set NIKS3_DB or --db to postgres://user:password@host/database")?,
    };
    let mut options = parse(&url)?;
    if let Some(pem) = ca("the CA file of the database", text(args.db_ca_file).or(file.ca_file))? {
        options = match options.get_ssl_mode() {
            PgSslMode::Disable | PgSslMode::Allow => {
                bail!("the database has a CA file, but its sslmode allows connections that are not encrypted")
            }
            PgSslMode::VerifyCa => options,
            _ => options.ssl_mode(PgSslMode::VerifyFull),
        };
        options = options.ssl_root_cert_from_pem(pem);
    }
    let schema = text(args.db_schema).or(file.schema);
    if let Some(schema) = &schema {
        let mut letters = schema.bytes();
        let fits = letters.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
            && letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && schema.len() <= MAX_NAME
            && !schema.starts_with("pg_");
        if !fits {
            bail!(
                "the database schema {schema:?} is not a name of lower case letters, digits and _, at most {MAX_NAME}, \
                 that begins with none of digits and pg_"
            );
        }
        options = options.options([("search_path", schema)]);
    }
    let migrations = match text(args.db_migrations).map(|text| text.to_ascii_lowercase()).as_deref() {
        None => file.migrations,
        Some("automatic") => MigrationMode::Automatic,
        Some("manual") => MigrationMode::Manual,
        Some(other) => bail!("NIKS3_DB_MIGRATIONS={other} is neither automatic nor manual"),
    };
    let DatabaseSection {
        max_connections: max, min_connections: min, acquire_timeout: GoDuration(wait), ..
    } = file;
    if max == 0 || min > max {
        bail!(
            "the database is to have {min} connections at least and {max} at most; at least 0, and at most 1 or more"
        );
    }
    if !WAITS.contains(&wait) {
        bail!(
            "a call is to wait {} for a connection to the database, which is not from 1s to 10m",
            GoDuration(wait)
        );
    }
    Ok(Database { options, connections: Connections { max, min, wait }, schema, migrations })
}

/// An URL, or the `key=value` form of libpq that niks3 1.7 also takes.
fn parse(text: &str) -> anyhow::Result<PgConnectOptions> {
    // The URL holds a password: no error may repeat it.
    if let Some((scheme, _)) = text.split_once("://") {
        // sqlx takes any scheme.
        let parsed = ["postgres", "postgresql"].contains(&scheme).then(|| text.parse().ok()).flatten();
        return parsed.context("the database URL is not postgres://user:password@host/database");
    }
    let mut options = PgConnectOptions::new();
    for pair in text.split_whitespace() {
        let (key, value) =
            pair.split_once('=').context("the database is given neither as URL nor as key=value")?;
        options = match key {
            "host" if value.starts_with('/') => options.socket(value),
            "host" => options.host(value),
            "port" => options.port(value.parse().context("the database's port")?),
            "user" => options.username(value),
            "password" => options.password(value),
            "dbname" => options.database(value),
            "sslmode" => options.ssl_mode(value.parse().context("the database's sslmode")?),
            "sslrootcert" => options.ssl_root_cert(value),
            other => bail!("the database option {other} is not supported; use a URL"),
        };
    }
    Ok(options)
}
