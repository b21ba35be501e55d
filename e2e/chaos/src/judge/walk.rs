//! From a narinfo to all it needs: as Nix reads it over HTTP, and straight in the bucket.

use std::collections::BTreeSet;

use niks3_protocol::nix::{NarHash, NarInfo, StorePath};
use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};

use crate::dice::Dice;
use crate::world::{GaveUp, World};

/// A closure read through the servers: what of it is missing or wrong. Failures that a client would try again
/// are tried again.
pub async fn over_http(world: &World, dice: &mut Dice, root: usize) -> Result<Option<String>, GaveUp> {
    let mut pending = vec![world.universe.paths[root].key()];
    let mut seen = BTreeSet::new();
    while let Some(key) = pending.pop() {
        if !seen.insert(key.clone()) {
            continue;
        }
        let Some(text) = get(world, dice, &key).await? else {
            return Ok(Some(format!("{key} is not there")));
        };
        let narinfo = match parse(world, &key, &text) {
            Ok(narinfo) => narinfo,
            Err(wrong) => return Ok(Some(wrong)),
        };
        pending.extend(narinfo.references.iter().map(StorePath::narinfo_key));
        let Some(nar) = get(world, dice, &narinfo.url).await? else {
            return Ok(Some(format!("{key} is there, and its NAR {} is not", narinfo.url)));
        };
        if let Err(wrong) = check_nar(&narinfo, &nar) {
            return Ok(Some(wrong));
        }
    }
    Ok(None)
}

/// A whole object, or `None` for 404.
async fn get(world: &World, dice: &mut Dice, key: &str) -> Result<Option<Vec<u8>>, GaveUp> {
    for _ in 0..8 {
        if !world.going_on() {
            break;
        }
        let server = &world.servers[dice.index(world.servers.len())];
        if let Ok(answer) = world.http.get(format!("{}/{key}", server.url)).send().await {
            match answer.status() {
                StatusCode::NOT_FOUND => return Ok(None),
                status if status.is_success() => {
                    // A body that breaks off is an error here, not a short object.
                    if let Ok(bytes) = answer.bytes().await {
                        return Ok(Some(bytes.to_vec()));
                    }
                }
                _ => {}
            }
        }
        dice.pause(500).await;
    }
    Err(GaveUp)
}

fn parse(world: &World, key: &str, text: &[u8]) -> Result<NarInfo, String> {
    let text = std::str::from_utf8(text).map_err(|_| format!("{key} is not text"))?;
    let narinfo: NarInfo = text.parse().map_err(|error| format!("{key} is not a narinfo: {error}"))?;
    let fingerprint = narinfo.fingerprint();
    if narinfo.signatures.iter().any(|signature| world.public_key.verifies(&fingerprint, signature)) {
        Ok(narinfo)
    } else {
        Err(format!("{key} is not signed by this cache"))
    }
}

fn check_nar(narinfo: &NarInfo, stored: &[u8]) -> Result<(), String> {
    let decoded;
    let nar = if narinfo.compression == "none" {
        stored
    } else {
        decoded = zstd::decode_all(stored).map_err(|error| format!("{}: {error}", narinfo.url))?;
        &decoded
    };
    let hash = NarHash(Sha256::digest(nar).into());
    if hash == narinfo.nar_hash {
        Ok(())
    } else {
        Err(format!("{} holds a NAR with the hash {hash}", narinfo.url))
    }
}

/// One path straight in the bucket, its NAR and listing not read but looked for: what is missing.
pub async fn look(world: &World, index: usize) -> anyhow::Result<Option<String>> {
    let path = &world.universe.paths[index];
    let narinfo = match read_narinfo(world, index).await? {
        Ok(narinfo) => narinfo,
        Err(missing) => return Ok(Some(missing)),
    };
    for key in [narinfo.url, path.listing_key()] {
        if world.place.bucket.head(&key).await?.is_none() {
            return Ok(Some(format!("{} is there, and {key} is not", path.key())));
        }
    }
    Ok(None)
}

/// The same, its NAR read and its hash compared.
pub async fn look_inside(world: &World, index: usize) -> anyhow::Result<Option<String>> {
    if let Some(missing) = look(world, index).await? {
        return Ok(Some(missing));
    }
    let narinfo = match read_narinfo(world, index).await? {
        Ok(narinfo) => narinfo,
        Err(missing) => return Ok(Some(missing)),
    };
    let Some(nar) = world.place.read(&narinfo.url).await? else {
        return Ok(Some(format!("{} is not there", narinfo.url)));
    };
    Ok(check_nar(&narinfo, &nar).err())
}

async fn read_narinfo(world: &World, index: usize) -> anyhow::Result<Result<NarInfo, String>> {
    let path = &world.universe.paths[index];
    let key = path.key();
    let Some(stored) = world.place.read(&key).await? else { return Ok(Err(format!("{key} is not there"))) };
    let text = zstd::decode_all(stored.as_slice())?;
    Ok(parse(world, &key, &text).and_then(|narinfo| {
        let same = narinfo.store_path == path.store_path && narinfo.references == path.references;
        if same { Ok(narinfo) } else { Err(format!("{key} says something else of {}", path.store_path)) }
    }))
}
