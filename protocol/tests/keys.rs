//! Keys, as strangers write them: whatever is taken as one is one key, and leads nowhere else.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use niks3_protocol::object_key::{MAX_KEY, ObjectKey};
use proptest::prelude::*;
use proptest::string::string_regex;

/// A character of base 32 as Nix has it.
const DIGIT: &str = "[0-9abcdfghijklmnpqrsvwxyz]";

/// Keys, and what is nearly one: parts that fit, cut, doubled and joined by what separates them.
fn near_keys() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("nar/".to_owned()),
        Just("log/".to_owned()),
        Just("realisations/".to_owned()),
        Just("build-trace-v2/".to_owned()),
        Just(".drv/out.doi".to_owned()),
        Just("sha256:".to_owned()),
        Just("..".to_owned()),
        Just("/".to_owned()),
        Just("!out.doi".to_owned()),
        Just(".drv".to_owned()),
        Just(".narinfo".to_owned()),
        Just(".ls".to_owned()),
        Just(".nar".to_owned()),
        Just(".nar.zst".to_owned()),
        Just(".nar.xz".to_owned()),
        Just("%2e%2e%2f".to_owned()),
        Just("\\".to_owned()),
        string_regex(&format!("{DIGIT}{{32}}")).unwrap(),
        string_regex(&format!("[01]{DIGIT}{{51}}")).unwrap(),
        "[0-9a-f]{64}",
        "[A-Za-z0-9+._?=-]{1,20}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

fn valid_keys() -> impl Strategy<Value = String> {
    prop_oneof![
        string_regex(&format!("{DIGIT}{{32}}\\.(narinfo|ls)")).unwrap(),
        string_regex(&format!("nar/[01]{DIGIT}{{51}}\\.nar(|\\.zst|\\.xz|\\.bz2)")).unwrap(),
        "log/[A-Za-z0-9+_?=-][A-Za-z0-9+_?=-]{0,40}\\.drv",
        "realisations/sha256:[0-9a-f]{64}![a-z]{1,10}\\.doi",
        string_regex(&format!("build-trace-v2/{DIGIT}{{32}}-[a-z]{{1,9}}\\.drv/[a-z]{{1,10}}\\.doi"))
            .unwrap(),
    ]
}

/// What holds of every text that is taken as a key.
fn leads_nowhere_else(text: &str) -> Result<(), TestCaseError> {
    let Ok(key) = text.parse::<ObjectKey>() else { return Ok(()) };
    prop_assert_eq!(key.to_string(), text, "one spelling of each key");
    prop_assert!(text.len() <= MAX_KEY);
    prop_assert!(text.chars().all(|character| character.is_ascii_graphic()), "{:?}", text);
    prop_assert!(text.split('/').all(|part| !["", ".", ".."].contains(&part)), "{:?}", text);
    prop_assert!(!text.contains(['\\', '%', '#']), "{:?}", text);
    let own = ["pins/", "staging/", ".niks3", "index.html", "nix-cache-info"];
    prop_assert!(own.iter().all(|own| !text.starts_with(own)), "{:?} is the server's own", text);
    Ok(())
}

proptest! {
    #[test]
    fn what_is_nearly_a_key_leads_nowhere_else(text in near_keys()) {
        leads_nowhere_else(&text)?;
    }

    #[test]
    fn any_text_leads_nowhere_else(text in any::<String>()) {
        leads_nowhere_else(&text)?;
    }

    #[test]
    fn a_key_changed_at_one_place_leads_nowhere_else(key in valid_keys(), at: prop::sample::Index, character: char) {
        prop_assert!(key.parse::<ObjectKey>().is_ok(), "{}", key);
        leads_nowhere_else(&key)?;
        let mut changed: Vec<char> = key.chars().collect();
        let at = at.index(changed.len());
        changed[at] = character;
        leads_nowhere_else(&changed.iter().collect::<String>())?;
        changed.insert(at, '/');
        leads_nowhere_else(&changed.iter().collect::<String>())?;
    }
}

#[test]
fn a_key_has_an_end() {
    let log = |length: usize| format!("log/{}.drv", "a".repeat(length - "log/.drv".len()));
    assert!(log(MAX_KEY).parse::<ObjectKey>().is_ok());
    let error = log(MAX_KEY + 1).parse::<ObjectKey>().unwrap_err();
    assert!(error.to_string().contains("is not a key of a binary cache"));
}
