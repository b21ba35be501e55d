//! The token of a request.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `Bearer TOKEN`, or `Basic` with the token as password: a netrc file, by which Nix itself proves who it is, has
/// no other way. Whatever name stands before it is nobody's.
pub(super) fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, rest) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => rest.trim().to_owned(),
        "basic" => {
            let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
            pair.split_once(':')?.1.to_owned()
        }
        _ => return None,
    };
    Some(token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(header: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        token(&headers)
    }

    #[test]
    fn tokens_come_as_bearer_or_as_password() {
        assert_eq!(of("Bearer secret").as_deref(), Some("secret"));
        assert_eq!(of("bearer  secret ").as_deref(), Some("secret"));
        for (pair, expected) in [("nix:se:cret", "se:cret"), (":secret", "secret")] {
            assert_eq!(of(&format!("Basic {}", STANDARD.encode(pair))).as_deref(), Some(expected));
        }
        for bad in ["", "Bearer", "Bearer ", "Basic !", "Basic bml4", "Digest x", "Basic bml4Og=="] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
