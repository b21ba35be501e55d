//! Thousands of requests made from the document, of several identities: whatever is sent, the answer is one that the
//! document tells of, and never a failure of the server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use niks3_protocol::api::Permission;
use niks3_protocol::server_config::StaticToken;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use super::shapes::{Maker, mismatch};
use crate::support::closure::{TestPath, begin_request, sign_request};
use crate::support::dice::Dice;
use crate::support::{ADMIN, Place, TestServer, seed};

const REQUESTS: u64 = 4000;
const AT_ONCE: usize = 16;
/// On a busy machine it ends early.
const TIME: Duration = Duration::from_secs(20);

/// What the requests are made of.
struct World {
    server: TestServer,
    document: Value,
    operations: Vec<(String, String, Value)>,
    tokens: Vec<Option<String>>,
    texts: Vec<String>,
    /// A right body for each call that has one.
    bodies: Vec<(&'static str, Value)>,
}

async fn world() -> World {
    let place = Place::create().await;
    let mut tokens = vec![None, Some("x".repeat(40)), Some(ADMIN.to_owned()), Some(ADMIN.to_owned())];
    let mut statics = Vec::new();
    for (name, permission) in [
        ("read", Permission::Read),
        ("push", Permission::Push),
        ("pin", Permission::Pin),
        ("gc", Permission::Gc),
    ] {
        let secret = format!("secret-of-{name}-0123456789abcdef0123456789");
        let token_file = place.write_file(name, &secret);
        let (name, permissions) = (name.to_owned(), vec![permission]);
        statics.push(StaticToken { name, token_file, permissions, pins: Vec::new() });
        tokens.push(Some(secret));
    }
    let server = TestServer::at(place, |parts| parts.auth.static_tokens = statics).await;
    let leaf = TestPath::new("leaf", &[]);
    let root = TestPath::new("root", &[&leaf]);
    let open = TestPath::new("open", &[]);
    server.push(&[&root, &leaf]).await;
    let begun = server.begin(ADMIN, &begin_request(&open, &[&open])).await;
    // Another that is sent in parts, so that S3 knows its id.
    let parted = TestPath::new("parted", &[]);
    let mut in_parts = begin_request(&parted, &[&parted]);
    in_parts.objects[1].nar_size = Some((10 << 20) + 1);
    let begun_in_parts = server.begin(ADMIN, &in_parts).await;
    let info = begun_in_parts.pending_objects[&parted.nar_key()].multipart_info.as_ref().unwrap();
    let upload_id = info.upload_id.clone();
    let document: Value = server.get("/api/openapi.json").await.json().await.unwrap();
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((method.clone(), path.clone(), operation.clone()));
        }
    }
    let mut texts: Vec<String> = [
        "main",
        "1h",
        "0s",
        "-1h",
        "720h",
        "9999999h",
        "true",
        "20",
        "zstd",
        "none",
        "sha256:",
        "..",
        "../..",
        "%00",
        "\u{0}",
        "nar/../x",
        "log/a.drv",
        "nix-cache-info",
        "ü",
        "1e9",
        "99999999999999999999",
        "",
    ]
    .map(str::to_owned)
    .to_vec();
    for path in [&leaf, &root, &open, &parted] {
        texts.extend([path.key(), path.nar_key(), path.listing_key(), path.store_path.to_string()]);
        texts.push(path.store_path.hash().to_string());
    }
    texts.extend((1..6).map(|id| id.to_string()));
    texts.extend([begun.id, begun_in_parts.id, upload_id.clone()]);
    let begin = |path: &TestPath, all: &[&TestPath]| {
        ("/api/pending_closures", serde_json::to_value(begin_request(path, all)).unwrap())
    };
    let signing = serde_json::to_value(sign_request(&[&open])).unwrap();
    let (key, id) = (parted.nar_key(), &upload_id);
    let parts = json!({"object_key": key, "upload_id": id, "start_part_number": 1, "num_parts": 1});
    let listed = json!({"object_key": key, "upload_id": id});
    // S3 has no such part, so the upload stays open for the next.
    let whole = json!({"object_key": key, "upload_id": id, "parts": [{"part_number": 1, "etag": "x"}]});
    let bytes = json!({"length": 5, "sha256": "A".repeat(43) + "="});
    let bound = json!({"objects": {open.nar_key(): bytes}});
    let bodies = vec![
        begin(&open, &[&open]),
        begin(&root, &[&root, &leaf]),
        ("/api/pending_closures/{id}/sign", signing),
        ("/api/pending_closures/{id}/addresses", bound),
        ("/api/multipart/request-parts", parts),
        ("/api/multipart/list-parts", listed),
        ("/api/multipart/complete", whole),
        ("/api/closures/refresh", json!({"closures": [root.key()]})),
        ("/api/pins/{name}", json!({"store_path": root.store_path})),
        ("/api/gc", json!({"older_than": "720h", "dry_run": true})),
        ("/api/paths/{hash}/delete", json!({"dry_run": true})),
    ];
    World { server, document, operations, tokens, texts, bodies }
}

/// One node of a right body becomes something else.
fn mutate(maker: &mut Maker<'_>, value: &mut Value) {
    let length = match &*value {
        Value::Object(fields) => fields.len(),
        Value::Array(items) => items.len(),
        _ => 0,
    };
    if length == 0 || maker.dice.roll(4) == 0 {
        *value = maker.hostile();
        return;
    }
    let index = maker.dice.index(length);
    match value {
        Value::Object(fields) if maker.dice.roll(8) == 0 => {
            let name = fields.keys().nth(index).unwrap().clone();
            fields.remove(&name);
        }
        Value::Object(fields) => mutate(maker, fields.values_mut().nth(index).unwrap()),
        Value::Array(items) if maker.dice.roll(8) == 0 => items.push(items[index].clone()),
        Value::Array(items) => mutate(maker, &mut items[index]),
        _ => {}
    }
}

/// The address of a call, its parameters filled in.
fn address(maker: &mut Maker<'_>, path: &str, operation: &Value) -> String {
    let mut address = path.to_owned();
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let value = match maker.value(&parameter["schema"], 0) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let text = utf8_percent_encode(&value, NON_ALPHANUMERIC).to_string();
        if parameter["in"] == "path" {
            // An empty one is another route; and now and then it is no UTF-8.
            let text = if text.is_empty() || maker.dice.roll(30) == 0 { "%FF".to_owned() } else { text };
            address = address.replace(&format!("{{{name}}}"), &text);
        } else if parameter["required"] == true || maker.dice.roll(2) == 0 {
            query.push(format!("{name}={text}"));
        }
    }
    if query.is_empty() { address } else { format!("{address}?{}", query.join("&")) }
}

/// Sends one; what it was, and what is wrong with the answer.
async fn request(world: &World, number: u64) -> (u16, Option<String>) {
    let dice = Dice::new(world_seed(), number);
    let mut maker = Maker { document: &world.document, dice, texts: &world.texts };
    let (method, path, operation) = &world.operations[maker.dice.index(world.operations.len())];
    let address = address(&mut maker, path, operation);
    let token = &world.tokens[maker.dice.index(world.tokens.len())];
    let verb = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let mut request = world.server.anonymous(verb, &address);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let mut body = String::new();
    if let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") {
        let mut right = world.bodies.iter().filter(|(of, _)| of == path).map(|(_, body)| body.clone());
        let value = match right.nth(maker.dice.index(2)) {
            Some(mut body) if maker.dice.roll(3) > 0 => {
                for _ in 0..maker.dice.roll(3) {
                    mutate(&mut maker, &mut body);
                }
                body
            }
            _ => maker.value(schema, 0),
        };
        body = value.to_string();
        if maker.dice.roll(30) == 0 {
            body.truncate(body.floor_char_boundary(body.len() / 2));
        }
        request = request.body(body.clone());
    }
    let what = format!("{method} {address} {token:?} {body:.2000}");
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => return (0, Some(format!("{what}: {error}"))),
    };
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    let wrong = wrong(world, operation, method, status, &text);
    (status, wrong.map(|why| format!("{what}\n  {status} {text:.500}: {why}")))
}

fn wrong(world: &World, operation: &Value, method: &str, status: u16, text: &str) -> Option<String> {
    let described = &operation["responses"][status.to_string()];
    if status >= 500 {
        return Some("a failure of the server".to_owned());
    }
    if described.is_null() {
        return Some("its status is not in the document".to_owned());
    }
    let schema = described.pointer("/content/application~1json/schema")?;
    if method == "head" {
        return None;
    }
    match serde_json::from_str(text) {
        Ok(body) => mismatch(&world.document, schema, &body),
        Err(error) => Some(format!("not JSON: {error}")),
    }
}

fn world_seed() -> u64 {
    static SEED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *SEED.get_or_init(seed)
}

#[tokio::test]
async fn whatever_is_sent_the_answer_is_one_that_is_described() {
    let world = Arc::new(world().await);
    let (started, mut statuses, mut wrong) = (Instant::now(), std::collections::BTreeMap::new(), Vec::new());
    let mut answers =
        stream::iter(0..REQUESTS).map(|number| request(&world, number)).buffer_unordered(AT_ONCE);
    while let Some((status, problem)) = answers.next().await {
        *statuses.entry(status).or_insert(0_u32) += 1;
        wrong.extend(problem);
        if started.elapsed() > TIME || wrong.len() > 10 {
            break;
        }
    }
    assert!(wrong.is_empty(), "NIKS3_TEST_SEED={}:\n{}", world_seed(), wrong.join("\n"));
    // Otherwise the requests were not what they should be.
    for status in [200, 202, 204, 400, 401, 403, 404] {
        assert!(statuses.contains_key(&status), "{statuses:?}");
    }
    println!("{statuses:?} in {:?}", started.elapsed());
    // And it is a cache still.
    assert_eq!(world.server.get("/readyz").await.status(), 200);
}
