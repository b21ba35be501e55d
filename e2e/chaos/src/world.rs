//! Everything one run is made of, and what everybody in it may do.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use niks3_protocol::nix::PublicKey;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::dice::Dice;
use crate::history::History;
use crate::place::Place;
use crate::plan::Plan;
use crate::proxy::Way;
use crate::servers::{Server, TOKEN};
use crate::universe::Universe;

/// So many roots are hot, for so many seconds.
const HOT: usize = 5;
const HOT_STRETCH: u64 = 20;
/// Everybody changes what they do after so many seconds.
const STRETCH: u64 = 10;

/// What everybody does for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// All push, and collections of all kinds come and go.
    Busy,
    /// Few push, of very few roots, while collections that leave nothing follow each other: what a push relies on
    /// is then kept by no other one, and is due at any moment.
    Quiet,
    /// Collections keep what was pushed lately, so that a lost push is told from a collected one.
    Keeping,
    /// As quiet, with the smallest closures, and nothing fails but that steps of a push are held up: whole collections
    /// go by between any two of them.
    Still,
}

impl Mood {
    /// Few push, and what they push is not kept for its own sake.
    pub fn is_quiet(self) -> bool {
        matches!(self, Self::Quiet | Self::Still)
    }
}

/// One run.
pub struct World {
    /// What it follows.
    pub plan: Plan,
    /// What is pushed.
    pub universe: Universe,
    /// Database and bucket.
    pub place: Place,
    /// To PostgreSQL, to S3, and of uploads.
    pub ways: [Arc<Way>; 3],
    /// The replicas.
    pub servers: Vec<Server>,
    /// What verifies signatures.
    pub public_key: PublicKey,
    /// What happened.
    pub history: Arc<History>,
    /// Speaks to servers and, for uploads, to S3.
    pub http: reqwest::Client,
    /// What was acknowledged.
    pub ledger: Ledger,
    started: Instant,
    over: AtomicBool,
    broken: Mutex<Vec<String>>,
}

/// What clients were told, by index of the root.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Before when the last acknowledged push cannot have been committed.
    pub pushed: Mutex<BTreeMap<usize, OffsetDateTime>>,
    /// Roots pinned for good.
    pub pinned: Mutex<BTreeMap<usize, OffsetDateTime>>,
}

/// A call that was given up; nobody is surprised.
#[derive(Debug)]
pub struct GaveUp;

impl World {
    /// One that starts now.
    pub fn new(
        plan: Plan,
        place: Place,
        ways: [Arc<Way>; 3],
        servers: Vec<Server>,
        public_key: PublicKey,
        history: Arc<History>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            universe: Universe::create(&plan)?,
            plan,
            place,
            ways,
            servers,
            public_key,
            history,
            http: reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?,
            ledger: Ledger::default(),
            started: Instant::now(),
            over: AtomicBool::new(false),
            broken: Mutex::default(),
        })
    }

    /// Whether clients and faults go on. A busy machine gets twice the time until enough has happened.
    pub fn going_on(&self) -> bool {
        let (elapsed, duration) = (self.started.elapsed(), self.plan.duration());
        let late = elapsed >= duration;
        !(self.over.load(Ordering::Relaxed) || late && (elapsed >= duration * 2 || self.enough_happened()))
    }

    fn enough_happened(&self) -> bool {
        let enough = self.history.too_little().is_empty();
        // Once it is over it stays so.
        self.over.fetch_or(enough, Ordering::Relaxed);
        enough
    }

    /// How long it goes on already.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// A root to push: mostly one of the few that everybody pushes in this stretch, so that what was just collected
    /// is pushed again at once.
    pub fn choose_root(&self, dice: &mut Dice) -> usize {
        let any = dice.index(self.universe.paths.len());
        let stretch = usize::try_from(self.elapsed().as_secs() / HOT_STRETCH).unwrap_or(0);
        let mood = self.mood();
        let quiet = mood.is_quiet();
        let hot = dice.index(if quiet { 2 } else { HOT });
        let small = &self.universe.small;
        if mood == Mood::Still && !small.is_empty() {
            return small[(stretch * 2 + hot) % small.len()];
        }
        let hot = (stretch * HOT + hot) % self.universe.paths.len();
        if quiet || dice.chance(700) { hot } else { any }
    }

    /// What everybody does now.
    pub fn mood(&self) -> Mood {
        match (self.elapsed().as_secs() / STRETCH) % 4 {
            0 => Mood::Busy,
            1 => Mood::Quiet,
            2 => Mood::Keeping,
            _ => Mood::Still,
        }
    }

    /// Says that a promise was broken; the run ends.
    pub fn break_promise(&self, who: &str, what: &str) {
        self.history.note(who, "PROMISE BROKEN", &json!(what));
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{who}: {what}"));
        self.over.store(true, Ordering::Relaxed);
    }

    /// The promises that were broken.
    pub fn broken(&self) -> Vec<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls one of the servers, once.
    pub async fn call(
        &self,
        dice: &mut Dice,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, GaveUp> {
        let server = &self.servers[dice.index(self.servers.len())];
        let mut request =
            self.http.request(method.clone(), format!("{}{path}", server.url)).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|_| GaveUp)?;
        if answer.status() == StatusCode::INTERNAL_SERVER_ERROR {
            self.history.note("server", "answered 500", &json!(format!("{method} {path}")));
        }
        Ok(answer)
    }

    /// Calls until a server answers something that another try would not change, or the run is over.
    pub async fn insist(
        &self,
        dice: &mut Dice,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, GaveUp> {
        for _ in 0..8 {
            if !self.going_on() {
                break;
            }
            match self.call(dice, method.clone(), path, body).await {
                Ok(answer) if !is_transient(answer.status()) => return Ok(answer),
                _ => dice.pause(800).await,
            }
        }
        Err(GaveUp)
    }
}

/// Whether the same call may succeed later.
pub fn is_transient(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}
