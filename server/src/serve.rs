//! Putting the server together, running it, and ending it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::args::{Args, Command};
use crate::auth::Auth;
use crate::bucket::Bucket;
use crate::db::migrations::{self, SchemaError};
use crate::http::proxy::DECODING_READERS;
use crate::metrics::Metrics;
use crate::rates::Rates;
use crate::settings::Parts;
use crate::signer::{KeyFiles, WatchedKeys};
use crate::tls::Tls;
use crate::{auth, db, fsck, gc, listen, reads, recent, resign, router, shutdown, storage, systemd, watched};

/// Requests under way may take so long once the server is told to stop.
const DRAIN: Duration = Duration::from_secs(25);

/// NARs read back at a time: each may take a core, and what its decompression takes of memory.
const VERIFYING: usize = 4;

/// Runs a command to its end.
pub fn main(args: Args) -> anyhow::Result<ExitCode> {
    // Another library may have installed it already; it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let command = args.command.clone().unwrap_or(Command::Serve);
    let address = listen_address(&args.http_addr);
    let parts = Parts::load(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Migrate => {
                let pool = db::pool(parts.database.options, db::Connections::at_most(1));
                let schema = parts.database.schema.as_deref();
                migrations::run(&pool, schema).await.context("the database's schema")?;
                tracing::info!("the schema is up to date");
            }
            Command::Check => check(open(parts).await?).await?,
            Command::Fsck { adopt, repair, deep, after } => {
                let options = fsck::Options { adopt, repair, deep, after, young: Duration::ZERO };
                return Ok(compare(open(parts).await?, options).await);
            }
            Command::Serve => {
                let app = Arc::new(open(parts).await?);
                let listener = match systemd::listener()? {
                    Some(opened) => opened,
                    None => TcpListener::bind(&address)
                        .await
                        .with_context(|| format!("listening on {address}"))?,
                };
                serve(app, listener, shutdown::requested()).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Builds the server; neither the database nor the bucket is asked anything yet.
pub async fn open(parts: Parts) -> anyhow::Result<App> {
    let bucket = Bucket::open(parts.bucket).await?;
    let keys = WatchedKeys::open(KeyFiles {
        signing: parts.signing_keys,
        revoked: parts.settings.revoked_keys_file.clone(),
        always_revoked: parts.settings.revoked_keys.clone(),
    })?;
    Ok(App {
        db: db::pool(parts.database.options, parts.database.connections),
        schema: parts.database.schema,
        migrations: parts.database.migrations,
        keys,
        auth: Auth::open(parts.auth, parts.api_token, parts.oidc.as_deref())?,
        tls: parts.tls.map(Tls::open).transpose()?.map(Arc::new),
        metrics: Metrics::new(bucket.calls()),
        bucket,
        rates: Rates::new(&parts.settings.limits),
        config: parts.settings,
        gc: gc::Runner::default(),
        reads: reads::Reads::default(),
        recent: recent::Recent::default(),
        health: crate::http::health::Health::default(),
        stats: crate::stats::Stats::default(),
        pending: crate::stats::Stats::default(),
        verifying: Semaphore::new(VERIFYING),
        decoding: Arc::new(Semaphore::new(DECODING_READERS)),
        detached: tokio_util::task::TaskTracker::new(),
    })
}

/// Serves until `stop` ends, then lets what is under way finish.
pub async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    systemd::ready();
    let mut tasks = JoinSet::new();
    tasks.spawn(systemd::keep(Arc::clone(&app)));
    tasks.spawn(prepare(Arc::clone(&app)));
    tasks.spawn(reads::keep(Arc::clone(&app)));
    tasks.spawn(resign::keep(Arc::clone(&app)));
    tasks.spawn(auth::keep(Arc::clone(&app)));
    tasks.spawn(gc::keep(Arc::clone(&app)));
    tasks.spawn(watched::keep(Arc::clone(&app)));
    let stopping = CancellationToken::new();
    let drain = async {
        stop.await;
        tracing::info!("stopping");
        systemd::stopping();
        app.health.stop();
        stopping.cancel();
        app.gc.shutdown().await;
    };
    let limit = async {
        stopping.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    let (tls, waits, routes) = (app.tls.clone(), app.config.waits, router::router(&app));
    let listening = listen::listen(listener, tls, waits, routes, stopping.cancelled());
    // Calls that go on without their client have no connection; none begins once all of those are closed.
    let all = async {
        tokio::join!(listening, drain);
        app.detached.close();
        app.detached.wait().await;
    };
    tokio::select! {
        () = all => {}
        () = limit => tracing::warn!("what was still under way after {DRAIN:?} is cut off"),
    }
    drop(tasks);
    if let Err(error) = app.reads.flush(&app.db).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the last reads are not noted");
    }
    app.db.close().await;
    Ok(())
}

/// Brings database and bucket to where requests can use them, however long either is away.
async fn prepare(app: Arc<App>) {
    let mut pause = Duration::from_millis(100);
    while let Err(error) = prepare_database(&app).await {
        // Somebody may take days to run migrations.
        if app.health.database_failed(&error) {
            tracing::warn!(error = &error as &dyn std::error::Error, "the database is not ready");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    app.health.database_ready();
    let mut pause = Duration::from_millis(100);
    while let Err(error) = storage::prepare(&app).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the bucket is not ready");
        app.health.storage_failed(&error);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
    app.health.storage_ready();
    tracing::info!("database and bucket are ready");
    if let Err(error) = db::open_least(&app.db).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "connections that were to be kept cannot be opened now"
        );
    }
}

async fn prepare_database(app: &App) -> Result<(), SchemaError> {
    let prepared = migrations::prepare(&app.db, app.schema.as_deref(), app.migrations).await;
    // One that gave no answer would be waited for once more.
    if prepared.as_ref().err().is_none_or(SchemaError::was_answered)
        && let Ok(version) = migrations::newest(&app.db).await
    {
        app.health.schema_is(version);
    }
    prepared
}

/// `niks3-server check`
async fn check(app: App) -> anyhow::Result<()> {
    db::ping(&app.db).await.context("the database")?;
    app.bucket.probe().await?;
    storage::try_all(&app).await?;
    tracing::info!(
        keys = app.keys.now().signer.public_keys().len(),
        "configuration, database and bucket are in order"
    );
    Ok(())
}

/// `niks3-server fsck`: 0 is clean, 1 damage that is left, 2 what could not be compared, as of `cmp` and `grep`.
async fn compare(app: App, options: fsck::Options) -> ExitCode {
    let options = fsck::Options { young: app.upload_lifetime(), ..options };
    let compared = async {
        prepare_database(&app).await.context("the database's schema")?;
        fsck::run(&app, &options, &mut std::io::stdout()).await
    };
    let result = compared.await;
    app.db.close().await;
    match result {
        Ok(summary) if summary.is_clean() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(2)
        }
    }
}

/// `:5751` is every address, of both families where the machine has them.
fn listen_address(text: &str) -> String {
    let text = if text.is_empty() { ":5751" } else { text };
    match text.strip_prefix(':') {
        Some(port) if std::net::TcpListener::bind("[::]:0").is_ok() => format!("[::]:{port}"),
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.to_owned(),
    }
}
