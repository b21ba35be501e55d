//! Reads what the spec refers to. Nothing is written here.

mod bucket;
mod chain;
mod credentials;
mod surroundings;

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, ResourceExt as _};

use crate::context::Context;
use crate::crd::binary_cache::{CaSource, CloudNativePg};
use crate::crd::{BinaryCache, BinaryCacheSpec};
use crate::labels::{Names, OPERATOR};
use crate::{rollouts, watches};

use super::validate::tls_secret;
pub use surroundings::{ApiPorts, Surroundings};

/// Something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A request failed.
    #[error("could not read {what}")]
    Read {
        /// What.
        what: String,
        /// Why.
        source: kube::Error,
    },
    /// There is no randomness to make secrets from.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What was found.
#[derive(Debug)]
pub struct Observed {
    /// The Secrets that exist, of those the spec names and those the operator would make.
    pub secrets: BTreeMap<String, Secret>,
    /// The ConfigMaps that exist, of those the spec names.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// The ServiceAccounts that exist, of those the spec names.
    pub service_accounts: BTreeSet<String>,
    /// The public keys that clients are told, where a key waits for them to learn of it.
    pub told: Option<BTreeSet<String>>,
    /// The versions of Secrets that the pods run with.
    pub secret_versions: BTreeMap<String, String>,
    /// How many pods the operator itself asked for last; none where somebody else decides.
    pub replicas: Option<i32>,
    /// The server's Deployment.
    pub deployment: Option<Deployment>,
    /// Those of embedded servers whose credentials are about to change.
    pub stateful_sets: BTreeMap<String, StatefulSet>,
    /// An older cache on the same bucket and prefix, as `namespace/name`.
    pub bucket_taken_by: Option<String>,
    /// What NetworkPolicies have to know of the cluster.
    pub surroundings: Surroundings,
    /// Randomness for what has to be made.
    pub fresh: Fresh,
    /// When.
    pub now: Timestamp,
}

/// Randomness for what has to be made.
#[derive(Clone)]
pub struct Fresh {
    /// Of signing keys.
    pub signing_seed: [u8; 32],
    /// Access key id of the embedded S3 server.
    pub s3_access_key: String,
    /// Secret access key of the embedded S3 server.
    pub s3_secret_key: String,
    /// Password of the embedded PostgreSQL.
    pub postgres_password: String,
    /// Names this generation.
    pub id: String,
}

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fresh(..)")
    }
}

impl Fresh {
    fn new() -> Result<Self, getrandom::Error> {
        let random = || -> Result<[u8; 32], getrandom::Error> {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)?;
            Ok(bytes)
        };
        Ok(Self {
            signing_seed: random()?,
            s3_access_key: format!("NIKS3{}", hex::encode_upper(&random()?[..8])),
            s3_secret_key: hex::encode(random()?),
            postgres_password: URL_SAFE_NO_PAD.encode(random()?),
            id: hex::encode(&random()?[..8]),
        })
    }
}

/// Reads what the spec refers to.
pub async fn observe(cache: &BinaryCache, context: &Context) -> Result<Observed, ObserveError> {
    let (name, namespace) = (cache.name_any(), cache.namespace().unwrap_or_default());
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let reads = secret_names(&name, &cache.spec).into_iter().map(async |secret| {
        let read = |source| ObserveError::Read { what: format!("Secret {secret}"), source };
        let found = api.get_opt(&secret).await.map_err(read)?;
        Ok::<_, ObserveError>(found.map(|found| (secret, found)))
    });
    let mut secrets: BTreeMap<String, Secret> = try_join_all(reads).await?.into_iter().flatten().collect();
    chain::read(cache, &mut secrets, context).await?;
    let mut config_maps = BTreeMap::new();
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    for map in cas(&cache.spec).filter_map(|ca| Some(ca.config_map_key_ref?.name)) {
        let read = |source| ObserveError::Read { what: format!("ConfigMap {map}"), source };
        if let Some(found) = api.get_opt(&map).await.map_err(read)? {
            config_maps.insert(map, found);
        }
    }
    let mut service_accounts = BTreeSet::new();
    let identity = cache.spec.storage.s3.as_ref().and_then(|s3| s3.credentials.workload_identity.as_ref());
    if let Some(account) = identity.and_then(|identity| identity.service_account_name.clone()) {
        let accounts: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &namespace);
        let read = |source| ObserveError::Read { what: format!("ServiceAccount {account}"), source };
        if accounts.get_metadata_opt(&account).await.map_err(read)?.is_some() {
            service_accounts.insert(account);
        }
    }
    let deployment = find_deployment(cache, context).await?;
    let read = |source| ObserveError::Read { what: "where the API server listens".to_owned(), source };
    let surroundings = surroundings::look(&cache.spec, context).await.map_err(read)?;
    let now = Timestamp::now();
    let stateful_sets = credentials::read(cache, &mut secrets, now, context).await?;
    let told = chain::told(cache, &secrets, context).await?;
    Ok(Observed {
        secrets,
        told,
        config_maps,
        service_accounts,
        secret_versions: deployment.as_ref().map(rollouts::secret_versions).unwrap_or_default(),
        replicas: deployment.as_ref().and_then(own_replicas),
        deployment,
        stateful_sets,
        bucket_taken_by: bucket::find_older(cache, context).await?,
        surroundings,
        fresh: Fresh::new().map_err(ObserveError::Random)?,
        now,
    })
}

/// The server's Deployment. Where the watches know that there is none, nobody is asked.
async fn find_deployment(cache: &BinaryCache, context: &Context) -> Result<Option<Deployment>, ObserveError> {
    let (namespace, uid) = (cache.namespace().unwrap_or_default(), cache.uid().unwrap_or_default());
    let name = Names(&cache.name_any()).server();
    let part = context.scope.part_of(&namespace);
    let known = context.known.of(&watches::kin::<BinaryCache, Deployment>(), part, &namespace, &uid);
    if known.is_some_and(|known| !known.contains_key(&name)) {
        return Ok(None);
    }
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let read = |source| ObserveError::Read { what: format!("Deployment {name}"), source };
    api.get_opt(&name).await.map_err(read)
}

/// The Secrets a spec names, and those the operator makes for it.
fn secret_names(name: &str, spec: &BinaryCacheSpec) -> BTreeSet<String> {
    let names = Names(name);
    let mut secrets = BTreeSet::new();
    secrets.insert(names.signing());
    secrets.insert(names.key_set());
    secrets.insert(names.key_chain());
    for key in &spec.signing.keys {
        let brought = key.secret_key_ref.as_ref().map(|brought| brought.name.clone());
        secrets.insert(brought.unwrap_or_else(|| names.signing_key(&key.name)));
    }
    if spec.storage.embedded.is_some() {
        secrets.insert(names.s3());
    }
    let s3 = spec.storage.s3.as_ref().and_then(|s3| s3.credentials.secret_ref.as_ref());
    secrets.extend(s3.map(|secret| secret.name.clone()));
    if spec.database.embedded.is_some() {
        secrets.insert(names.postgres());
    }
    secrets.extend(spec.database.connection.as_ref().map(|to| to.user_secret_ref.name.clone()));
    secrets.extend(cas(spec).filter_map(|ca| Some(ca.secret_key_ref?.name)));
    secrets.extend(spec.database.cloud_native_pg.as_ref().map(CloudNativePg::secret));
    secrets.extend(spec.database.url_secret_ref.as_ref().map(|secret| secret.name.clone()));
    secrets.extend(tls_secret(name, spec));
    let ingress = spec.server.ingress.as_ref();
    secrets.extend(ingress.and_then(|ingress| ingress.tls_secret_name.clone()));
    secrets.extend(spec.auth.static_tokens.iter().map(|token| token.secret_key_ref.name.clone()));
    secrets
}

/// The CAs and revocation lists a spec names.
fn cas(spec: &BinaryCacheSpec) -> impl Iterator<Item = CaSource> {
    let of_s3 = spec.storage.s3.as_ref().and_then(|s3| s3.ca.clone());
    let of_issuers = spec.auth.oidc.iter().filter_map(|issuer| issuer.ca.clone());
    let clients = spec.auth.client_certificates.as_ref();
    let of_clients = clients.and_then(|certificates| certificates.ca.clone());
    let lists = clients.and_then(|certificates| certificates.crl.as_ref()).map(CaSource::from);
    of_s3.into_iter().chain(spec.database.ca.clone()).chain(of_issuers).chain(of_clients).chain(lists)
}

/// The replicas of a Deployment, where they are the operator's word.
fn own_replicas(deployment: &Deployment) -> Option<i32> {
    let ours = deployment.managed_fields().iter().any(|entry| {
        let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.pointer("/f:spec/f:replicas"));
        entry.manager.as_deref() == Some(OPERATOR) && fields.is_some()
    });
    deployment.spec.as_ref()?.replicas.filter(|_| ours)
}

/// A prefix as the server wants it: empty, or with a slash at its end.
pub fn with_slash(prefix: &str) -> String {
    if prefix.is_empty() || prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") }
}
