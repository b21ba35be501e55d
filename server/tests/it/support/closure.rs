//! Store paths made up for a test, and the whole push of them as a client does it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use niks3_protocol::api::pending_closures::{
    BeginRequest, BeginResponse, NarInfoMetadata, SignRequest, SignResponse, UploadObject,
};
use niks3_protocol::nix::{NarHash, StorePath};
use niks3_protocol::object_key::ObjectKind;
use reqwest::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use super::{ADMIN, TestServer};

/// One store path with its NAR.
#[derive(Debug, Clone)]
pub(crate) struct TestPath {
    /// The path.
    pub(crate) store_path: StorePath,
    /// Its NAR. The server never looks inside, so any bytes do.
    pub(crate) nar: Vec<u8>,
    /// What it refers to.
    pub(crate) references: Vec<StorePath>,
}

impl TestPath {
    /// A path whose hash and content follow from its name.
    pub(crate) fn new(name: &str, references: &[&TestPath]) -> Self {
        Self::with_nar(name, format!("the NAR of {name}").into_bytes(), references)
    }

    /// A path with this NAR.
    pub(crate) fn with_nar(name: &str, nar: Vec<u8>, references: &[&TestPath]) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
        let hash: String = Sha256::digest(name.as_bytes())
            .iter()
            .map(|byte| char::from(DIGITS[usize::from(byte % 32)]))
            .collect();
        Self {
            store_path: format!("/nix/store/{hash}-{name}").parse().unwrap(),
            nar,
            references: references.iter().map(|path| path.store_path.clone()).collect(),
        }
    }

    /// Key of its narinfo.
    pub(crate) fn key(&self) -> String {
        self.store_path.narinfo_key()
    }

    /// Key of its listing.
    pub(crate) fn listing_key(&self) -> String {
        self.store_path.listing_key()
    }

    /// Key of its NAR.
    pub(crate) fn nar_key(&self) -> String {
        format!("nar/{}.nar.zst", self.nar_hash().to_base32())
    }

    fn nar_hash(&self) -> NarHash {
        NarHash(Sha256::digest(&self.nar).into())
    }

    /// What a begin says of it: narinfo, NAR, listing.
    pub(crate) fn objects(&self) -> Vec<UploadObject> {
        let mut refs: Vec<String> = self.references.iter().map(StorePath::narinfo_key).collect();
        refs.extend([self.nar_key(), self.listing_key()]);
        let object = |key, kind, refs, nar_size| UploadObject { key, kind, refs, nar_size };
        let size = u64::try_from(self.nar.len()).unwrap();
        vec![
            object(self.key(), ObjectKind::Narinfo, refs, None),
            object(self.nar_key(), ObjectKind::Nar, Vec::new(), Some(size)),
            object(self.listing_key(), ObjectKind::Listing, Vec::new(), None),
        ]
    }

    /// What a sign says of it.
    pub(crate) fn metadata(&self) -> NarInfoMetadata {
        NarInfoMetadata {
            store_path: self.store_path.clone(),
            url: self.nar_key(),
            compression: "zstd".to_owned(),
            nar_hash: self.nar_hash(),
            nar_size: u64::try_from(self.nar.len()).unwrap(),
            references: self.references.clone(),
            deriver: None,
            signatures: Vec::new(),
            ca: None,
        }
    }

    /// The text of its narinfo.
    pub(crate) fn narinfo(&self, signatures: &[impl std::fmt::Display]) -> String {
        let references: Vec<&str> =
            self.references.iter().map(|path| path.as_str().trim_start_matches("/nix/store/")).collect();
        let mut text = format!(
            "StorePath: {}\nURL: {}\nCompression: zstd\nNarHash: {}\nNarSize: {}\nReferences: {}\n",
            self.store_path,
            self.nar_key(),
            self.nar_hash(),
            self.nar.len(),
            references.join(" "),
        );
        for signature in signatures {
            writeln!(text, "Sig: {signature}").unwrap();
        }
        text
    }

    /// The bytes stored under each of its keys but the narinfo's.
    pub(crate) fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        let listing = br#"{"version":1,"root":{"type":"directory","entries":{}}}"#;
        BTreeMap::from([
            (self.nar_key(), zstd::encode_all(self.nar.as_slice(), 3).unwrap()),
            (self.listing_key(), zstd::encode_all(listing.as_slice(), 3).unwrap()),
        ])
    }
}

/// The body of a begin.
pub(crate) fn begin_request(root: &TestPath, paths: &[&TestPath]) -> BeginRequest {
    BeginRequest {
        closure: root.key(),
        closures: Vec::new(),
        objects: paths.iter().flat_map(|path| path.objects()).collect(),
        verify_s3: false,
        server_narinfos: false,
        bound_addresses: false,
        upload_headers: false,
    }
}

/// The body of a sign.
pub(crate) fn sign_request(paths: &[&TestPath]) -> SignRequest {
    SignRequest { narinfos: paths.iter().map(|path| (path.key(), path.metadata())).collect() }
}

impl TestServer {
    /// Begins an upload; the answer has to be 200.
    pub(crate) async fn begin(&self, token: &str, request: &BeginRequest) -> BeginResponse {
        let answer = self.request_as(token, Method::POST, "/api/pending_closures").json(request);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    /// Signs; the answer has to be 200.
    pub(crate) async fn sign(&self, token: &str, id: &str, paths: &[&TestPath]) -> SignResponse {
        let path = format!("/api/pending_closures/{id}/sign");
        let answer = self.request_as(token, Method::POST, &path).json(&sign_request(paths));
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.json().await.unwrap()
    }

    /// Completes; any answer.
    pub(crate) async fn complete(&self, token: &str, id: &str) -> reqwest::Response {
        let path = format!("/api/pending_closures/{id}/complete");
        self.request_as(token, Method::POST, &path).send().await.unwrap()
    }

    /// Sends what a begin named missing: NARs and listings first, then the signed narinfos.
    pub(crate) async fn upload(&self, token: &str, begun: &BeginResponse, paths: &[&TestPath]) {
        for path in paths {
            for (key, bytes) in path.stored() {
                self.put_pending(begun, &key, bytes).await;
            }
        }
        let signed = self.sign(token, &begun.id, paths).await;
        for path in paths {
            let text = path.narinfo(&signed.signatures[&path.key()]);
            self.put_pending(begun, &path.key(), zstd::encode_all(text.as_bytes(), 3).unwrap()).await;
        }
    }

    /// Sends one object, where it is missing.
    pub(crate) async fn put_pending(&self, begun: &BeginResponse, key: &str, bytes: Vec<u8>) {
        let Some(pending) = begun.pending_objects.get(key) else { return };
        let url = pending.presigned_url.as_ref().unwrap_or_else(|| panic!("{key} is a multipart upload"));
        let mut request = self.http.put(url).body(bytes);
        if let Some(encoding) = pending.kind.content_encoding() {
            request = request.header("content-encoding", encoding);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "PUT {key}: {}", answer.text().await.unwrap());
    }

    /// A whole push by the admin. The root comes first.
    pub(crate) async fn push(&self, paths: &[&TestPath]) {
        let begun = self.begin(ADMIN, &begin_request(paths[0], paths)).await;
        self.upload(ADMIN, &begun, paths).await;
        let answer = self.complete(ADMIN, &begun.id).await;
        let status = answer.status();
        assert_eq!(status, StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());
    }

    /// Sends what an upload still needs but the NAR, which is there, and is said to be so long.
    pub(crate) async fn upload_rest(&self, begun: &BeginResponse, path: &TestPath, nar_size: u64) {
        self.put_pending(begun, &path.listing_key(), path.stored()[&path.listing_key()].clone()).await;
        let mut narinfos = sign_request(&[path]);
        narinfos.narinfos.get_mut(&path.key()).unwrap().nar_size = nar_size;
        let call = format!("/api/pending_closures/{}/sign", begun.id);
        let answer = self.request(Method::POST, &call).json(&narinfos).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
}
