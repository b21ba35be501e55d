//! Signing. A cache that signs is a root of trust: nothing is signed that contradicts its upload.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt as _;
use niks3_protocol::api::pending_closures::{NarInfoMetadata, SignRequest, SignResponse};
use niks3_protocol::nix::signature;
use niks3_protocol::object_key::ObjectKey;
use niks3_protocol::server_config::{LARGEST_NAR, VerifyUploads};
use sqlx::PgPool;

use super::plan::Plan;
use super::signed::{self, Signed};
use super::{PushError, load_own, size, verify};
use crate::app::App;
use crate::auth::Identity;
use crate::db::uploads::Upload;
use crate::{db, parallel};

/// What an upload said when it began.
pub struct Said {
    upload: i64,
    plan: Plan,
    /// Of its keys, and of those it refers to outside.
    numbers: HashMap<String, usize>,
    missing: Vec<String>,
}

/// Reads what an upload of this identity said.
pub async fn find_said(app: &App, identity: &Identity, id: i64) -> Result<Said, PushError> {
    let Upload { plan, keys, missing, .. } = load_own(app, identity, id).await?;
    let read = move || {
        let plan = Plan::from_bytes(&plan, id)?;
        let numbers = plan.keys(&keys).enumerate().map(|(number, key)| (key.clone(), number)).collect();
        Ok(Said { upload: id, plan, numbers, missing })
    };
    // As what is checked below: not on a thread that serves others.
    tokio::task::spawn_blocking(read).await?
}

/// Signs narinfos of an upload and keeps what they say until its commit.
pub async fn sign(app: &App, said: Said, request: SignRequest) -> Result<SignResponse, PushError> {
    let live_sizes = tokio::spawn(live_sizes(app.db.clone(), &request));
    let store_dir = app.config.store_dir.clone();
    let check = move || {
        request.narinfos.iter().try_for_each(|(key, narinfo)| said.check(key, narinfo, &store_dir))?;
        Ok::<_, PushError>((said, request))
    };
    let (said, request) = tokio::task::spawn_blocking(check).await??;
    size::check_signed(app.config.limits.nar_bytes, &said.missing, &request)?;
    check_live_sizes(&live_sizes.await??, &request)?;
    let tags = match app.config.verify {
        VerifyUploads::Hash => verify::read_back(app, &said.missing, &request).await?,
        VerifyUploads::None | VerifyUploads::Head => BTreeMap::new(),
    };

    let (signer, tags) = (app.keys.now().signer.clone(), Arc::new(tags));
    let make = move |_, narinfos: Vec<(String, NarInfoMetadata)>| {
        let signed = narinfos.into_iter().map(|(key, narinfo)| {
            let signatures = signer.sign(&fingerprint(&narinfo));
            let nar_etag = tags.get(&narinfo.url).cloned();
            Signed { key, narinfo, signatures, nar_etag }
        });
        let signed: Vec<Signed> = signed.collect();
        Ok::<_, PushError>((signed::to_bytes(&signed)?, signed))
    };
    let id = said.upload;
    let mut transaction = db::begin(&app.db).await?;
    match db::uploads::lock(&mut transaction, id).await? {
        None => return Err(PushError::UploadNotFound(id)),
        Some(true) => return Err(PushError::Sealed(id)),
        Some(false) => {}
    }
    // PostgreSQL writes some while others are signed.
    let mut signatures = BTreeMap::new();
    let mut pieces = pin!(parallel::pieces(request.narinfos.into_iter().collect(), make));
    while let Some(made) = pieces.next().await {
        let (bytes, signed) = made??;
        db::narinfos::insert_signed(&mut transaction, id, &bytes).await?;
        signatures.extend(signed.into_iter().map(|signed| (signed.key, signed.signatures)));
    }
    transaction.commit().await?;
    Ok(SignResponse { signatures })
}

/// The bytes of the NARs that are live. PostgreSQL finds them while other things are looked at here.
fn live_sizes(
    pool: PgPool,
    request: &SignRequest,
) -> impl Future<Output = sqlx::Result<Vec<(String, i64)>>> + Send + use<> {
    let nars: Vec<String> = request.narinfos.values().map(|narinfo| narinfo.url.clone()).collect();
    async move { db::objects::list_nar_sizes(&mut *pool.acquire().await?, &nars).await }
}

/// A NAR that is live has one size, whoever pushes it again.
fn check_live_sizes(live: &[(String, i64)], request: &SignRequest) -> Result<(), PushError> {
    let sizes: HashMap<&str, i64> = live.iter().map(|(key, size)| (key.as_str(), *size)).collect();
    for (key, narinfo) in &request.narinfos {
        if let Some(size) =
            sizes.get(narinfo.url.as_str()).filter(|size| u64::try_from(**size) != Ok(narinfo.nar_size))
        {
            return Err(PushError::Invalid(format!(
                "{key}: the NAR {} has {size} bytes in the cache, {} here",
                narinfo.url, narinfo.nar_size
            )));
        }
    }
    Ok(())
}

fn fingerprint(narinfo: &NarInfoMetadata) -> String {
    signature::fingerprint(&narinfo.store_path, narinfo.nar_hash, narinfo.nar_size, &narinfo.references)
}

impl Said {
    /// Whether what a narinfo will say agrees with its key and with what its upload promised.
    fn check(&self, key: &str, narinfo: &NarInfoMetadata, store_dir: &str) -> Result<(), PushError> {
        let invalid = |message: String| Err(PushError::Invalid(format!("{key}: {message}")));
        let own = self.numbers.get(key).and_then(|number| self.plan.get(*number));
        let own =
            own.ok_or_else(|| PushError::Foreign(format!("{key} is not part of upload {}", self.upload)))?;
        let refers_to = |key: &str| self.numbers.get(key).is_some_and(|number| own.refers_to(*number));
        let path = &narinfo.store_path;
        if path.store_dir() != store_dir {
            return invalid(format!("{path} is not in {store_dir}, this cache's store directory"));
        }
        if *key != path.narinfo_key() {
            return invalid(format!("this key is not the one of {path}"));
        }
        match narinfo.url.parse() {
            Ok(ObjectKey::Nar(hash, compression)) => {
                if hash != narinfo.nar_hash {
                    return invalid(format!(
                        "the NAR {} does not have the hash {}",
                        narinfo.url, narinfo.nar_hash
                    ));
                }
                if compression.name() != narinfo.compression {
                    return invalid(format!("the NAR {} is not {}", narinfo.url, narinfo.compression));
                }
            }
            _ => return invalid(format!("{:?} is not a NAR's key", narinfo.url)),
        }
        let nar = self.numbers.get(narinfo.url.as_str()).and_then(|number| self.plan.get(*number));
        let Some(nar) = nar.filter(|_| refers_to(&narinfo.url)) else {
            return Err(PushError::Foreign(format!(
                "{key}: the NAR {} is not part of its upload",
                narinfo.url
            )));
        };
        if narinfo.nar_size > LARGEST_NAR {
            return invalid("the NAR is larger than the 5 TiB S3 can hold".to_owned());
        }
        let is_text = |ca: &str| !ca.is_empty() && ca.bytes().all(|byte| byte.is_ascii_graphic());
        if narinfo.ca.as_deref().is_some_and(|ca| !is_text(ca)) {
            return invalid("the content address is not one".to_owned());
        }
        if nar.nar_size.is_some_and(|size| size != narinfo.nar_size) {
            return invalid(format!(
                "the NAR has {:?} bytes in the upload, {} here",
                nar.nar_size, narinfo.nar_size
            ));
        }
        for reference in &narinfo.references {
            if reference.store_dir() != store_dir {
                return invalid(format!("the reference {reference} is not in {store_dir}"));
            }
            let reference_key = reference.narinfo_key();
            if *key != reference_key && !refers_to(&reference_key) {
                return invalid(format!("the upload does not list the reference {reference}"));
            }
        }
        Ok(())
    }
}
