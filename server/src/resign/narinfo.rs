//! What a stored narinfo is to say under the keys of now. Pure.

use niks3_protocol::api::pending_closures::NarInfoMetadata;
use niks3_protocol::nix::{PublicKey, Signature, StorePath};
use niks3_protocol::object_key::ObjectKey;
use zstd::bulk::Compressor;

use crate::db::resign::StoredNarinfo;
use crate::fsck::ADOPTED;
use crate::signer::Keys;
use crate::writing;

/// A narinfo as it is to be stored.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) key: ObjectKey,
    pub(super) bytes: Vec<u8>,
    /// Its signatures, separated by spaces.
    pub(super) signatures: String,
}

/// Writes a narinfo anew; `None` where it says already what it is to say.
pub(super) fn renew(
    keys: &Keys,
    compressor: &mut Compressor<'_>,
    stored: &StoredNarinfo,
) -> Result<Option<Body>, String> {
    let signatures: Vec<Signature> =
        stored.signatures.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(text)?;
    let path = |path: &String| path.parse::<StorePath>().map_err(text);
    let metadata = NarInfoMetadata {
        store_path: path(&stored.store_path)?,
        url: stored.nar_key.clone(),
        compression: stored.compression.clone(),
        nar_hash: stored.nar_hash.parse().map_err(text)?,
        nar_size: u64::try_from(stored.nar_size).map_err(text)?,
        references: stored.refs.iter().map(path).collect::<Result<_, _>>()?,
        deriver: stored.deriver.as_ref().map(path).transpose()?,
        signatures: Vec::new(),
        ca: stored.ca.clone(),
    };
    let mut narinfo = metadata.into_narinfo(Vec::new());
    let ours = keys.signer.sign(&narinfo.fingerprint());
    let wanted = wanted(&signatures, &ours, &keys.revoked, stored.pushed_by == ADOPTED);
    if wanted == signatures && !stored.unsure {
        return Ok(None);
    }
    let joined: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    narinfo.signatures = wanted;
    let bytes = writing::compress(compressor, &narinfo).map_err(text)?;
    let key = stored.key.parse().map_err(text)?;
    Ok(Some(Body { key, bytes, signatures: joined.join(" ") }))
}

/// Those of others stay, and those of our own keys that sign no more: clients may trust them still. What a revoked key
/// signed goes, and what an earlier key of a name signed that has another key now. Of what was adopted, nobody here
/// knows more than that it was in the bucket: our keys sign it where one of them had signed it before.
fn wanted(stored: &[Signature], ours: &[Signature], revoked: &[PublicKey], adopted: bool) -> Vec<Signature> {
    let ours = if adopted && !ours.iter().any(|own| stored.contains(own)) { &[] } else { ours };
    let stays = |signature: &&Signature| {
        ours.contains(signature)
            || !(ours.iter().any(|own| own.name() == signature.name())
                || revoked.iter().any(|key| key.name() == signature.name()))
    };
    let mut wanted: Vec<Signature> = stored.iter().filter(stays).cloned().collect();
    let missing: Vec<Signature> = ours.iter().filter(|own| !wanted.contains(own)).cloned().collect();
    wanted.extend(missing);
    wanted
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use niks3_protocol::nix::SecretKey;

    use super::*;

    const SAID: &str = "1;/nix/store/…";

    fn key(name: &str, seed: u8) -> SecretKey {
        SecretKey::from_seed(name, [seed; 32]).unwrap()
    }

    fn signed(keys: &[&SecretKey]) -> Vec<Signature> {
        keys.iter().map(|key| key.sign(SAID)).collect()
    }

    #[test]
    fn what_is_missing_is_added_and_what_others_signed_stays() {
        let (old, new, other) = (key("a-1", 1), key("a-2", 2), key("cache.nixos.org-1", 3));
        let now = wanted(&signed(&[&other, &old]), &signed(&[&old, &new]), &[], false);
        assert_eq!(now, signed(&[&other, &old, &new]));
        assert_eq!(wanted(&now, &signed(&[&old, &new]), &[], false), now, "nothing is left to do");
        let retired = wanted(&now, &signed(&[&new]), &[], false);
        assert_eq!(retired, now, "who trusts the old key reads on");
        assert_eq!(
            wanted(&[], &signed(&[&new]), &[], false),
            signed(&[&new]),
            "pushed before there was a key"
        );
    }

    #[test]
    fn what_is_revoked_goes_and_so_does_an_earlier_key_of_a_name() {
        let (old, new, other) = (key("a-1", 1), key("a-2", 2), key("cache.nixos.org-1", 3));
        let stored = signed(&[&old, &other, &new]);
        let now = wanted(&stored, &signed(&[&new]), &[old.public_key()], false);
        assert_eq!(now, signed(&[&other, &new]));
        let again = key("a-1", 9);
        let now = wanted(&stored, &signed(&[&again]), &[], false);
        assert_eq!(now, signed(&[&other, &new, &again]));
        let now = wanted(&stored, &signed(&[&again]), &[old.public_key()], false);
        assert_eq!(now, signed(&[&other, &new, &again]), "its name signs on");
        assert_eq!(wanted(&signed(&[&old]), &[], &[old.public_key()], false), []);
    }

    #[test]
    fn what_was_adopted_is_signed_where_it_was_ours() {
        let (old, new, other) = (key("a-1", 1), key("a-2", 2), key("cache.nixos.org-1", 3));
        let ours = signed(&[&old, &new]);
        assert_eq!(wanted(&signed(&[&other]), &ours, &[], true), signed(&[&other]));
        assert_eq!(wanted(&signed(&[&old]), &ours, &[], true), ours);
        // A signature that only has the name of a key of ours vouches for nothing.
        let forged = signed(&[&key("a-1", 7)]);
        assert_eq!(wanted(&forged, &ours, &[], true), forged);
        assert_eq!(wanted(&signed(&[&other]), &ours, &[other.public_key()], true), []);
    }
}
