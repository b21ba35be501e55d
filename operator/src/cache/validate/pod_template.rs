//! `spec.server.podTemplate`, which the API server does not look at.

use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::crd::binary_cache::Server;
use crate::crd::conditions::Reason;

use super::Invalid;

/// The template, unless something in it is none.
pub(super) fn read(server: &Server) -> Result<Option<Box<PodTemplateSpec>>, Invalid> {
    let Some(raw) = &server.pod_template else { return Ok(None) };
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = None;
    let tracked = serde_path_to_error::Deserializer::new(raw, &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        unknown = unknown.take().or_else(|| Some(path.to_string().replace(".?", "")));
    });
    let read: Result<PodTemplateSpec, serde_json::Error> = read;
    match (read, unknown) {
        (Ok(template), None) => Ok(Some(Box::new(template))),
        (Ok(_), Some(field)) => Err(invalid(&format!("{field}: a pod template has no such field"))),
        (Err(error), _) => Err(invalid(&format!("{}: {error}", track.path()))),
    }
}

fn invalid(message: &str) -> Invalid {
    Invalid { reason: Reason::InvalidSpec, message: format!("server.podTemplate: {message}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judge(template: Value) -> Result<Option<Box<PodTemplateSpec>>, String> {
        let server = Server { pod_template: Some(template), ..Server::default() };
        read(&server).map_err(|invalid| invalid.message)
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (template, message) in [
            (
                json!({"spec": {"container": []}}),
                "server.podTemplate: spec.container: a pod template has no such field",
            ),
            (
                json!({"spec": {"containers": [{"name": "server", "env": [{"name": "A", "valu": "b"}]}]}}),
                "server.podTemplate: spec.containers.0.env.0.valu: a pod template has no such field",
            ),
            (
                json!({"spec": {"terminationGracePeriodSeconds": "1m"}}),
                "server.podTemplate: spec.terminationGracePeriodSeconds: invalid type: string \"1m\", expected i64",
            ),
        ] {
            assert_eq!(judge(template).unwrap_err(), message);
        }
        assert!(judge(json!({"spec": {"hostAliases": [{"ip": "10.0.0.1"}]}})).unwrap().is_some());
        assert!(read(&Server::default()).unwrap().is_none());
    }
}
