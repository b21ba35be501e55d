//! Signing. A cache that signs is a root of trust: nothing is signed that contradicts its upload.

use std::collections::{BTreeMap, HashMap, HashSet};

use niks3_protocol::api::pending_closures::{NarInfoMetadata, SignRequest, SignResponse, UploadObject};
use niks3_protocol::nix::{Signature, signature};
use niks3_protocol::object_key::ObjectKey;
use niks3_protocol::server_config::VerifyUploads;

use super::{MAX_NAR_SIZE, PushError, load_own, verify};
use crate::app::App;
use crate::auth::Identity;
use crate::{db, parallel};

/// Signs the narinfos of an upload and keeps what they say until its commit.
pub async fn sign(
    app: &App,
    identity: &Identity,
    id: i64,
    request: SignRequest,
) -> Result<SignResponse, PushError> {
    let upload = load_own(app, identity, id).await?;
    let plan: Vec<UploadObject> =
        serde_json::from_slice(&upload.plan).map_err(|error| PushError::Invalid(error.to_string()))?;
    let objects: HashMap<&str, &UploadObject> =
        plan.iter().map(|object| (object.key.as_str(), object)).collect();
    for (key, narinfo) in &request.narinfos {
        let object = objects
            .get(key.as_str())
            .ok_or_else(|| PushError::Foreign(format!("{key} is not part of upload {id}")))?;
        check(object, narinfo, &app.config.store_dir, &objects)?;
    }

    check_live_sizes(app, &request).await?;
    let tags = match app.config.verify {
        VerifyUploads::Hash => verify::read_back(app, &upload.missing, &request).await?,
        VerifyUploads::None | VerifyUploads::Head => BTreeMap::new(),
    };

    // 10 000 signatures are a good tenth of a second of computing: not on a thread that serves others.
    let signer = app.signer.clone();
    let (narinfos, made) = tokio::task::spawn_blocking(move || {
        let narinfos: Vec<(String, NarInfoMetadata)> = request.narinfos.into_iter().collect();
        let made = parallel::map(&narinfos, |(_, narinfo)| {
            Ok::<_, serde_json::Error>((serde_json::to_string(narinfo)?, signer.sign(&fingerprint(narinfo))))
        });
        (narinfos, made)
    })
    .await
    .map_err(|error| PushError::Changed(error.to_string()))?;
    let (bodies, signatures): (Vec<String>, Vec<Vec<Signature>>) = made
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| PushError::Invalid(error.to_string()))?
        .into_iter()
        .unzip();
    let tags: Vec<Option<String>> =
        narinfos.iter().map(|(_, narinfo)| tags.get(&narinfo.url).cloned()).collect();
    let keys: Vec<String> = narinfos.into_iter().map(|(key, _)| key).collect();

    let mut transaction = db::begin(&app.db).await?;
    match db::uploads::lock(&mut transaction, id).await? {
        None => return Err(PushError::UploadNotFound(id)),
        Some(true) => return Err(PushError::Sealed(id)),
        Some(false) => {}
    }
    db::narinfos::insert_signed(&mut transaction, id, &keys, &bodies, &signatures, &tags).await?;
    transaction.commit().await?;
    Ok(SignResponse { signatures: keys.into_iter().zip(signatures).collect() })
}

/// A NAR that is live has one size, whoever pushes it again.
async fn check_live_sizes(app: &App, request: &SignRequest) -> Result<(), PushError> {
    let nars: Vec<String> = request.narinfos.values().map(|narinfo| narinfo.url.clone()).collect();
    let mut conn = app.db.acquire().await?;
    let sizes: HashMap<String, i64> =
        db::objects::list_nar_sizes(&mut conn, &nars).await?.into_iter().collect();
    for (key, narinfo) in &request.narinfos {
        if let Some(size) =
            sizes.get(&narinfo.url).filter(|size| u64::try_from(**size) != Ok(narinfo.nar_size))
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

/// Whether what a narinfo will say agrees with its key and with what its upload promised.
fn check(
    object: &UploadObject,
    narinfo: &NarInfoMetadata,
    store_dir: &str,
    objects: &HashMap<&str, &UploadObject>,
) -> Result<(), PushError> {
    let key = &object.key;
    let invalid = |message: String| Err(PushError::Invalid(format!("{key}: {message}")));
    let path = &narinfo.store_path;
    if path.store_dir() != store_dir {
        return invalid(format!("{path} is not in {store_dir}, this cache's store directory"));
    }
    if *key != path.narinfo_key() {
        return invalid(format!("this key is not the one of {path}"));
    }
    let nar = objects.get(narinfo.url.as_str()).filter(|_| object.refs.contains(&narinfo.url));
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
    let Some(nar) = nar else {
        return Err(PushError::Foreign(format!("{key}: the NAR {} is not part of its upload", narinfo.url)));
    };
    if narinfo.nar_size > MAX_NAR_SIZE {
        return invalid("the NAR is larger than the 5 TiB S3 can hold".to_owned());
    }
    if narinfo
        .ca
        .as_deref()
        .is_some_and(|ca| ca.is_empty() || !ca.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        return invalid("the content address is not one".to_owned());
    }
    if nar.nar_size.is_some_and(|size| size != narinfo.nar_size) {
        return invalid(format!(
            "the NAR has {:?} bytes in the upload, {} here",
            nar.nar_size, narinfo.nar_size
        ));
    }
    let promised: HashSet<&str> = object.refs.iter().map(String::as_str).collect();
    for reference in &narinfo.references {
        if reference.store_dir() != store_dir {
            return invalid(format!("the reference {reference} is not in {store_dir}"));
        }
        let reference_key = reference.narinfo_key();
        if reference_key != *key && !promised.contains(reference_key.as_str()) {
            return invalid(format!("the upload does not list the reference {reference}"));
        }
    }
    Ok(())
}
