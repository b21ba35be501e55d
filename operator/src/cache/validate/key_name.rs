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

/// `cache.example.org-1` becomes `cache.example.org-2`; a name without a number gets one.
pub fn counted_up(name: &str) -> String {
    let counted = name
        .rsplit_once('-')
        .and_then(|(stem, number)| Some((stem, number.parse::<u64>().ok()?.checked_add(1)?)));
    match counted {
        Some((stem, number)) => format!("{stem}-{number}"),
        None => format!("{name}-2"),
    }
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

    #[test]
    fn names_count_up() {
        let most = format!("a-{}", u64::MAX);
        let names = ["cache.example.org-1", "a-9", "a", "a-b", "a-", &most].map(counted_up);
        assert_eq!(names[..5], ["cache.example.org-2", "a-10", "a-2", "a-b-2", "a--2"]);
        assert_eq!(names[5], format!("{most}-2"));
    }
}
