//! docs/operator.md names tests: they exist.

use std::path::Path;

#[test]
fn the_tests_that_the_docs_name_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(folder.join("../docs/operator.md")).unwrap();
    let named: Vec<&str> =
        docs.split('`').filter(|text| text.contains("::") && !text.contains(' ')).collect();
    for test in &named {
        let (module, name) = test.split_once("::").unwrap();
        let files = ["tests/it", "tests/it/crds"].map(|at| folder.join(at).join(format!("{module}.rs")));
        let text: String = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
        assert!(text.contains(&format!("fn {name}()")), "docs/operator.md names {test}, which is none");
    }
    assert!(named.len() > 30, "{} are too few: were they found?", named.len());
}
