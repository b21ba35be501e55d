//! JSON web tokens: signature by a key of the issuer, the algorithm chosen by the key's type, then the claims.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::Value;

use super::AuthError;

/// How far the issuer's clock may differ, in seconds.
const LEEWAY: u64 = 60;

/// A JSON web key set, as an issuer publishes it.
#[derive(Debug, Deserialize)]
pub(super) struct KeySet {
    keys: Vec<Value>,
}

/// The keys of an issuer by their id.
#[derive(Default, Clone)]
pub(super) struct Keys(HashMap<String, (DecodingKey, Vec<Algorithm>)>);

impl Keys {
    /// Takes the keys that can verify signatures; symmetric ones are never among them. One that this server
    /// cannot read does not spoil the others.
    pub(super) fn from_set(set: KeySet) -> Self {
        let usable = set.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            if jwk.common.public_key_use == Some(PublicKeyUse::Encryption) {
                return None;
            }
            let key = (DecodingKey::from_jwk(&jwk).ok()?, algorithms(&jwk)?);
            Some((jwk.common.key_id?, key))
        });
        Self(usable.collect())
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Checks the signature, `iss`, `aud`, `exp` and `nbf`, and gives the claims.
    pub(super) fn verify(&self, token: &str, issuer: &str, audience: &str) -> Result<Value, AuthError> {
        let id = key_id(token)?;
        let (key, algorithms) = self
            .0
            .get(&id)
            .ok_or_else(|| AuthError::Invalid("its issuer does not know its key".to_owned()))?;
        let header = decode_header(token).map_err(|error| invalid(&error))?;
        if !algorithms.contains(&header.alg) {
            return Err(AuthError::Invalid(format!("its key does not sign with {:?}", header.alg)));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[audience]);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        decode::<Value>(token, key, &validation).map(|data| data.claims).map_err(|error| invalid(&error))
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The id of the key that claims to have signed. Nothing is checked yet.
pub(super) fn key_id(token: &str) -> Result<String, AuthError> {
    let header = decode_header(token).map_err(|error| invalid(&error))?;
    header.kid.ok_or_else(|| AuthError::Invalid("it does not name its key".to_owned()))
}

/// A claim of a token nobody has checked: for our own, which the kubelet wrote.
pub(super) fn unchecked_claim(token: &str, claim: &str) -> Option<String> {
    use base64::Engine as _;
    let payload = token.trim().split('.').nth(1)?;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice::<Value>(&bytes).ok()?.get(claim)?.as_str().map(str::to_owned)
}

fn algorithms(jwk: &Jwk) -> Option<Vec<Algorithm>> {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ]),
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => Some(vec![Algorithm::ES256]),
            EllipticCurve::P384 => Some(vec![Algorithm::ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Some(vec![Algorithm::EdDSA]),
        // A symmetric key in a public document is nobody's secret.
        _ => None,
    }
}

fn invalid(error: &jsonwebtoken::errors::Error) -> AuthError {
    use jsonwebtoken::errors::ErrorKind;
    let text = match error.kind() {
        ErrorKind::ExpiredSignature => "it has expired".to_owned(),
        ErrorKind::ImmatureSignature => "it is not valid yet".to_owned(),
        ErrorKind::InvalidAudience => "it was made for another audience".to_owned(),
        ErrorKind::InvalidIssuer => "it comes from another issuer".to_owned(),
        ErrorKind::InvalidSignature => "its signature is wrong".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("it lacks the claim {claim}"),
        _ => "it is not a JSON web token this server can read".to_owned(),
    };
    AuthError::Invalid(text)
}
