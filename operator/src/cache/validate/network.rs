//! Whom the server has to reach: a NetworkPolicy knows ports, not names.

use std::collections::BTreeSet;

use reqwest::Url;

use crate::cache::observe::Observed;
use crate::crd::BinaryCacheSpec;
use crate::crd::binary_cache::{CloudNativePg, NetworkPolicyMode};

use super::Network;
use super::backends::CNPG_KEY;

const POSTGRES: u16 = 5432;
const HTTPS: u16 = 443;

pub(super) fn limits(spec: &BinaryCacheSpec, observed: &Observed) -> Option<Network> {
    let wanted = &spec.server.network_policy;
    (wanted.mode == NetworkPolicyMode::Enabled).then(|| Network {
        wanted: wanted.clone(),
        api_ports: observed.surroundings.api_ports.clone(),
        operator: observed.surroundings.operator.clone(),
        s3_port: spec.storage.s3.as_ref().map(|s3| s3.endpoint.as_deref().map_or(HTTPS, port_of_http)),
        database_port: database_port(spec, observed),
        issuer_ports: issuer_ports(spec),
    })
}

/// The keys may lie elsewhere than the issuer: at the usual port then.
fn issuer_ports(spec: &BinaryCacheSpec) -> BTreeSet<u16> {
    let urls = spec.auth.oidc.iter().flat_map(|issuer| [Some(&issuer.issuer), issuer.jwks_url.as_ref()]);
    urls.flatten().flat_map(|url| [port_of_http(url), HTTPS]).collect()
}

fn port_of_http(endpoint: &str) -> u16 {
    endpoint.parse::<Url>().ok().and_then(|url| url.port_or_known_default()).unwrap_or(HTTPS)
}

/// The port stands in the Secret. While that is missing, it is the usual one.
fn database_port(spec: &BinaryCacheSpec, observed: &Observed) -> Option<u16> {
    if let Some(to) = &spec.database.connection {
        return to.port.try_into().ok();
    }
    let own = spec.database.url_secret_ref.as_ref().map(|url| (url.name.clone(), url.key.as_str()));
    let cluster = spec.database.cloud_native_pg.as_ref().map(CloudNativePg::secret);
    let (secret, key) = own.or_else(|| Some((cluster?, CNPG_KEY)))?;
    let value = observed.secrets.get(&secret).and_then(|secret| secret.data.as_ref()?.get(key));
    let text = value.and_then(|value| std::str::from_utf8(&value.0).ok());
    let url = text.and_then(|text| text.trim().parse::<Url>().ok());
    Some(url.and_then(|url| url.port()).unwrap_or(POSTGRES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_an_endpoint() {
        let ports = ["https://s3.example.org", "http://minio", "http://minio:9000"].map(port_of_http);
        assert_eq!(ports, [443, 80, 9000]);
    }
}
