//! Realisations: what content-addressed derivations were built to, as Nix writes, pushes and asks for them.

use std::path::{Path, PathBuf};
use std::process::Command;

use niks3_protocol::api::pending_closures::{BeginRequest, BeginResponse, UploadObject};
use niks3_protocol::nix::SecretKey;
use niks3_protocol::object_key::ObjectKind;
use niks3_protocol::server_config::VerifyUploads;
use niks3_server::fsck::Options;
use reqwest::StatusCode;

use crate::support::closure::{TestPath, begin_request};
use crate::support::{ADMIN, TestServer, environment, refusal};

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

/// What real Nix built and copied.
struct Built {
    folder: PathBuf,
    store: String,
    builder: SecretKey,
}

const DERIVATION: &str = "derivation { name = \"ca\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
     args = [ \"-c\" \"echo built > $out\" ]; __contentAddressed = true; outputHashMode = \"recursive\"; \
     outputHashAlgo = \"sha256\"; }";
const BUILD: [&str; 5] = ["build", "--no-link", "--impure", "--expr", DERIVATION];

impl Built {
    /// A content-addressed derivation, copied to the folder `cache` as to a bucket.
    fn new(folder: &Path) -> Self {
        let folder = folder.canonicalize().unwrap();
        let store = folder.join("store").to_str().unwrap().to_owned();
        let builder = SecretKey::from_seed("builder-1", [9; 32]).unwrap();
        std::fs::write(folder.join("key"), builder.to_secret_text()).unwrap();
        let signing = format!("secret-key-files = {}\n", folder.join("key").display());
        nix(&folder, true, &signing, &BUILD);
        let copied = format!("file://{}?compression=none", folder.join("cache").display());
        nix(&folder, true, "", &["copy", "--to", &copied, "--impure", "--expr", DERIVATION]);
        Self { folder, store, builder }
    }

    fn files(&self, below: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join("cache").join(below)).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    /// The key of its realisation, and the text.
    fn realisation(&self) -> (String, String) {
        let realisation = self.files("realisations").pop().unwrap();
        let text = std::fs::read_to_string(&realisation).unwrap();
        (format!("realisations/{}", realisation.file_name().unwrap().to_str().unwrap()), text)
    }

    /// From an empty store, by a Nix that may build nothing.
    fn is_substituted(&self, server: &TestServer) {
        for gone in ["store", "var"] {
            let gone = self.folder.join(gone);
            let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&gone).status().unwrap();
            std::fs::remove_dir_all(gone).unwrap();
        }
        let keys = format!("{} {}", server.public_key, self.builder.public_key());
        let trusted = format!("substituters = {}\ntrusted-public-keys = {keys}\n", server.url);
        nix(&self.folder, false, &trusted, &BUILD);
        let written: serde_json::Value = serde_json::from_str(&self.realisation().1).unwrap();
        let out = format!("{}/{}", self.store, written["outPath"].as_str().unwrap());
        assert_eq!(std::fs::read_to_string(out).unwrap(), "built\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_nix_substitutes_a_content_addressed_derivation_by_its_realisation() {
    let folder = tempfile::tempdir().unwrap();
    let built = Built::new(folder.path());
    let store = built.store.clone();
    let server = TestServer::with(|parts| parts.settings.store_dir = store).await;
    let (key, text) = built.realisation();
    let written: serde_json::Value = serde_json::from_str(&text).unwrap();
    let out = format!("{}/{}", built.store, written["outPath"].as_str().unwrap());
    assert!(written["signatures"][0].as_str().unwrap().starts_with("builder-1:"), "{text}");
    let nar = std::fs::read(built.files("nar").pop().unwrap()).unwrap();
    let path = TestPath { store_path: out.parse().unwrap(), nar, references: Vec::new() };
    let begun = begin(&server, &path, &key).await;
    server.put_pending(&begun, &key, stored(&text)).await;
    let answer = server.complete(ADMIN, &begun.id).await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{}", answer.text().await.unwrap());
    built.is_substituted(&server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_nix_substitutes_by_a_realisation_that_was_adopted() {
    let folder = tempfile::tempdir().unwrap();
    let built = Built::new(folder.path());
    let store = built.store.clone();
    let server = TestServer::with(|parts| parts.settings.store_dir.clone_from(&store)).await;
    let place = server.place();
    let (realisation, _) = built.realisation();
    for below in ["", "nar", "realisations"] {
        for file in built.files(below) {
            let key = file.strip_prefix(built.folder.join("cache")).unwrap().to_str().unwrap().to_owned();
            if key != "nix-cache-info" {
                place.write_object(&key, &std::fs::read(file).unwrap()).await;
            }
        }
    }
    let options = Options { adopt: true, deep: true, ..Options::default() };
    let (summary, lines) =
        place.fsck_with(options, |parts| parts.settings.store_dir.clone_from(&store)).await;
    assert!(summary.is_clean() && summary.adopted == 2, "{lines:?}");
    server.collect_and_wait("older-than=1h&force=true").await;
    assert!(place.in_bucket(&realisation).await);
    built.is_substituted(&server);
}

/// It lives as long as its path, and says what it said.
#[tokio::test]
async fn realisations_of_a_bucket_are_adopted_beside_their_paths() {
    let server = TestServer::start().await;
    let place = server.place();
    let (path, absent) = (TestPath::new("path", &[]), TestPath::new("absent", &[]));
    place.write_object(&path.key(), path.narinfo(&["elsewhere-1:AAAA"; 0]).as_bytes()).await;
    place.write_object(&path.nar_key(), &path.stored()[&path.nar_key()]).await;
    let signature = SecretKey::from_seed("builder-1", [9; 32]).unwrap().sign("any text");
    let signed = text(&path).replace('}', &format!(",\"signatures\":[\"{signature}\"]}}"));
    let trace = format!(r#"{{"outPath":"{}"}}"#, path.store_path.base_name());
    // Nix writes them plain, niks3 1.7 as zstd.
    place.write_object(&key(), signed.as_bytes()).await;
    place.write_encoded(TRACE, trace.as_bytes()).await;
    let (dangling, nonsense) = (key().replace("!out", "!dev"), key().replace("!out", "!doc"));
    place.write_object(&dangling, text(&absent).replace("!out", "!dev").as_bytes()).await;
    place.write_object(&nonsense, b"nonsense").await;

    let adopt = || Options { adopt: true, ..Options::default() };
    let (summary, lines) = place.fsck(adopt()).await;
    assert_eq!((summary.adopted, summary.incomplete, summary.without_row), (3, 2, 2), "{lines:?}");
    let said = lines.iter().map(serde_json::Value::to_string).collect::<String>();
    for sentence in [
        format!("its path has the narinfo {}, which is not in the cache", absent.key()),
        format!("{nonsense}: it is not a realisation as Nix writes it"),
    ] {
        assert!(said.contains(&sentence), "{sentence}: {said}");
    }
    assert_eq!(place.fsck(adopt()).await.0.adopted, 0, "they are known now");
    assert_eq!(place.rows::<(String,)>("select key from closures").await, [(path.key(),)]);
    assert_eq!(place.rows::<(i64,)>("select count(*) from uploads").await, [(0,)]);

    server.collect_and_wait("older-than=1h&force=true").await;
    assert_eq!(server.get(&format!("/{}", key())).await.text().await.unwrap(), signed);
    assert_eq!(server.get(&format!("/{TRACE}")).await.text().await.unwrap(), trace);
    let begun = server.begin(ADMIN, &with_realisation(&path, &key())).await;
    assert!(!begun.pending_objects.contains_key(&key()), "{begun:?}");

    place.sql("delete from uploads; update closures set updated_at = now() - interval '2 h'").await;
    server.collect_and_wait("older-than=1h&force=true").await;
    let left = place.list_objects().await;
    assert!(!left.contains(&key()) && !left.contains(&TRACE.to_owned()), "they go with their path: {left:?}");
}
