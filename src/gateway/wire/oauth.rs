//! Tokens and identity (contract §1).

use std::time::Duration;

use base64::Engine as _;
use secrecy::SecretString;
use serde::Deserialize;

use super::refusal::Reply;
use crate::gateway::error::{ErrorKind, GatewayError, Result};

/// What a login gave. Cannot be printed.
#[derive(Debug)]
pub struct Tokens {
    /// The bearer.
    pub access: SecretString,
    /// For the next login; not a bearer, though the gateway would take it as one (finding F-B).
    pub refresh: Option<SecretString>,
    /// How long the bearer lives; None for ever.
    pub expires_in: Option<Duration>,
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// Reads the answer to a login. Never quotes its body.
pub fn tokens(reply: &Reply<'_>) -> Result<Tokens> {
    reply.accept()?;
    let garbled = || {
        GatewayError::new(ErrorKind::Garbled, reply.subject)
            .with_status(reply.status)
            .with_remote("a success without an access token: is this a KubeSphere gateway?")
    };
    let body: TokenBody = serde_json::from_slice(reply.body).map_err(|_| garbled())?;
    // A bearer that cannot be a header value is no bearer.
    if body.access_token.is_empty() || !body.access_token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(garbled());
    }
    Ok(Tokens {
        access: body.access_token.into(),
        refresh: body
            .refresh_token
            .filter(|t| !t.is_empty())
            .map(SecretString::from),
        expires_in: body.expires_in.filter(|s| *s > 0).map(Duration::from_secs),
    })
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    preferred_username: String,
}

/// Reads `/oauth/userinfo` for the user's name. (`url` there is the display name, of all things.)
pub fn user_name(reply: &Reply<'_>) -> Result<String> {
    reply.accept()?;
    let info: UserInfo = super::json::read(reply)?;
    [info.sub, info.preferred_username]
        .into_iter()
        .find(|n| !n.is_empty())
        .ok_or_else(|| super::json::garbled(reply))
}

/// The claims of a token that are of use here. Nothing is verified: that is the gateway's part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Whose token it is.
    pub user: Option<String>,
    /// When it ends, in seconds since 1970.
    pub expires_at: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawClaims {
    sub: String,
    username: String,
    exp: Option<i64>,
}

/// Reads a JWT's claims; empty for anything else.
pub fn claims(token: &str) -> Claims {
    let payload = token.split('.').nth(1).unwrap_or_default().trim_end_matches('=');
    let raw: RawClaims = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    Claims {
        user: [raw.sub, raw.username].into_iter().find(|n| !n.is_empty()),
        expires_at: raw.exp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_a_jwt_and_from_nothing_else() {
        let body =
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"sub":"alice","exp":1795357810}"#);
        let got = claims(&format!("e30.{body}.sig"));
        assert_eq!(
            got,
            Claims {
                user: Some("alice".into()),
                expires_at: Some(1_795_357_810)
            }
        );
        for junk in ["", "abc", "a.b.c", "..", "e30.bm90IGpzb24.x"] {
            assert_eq!(claims(junk), Claims::default(), "{junk:?}");
        }
    }
}
