//! What a key is called where the spec says nothing.

/// `HOST-1` of a URL.
pub(super) fn default_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or(v6).replace(':', "-"),
        None => host.split(':').next().unwrap_or(host).to_owned(),
    };
    format!("{host}-1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_name_is_that_of_the_host() {
        for (url, name) in [
            ("https://cache.example.org", "cache.example.org-1"),
            ("http://main.nix.svc:8080/a", "main.nix.svc-1"),
            ("https://user@cache.example.org?x", "cache.example.org-1"),
            ("http://[fd00::1]:80", "fd00--1-1"),
        ] {
            assert_eq!(default_name(url), name);
        }
    }
}
