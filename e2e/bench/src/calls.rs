//! P3 to P6: the server's calls for a large closure, as a client of niks3 1.7 makes them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use niks3_protocol::api::pending_closures::{
    BeginRequest, BeginResponse, NarInfoMetadata, SignRequest, SignResponse, UploadObject,
};
use niks3_protocol::nix::{NarInfo, Signature, StorePath, base32};
use niks3_protocol::object_key::ObjectKind;
use reqwest::{RequestBuilder, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::Args;
use crate::report::{Goal, Row, Table, say};
use crate::samples::Samples;
use crate::server::{Program, Server, TOKEN};

/// Store paths of the closure: with a narinfo, a NAR and a listing each these are about 10 000 objects.
const PATHS: usize = 3333;
/// References of each, at most.
const REFERENCES: usize = 8;
/// PUTs at a time.
const PUTS: usize = 16;
/// After a commit ours throws away what a 1.7 client sent as narinfos, which is no part of the begin that comes next.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Figures {
    begin: Samples,
    sign: Samples,
    commit: Samples,
    /// With the narinfos' way to the bucket: at a server that writes them itself, the commit alone.
    narinfos_and_commit: Samples,
    /// The same with `uploads.verify: None`. 1.7 never looks: its figure is the one above.
    without_look: Samples,
    begin_again: Samples,
}

pub(crate) async fn measure(args: &Args, programs: &[Program]) -> anyhow::Result<Vec<Table>> {
    let mut figures: Vec<Figures> = programs.iter().map(|_| Figures::default()).collect();
    let closure = made_up()?;
    for round in 1..=args.rounds {
        for (program, figures) in programs.iter().zip(&mut figures) {
            one(args, program, &closure, figures).await.with_context(|| format!("on {}", program.name))?;
            say(&format!(
                "calls {round}/{}: {}: begin {} ms",
                args.rounds,
                program.name,
                figures.begin.spread()
            ));
        }
    }
    Ok(vec![table(programs, &figures, args.others)])
}

/// Paths all over those so far, as real closures have it: were it always the last few, no narinfo could be written
/// before the one before it.
fn earlier(paths: &[StorePath], digest: &[u8]) -> Vec<StorePath> {
    let mut references: Vec<StorePath> = digest
        .chunks(4)
        .take(REFERENCES)
        .filter_map(|chunk| {
            let number = chunk.iter().fold(0, |number, byte| number << 8 | usize::from(*byte));
            paths.get(number.checked_rem(paths.len())?).cloned()
        })
        .collect();
    references.sort_unstable();
    references.dedup();
    references
}

/// By key of the narinfo, what it says: each path refers to earlier ones.
fn made_up() -> anyhow::Result<BTreeMap<String, NarInfoMetadata>> {
    let mut paths: Vec<StorePath> = Vec::new();
    let mut closure = BTreeMap::new();
    for number in 0..PATHS {
        let digest = Sha256::digest(format!("path {number}"));
        let hash = base32::encode(&digest[..20]);
        let path: StorePath = format!("/nix/store/{hash}-bench-{number}").parse()?;
        let nar = base32::encode(&digest);
        let metadata = NarInfoMetadata {
            store_path: path.clone(),
            url: format!("nar/{nar}.nar.zst"),
            compression: "zstd".to_owned(),
            nar_hash: format!("sha256:{nar}").parse()?,
            nar_size: 1000 + number as u64,
            references: earlier(&paths, &digest),
            deriver: None,
            signatures: Vec::new(),
            ca: None,
        };
        closure.insert(format!("{hash}.narinfo"), metadata);
        paths.push(path);
    }
    Ok(closure)
}

fn begin_request(closure: &BTreeMap<String, NarInfoMetadata>) -> BeginRequest {
    let mut objects = Vec::new();
    let mut root = None::<(u64, String)>;
    for (key, said) in closure {
        let listing = key.replace(".narinfo", ".ls");
        let mut refs: Vec<String> = said.references.iter().map(StorePath::narinfo_key).collect();
        refs.extend([said.url.clone(), listing.clone()]);
        let object =
            |key: &str, kind, refs, nar_size| UploadObject { key: key.to_owned(), kind, refs, nar_size };
        objects.push(object(key, ObjectKind::Narinfo, refs, None));
        objects.push(object(&said.url, ObjectKind::Nar, Vec::new(), Some(said.nar_size)));
        objects.push(object(&listing, ObjectKind::Listing, Vec::new(), None));
        // The last path: one root will do, nothing is collected here.
        if root.as_ref().is_none_or(|(size, _)| said.nar_size > *size) {
            root = Some((said.nar_size, key.clone()));
        }
    }
    let closure = root.map(|(_, key)| key).unwrap_or_default();
    BeginRequest {
        closure,
        closures: Vec::new(),
        objects,
        verify_s3: false,
        server_narinfos: false,
        bound_addresses: false,
        upload_headers: false,
    }
}

async fn one(
    args: &Args,
    program: &Program,
    closure: &BTreeMap<String, NarInfoMetadata>,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let server = Server::start(program, &args.services).await?;
    server.fill(args.others).await?;
    let request = serde_json::to_vec(&begin_request(closure))?;
    let took = push(&server, closure, request.clone()).await?;
    figures.begin.push_ms(took.begin);
    figures.sign.push_ms(took.sign);
    figures.commit.push_ms(took.commit);
    let ours = program.name == "this";
    let own = if ours { Duration::ZERO } else { took.narinfos };
    let narinfos_and_commit = own + took.commit;
    figures.narinfos_and_commit.push_ms(narinfos_and_commit);

    tokio::time::sleep(SETTLED).await;
    let (again, answer) = post(&server, "/api/pending_closures", request.clone()).await?;
    figures.begin_again.push_ms(again);
    let again: BeginResponse = serde_json::from_slice(&answer)?;
    ensure!(again.pending_objects.is_empty(), "{} objects are missing again", again.pending_objects.len());
    server.stop().await?;

    let mut without_look = narinfos_and_commit;
    if ours {
        let believing = [("NIKS3_VERIFY_UPLOADS", "none")];
        let server = Server::told(program, &args.services, &believing).await?;
        server.fill(args.others).await?;
        without_look = push(&server, closure, request).await?.commit;
        server.stop().await?;
    }
    figures.without_look.push_ms(without_look);
    Ok(())
}

/// What the calls of a push took, and the sending of its narinfos.
struct Took {
    begin: Duration,
    sign: Duration,
    narinfos: Duration,
    commit: Duration,
}

async fn push(
    server: &Server,
    closure: &BTreeMap<String, NarInfoMetadata>,
    request: Vec<u8>,
) -> anyhow::Result<Took> {
    let (begin, answer) = post(server, "/api/pending_closures", request).await?;
    let begun: BeginResponse = serde_json::from_slice(&answer)?;
    let body = serde_json::to_vec(&SignRequest { narinfos: closure.clone() })?;
    let (sign, answer) = post(server, &format!("/api/pending_closures/{}/sign", begun.id), body).await?;
    let signed: SignResponse = serde_json::from_slice(&answer)?;

    let (narinfos, others) = puts(server, closure, &begun, signed)?;
    put_all(others).await?;
    let sending = Instant::now();
    put_all(narinfos).await?;
    let narinfos = sending.elapsed();
    let complete = format!("/api/pending_closures/{}/complete", begun.id);
    let (commit, _) = post(server, &complete, Vec::new()).await?;
    Ok(Took { begin, sign, narinfos, commit })
}

/// The time until the whole answer is there, and the answer.
async fn post(server: &Server, path: &str, body: Vec<u8>) -> anyhow::Result<(Duration, Bytes)> {
    let request = server.http.post(format!("{}{path}", server.url)).bearer_auth(TOKEN);
    let begun = Instant::now();
    let answer = request.header("content-type", "application/json").body(body).send().await?;
    if !answer.status().is_success() {
        anyhow::bail!("{path}: {}: {}; its log: {}", answer.status(), answer.text().await?, server.log());
    }
    let bytes = answer.bytes().await?;
    let took = begun.elapsed();
    Ok((took, bytes))
}

/// What every missing object is sent by, real narinfos and a few bytes for all else: the narinfos, and the others.
fn puts(
    server: &Server,
    closure: &BTreeMap<String, NarInfoMetadata>,
    begun: &BeginResponse,
    mut signed: SignResponse,
) -> anyhow::Result<(Vec<RequestBuilder>, Vec<RequestBuilder>)> {
    let (mut narinfos, mut others) = (Vec::new(), Vec::new());
    for (key, pending) in &begun.pending_objects {
        let said = closure.get(key);
        let body = match said {
            Some(said) => narinfo(said, signed.signatures.remove(key)).to_string().into_bytes(),
            None => key.clone().into_bytes(),
        };
        let url = pending.presigned_url.clone().with_context(|| format!("{key} has no address"))?;
        let mut put = server.http.put(url).header("content-type", pending.kind.content_type());
        if let Some(encoding) = pending.kind.content_encoding() {
            put = put.header("content-encoding", encoding);
        }
        let put = put.body(zstd::encode_all(body.as_slice(), 3)?);
        if said.is_some() { narinfos.push(put) } else { others.push(put) }
    }
    Ok((narinfos, others))
}

async fn put_all(puts: Vec<RequestBuilder>) -> anyhow::Result<()> {
    futures::stream::iter(puts)
        .map(|put| async move {
            let status = put.send().await?.status();
            ensure!(status == StatusCode::OK, "S3 answered {status}");
            Ok(())
        })
        .buffer_unordered(PUTS)
        .try_collect()
        .await
}

fn narinfo(said: &NarInfoMetadata, signatures: Option<Vec<Signature>>) -> NarInfo {
    NarInfo {
        store_path: said.store_path.clone(),
        url: said.url.clone(),
        compression: said.compression.clone(),
        file_hash: None,
        file_size: None,
        nar_hash: said.nar_hash,
        nar_size: said.nar_size,
        references: said.references.clone(),
        deriver: None,
        signatures: signatures.unwrap_or_default(),
        ca: None,
    }
}

fn table(programs: &[Program], figures: &[Figures], others: u64) -> Table {
    let mut rows = Vec::new();
    let mut add = |number, what: &str, samples: fn(&Figures) -> &Samples, goal: Option<f64>| {
        let goal = goal.map(Goal::RatioAtMost);
        rows.extend(Row::of_each((number, what, "ms"), programs, figures, samples, goal));
    };
    add("P3", "begin, 10 000 objects missing", |figures| &figures.begin, Some(0.3));
    add("P4", "commit of those, their narinfos sent", |figures| &figures.narinfos_and_commit, Some(1.0));
    add("P4", "the same, none of them looked at", |figures| &figures.without_look, Some(0.3));
    add("", "the call that commits, alone", |figures| &figures.commit, None);
    add("P5", "begin, 10 000 objects cached", |figures| &figures.begin_again, Some(0.2));
    add("P6", "sign 3 333 narinfos", |figures| &figures.sign, Some(0.5));
    let how = format!(
        "{PATHS} made-up paths with a narinfo, a NAR and a listing each, up to {REFERENCES} references each, by the calls \
         of a 1.7 client, in a cache of {others} other objects; the objects are really sent between begin and commit. Our \
         server looks for each object when it commits and writes the narinfos itself, where 1.7's client has sent them \
         before ({PUTS} at a time), so P4 has their way to the bucket for both. With `uploads.verify: None` ours looks at \
         nothing, as 1.7 never does. P5 comes a second after the commit."
    );
    Table { title: "The server's calls".to_owned(), how, rows }
}
