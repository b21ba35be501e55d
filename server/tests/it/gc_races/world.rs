//! Everybody who acts on one cache at once: pushers, collectors, crashes and a failing network.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use niks3_protocol::api::pending_closures::{BeginResponse, SignResponse};
use reqwest::{Method, Response, StatusCode};
use tokio::time::{Instant, timeout};

use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::crash::Mortal;
use crate::support::dice::Dice;
use crate::support::relay::Relay;
use crate::support::{ADMIN, Place, s3_address};

/// Store paths that everybody pushes.
const PATHS: usize = 16;
pub(super) const PUSHERS: u64 = 5;
const REPLICAS: usize = 2;
/// A busy machine gets so much longer until enough has happened.
const PATIENCE: Duration = Duration::from_secs(30);
/// Deletes reach S3 up to so many milliseconds late: some after the server gave them up.
pub(super) const LATE: u64 = 800;
/// The limit on one S3 request.
const REQUEST: Duration = Duration::from_secs(1);
/// T in this world, where nothing takes longer than twice [`LATE`]: claims get older than the server's T then.
/// Narinfos are sent for ten seconds at most, of the twenty for which they are claimed.
pub(super) const SETTLED: &str = "update objects set deleting_since = deleting_since - interval '1 day'
        where deleting_since between now() - interval '1 hour' and now() - interval '2 s';
    update objects set settles_at = settles_at - interval '1 day'
        where settles_at between now() - interval '1 hour' and now() + interval '8 s'";

pub(super) struct World {
    pub(super) place: Place,
    /// The way of the servers to S3.
    pub(super) relay: tokio::sync::Mutex<Relay>,
    pub(super) servers: Mutex<Vec<Mortal>>,
    pub(super) http: reqwest::Client,
    /// Each path, and the indexes of all it reaches, itself first.
    pub(super) paths: Vec<(TestPath, Vec<usize>)>,
    pub(super) end: Instant,
    pub(super) commits: AtomicU64,
    pub(super) collections: AtomicU64,
    pub(super) crashes: AtomicU64,
}

/// A call that was not answered as hoped; in this world nobody is surprised.
pub(super) struct Failed;

impl World {
    pub(super) async fn create(seed: u64, duration: Duration) -> Arc<Self> {
        let mut dice = Dice::new(seed, 0);
        let mut paths: Vec<(TestPath, Vec<usize>)> = Vec::new();
        for index in 0..PATHS {
            let direct: BTreeSet<usize> =
                (0..dice.roll(6) / 3).filter(|_| index > 0).map(|_| dice.index(index)).collect();
            let references: Vec<&TestPath> = direct.iter().map(|target| &paths[*target].0).collect();
            // Paths of equal content have one NAR, which a collection of either may take from the other.
            let nar = format!("the content of {}", index % 6).into_bytes();
            let path = TestPath::with_nar(&format!("path-{index}"), nar, &references);
            let reached: BTreeSet<usize> =
                direct.iter().flat_map(|target| paths[*target].1.clone()).collect();
            paths.push((path, std::iter::once(index).chain(reached).collect()));
        }
        let place = Place::create().await;
        let mut relay = Relay::to(&s3_address()).await;
        relay.delay(dice.clone(), LATE);
        relay.up();
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
        let world = Self {
            relay: tokio::sync::Mutex::new(relay),
            servers: Mutex::new(Vec::new()),
            http,
            paths,
            end: Instant::now() + duration,
            commits: AtomicU64::new(0),
            collections: AtomicU64::new(0),
            crashes: AtomicU64::new(0),
            place,
        };
        for _ in 0..REPLICAS {
            let server = world.start_server().await;
            world.servers.lock().unwrap().push(server);
        }
        Arc::new(world)
    }

    async fn start_server(&self) -> Mortal {
        let s3 = format!("http://{}", self.relay.lock().await.address);
        let server = Mortal::start(&self.place, move |parts| {
            parts.bucket.public_endpoint = parts.bucket.endpoint.replace(s3);
            parts.bucket.request_timeout = REQUEST;
        });
        // The relay may be down, and nobody waits for readiness then.
        timeout(Duration::from_secs(15), server).await.unwrap()
    }

    /// Whether it proves anything that nothing was lost.
    pub(super) fn enough_happened(&self) -> bool {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        count(&self.commits) > 10 && count(&self.collections) > 5 && count(&self.crashes) > 1
    }

    pub(super) fn going_on(&self) -> bool {
        let now = Instant::now();
        now < self.end || (!self.enough_happened() && now < self.end + PATIENCE)
    }

    pub(super) async fn call<T: serde::Serialize>(
        &self,
        dice: &mut Dice,
        method: Method,
        path: &str,
        body: Option<&T>,
    ) -> Result<Response, Failed> {
        let url = {
            let servers = self.servers.lock().unwrap();
            format!("{}{path}", servers[dice.index(servers.len())].url)
        };
        let mut request = self.http.request(method.clone(), url).bearer_auth(ADMIN);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|_| Failed)?;
        assert_ne!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}");
        Ok(answer)
    }

    async fn expect<T: serde::Serialize>(
        &self,
        dice: &mut Dice,
        method: Method,
        path: &str,
        body: Option<&T>,
    ) -> Result<Response, Failed> {
        let answer = self.call(dice, method, path, body).await?;
        if answer.status().is_success() { Ok(answer) } else { Err(Failed) }
    }

    /// One push, which may be given up at any point. An upload given up has expired: its client is gone.
    pub(super) async fn push(&self, dice: &mut Dice) -> Result<(), Failed> {
        let root = dice.index(PATHS);
        let paths: Vec<&TestPath> = self.paths[root].1.iter().map(|index| &self.paths[*index].0).collect();
        let mut body = begin_request(paths[0], &paths);
        body.verify_s3 = dice.roll(8) == 0;
        let begun = self.expect(dice, Method::POST, "/api/pending_closures", Some(&body)).await?;
        let begun: BeginResponse = begun.json().await.map_err(|_| Failed)?;
        let sent = self.send(dice, &begun, &paths).await;
        if sent.is_err() || dice.roll(12) == 0 {
            let past = "addresses_until - interval '1 day', started_at = started_at - interval '1 day'";
            self.place
                .sql(&format!("update uploads set addresses_until = {past} where id = {}", begun.id))
                .await;
            sent?;
        }
        dice.pause(15).await;
        let complete = format!("/api/pending_closures/{}/complete", begun.id);
        for _ in 0..6 {
            match self.call(dice, Method::POST, &complete, None::<&()>).await {
                Ok(answer) if answer.status() == StatusCode::NO_CONTENT => break,
                Ok(answer) if answer.status().is_client_error() => return Err(Failed),
                _ => dice.pause(200).await,
            }
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        let pin = format!("/api/pins/pin-{}", dice.roll(4));
        let body = serde_json::json!({ "store_path": paths[0].store_path });
        match dice.roll(4) {
            0 => drop(self.expect(dice, Method::POST, &pin, Some(&body)).await?),
            1 => drop(self.expect(dice, Method::DELETE, &pin, None::<&()>).await?),
            _ => {}
        }
        Ok(())
    }

    async fn send(&self, dice: &mut Dice, begun: &BeginResponse, paths: &[&TestPath]) -> Result<(), Failed> {
        for path in paths {
            if dice.roll(60) == 0 {
                return Err(Failed);
            }
            for (key, bytes) in path.stored() {
                self.put(begun, &key, bytes).await?;
            }
        }
        let sign = format!("/api/pending_closures/{}/sign", begun.id);
        let signed = self.expect(dice, Method::POST, &sign, Some(&sign_request(paths))).await?;
        let signed: SignResponse = signed.json().await.map_err(|_| Failed)?;
        for path in paths.iter().rev() {
            let text = path.narinfo(&signed.signatures[&path.key()]);
            self.put(begun, &path.key(), zstd::encode_all(text.as_bytes(), 1).unwrap()).await?;
        }
        Ok(())
    }

    async fn put(&self, begun: &BeginResponse, key: &str, bytes: Vec<u8>) -> Result<(), Failed> {
        let Some(pending) = begun.pending_objects.get(key) else { return Ok(()) };
        let answer = self.http.put(pending.presigned_url.as_ref().unwrap()).body(bytes).send().await;
        assert!(answer.map_err(|_| Failed)?.status().is_success(), "PUT {key}");
        Ok(())
    }

    /// Starts collections of every sort; sometimes one beside another, as after a server was taken for dead.
    pub(super) async fn collect(&self, mut dice: Dice) {
        while self.going_on() {
            if dice.roll(3) == 0 {
                self.forget_runs().await;
            }
            let older_than = ["0s", "0s", "0s", "200ms", "1h"][dice.index(5)];
            let how = ["force=true", "deletion-grace=0s", "deletion-grace=50ms"][dice.index(3)];
            let path = format!("/api/closures?older-than={older_than}&{how}");
            if self.expect(&mut dice, Method::DELETE, &path, None::<&()>).await.is_ok() {
                self.collections.fetch_add(1, Ordering::Relaxed);
            }
            dice.pause(300).await;
        }
    }

    /// What a minute of silence would do: a run whose server died no longer stands in the way.
    pub(super) async fn forget_runs(&self) {
        self.place.sql("update gc_runs set state = 'failed' where state = 'running'").await;
    }

    pub(super) async fn crash(&self, mut dice: Dice) {
        while self.going_on() {
            dice.pause(3000).await;
            let victim = {
                let mut servers = self.servers.lock().unwrap();
                let victim = dice.index(servers.len());
                servers.swap_remove(victim)
            };
            drop(victim);
            self.crashes.fetch_add(1, Ordering::Relaxed);
            self.forget_runs().await;
            let server = self.start_server().await;
            self.servers.lock().unwrap().push(server);
        }
    }

    pub(super) async fn cut(&self, mut dice: Dice) {
        while self.going_on() {
            dice.pause(2500).await;
            self.place.sql(SETTLED).await;
            self.relay.lock().await.down().await;
            dice.pause(100).await;
            self.relay.lock().await.up();
        }
    }
}
