//! Workload tokens: JWTs that say "this is service account NAME of NAMESPACE", signed by the
//! control plane's own key. For sources without a Kubernetes API server to issue and review them.
//!
//! Law: nothing of a token is parsed before its signature is checked, and ES256 is the only
//! algorithm, whatever the token's header says.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::runtime::Crypto;
use crate::runtime::crypto::{CryptoError, KeyPair};
use crate::time::WallTime;

use super::signature;

/// Whom tokens are for: Linkerd's identity service.
pub const AUDIENCE: &str = "identity.l5d.io";

/// Who issues tokens.
pub const ISSUER: &str = "weft";

/// The longest token that is looked at. Kubernetes' own are near 1 KiB.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Tokens are taken this much before they are valid, for clocks that differ.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(20);

const USER_PREFIX: &str = "system:serviceaccount:";

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccountName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ServiceAccountName {
    /// Reads `system:serviceaccount:NAMESPACE:NAME`. `None` where it is another user, or where a
    /// part is not a Kubernetes name: such a part could smuggle a dot into an identity.
    pub fn from_username(username: &str) -> Option<Self> {
        let (namespace, name) = username.strip_prefix(USER_PREFIX)?.split_once(':')?;
        (is_label(namespace) && is_name(name))
            .then(|| Self { namespace: namespace.to_string(), name: name.to_string() })
    }
}

impl fmt::Display for ServiceAccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{USER_PREFIX}{}:{}", self.namespace, self.name)
    }
}

/// An RFC 1123 label, as namespaces are.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// An RFC 1123 subdomain, as service accounts are. Dots are allowed by Kubernetes; the identity is
/// still one account's, because the namespace that follows has none.
fn is_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a JWT, or larger than [`TOKEN_BYTES_MAX`].
    #[error("not a token of this control plane")]
    Malformed,
    /// The signature is not this control plane's.
    #[error("the token's signature is not this control plane's")]
    Signature,
    /// It was meant for somebody else.
    #[error("the token is not for {AUDIENCE:?}")]
    Audience,
    /// It has run out.
    #[error("the token expired at {0}; make a new one with `weft token create`")]
    Expired(WallTime),
    /// It is not valid yet.
    #[error("the token is not valid before {0}; check the clocks")]
    NotYetValid(WallTime),
    /// It names no service account.
    #[error("the token names no service account")]
    Subject,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    typ: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    crit: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Vec<String>,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// Makes a token for a service account, valid from `now` for `lifetime`.
///
/// # Errors
/// [`CryptoError`] where the key cannot sign.
pub fn create(
    key: &dyn KeyPair,
    account: &ServiceAccountName,
    now: WallTime,
    lifetime: Duration,
) -> Result<String, CryptoError> {
    create_for(key, account, AUDIENCE, now, lifetime)
}

/// Makes a token for somebody else than the identity service.
///
/// # Errors
/// [`CryptoError`] where the key cannot sign.
pub fn create_for(
    key: &dyn KeyPair,
    account: &ServiceAccountName,
    audience: &str,
    now: WallTime,
    lifetime: Duration,
) -> Result<String, CryptoError> {
    let header = Header { alg: "ES256".to_string(), typ: Some("JWT".to_string()), crit: None };
    let claims = Claims {
        iss: ISSUER.to_string(),
        sub: account.to_string(),
        aud: vec![audience.to_string()],
        iat: now.as_unix_secs(),
        nbf: now.as_unix_secs(),
        exp: (now + lifetime).as_unix_secs(),
    };
    let json = |value: Result<Vec<u8>, serde_json::Error>| {
        URL_SAFE_NO_PAD.encode(value.expect("plain strings and numbers serialize"))
    };
    let signed =
        format!("{}.{}", json(serde_json::to_vec(&header)), json(serde_json::to_vec(&claims)));
    let signature = signature::to_raw(&key.sign(signed.as_bytes())?)
        .ok_or_else(|| CryptoError("the key's signature is not ECDSA P-256".to_string()))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Whose token this is, where `public_key` (an uncompressed P-256 point) signed it, it is meant for
/// [`AUDIENCE`] and valid at `now`.
///
/// # Errors
/// [`TokenError`].
pub fn verify(
    crypto: &dyn Crypto,
    public_key: &[u8],
    token: &[u8],
    now: WallTime,
) -> Result<ServiceAccountName, TokenError> {
    let claims = authentic_claims(crypto, public_key, token)?;
    if claims.iss != ISSUER {
        return Err(TokenError::Malformed);
    }
    if !claims.aud.iter().any(|audience| audience == AUDIENCE) {
        return Err(TokenError::Audience);
    }
    let expires = WallTime::from_unix_secs(claims.exp);
    if now >= expires {
        return Err(TokenError::Expired(expires));
    }
    let begins = WallTime::from_unix_secs(claims.nbf);
    if now + NOT_BEFORE_LEEWAY < begins {
        return Err(TokenError::NotYetValid(begins));
    }
    ServiceAccountName::from_username(&claims.sub).ok_or(TokenError::Subject)
}

/// Checks the signature over the raw text, and only then parses what it covers.
fn authentic_claims(
    crypto: &dyn Crypto,
    public_key: &[u8],
    token: &[u8],
) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::Malformed);
    }
    let token = token.trim_ascii();
    let end = token.iter().rposition(|byte| *byte == b'.').ok_or(TokenError::Malformed)?;
    let (signed, signature) = (&token[..end], &token[end + 1..]);
    let raw: [u8; 64] = URL_SAFE_NO_PAD
        .decode(signature)
        .ok()
        .and_then(|raw| raw.try_into().ok())
        .ok_or(TokenError::Malformed)?;
    if !signature::verify_p256(crypto, public_key, signed, &signature::to_der(&raw)) {
        return Err(TokenError::Signature);
    }
    let mut parts = signed.split(|byte| *byte == b'.');
    let (Some(header), Some(claims), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(TokenError::Malformed);
    };
    let header: Header = from_part(header)?;
    if header.alg != "ES256" || header.crit.is_some() {
        return Err(TokenError::Malformed);
    }
    from_part(claims)
}

fn from_part<T: for<'de> Deserialize<'de>>(part: &[u8]) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TokenError::Malformed)
}
