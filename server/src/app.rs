//! What every request has at hand.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use niks3_protocol::api::cache_config::CacheStats;
use niks3_protocol::nix::PublicKey;
use niks3_protocol::server_config::{LimitsSection, MigrationMode, ReadMode, ResignSection, VerifyUploads};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::bucket::Bucket;
use crate::gc::Runner;
use crate::http::health::Health;
use crate::http::proxy::Narinfo;
use crate::listen::Waits;
use crate::metrics::Metrics;
use crate::rates::Rates;
use crate::reads::Reads;
use crate::recent::Recent;
use crate::signer::WatchedKeys;
use crate::stats::Stats;
use crate::tls::Tls;

/// The server, as its handlers see it.
pub struct App {
    /// PostgreSQL; connects when first asked to.
    pub db: PgPool,
    /// The schema of its tables, where one was named.
    pub schema: Option<String>,
    /// Who runs migrations.
    pub migrations: MigrationMode,
    /// S3.
    pub bucket: Bucket,
    /// The signing keys, and those that are revoked.
    pub keys: WatchedKeys,
    /// Who may do what.
    pub auth: Auth,
    /// TLS, where it is the server's own.
    pub tls: Option<Arc<Tls>>,
    /// What the configuration says.
    pub config: Settings,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// How often each identity called.
    pub rates: Rates,
    /// The collections of this server.
    pub gc: Runner,
    /// What was read and is not noted yet.
    pub reads: Reads,
    /// Narinfos that were read a moment ago.
    pub recent: Recent<Narinfo>,
    /// What `/readyz` shows.
    pub health: Health,
    /// The last statistics, which anybody may ask for: counting is not free.
    pub stats: Stats<CacheStats>,
    /// The last count of uploads under way.
    pub pending: Stats<i64>,
    /// The NARs that are read back at a time, by all calls.
    pub verifying: Semaphore,
    /// The readers for whom something is decoded at a time.
    pub decoding: Arc<Semaphore>,
    /// Calls that go on should their client hang up: the server ends after them.
    pub detached: TaskTracker,
}

impl App {
    /// How long after its begin an upload is over for certain: its addresses and T have passed.
    pub fn upload_lifetime(&self) -> Duration {
        self.config.presign_expiry + self.bucket.config().settle_time()
    }
}

/// The part of the configuration that requests need.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The substituter URL.
    pub cache_url: String,
    /// `StoreDir` of `nix-cache-info`.
    pub store_dir: String,
    /// `Priority` of `nix-cache-info`.
    pub priority: i32,
    /// `WantMassQuery` of `nix-cache-info`.
    pub want_mass_query: bool,
    /// How long upload addresses live.
    pub presign_expiry: Duration,
    /// How objects are served.
    pub read_mode: ReadMode,
    /// How long the addresses live that readers are redirected to.
    pub redirect_ttl: Duration,
    /// Only identities with the permission Read may read.
    pub private_reads: bool,
    /// S3 requests one push may have under way.
    pub s3_concurrency: usize,
    /// What is looked at before anything is signed and committed.
    pub verify: VerifyUploads,
    /// Clients are told of addresses bound to length and sha256.
    pub bound: bool,
    /// How long connections wait for their clients.
    pub waits: Waits,
    /// How much callers may ask for.
    pub limits: LimitsSection,
    /// Keys whose signatures are taken out of stored narinfos.
    pub revoked_keys: Vec<PublicKey>,
    /// A file with more of them.
    pub revoked_keys_file: Option<PathBuf>,
    /// How stored narinfos are signed again.
    pub resign: ResignSection,
}

impl Default for Settings {
    /// What a server has that is told nothing.
    fn default() -> Self {
        Self {
            cache_url: String::new(),
            store_dir: "/nix/store".to_owned(),
            priority: 30,
            want_mass_query: true,
            presign_expiry: Duration::from_hours(5),
            read_mode: ReadMode::Disabled,
            redirect_ttl: Duration::from_mins(15),
            private_reads: false,
            s3_concurrency: 100,
            verify: VerifyUploads::Head,
            bound: false,
            waits: Waits::default(),
            limits: LimitsSection::default(),
            revoked_keys: Vec::new(),
            revoked_keys_file: None,
            resign: ResignSection::default(),
        }
    }
}
