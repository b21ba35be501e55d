//! What requests to S3 and upload addresses are signed with.
//!
//! Credentials that end (web identity, the role of a container or an instance) are renewed when half of their life is over,
//! while requests go on with those at hand. Upload addresses end with what signed them, so they live that half at least.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aws_config::environment::{EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider};
use aws_config::meta::region::RegionProviderChain;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, ProvideCredentials, Region, SharedCredentialsProvider, SharedHttpClient,
};
use tokio::sync::OwnedMutexGuard;

use super::web_identity::Exchange;
use super::{BucketConfig, SessionFiles};
use crate::telemetry;

/// The limit on asking for credentials.
const LIMIT: Duration = Duration::from_secs(15);
/// Nobody is asked again for so long after a failure: all who wait share it.
const FAILED: Duration = Duration::from_secs(1);
/// Credentials without an end are read again after this time: those of a file may be replaced.
const ENDLESS: Duration = Duration::from_mins(15);
/// Between tries to renew what is still good.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Why there are no credentials, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoCredentials(String);

impl NoCredentials {
    /// The cause of an error of the SDK's, where it is this one.
    pub(super) fn cause_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        telemetry::causes(error).find_map(|error| error.downcast_ref())
    }
}

/// Has the credentials, and asks for new ones in time.
#[derive(Debug, Clone)]
pub(super) enum Keeper {
    /// They are for ever.
    Given(Credentials),
    /// Somebody gives them.
    Asks(Arc<Asking>),
}

#[derive(Debug)]
pub(super) struct Asking {
    source: Source,
    limit: Duration,
    state: Mutex<State>,
    /// Held by who asks: one at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
enum Source {
    Session(SessionFiles),
    WebIdentity(Exchange),
    Environment(Option<SharedCredentialsProvider>),
}

#[derive(Debug, Default)]
struct State {
    kept: Option<(Credentials, SystemTime)>,
    failed: Option<(Instant, NoCredentials)>,
}

enum AtHand {
    Fresh(Credentials),
    /// Good still, to be renewed.
    Aging(Credentials),
    Failed(NoCredentials),
    Nothing,
}

impl Keeper {
    /// Prepares; nothing is asked yet.
    pub(super) async fn open(config: &BucketConfig, https: SharedHttpClient) -> Self {
        if let Some(keys) = &config.credentials {
            return Self::Given(Credentials::new(&keys.access_key, &keys.secret_key, None, None, "niks3"));
        }
        if let Some(files) = &config.session {
            return Self::asks(Source::Session(files.clone()), config);
        }
        // Where the pod is, as a cloud says; the bucket may be elsewhere.
        let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
        let region = region.or_else(Region::new(config.region.clone()));
        let sdk = aws_config::defaults(BehaviorVersion::latest()).region(region).http_client(https);
        let sdk = sdk.load().await;
        let source = match &config.web_identity {
            Some(identity) => Source::WebIdentity(Exchange::new(identity.clone(), &sdk)),
            None => Source::Environment(sdk.credentials_provider()),
        };
        Self::asks(source, config)
    }

    fn asks(source: Source, config: &BucketConfig) -> Self {
        let limit = LIMIT.min(config.request_timeout * 3 / 4);
        Self::Asks(Arc::new(Asking { source, limit, state: Mutex::default(), turn: Arc::default() }))
    }

    /// Credentials that are good now.
    pub(super) async fn get(&self) -> Result<Credentials, NoCredentials> {
        match self {
            Self::Given(credentials) => Ok(credentials.clone()),
            Self::Asks(asking) => asking.get().await,
        }
    }

    /// Why there were none when they were last wanted.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Given(_) => None,
            Self::Asks(asking) => asking.problem(),
        }
    }
}

impl Asking {
    async fn get(self: &Arc<Self>) -> Result<Credentials, NoCredentials> {
        match self.at_hand() {
            AtHand::Fresh(credentials) => return Ok(credentials),
            AtHand::Aging(credentials) => {
                if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
                    tokio::spawn(Arc::clone(self).renew(turn));
                }
                return Ok(credentials);
            }
            AtHand::Failed(why) => return Err(why),
            AtHand::Nothing => {}
        }
        let turn = Arc::clone(&self.turn).lock_owned().await;
        match self.at_hand() {
            AtHand::Fresh(credentials) | AtHand::Aging(credentials) => Ok(credentials),
            AtHand::Failed(why) => Err(why),
            // Who waits for it may give up; the answer is of use to others.
            AtHand::Nothing => match tokio::spawn(Arc::clone(self).renew(turn)).await {
                Ok(answer) => answer,
                Err(error) => Err(NoCredentials(format!("asking for credentials ended early: {error}"))),
            },
        }
    }

    fn problem(&self) -> Option<String> {
        let state = self.state();
        let good = state.kept.as_ref().is_some_and(|(kept, _)| is_good(kept, SystemTime::now()));
        state.failed.as_ref().filter(|_| !good).map(|(_, why)| why.to_string())
    }

    fn at_hand(&self) -> AtHand {
        let (state, now) = (self.state(), SystemTime::now());
        match (&state.kept, &state.failed) {
            (Some((kept, renew_at)), _) if now < *renew_at && is_good(kept, now) => {
                AtHand::Fresh(kept.clone())
            }
            (Some((kept, _)), _) if is_good(kept, now) => AtHand::Aging(kept.clone()),
            (_, Some((at, why))) if at.elapsed() < FAILED => AtHand::Failed(why.clone()),
            _ => AtHand::Nothing,
        }
    }

    async fn renew(self: Arc<Self>, _turn: OwnedMutexGuard<()>) -> Result<Credentials, NoCredentials> {
        let answer = tokio::time::timeout(self.limit, self.source.load()).await;
        let answer = answer
            .unwrap_or_else(|_| Err(format!("{}: no answer within {:?}", self.source.name(), self.limit)));
        let (mut state, now) = (self.state(), SystemTime::now());
        match answer {
            Ok(credentials) => {
                let left = left(&credentials, now);
                state.kept = Some((credentials.clone(), now + left.map_or(ENDLESS, |left| left / 2)));
                state.failed = None;
                Ok(credentials)
            }
            Err(why) => {
                let why = NoCredentials(why);
                if let Some((kept, renew_at)) = &mut state.kept {
                    let left = left(kept, now);
                    *renew_at = now + left.map_or(RETRY.1, |left| left / 4).clamp(RETRY.0, RETRY.1);
                    tracing::warn!(%why, ?left, "the credentials of S3 cannot be renewed now");
                }
                state.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for Keeper {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.get().await.map_err(CredentialsError::provider_error) })
    }
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Self::Session(_) => "the files with the session token and its keys",
            Self::WebIdentity(_) => "web identity",
            Self::Environment(_) => "the credentials of the environment",
        }
    }

    async fn load(&self) -> Result<Credentials, String> {
        match self {
            Self::Session(files) => files.credentials().await,
            Self::WebIdentity(exchange) => {
                // They go first, as with every AWS SDK.
                match EnvironmentVariableCredentialsProvider::new().provide_credentials().await {
                    Ok(credentials) => Ok(credentials),
                    Err(_) => exchange.credentials().await,
                }
            }
            Self::Environment(Some(chain)) => chain.provide_credentials().await.map_err(|error| {
                format!(
                    "no keys are given, and the environment has none: {}; tried were AWS_ACCESS_KEY_ID, AWS's own files, \
                     a container's role and the instance's; set NIKS3_S3_ACCESS_KEY and NIKS3_S3_SECRET_KEY, or \
                     AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN",
                    in_one_line(&error)
                )
            }),
            Self::Environment(None) => Err("no keys are given: set NIKS3_S3_ACCESS_KEY".to_owned()),
        }
    }
}

/// How long they are good for; those without an end always.
fn left(credentials: &Credentials, now: SystemTime) -> Option<Duration> {
    credentials.expiry().map(|end| end.duration_since(now).unwrap_or_default())
}

fn is_good(credentials: &Credentials, now: SystemTime) -> bool {
    credentials.expiry().is_none_or(|end| now < end)
}

/// An error of the SDK's with all its causes, in one line: they repeat each other, and some have several.
pub(super) fn in_one_line(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = telemetry::causes(error).map(ToString::to_string).collect();
    said.dedup();
    said.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
}
