//! What the pages say is so.

use std::path::Path;

use niks3_operator::crd::conditions::ServerReason;

#[test]
fn the_tests_that_the_docs_name_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = ["operator.md", "checklist.md"]
        .map(|page| std::fs::read_to_string(folder.join("../docs").join(page)).unwrap())
        .concat();
    let named: Vec<&str> =
        docs.split('`').filter(|text| text.contains("::") && !text.contains(' ')).collect();
    for test in &named {
        let (module, name) = test.split_once("::").unwrap();
        let files = ["tests/it", "tests/it/crds", "tests/it/plugin"]
            .map(|at| folder.join(at).join(format!("{module}.rs")));
        let text: String = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        assert!(
            text.contains(&format!("fn {name}()")),
            "docs/operator.md or checklist.md names {test}, which is none"
        );
    }
    assert!(named.len() > 30, "{} are too few: were they found?", named.len());
}

#[test]
fn the_reference_is_the_generated_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    let committed = std::fs::read_to_string(file).unwrap();
    assert_eq!(committed, niks3_operator::reference::page(), "run `make generate`");
    for word in [
        "`spec.storage.s3.credentials`",
        "| **`bucket`** |",
        "### `status.signingKeys[]`",
        "`SafetyLimitReached`",
        "`CredentialsUnavailable`",
    ] {
        assert!(committed.contains(word), "{word}");
    }
}

#[test]
fn the_reasons_that_are_said_to_be_the_servers_are() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/src");
    let text: String = ["bucket/error.rs", "storage.rs", "http/health.rs"]
        .map(|file| std::fs::read_to_string(server.join(file)).unwrap())
        .concat();
    for reason in ServerReason::ALL {
        assert!(text.contains(&format!("\"{}\"", reason.as_str())), "the server never says {reason:?}");
    }
}
