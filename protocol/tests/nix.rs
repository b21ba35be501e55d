//! The formats beside what real Nix wrote (`tests/vectors`, made by `tests/vectors/make`), and beside themselves.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use niks3_protocol::nix::{NarHash, NarInfo, PublicKey, SecretKey, Signature, StorePath, base32};
use proptest::prelude::*;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(name: &str) -> String {
    fs::read_to_string(vectors().join(name)).unwrap()
}

/// The narinfos Nix wrote and signed with the key of that name, by file name.
fn narinfos(key: &str) -> BTreeMap<String, String> {
    let files = fs::read_dir(vectors().join("narinfo")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let found: BTreeMap<_, _> = names
        .filter_map(|name| Some((name.strip_prefix(key)?.to_owned(), read(&format!("narinfo/{name}")))))
        .collect();
    assert_eq!(found.len(), 7, "the vectors of {key} are not all there");
    found
}

fn keys(key: &str) -> (SecretKey, PublicKey) {
    (read(&format!("{key}.secret")).parse().unwrap(), read(&format!("{key}.public")).parse().unwrap())
}

#[test]
fn narinfos_of_nix_come_out_byte_for_byte() {
    for (name, text) in narinfos("new-").into_iter().chain(narinfos("old-")) {
        let narinfo: NarInfo = text.parse().unwrap();
        assert_eq!(narinfo.to_string(), text, "{name}");
    }
}

#[test]
fn the_vectors_have_every_kind_of_path() {
    let all: Vec<NarInfo> = narinfos("new-").values().map(|text| text.parse().unwrap()).collect();
    assert!(all.iter().any(|one| one.references.contains(&one.store_path)), "none refers to itself");
    assert!(all.iter().any(|one| one.references.len() > 1 && one.deriver.is_some()), "none was built");
    for prefix in ["fixed:r:sha256:", "fixed:sha256:", "text:sha256:"] {
        assert!(
            all.iter().any(|one| one.ca.as_ref().is_some_and(|ca| ca.starts_with(prefix))),
            "no {prefix}"
        );
    }
    assert!(all.iter().any(|one| one.store_path.name() == "Odd+name-._=1"));
}

#[test]
fn keys_of_both_programs_read_and_write_back() {
    for key in ["new", "old"] {
        let (secret, public) = keys(key);
        assert_eq!(secret.to_secret_text(), read(&format!("{key}.secret")).trim());
        assert_eq!(secret.public_key(), public);
        assert_eq!(public.to_string(), read(&format!("{key}.public")).trim());
    }
}

#[test]
fn signatures_are_those_of_nix() {
    for key in ["new", "old"] {
        let (secret, public) = keys(key);
        for (name, text) in narinfos(&format!("{key}-")) {
            let narinfo: NarInfo = text.parse().unwrap();
            let [signature] = narinfo.signatures.as_slice() else { panic!("{name} has not one signature") };
            assert!(public.verifies(&narinfo.fingerprint(), signature), "{name}");
            // Ed25519 is deterministic: the same key signs the same text with the same bytes.
            assert_eq!(secret.sign(&narinfo.fingerprint()), *signature, "{name}");
        }
    }
}

#[test]
fn whatever_is_signed_cannot_be_changed() {
    let (_, public) = keys("new");
    let (_, other) = keys("old");
    for text in narinfos("new-").values() {
        let narinfo: NarInfo = text.parse().unwrap();
        let signature = &narinfo.signatures[0];
        assert!(!other.verifies(&narinfo.fingerprint(), signature));
        let mut changed = vec![narinfo.clone(), narinfo.clone(), narinfo.clone(), narinfo.clone()];
        changed[0].nar_size += 1;
        changed[1].nar_hash.0[31] ^= 1;
        changed[2].store_path = format!("{}x", narinfo.store_path).parse().unwrap();
        changed[3].references.push("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-x".parse().unwrap());
        for one in changed {
            assert!(!public.verifies(&one.fingerprint(), signature), "{one}");
        }
        // The order of the references, the deriver and where the NAR lies are not signed.
        let mut same = narinfo.clone();
        same.references.reverse();
        same.deriver = None;
        same.url = "elsewhere".to_owned();
        assert!(public.verifies(&same.fingerprint(), signature));
    }
}

#[test]
fn a_key_is_not_a_key_with_a_flipped_bit() {
    let text = read("new.secret");
    let (name, encoded) = text.trim().split_once(':').unwrap();
    // The last 32 bytes are the public half.
    let broken = format!("{name}:{}A{}", &encoded[..60], &encoded[61..]);
    assert_ne!(broken, text.trim());
    let error = broken.parse::<SecretKey>().unwrap_err().to_string();
    assert!(!error.contains(&encoded[..8]), "a secret stands in the message: {error}");
}

#[test]
fn hashes_have_the_spellings_of_nix() {
    let text = read("hashes");
    let mut seen = 0;
    for line in text.lines() {
        let [algorithm, hex, digits, sri] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let bytes = hex_bytes(hex);
        assert_eq!(base32::encode(&bytes), digits);
        if algorithm == "sha256" {
            let hash = NarHash(base32::decode(digits).unwrap());
            assert_eq!(hash.0.to_vec(), bytes);
            for spelling in [format!("sha256:{hex}"), format!("sha256:{digits}"), sri.to_owned()] {
                assert_eq!(spelling.parse::<NarHash>().unwrap(), hash);
            }
            assert_eq!(
                (hash.to_hex(), hash.to_base32(), hash.to_sri()),
                (hex.into(), digits.into(), sri.into())
            );
        } else {
            assert_eq!(base32::decode::<20>(digits).unwrap().to_vec(), bytes);
            assert!(sri.parse::<NarHash>().is_err(), "{sri} is not a sha256");
        }
        seen += 1;
    }
    assert_eq!(seen, 12, "the vectors are not all there");
}

fn hex_bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn store_path() -> impl Strategy<Value = StorePath> {
    ("[0-9abcdfghijklmnpqrsvwxyz]{32}", "[A-Za-z0-9+._?=-]{1,211}")
        .prop_map(|(hash, name)| format!("/nix/store/{hash}-{name}").parse().unwrap())
}

fn signature() -> impl Strategy<Value = Signature> {
    ("[a-z0-9.-]{1,30}", any::<[u8; 32]>(), any::<String>())
        .prop_map(|(name, seed, text)| SecretKey::from_seed(&name, seed).unwrap().sign(&text))
}

fn narinfo() -> impl Strategy<Value = NarInfo> {
    let file = (
        "nar/[0-9a-z]{52}\\.nar(\\.zst|\\.xz)?",
        "none|zstd|xz|bzip2",
        proptest::option::of(any::<[u8; 32]>()),
        proptest::option::of(any::<u64>()),
    );
    let nar = (store_path(), any::<[u8; 32]>(), any::<u64>());
    let more = (
        proptest::collection::vec(store_path(), 0..6),
        proptest::option::of(store_path()),
        proptest::collection::vec(signature(), 0..3),
        proptest::option::of("(fixed:r:|fixed:|text:)sha256:[0-9a-z]{52}"),
    );
    (file, nar, more).prop_map(|(file, nar, more)| NarInfo {
        store_path: nar.0,
        url: file.0,
        compression: file.1,
        file_hash: file.2.map(NarHash),
        file_size: file.3,
        nar_hash: NarHash(nar.1),
        nar_size: nar.2,
        references: more.0,
        deriver: more.1,
        signatures: more.2,
        ca: more.3,
    })
}

proptest! {
    #[test]
    fn a_narinfo_reads_back_as_it_was(narinfo in narinfo()) {
        let text = narinfo.to_string();
        let read: NarInfo = text.parse().unwrap();
        prop_assert_eq!(read.to_string(), text);
        prop_assert_eq!(read, narinfo);
    }

    #[test]
    fn what_is_read_as_a_narinfo_comes_to_rest(text in "((StorePath|URL|NarHash|NarSize|References|Sig|CA|Later)?:? ?[ -~é]{0,40}\n){0,8}") {
        if let Ok(narinfo) = text.parse::<NarInfo>() {
            prop_assert_eq!(narinfo.to_string().parse::<NarInfo>().unwrap(), narinfo);
        }
    }

    /// One byte of a real narinfo changed: refused, or read as something that reads back.
    #[test]
    fn a_damaged_narinfo_never_panics(at in 0_usize..700, byte in any::<u8>()) {
        for text in narinfos("new-").into_values() {
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            if let Ok(narinfo) = text.parse::<NarInfo>() {
                prop_assert_eq!(narinfo.to_string().parse::<NarInfo>().unwrap(), narinfo);
            }
        }
    }

    #[test]
    fn every_spelling_of_a_hash_reads_back(bytes: [u8; 32]) {
        let hash = NarHash(bytes);
        for text in [hash.to_string(), hash.to_sri(), format!("sha256:{}", hash.to_hex())] {
            prop_assert_eq!(text.parse::<NarHash>().unwrap(), hash);
        }
    }

    #[test]
    fn whatever_is_read_as_a_hash_is_one_spelling_of_it(text in "sha256[:-][0-9a-zA-Z+/=]{43,65}") {
        if let Ok(hash) = text.parse::<NarHash>() {
            let hex = format!("sha256:{}", hash.to_hex());
            let spellings = [hash.to_string(), hash.to_sri(), hex.clone()];
            prop_assert!(spellings.contains(&text) || text.to_lowercase() == hex, "{}", text);
        }
    }

    #[test]
    fn base_32_of_any_length_is_as_long_as_nix_says(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
        let digits = base32::encode(&bytes);
        prop_assert_eq!(digits.len(), (bytes.len() * 8).div_ceil(5));
        prop_assert!(base32::is_base32(&digits, digits.len()));
    }

    #[test]
    fn base_32_of_store_paths_and_hashes_are_inverses(short: [u8; 20], long: [u8; 32]) {
        prop_assert_eq!(base32::decode::<20>(&base32::encode(&short)), Some(short));
        prop_assert_eq!(base32::decode::<32>(&base32::encode(&long)), Some(long));
    }

    #[test]
    fn digits_are_read_in_one_way_only(digits in "[01][0-9abcdfghijklmnpqrsvwxyz]{51}") {
        let bytes = base32::decode::<32>(&digits).unwrap();
        prop_assert_eq!(base32::encode(&bytes), digits);
    }

    #[test]
    fn signing_and_verifying_are_inverses(seed: [u8; 32], text: String, other: String) {
        let key = SecretKey::from_seed("cache-1", seed).unwrap();
        let signature = key.sign(&text);
        prop_assert!(key.public_key().verifies(&text, &signature));
        prop_assert_eq!(key.public_key().verifies(&other, &signature), other == text);
        prop_assert_eq!(signature.to_string().parse::<Signature>().unwrap(), signature);
        let again: SecretKey = key.to_secret_text().parse().unwrap();
        prop_assert_eq!(again.public_key(), key.public_key());
        let debug = format!("{key:?}");
        prop_assert!(!key.to_secret_text().contains(&debug) && debug == "SecretKey(cache-1)");
    }
}
