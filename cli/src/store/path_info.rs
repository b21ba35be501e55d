//! `nix path-info --json`, whose shape differs by version: a list of objects (2.8), a map by path (2.19), hashes
//! and content addresses as objects (2.33), base names instead of paths.

use niks3_protocol::nix::{NarHash, Signature, StorePath};
use serde_json::Value;

use super::StoreError;

/// What Nix knows of one path.
#[derive(Debug, Clone)]
pub(crate) struct PathInfo {
    pub(crate) path: StorePath,
    pub(crate) nar_hash: NarHash,
    pub(crate) nar_size: u64,
    pub(crate) references: Vec<StorePath>,
    pub(crate) deriver: Option<StorePath>,
    pub(crate) signatures: Vec<Signature>,
    pub(crate) ca: Option<String>,
}

pub(super) fn parse(json: &[u8], store_dir: &str) -> Result<Vec<PathInfo>, StoreError> {
    let value: Value =
        serde_json::from_slice(json).map_err(|error| StoreError::Unreadable(error.to_string()))?;
    let value = value.get("info").unwrap_or(&value);
    match value {
        Value::Array(list) => list
            .iter()
            .map(|info| info_of(info["path"].as_str().unwrap_or_default(), info, store_dir))
            .collect(),
        Value::Object(map) => map.iter().map(|(path, info)| info_of(path, info, store_dir)).collect(),
        _ => Err(StoreError::Unreadable("neither a list nor a map of paths".to_owned())),
    }
}

fn info_of(path: &str, info: &Value, store_dir: &str) -> Result<PathInfo, StoreError> {
    let unreadable = |field: &str| StoreError::Unreadable(format!("{path}: {field}"));
    if info.is_null() || info["valid"] == Value::Bool(false) {
        return Err(StoreError::Refused(format!("{path} is not valid")));
    }
    let in_store = |text: &str| {
        if text.starts_with('/') { text.parse::<StorePath>() } else { StorePath::in_dir(store_dir, text) }
    };
    let references = info["references"].as_array().ok_or_else(|| unreadable("references"))?;
    let signatures = info["signatures"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(PathInfo {
        path: in_store(path).map_err(|_| unreadable("path"))?,
        nar_hash: hash(&info["narHash"]).ok_or_else(|| unreadable("narHash"))?,
        nar_size: info["narSize"].as_u64().ok_or_else(|| unreadable("narSize"))?,
        references: references
            .iter()
            .map(|text| in_store(text.as_str().unwrap_or_default()))
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable("references"))?,
        deriver: info["deriver"].as_str().and_then(|text| in_store(text).ok()),
        signatures: signatures.iter().filter_map(|text| text.as_str()?.parse().ok()).collect(),
        ca: content_address(&info["ca"]).ok_or_else(|| unreadable("ca"))?,
    })
}

/// Text in a spelling of Nix, or `{algorithm, format, hash}`.
fn hash(value: &Value) -> Option<NarHash> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Object(_) => {
            let digits = value["hash"].as_str()?;
            let algorithm = value["algorithm"].as_str().unwrap_or("sha256");
            let separator = if value["format"] == "base64" { '-' } else { ':' };
            digits.parse().or_else(|_| format!("{algorithm}{separator}{digits}").parse()).ok()
        }
        _ => None,
    }
}

/// Text as narinfos have it, or `{method, hash}`. The outer `None` is a form we do not know.
#[expect(clippy::option_option, reason = "absent and unknown are two things")]
fn content_address(value: &Value) -> Option<Option<String>> {
    match value {
        Value::Null => Some(None),
        Value::String(text) => Some(Some(text.clone())),
        Value::Object(_) => {
            let hash = hash(&value["hash"])?;
            let prefix = match value["method"].as_str()? {
                "nar" => "fixed:r:",
                "flat" => "fixed:",
                "text" => "text:",
                _ => return None,
            };
            Some(Some(format!("{prefix}{hash}")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "/nix/store/5sawkknlfk7b53s8715vkcc6k414wxas-uses";
    const B: &str = "/nix/store/j02mh074fk4h656zqqfzkbc0kjc9mpg8-tree";
    const HASH: &str = "sha256:052676rm9mi8r9qz4hafs9yphaarm0d21k73przmb78fhgflyqr9";
    const BASE64: &str = "KWNP3YMOnVV/vuPMIBqoWSl4fdJOQfJxyijWVLM5RhQ=";

    fn check(json: &str) {
        let infos = parse(json.as_bytes(), "/nix/store").unwrap();
        let info = infos.iter().find(|info| info.path.as_str() == A).unwrap();
        assert_eq!(info.nar_hash.to_string(), HASH);
        assert_eq!(info.nar_size, 568);
        assert_eq!(info.references[0].as_str(), B);
        assert_eq!(info.ca.as_deref(), Some(format!("fixed:r:{HASH}").as_str()));
        assert_eq!(info.deriver.as_ref().unwrap().name(), "uses.drv");
    }

    #[test]
    fn reads_the_list_of_nix_2_8() {
        check(&format!(
            r#"[{{"path":"{A}","narHash":"sha256-{BASE64}","narSize":568,"references":["{B}"],
            "ca":"fixed:r:{HASH}","deriver":"/nix/store/dg6ax6z06vkvi9j75jaji5j6qk0z3rq6-uses.drv"}}]"#
        ));
    }

    #[test]
    fn reads_the_map_of_nix_2_19() {
        check(&format!(
            r#"{{"{A}":{{"narHash":"{HASH}","narSize":568,"references":["{B}"],"ca":"fixed:r:{HASH}",
            "deriver":"/nix/store/dg6ax6z06vkvi9j75jaji5j6qk0z3rq6-uses.drv","signatures":[]}}}}"#
        ));
    }

    #[test]
    fn reads_the_objects_of_nix_2_33() {
        let hash = format!(r#"{{"algorithm":"sha256","format":"base64","hash":"{BASE64}"}}"#);
        check(&format!(
            r#"{{"info":{{"5sawkknlfk7b53s8715vkcc6k414wxas-uses":{{"narHash":{hash},"narSize":568,
            "references":["j02mh074fk4h656zqqfzkbc0kjc9mpg8-tree"],"ca":{{"method":"nar","hash":{hash}}},
            "deriver":"dg6ax6z06vkvi9j75jaji5j6qk0z3rq6-uses.drv"}}}},"version":2}}"#
        ));
    }

    #[test]
    fn an_invalid_path_is_said_to_be_one() {
        let error = parse(format!(r#"{{"{A}":null}}"#).as_bytes(), "/nix/store").unwrap_err();
        assert!(error.to_string().contains("is not valid"), "{error}");
    }
}
