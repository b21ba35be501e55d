//! How Prometheus is told of the server's metrics.

use serde_json::json;

use crate::cache::validate::ValidCache;
use crate::foreign::ServiceMonitor;
use crate::labels::{CA_FILE, Component, Names, child, labels, selector};

use super::service;

pub(super) fn server(cache: &ValidCache) -> Option<ServiceMonitor> {
    let wanted = cache.monitor.as_ref()?;
    let mut endpoint =
        json!({"port": service::port(cache).0, "path": "/metrics", "interval": wanted.interval});
    if let Some(tls) = &cache.tls {
        endpoint["scheme"] = json!("https");
        endpoint["tlsConfig"] = json!({"serverName": format!("{}.{}.svc", cache.name, cache.namespace)});
        if tls.ca.is_some() {
            endpoint["tlsConfig"]["ca"] = json!({"secret": {"name": tls.secret, "key": CA_FILE}});
        }
    }
    let spec = json!({
        "selector": {"matchLabels": selector(&cache.name, Component::Server)},
        "endpoints": [endpoint],
    });
    // Those by which the operator finds it again count.
    let mut all = wanted.labels.clone();
    all.extend(labels(&cache.name, Component::Server));
    Some(ServiceMonitor::new(
        child(Names(&cache.name).server(), &cache.namespace, all, Some(&cache.owner)),
        spec,
    ))
}
