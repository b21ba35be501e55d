//! Pure: whether the ways in from outside are there.

use k8s_openapi::api::networking::v1::Ingress;
use serde_json::Value;

use crate::cache::apply::Applied;
use crate::cache::validate::{Tls, ValidCache};
use crate::crd::conditions::{ConditionType, Finding, Reason};
use crate::foreign::HttpRoute;
use crate::labels;

const ABOUT: ConditionType = ConditionType::Exposed;

const NOT_INSTALLED: &str = "server.httpRoute: the cluster has no HTTPRoute of gateway.networking.k8s.io/v1; \
                             install the Gateway API";

const NO_CERT_MANAGER: &str = "server.tls.certManager: the cluster has no Certificate of cert-manager.io/v1; install \
                               cert-manager";

const NO_MONITORS: &str = "server.metrics.serviceMonitor: the cluster has no ServiceMonitor of \
                           monitoring.coreos.com/v1; install the prometheus-operator";

/// Nothing where no ServiceMonitor is wanted.
pub(super) fn monitored(valid: &ValidCache, applied: &Applied) -> Option<Finding> {
    valid.monitor.as_ref()?;
    let about = ConditionType::Monitored;
    Some(if applied.monitoring {
        Finding::yes(about, Reason::Accepted, "the ServiceMonitor is there")
    } else {
        Finding::no(about, Reason::PrometheusOperatorNotInstalled, NO_MONITORS)
    })
}

/// Nothing where no other namespace is wanted.
pub(super) fn published(valid: &ValidCache, applied: &Applied) -> Option<Finding> {
    let (about, published) = (ConditionType::Published, applied.published.as_ref()?);
    let name = labels::published(&valid.name, &valid.namespace);
    Some(match published.refused.first() {
        None => {
            let message = format!("ConfigMap {name} is in {} other namespaces", published.namespaces);
            Finding::yes(about, Reason::Accepted, message)
        }
        Some((reason, message)) => Finding::no(about, *reason, message),
    })
}

/// Nothing where no way in is wanted.
pub(super) fn exposed(valid: &ValidCache, applied: &Applied) -> Option<Finding> {
    let asked = valid.tls.as_ref().filter(|tls| tls.certificate.is_some());
    if valid.ingress.is_none() && valid.http_route.is_none() && asked.is_none() {
        return None;
    }
    let own = asked.and_then(|tls| not_issued(tls, applied));
    let route = match (&valid.http_route, &applied.http_route) {
        (None, _) => None,
        (Some(_), None) => Some(Finding::no(ABOUT, Reason::GatewayAPINotInstalled, NOT_INSTALLED)),
        (Some(_), Some(route)) => not_accepted(route),
    };
    let certificate = valid.certificate_missing.as_ref().map(|secret| {
        let message = format!("Secret {secret} of server.ingress.tlsSecretName does not exist");
        Finding::no(ABOUT, Reason::CertificateNotReady, message)
    });
    let pending = applied.ingress.as_ref().filter(|ingress| !has_address(ingress)).map(|_| {
        let message = "the Ingress has no address yet: no controller of its class has taken it";
        Finding::no(ABOUT, Reason::IngressPending, message)
    });
    let well = || Finding::yes(ABOUT, Reason::Reachable, format!("clients outside use {}", valid.url));
    Some(own.or(route).or(certificate).or(pending).unwrap_or_else(well))
}

/// Why the server's own certificate is not there.
fn not_issued(tls: &Tls, applied: &Applied) -> Option<Finding> {
    let Some(certificate) = &applied.certificate else {
        return Some(Finding::no(ABOUT, Reason::CertManagerNotInstalled, NO_CERT_MANAGER));
    };
    let why = tls.awaited.clone()?;
    let conditions = certificate.status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let said = conditions.iter().find(|condition| condition["type"] == "Ready");
    let said = said.and_then(|ready| ready["message"].as_str());
    let message = said.map_or_else(|| why.clone(), |said| format!("{why}: {said}"));
    Some(Finding::no(ABOUT, Reason::CertificateNotReady, message))
}

fn has_address(ingress: &Ingress) -> bool {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|balancer| balancer.ingress.as_ref()).is_some_and(|addresses| !addresses.is_empty())
}

/// What a Gateway has against the route; nothing where all of them took it.
fn not_accepted(route: &HttpRoute) -> Option<Finding> {
    let parents = route.status["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(refusing) = parents.iter().find_map(refusal) else {
        let message = "no Gateway has looked at the HTTPRoute yet";
        return parents.is_empty().then(|| Finding::no(ABOUT, Reason::RouteNotAccepted, message));
    };
    Some(Finding::no(ABOUT, Reason::RouteNotAccepted, refusing))
}

fn refusal(parent: &Value) -> Option<String> {
    let conditions = parent["conditions"].as_array()?;
    let bad = conditions.iter().find(|condition| {
        ["Accepted", "ResolvedRefs"].iter().any(|about| condition["type"] == *about)
            && condition["status"] != "True"
    })?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = text(&parent["parentRef"]["name"]);
    Some(format!("Gateway {name}: {}: {}", text(&bad["reason"]), text(&bad["message"])))
}
