//! Realisations: what content-addressed derivations were built to, as Nix writes, pushes and asks for them.

use std::path::Path;
use std::process::Command;

use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, UploadObject};
use niks3_protocol::object_key::ObjectKind;
use niks3_protocol::server_config::VerifyUploads;
use reqwest::StatusCode;

use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, Place, TestServer, environment, refusal};

const ID: &str = "sha256:01ab836cad1d712312b0b913d12b5cc1fafa847108c72ce4e9827b1f56478b93!out";
const TRACE: &str = "build-trace-v2/026k39lfgdyv6hks4w3zqpkwnmkp05ph-ca.drv/out.doi";

fn key() -> String {
    format!("realisations/{ID}.doi")
}

/// A begin whose narinfo refers to a realisation, as niks3 1.7's client sends it.
fn with_realisation(path: &TestPath, key: &str) -> BeginRequest {
    let mut request = begin_request(path, &[path]);
    request.objects[0].refs.push(key.to_owned());
    let kind = ObjectKind::Realisation;
    request.objects.push(UploadObject { key: key.to_owned(), kind, refs: Vec::new(), nar_size: None });
    request
}

fn text(path: &TestPath) -> String {
    format!(r#"{{"id":"{ID}","outPath":"{}"}}"#, path.store_path.base_name())
}

fn stored(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 3).unwrap()
}

async fn begin(server: &TestServer, path: &TestPath, key: &str) -> BeginResponse {
    let begun = server.begin(ADMIN, &with_realisation(path, key)).await;
    assert_eq!(begun.pending_objects[key].kind, ObjectKind::Realisation);
    server.upload(ADMIN, &begun, &[path]).await;
    begun
}

#[tokio::test]
async fn a_realisation_that_is_not_of_its_key_is_not_committed() {
    let server = TestServer::start().await;
    let (path, absent) = (TestPath::new("path", &[]), TestPath::new("absent", &[]));
    let begun = begin(&server, &path, &key()).await;
    let bomb = zstd::encode_all(&vec![b' '; 64 << 20][..], 3).unwrap();
    let long = " ".repeat(1 << 20);
    for (bytes, sentence) in [
        (stored("not JSON"), "it is not a realisation as Nix writes it"),
        (stored(&text(&path).replace("!out", "!dev")), "it says it is of"),
        (
            stored(&text(&path).replace("\"}", "\",\"signatures\":[\"x\"]}")),
            "signature \"x\" is not NAME:BASE64",
        ),
        (stored(&text(&absent)), "is neither in the upload nor in the cache; push it too"),
        (text(&path).into_bytes(), "it cannot be read as zstd"),
        (stored(&text(&path))[..20].to_vec(), "it cannot be read as zstd"),
        (bomb, "it has more than 1048576 bytes"),
        (stored(&format!("{}{long}", text(&path))), "it has more than 1048576 bytes"),
    ] {
        server.put_pending(&begun, &key(), bytes).await;
        let (status, said) = refusal(server.complete(ADMIN, &begun.id).await).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
        assert!(said.contains(&key()) && said.contains(sentence), "{sentence}: {said}");
        assert_eq!(server.get(&format!("/api/closures/{}", path.key())).await.status(), 401);
        let closure = server.request(reqwest::Method::GET, &format!("/api/closures/{}", path.key()));
        assert_eq!(closure.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{sentence}");
    }
    // The same upload, once it is right.
    server.put_pending(&begun, &key(), stored(&text(&path))).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    let served = server.get(&format!("/{}", key())).await;
    assert_eq!(served.headers()["content-type"], "application/json");
    assert_eq!(served.text().await.unwrap(), text(&path));
}

#[tokio::test]
async fn its_path_may_be_in_the_cache_already_and_newer_nix_finds_it_by_its_derivation() {
    let server = TestServer::start().await;
    let (there, path) = (TestPath::new("there", &[]), TestPath::new("path", &[]));
    server.push(&[&there]).await;
    let begun = begin(&server, &path, TRACE).await;
    let trace = format!(r#"{{"outPath":"{}","signatures":[]}}"#, there.store_path.base_name());
    server.put_pending(&begun, TRACE, stored(&trace)).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(server.get(&format!("/{TRACE}")).await.text().await.unwrap(), trace);
}

#[tokio::test]
async fn nothing_is_read_where_clients_are_believed() {
    let server = TestServer::with(|parts| parts.settings.verify = VerifyUploads::None).await;
    let path = TestPath::new("path", &[]);
    let begun = begin(&server, &path, &key()).await;
    server.put_pending(&begun, &key(), stored("not JSON")).await;
    assert_eq!(server.complete(ADMIN, &begun.id).await.status(), StatusCode::NO_CONTENT);
}

/// Nix with a store in this folder, which may build where `builds`.
fn nix(folder: &Path, builds: bool, more: &str, arguments: &[&str]) -> String {
    let below = |name: &str| folder.join(name);
    let config = format!(
        "experimental-features = nix-command ca-derivations\nsandbox = false\nbuild-users-group =\n{}{more}",
        if builds { "substituters =\n" } else { "max-jobs = 0\n" }
    );
    let output = Command::new("nix")
        .args(arguments)
        .env_clear()
        .env("PATH", environment("PATH"))
        .env("HOME", folder)
        .env("NIX_CONFIG", config)
        .env("NIX_STORE_DIR", below("store"))
        .env("NIX_STATE_DIR", below("var/nix"))
        .env("NIX_LOG_DIR", below("var/log"))
        .env("NIX_CONF_DIR", below("etc"))
        .output()
        .unwrap_or_else(|error| panic!("nix cannot be started ({error}); the tests need Nix"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nix {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_nix_substitutes_a_content_addressed_derivation_by_its_realisation() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().canonicalize().unwrap();
    let store = folder.join("store").to_str().unwrap().to_owned();
    let place = Place::create().await;
    let server = TestServer::at(place, |parts| parts.settings.store_dir = store.clone()).await;
    let builder = niks3_protocol::nix::SecretKey::from_seed("builder-1", [9; 32]).unwrap();
    std::fs::write(folder.join("key"), builder.to_secret_text()).unwrap();
    let derivation = "derivation { name = \"ca\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
         args = [ \"-c\" \"echo built > $out\" ]; __contentAddressed = true; outputHashMode = \"recursive\"; \
         outputHashAlgo = \"sha256\"; }";
    let signing = format!("secret-key-files = {}\n", folder.join("key").display());
    let build = ["build", "--no-link", "--impure", "--expr", derivation];
    nix(&folder, true, &signing, &build);
    let copied = format!("file://{}?compression=none", folder.join("cache").display());
    nix(&folder, true, "", &["copy", "--to", &copied, "--impure", "--expr", derivation]);

    let cache = folder.join("cache");
    let only = |name: &str| {
        let mut entries = std::fs::read_dir(cache.join(name)).unwrap().map(|entry| entry.unwrap().path());
        entries.next().unwrap()
    };
    let realisation = only("realisations");
    let key = format!("realisations/{}", realisation.file_name().unwrap().to_str().unwrap());
    let text = std::fs::read_to_string(realisation).unwrap();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    let out = format!("{store}/{}", written["outPath"].as_str().unwrap());
    assert!(written["signatures"][0].as_str().unwrap().starts_with("builder-1:"), "{text}");
    let path = TestPath {
        store_path: out.parse().unwrap(),
        nar: std::fs::read(only("nar")).unwrap(),
        references: Vec::new(),
    };
    let begun = begin(&server, &path, &key).await;
    server.put_pending(&begun, &key, stored(&text)).await;
    let answer = server.complete(ADMIN, &begun.id).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());

    for gone in ["store", "var"] {
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(folder.join(gone)).status().unwrap();
        std::fs::remove_dir_all(folder.join(gone)).unwrap();
    }
    let trusted = format!(
        "substituters = {}\ntrusted-public-keys = {} {}\n",
        server.url,
        server.public_key,
        builder.public_key()
    );
    // It may build nothing.
    nix(&folder, false, &trusted, &build);
    assert_eq!(std::fs::read_to_string(out).unwrap(), "built\n");
}
