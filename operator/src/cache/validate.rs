//! Pure: everything doubtful about a spec becomes a plain value or a reason.

mod backends;
mod ca;
mod chain;
pub mod credentials;
mod identities;
mod key;
mod key_name;
mod key_secret;
mod key_set;
mod keys;
mod limits;
mod network;
mod pod_template;
mod rotation;
mod secrets;
mod valid;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt as _;
use niks3_protocol::duration::{DurationError, GoDuration};
use niks3_protocol::server_config;

use crate::args::Images;
use crate::crd::binary_cache::{
    Auth, DisruptionMode, KubernetesAuthMode, ReadAccess, RetentionMode, Server, ServiceMonitorMode, Suspend,
};
use crate::crd::conditions::{self, ConditionType, Reason};
use crate::crd::schema::Duration;
use crate::crd::{BinaryCache, BinaryCacheSpec};
use crate::labels;

use super::observe::Observed;
pub use ca::CaFile;
use ca::Pem;
pub use chain::{Chain, FoundChain, Link, next_secret, secret_names};
pub use credentials::Credentials;
pub use identities::{Certificates, Issuer, Tls, tls_ca, tls_secret};
pub use key::{Found, Key};
pub use key_name::counted_up;
pub use key_secret::any_waits;
pub use key_set::{KEYS, KeySet, REVOKED};
pub use keys::Signing;
pub use rotation::{Clock, Clocks};
use secrets::Resolver;
pub use secrets::{Generated, Missing, SecretFile};
pub use valid::{Connections, Database, Embedded, Network, S3Access, Storage, Token, ValidCache};

/// A spec that cannot be carried out. It waits for an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// For the condition.
    pub reason: Reason,
    /// One sentence.
    pub message: String,
}

/// Makes a spec and what was found into a cache that can be built.
pub fn validate(cache: &BinaryCache, observed: &Observed, images: &Images) -> Result<ValidCache, Invalid> {
    let spec = &cache.spec;
    let (name, namespace) = (cache.name_any(), cache.namespace().unwrap_or_default());
    if let Some(other) = &observed.bucket_taken_by {
        let message =
            format!("BinaryCache {other} is older and has this bucket and prefix; choose another prefix");
        return Err(Invalid { reason: Reason::BucketConflict, message });
    }
    let suspended = spec.suspend == Suspend::Server;
    let autoscaling = spec.server.autoscaling.clone().filter(|_| !suspended);
    let least = autoscaling.as_ref().map_or(spec.server.replicas, |scaling| scaling.min_replicas);
    let least = if suspended { 0 } else { least };
    let endpoint = labels::endpoint(&name, &namespace, spec.server.tls.is_some());
    let url = spec.url.clone().or_else(|| outside(&spec.server)).unwrap_or_else(|| endpoint.clone());
    let mut resolver = Resolver::new(&name, observed);
    let signing = Signing::of(cache, &url, &mut resolver)?;
    let presign_expiry = presign_expiry(spec)?;
    let redirect_ttl = parse("server.readProxy.redirectTTL", &spec.server.read_proxy.redirect_ttl)?;
    let request = credentials::request(cache, observed.now);
    // Addresses that were signed go on as long as they live.
    let linger =
        SignedDuration::try_from(presign_expiry.0.max(redirect_ttl.0)).unwrap_or(SignedDuration::MAX);
    let storage = backends::storage(spec, &request, linger, &mut resolver, images)?;
    let database = backends::database(spec, &request, &mut resolver, images)?;
    let tokens = tokens(&spec.auth, &mut resolver);
    let storage_ca = spec.storage.s3.as_ref().and_then(|s3| s3.ca.as_ref());
    let storage_ca =
        storage_ca.and_then(|source| ca::resolve(source, Pem::Cas, "storage.s3.ca", &mut resolver));
    let database_ca = spec.database.ca.as_ref();
    let database_ca =
        database_ca.and_then(|source| ca::resolve(source, Pem::Cas, "database.ca", &mut resolver));
    let tls = identities::tls(&name, &namespace, &url, spec, &mut resolver);
    let issuers = identities::issuers(&spec.auth, &mut resolver);
    let certificates = identities::certificates(&spec.auth, &mut resolver)?;
    let audience = (spec.auth.kubernetes.mode == KubernetesAuthMode::Enabled).then(|| audience(cache));
    Ok(ValidCache {
        owner: labels::owner(cache),
        public_keys: signing.published().filter_map(|key| key.public_key.clone()).collect(),
        rules: rules(&spec.auth, &name, &namespace),
        cache_info: spec.cache_info.clone(),
        reads: spec.server.read_proxy.mode,
        private: spec.auth.read == ReadAccess::Authenticated,
        uploads: limits::uploads(&spec.server.uploads),
        presign_expiry,
        pool: backends::pool(&spec.database.pool)?,
        schema: spec.database.schema.clone(),
        migrations: backends::migrations(&spec.database),
        redirect_ttl,
        storage_ca,
        database_ca,
        tls,
        issuers,
        certificates,
        pod_template: pod_template::read(&spec.server)?,
        replicas: autoscaling.is_none().then_some(least),
        replicas_before: observed.replicas,
        autoscaling,
        limits: limits::limits(&spec.server.limits, &spec.server.uploads)?,
        resign: limits::resign(&spec.signing.rotation),
        network: network::limits(spec, observed),
        certificate_missing: certificate_missing(&spec.server, observed),
        ingress: spec.server.ingress.clone(),
        http_route: spec.server.http_route.clone(),
        clients: spec.clients.namespace_selector.clone(),
        published_before: was_published(cache),
        monitor: Some(&spec.server.metrics.service_monitor)
            .filter(|monitor| monitor.mode == ServiceMonitorMode::Enabled)
            .cloned(),
        suspended,
        image: server_image(spec, images),
        pull_policy: spec.server.image_pull_policy.or(images.pull_policy),
        resources: spec.server.resources.clone(),
        pull_secrets: spec.server.image_pull_secrets.iter().map(|secret| secret.name.clone()).collect(),
        scheduling: spec.server.scheduling.clone(),
        service: spec.server.service.clone(),
        max_unavailable: max_unavailable(&spec.server, least),
        secret_versions: resolver.versions,
        missing: resolver.missing,
        name,
        namespace,
        url,
        endpoint,
        credentials_request: request,
        storage,
        database,
        signing,
        audience,
        tokens,
    })
}

/// How long upload addresses live.
pub fn presign_expiry(spec: &BinaryCacheSpec) -> Result<GoDuration, Invalid> {
    parse("server.uploads.presignExpiry", &spec.server.uploads.presign_expiry)
}

fn parse(field: &str, text: &Duration) -> Result<GoDuration, Invalid> {
    let invalid = |error| Invalid { reason: Reason::InvalidSpec, message: format!("{field}: {error}") };
    text.0.parse().map_err(|error: DurationError| invalid(error))
}

/// Whether the status tells of ConfigMaps in other namespaces.
fn was_published(cache: &BinaryCache) -> bool {
    let conditions = cache.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions::find(conditions, ConditionType::Published).is_some()
}

/// The audience that tokens for a cache are made for.
pub fn audience(cache: &BinaryCache) -> String {
    let own = cache.spec.auth.kubernetes.audience.clone();
    own.unwrap_or_else(|| labels::default_audience(&cache.name_any(), &cache.namespace().unwrap_or_default()))
}

/// The image of a cache's server and collector.
pub fn server_image(spec: &BinaryCacheSpec, images: &Images) -> String {
    spec.server.image.clone().unwrap_or_else(|| images.server.clone())
}

/// The address that clients outside see.
fn outside(server: &Server) -> Option<String> {
    let route =
        server.http_route.as_ref().and_then(|route| Some(format!("https://{}", route.hostnames.first()?)));
    route.or_else(|| {
        let ingress = server.ingress.as_ref()?;
        let scheme = if ingress.tls_secret_name.is_some() { "https" } else { "http" };
        Some(format!("{scheme}://{}", ingress.host))
    })
}

fn certificate_missing(server: &Server, observed: &Observed) -> Option<String> {
    let secret = server.ingress.as_ref()?.tls_secret_name.as_ref()?;
    (!observed.secrets.contains_key(secret)).then(|| secret.clone())
}

/// How many pods may be moved at a time. With one pod a budget would only keep nodes from being drained.
fn max_unavailable(server: &Server, replicas: i32) -> Option<IntOrString> {
    let budget = &server.pod_disruption_budget;
    (budget.mode == DisruptionMode::Auto && replicas >= 2).then(|| budget.max_unavailable.clone())
}

fn tokens(auth: &Auth, resolver: &mut Resolver<'_>) -> Vec<Token> {
    auth.static_tokens
        .iter()
        .map(|token| Token {
            name: token.name.clone(),
            secret: resolver.file(&token.secret_key_ref.name, &token.secret_key_ref.key),
            permissions: token.permissions.iter().copied().map(Into::into).collect(),
            pins: token.pins.clone(),
        })
        .collect()
}

/// The user's rules, and the one that lets the cache's own collector collect.
fn rules(auth: &Auth, cache: &str, namespace: &str) -> Vec<server_config::KubernetesRule> {
    let account = |namespace: &str, name: &str| server_config::ServiceAccountRef {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    let users = auth.kubernetes.rules.iter().map(|rule| server_config::KubernetesRule {
        name: rule.name.clone(),
        service_accounts: rule.service_accounts.iter().map(|to| account(&to.namespace, &to.name)).collect(),
        permissions: rule.permissions.iter().copied().map(Into::into).collect(),
        pins: rule.pins.clone(),
    });
    let collector = server_config::KubernetesRule {
        // No user's rule can have this name: a dot is not allowed there.
        name: "niks3.dev/gc".to_owned(),
        service_accounts: vec![account(namespace, &labels::Names(cache).gc())],
        permissions: vec![niks3_protocol::api::Permission::Gc],
        pins: Vec::new(),
    };
    users.chain([collector]).collect()
}

/// Whether the generated signing keys outlive the cache.
fn retains_keys(spec: &BinaryCacheSpec) -> bool {
    spec.deletion_policy.signing_keys == RetentionMode::Retain
}
