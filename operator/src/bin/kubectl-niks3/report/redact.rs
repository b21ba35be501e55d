//! Pure: takes out what looks like a secret. Nothing of the project writes one into a log, a spec or a status; but a
//! report is passed on, so this does not rely on it.

use regex::Regex;
use serde_json::Value;

const GONE: &str = "REDACTED";

/// What a secret looks like, and what of it stays.
const SHAPES: [(&str, &str); 7] = [
    // The key of a PEM file, over several lines.
    (r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", GONE),
    // Of Nix: NAME:64 bytes in base64. A public key has 32.
    (r"([A-Za-z0-9._-]+):[A-Za-z0-9+/]{86}==", "${1}:REDACTED"),
    // A URL with a password.
    (r"([a-z][a-z0-9+.-]*://[^\s/:@]+):[^\s/@]+@", "${1}:REDACTED@"),
    // A JSON Web Token.
    (r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*", GONE),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "${1} REDACTED"),
    // What makes a presigned address one.
    (r"(?i)(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s]+", "${1}REDACTED"),
    // Fields and variables called so. Those that only name a Secret or a file end otherwise.
    (
        r#"(?im)\b([a-z0-9_-]*(?:password|passwd|token|secret|secret[_-]?access[_-]?key|access[_-]?key)["']?\s*[:=]\s*)["']?[^\s"',{}\[\]]{8,}["']?"#,
        "${1}REDACTED",
    ),
];

/// Knows what secrets look like.
pub(super) struct Redactor(Vec<(Regex, &'static str)>);

impl Redactor {
    pub(super) fn new() -> Result<Self, regex::Error> {
        let compiled = SHAPES.iter().map(|(shape, stays)| Ok((Regex::new(shape)?, *stays)));
        Ok(Self(compiled.collect::<Result<_, _>>()?))
    }

    pub(super) fn redact(&self, text: &str) -> String {
        self.0
            .iter()
            .fold(text.to_owned(), |text, (shape, stays)| shape.replace_all(&text, *stays).into_owned())
    }
}

/// Takes out of an object what repeats it, manifests with all they hold among that, and the values of variables.
pub(super) fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    // Nothing that was asked for has them; should a server send them all the same, they stop here.
    if let Some(object) = object.as_object_mut() {
        object.remove("stringData");
        if object.get("data").is_some() && object.get("kind").is_some_and(|kind| kind == "Secret") {
            object.remove("data");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_what_explains_stays() {
        let redactor = Redactor::new().unwrap();
        let key = format!("cache.example.org-1:{}==", "A".repeat(86));
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHc\nAw\n-----END EC PRIVATE KEY-----";
        for (text, expected) in [
            (key.as_str(), "cache.example.org-1:REDACTED"),
            (pem, "REDACTED"),
            ("uri: postgres://niks3:hunter22@db/niks3", "uri: postgres://niks3:REDACTED@db/niks3"),
            ("Authorization: Bearer abcdefgh12345678", "Authorization: Bearer REDACTED"),
            ("got eyJhbGciOiJSUzI1.eyJpc3MiOiJodHRw.c2lnbmF0dXJl from", "got REDACTED from"),
            ("GET /nar?X-Amz-Signature=0a1b2c&a=b", "GET /nar?X-Amz-Signature=REDACTED&a=b"),
            ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7", "AWS_SECRET_ACCESS_KEY=REDACTED"),
            ("POSTGRES_PASSWORD: hunter22hunter22", "POSTGRES_PASSWORD: REDACTED"),
            (r#"{"token":"hunter22hunter22"}"#, r#"{"token":REDACTED}"#),
        ] {
            assert_eq!(redactor.redact(text), expected);
        }
        let public = format!("cache.example.org-1:{}=", "A".repeat(43));
        for text in [
            public.as_str(),
            "tokenFile: /var/run/niks3/tokens/laptop",
            "\"token_file\": \"/var/run/niks3/tokens/laptop\"",
            "secretName: main-signing-1",
            "see https://cache.example.org/a@b",
            "Secret main-s3 has no key AWS_SECRET_ACCESS_KEY",
        ] {
            assert_eq!(redactor.redact(text), text);
        }
    }

    #[test]
    fn what_repeats_an_object_goes() {
        let mut object = serde_json::json!({"kind": "Secret", "data": {"a": "b"}, "stringData": {"a": "b"}, "metadata": {
            "name": "a", "managedFields": [], "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}", "niks3.dev/generated-id": "1"}}});
        strip(&mut object);
        let expected = serde_json::json!({"kind": "Secret", "metadata": {
            "name": "a", "annotations": {"niks3.dev/generated-id": "1"}}});
        assert_eq!(object, expected);
    }
}
