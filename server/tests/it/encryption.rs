//! Headers by which S3 is told to encrypt what is written: by the server itself, and by clients that send along what they are
//! told. S3 and its keys are MinIO's here.

use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::ServerSideEncryption;
use niks3_protocol::api::pending_closures::{AddressesResponse, BeginResponse};
use niks3_server::bucket::{Encryption, StaticCredentials};
use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use crate::storage::wait_for_reason;
use crate::support::closure::{TestPath, begin_request};
use crate::support::inspect::s3_at;
use crate::support::lesser::{Lack, Lesser};
use crate::support::minio::{KMS_KEY, Minio, ROOT, ROOT_SECRET};
use crate::support::{ADMIN, Place, TestServer};

async fn world() -> (Place, Minio) {
    let place = Place::create().await;
    let minio = Minio::run(place.folder(), &[]).await;
    (place, minio)
}

async fn server(place: &Place, minio: &Minio, encryption: Encryption, bound: bool) -> TestServer {
    let endpoint = minio.url.clone();
    let server = TestServer::launch(place.clone(), move |parts| {
        parts.bucket.endpoint = Some(endpoint);
        parts.bucket.credentials =
            Some(StaticCredentials { access_key: ROOT.to_owned(), secret_key: ROOT_SECRET.to_owned() });
        parts.bucket.encryption = Some(encryption);
        parts.settings.bound = bound;
    });
    server.await
}

/// What S3 says of an object.
async fn head(place: &Place, minio: &Minio, key: &str) -> HeadObjectOutput {
    let s3 = s3_at(&minio.url, ROOT, ROOT_SECRET);
    s3.head_object()
        .bucket(place.bucket())
        .key(key)
        .send()
        .await
        .unwrap_or_else(|error| panic!("{key}: {error:?}"))
}

async fn minio_has(place: &Place, minio: &Minio, key: &str) -> bool {
    let s3 = s3_at(&minio.url, ROOT, ROOT_SECRET);
    s3.head_object().bucket(place.bucket()).key(key).send().await.is_ok()
}

impl TestServer {
    /// An upload of a client that sends along what it is told.
    async fn begin_told(&self, path: &TestPath, large: bool) -> BeginResponse {
        let mut request = begin_request(path, &[path]);
        (request.upload_headers, request.server_narinfos) = (true, true);
        if large {
            request.objects[1].nar_size = Some(11 << 20);
        }
        self.begin(ADMIN, &request).await
    }

    async fn put_told(&self, address: &str, bytes: &[u8], headers: &[(&str, &str)]) -> StatusCode {
        let mut request = self.http.put(address).body(bytes.to_vec());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap().status()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_encrypted_that_the_server_writes_and_clients_that_understand_it() {
    for encryption in [Encryption::Aes256, Encryption::Kms(KMS_KEY.to_owned())] {
        let (place, minio) = world().await;
        let server = server(&place, &minio, encryption.clone(), false).await;
        server.wait_until_ready().await;
        let kind = if encryption == Encryption::Aes256 { "AES256" } else { "aws:kms" };
        let name = kind.replace(':', "-");
        let config: Value = server.get("/api/cache-config").await.json().await.unwrap();
        assert!(config["extensions"].as_array().unwrap().contains(&json!("upload-headers")));
        let check = async |key: &str, encrypted: bool| {
            let found = head(&place, &minio, key).await;
            let wanted = encrypted.then(|| ServerSideEncryption::from(kind));
            assert_eq!(found.server_side_encryption(), wanted.as_ref(), "{kind}: {key}");
            if kind == "aws:kms" && encrypted {
                assert!(found.ssekms_key_id().unwrap().ends_with(KMS_KEY), "{key}");
            }
        };

        let (told, large) =
            (TestPath::new(&format!("told-{name}"), &[]), TestPath::new(&format!("large-{name}"), &[]));
        let begun = server.begin_told(&told, false).await;
        let headers: Vec<(&str, &str)> =
            begun.upload_headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(headers.first(), Some(&("x-amz-server-side-encryption", kind)));
        for (key, bytes) in told.stored() {
            let address = begun.pending_objects[&key].presigned_url.as_ref().unwrap();
            let without = server.put_told(address, &bytes, &[]).await;
            assert!(without.is_client_error(), "they belong to the address: {without}");
            assert!(!minio_has(&place, &minio, &key).await);
            assert_eq!(server.put_told(address, &bytes, &headers).await, StatusCode::OK);
            check(&key, true).await;
        }
        server.sign(ADMIN, &begun.id, &[&told]).await;
        assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
        for key in [&*told.key(), ".niks3-cache", "nix-cache-info", "index.html"] {
            check(key, true).await;
        }

        // Parts need none: their upload was opened with them.
        let begun = server.begin_told(&large, true).await;
        let multipart = begun.pending_objects[&large.nar_key()].multipart_info.as_ref().unwrap();
        let part = server.http.put(&multipart.part_urls[0]).body(vec![1; 6 << 20]).send().await.unwrap();
        assert_eq!(part.status(), StatusCode::OK);
        let tag = part.headers()["etag"].to_str().unwrap();
        let body = json!({"object_key": large.nar_key(), "upload_id": multipart.upload_id,
            "parts": [{"part_number": 1, "etag": tag}]});
        let answer =
            server.request(Method::POST, "/api/multipart/complete").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        check(&large.nar_key(), true).await;

        // A client of niks3 1.7 has addresses as ever, and the bucket's default for what it sends.
        let plain = TestPath::new(&format!("plain-{name}"), &[]);
        let begun = server.begin(ADMIN, &begin_request(&plain, &[&plain])).await;
        assert!(begun.upload_headers.is_empty());
        let address = begun.pending_objects[&plain.nar_key()].presigned_url.clone().unwrap();
        let address = Url::parse(&address).unwrap();
        let signed =
            address.query_pairs().find(|(name, _)| name == "X-Amz-SignedHeaders").unwrap().1.into_owned();
        assert_eq!(signed, "host");
        server.upload(ADMIN, &begun, &[&plain]).await;
        assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
        check(&plain.nar_key(), false).await;
        check(&plain.key(), true).await;
        assert_eq!(server.get(&format!("/{}", plain.key())).await.status(), StatusCode::OK);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bound_addresses_have_the_headers_too() {
    let (place, minio) = world().await;
    let server = server(&place, &minio, Encryption::Kms(KMS_KEY.to_owned()), true).await;
    server.wait_until_ready().await;
    let path = TestPath::new("path", &[]);
    let mut request = begin_request(&path, &[&path]);
    (request.upload_headers, request.server_narinfos, request.bound_addresses) = (true, true, true);
    let begun = server.begin(ADMIN, &request).await;
    let (key, bytes) = (path.nar_key(), path.stored()[&path.nar_key()].clone());
    let said = json!({"length": bytes.len(), "sha256": crate::bound::digest(&bytes)});
    let call = format!("/api/pending_closures/{}/addresses", begun.id);
    for told in [false, true] {
        let body = json!({"objects": {&key: said}, "upload_headers": told});
        let answer: AddressesResponse =
            server.request(Method::POST, &call).json(&body).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer.upload_headers.len(), if told { 2 } else { 0 });
        let checksum = crate::bound::digest(&bytes);
        let mut headers = vec![("x-amz-checksum-sha256", checksum.as_str())];
        headers.extend(answer.upload_headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        assert_eq!(server.put_told(&answer.addresses[&key], &bytes, &headers).await, StatusCode::OK);
        let found = head(&place, &minio, &key).await;
        assert_eq!(found.server_side_encryption().is_some(), told);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_none_is_said_before_anything_is_stored() {
    let (place, minio) = world().await;
    let server = server(&place, &minio, Encryption::Kms("another-key".to_owned()), false).await;
    let check = wait_for_reason(&server, "FeatureMissing").await;
    assert!(check.message.contains("KMS") || check.message.contains("kms"), "{check:?}");
}

#[tokio::test]
async fn an_s3_server_that_does_not_encrypt_is_found_before_anything_is_stored() {
    let s3 = Lesser::without(Lack::Encryption).await;
    let url = s3.url.clone();
    let server = TestServer::launch(Place::create().await, move |parts| {
        parts.bucket.endpoint = Some(url);
        parts.bucket.encryption = Some(Encryption::Aes256);
    })
    .await;
    let check = wait_for_reason(&server, "FeatureMissing").await;
    // Some take the header and do nothing, some refuse it.
    let said =
        ["was told to encrypt with AES256, and says nothing of that; switch off --s3-encryption", "501"];
    assert!(said.iter().any(|sentence| check.message.contains(sentence)), "{check:?}");
    assert!(!server.place().in_bucket("nix-cache-info").await);
}
