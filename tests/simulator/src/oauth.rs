//! Identity in ks-apiserver: OAuth grants, tokens and their cache, lock-out, static tokens (contract §1).

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, header};
use serde_json::{Value, json};

use crate::call::Call;
use crate::clock::Millis;
use crate::config::AuthConfig;
use crate::query::Query;
use crate::reply::Reply;
use crate::state::ANONYMOUS;
use crate::world::{OauthClient, ServiceAccount, User, UserState, World};

#[derive(Debug)]
struct Account {
    user: User,
    failures: Vec<Millis>,
    locked_until: Millis,
}

/// Users, clients, tokens.
#[derive(Debug)]
pub(crate) struct Sessions {
    accounts: BTreeMap<String, Account>,
    clients: Vec<OauthClient>,
    service_accounts: Vec<ServiceAccount>,
    /// Tokens ks-apiserver remembers: user and token.
    cache: HashSet<(String, String)>,
    key: u64,
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) user: String,
    /// With HTTP Basic: good on ks-apiserver's own routes only.
    pub(crate) basic: bool,
}

struct Claims {
    user: String,
    kind: String,
    expires: Option<i64>,
}

const ACCESS: &str = "access_token";
const REFRESH: &str = "refresh_token";
const STATIC: &str = "static_token";
const ISSUER: &str = "http://127.0.0.1:19090";

/// OAuth error: status, code, description.
type Refusal = (u16, &'static str, &'static str);

const INVALID_CLIENT: Refusal = (
    400,
    "invalid_client",
    "The provided client_id is invalid or does not exist.",
);
const UNAUTHORIZED_CLIENT: Refusal = (401, "unauthorized_client", "Invalid client credential.");
const UNSUPPORTED: Refusal = (
    400,
    "unsupported_grant_type",
    "The provided grant_type is not supported.",
);
const BAD_PASSWORD: Refusal = (400, "invalid_grant", "Invalid username or password.");
const SUSPENDED: Refusal = (400, "invalid_grant", "Account suspended.");
const LOCKED: Refusal = (429, "invalid_grant", "Rate limit exceeded.");
const BAD_REFRESH: Refusal = (400, "invalid_grant", "The refresh token is invalid or expired.");

impl Sessions {
    pub(crate) fn new(world: &World) -> Self {
        let mut sessions = Self {
            accounts: BTreeMap::new(),
            clients: world.clients.clone(),
            service_accounts: world.service_accounts.clone(),
            cache: HashSet::new(),
            key: uuid::Uuid::new_v4().as_u64_pair().0,
        };
        for user in &world.users {
            sessions.add_user(user.clone());
        }
        sessions
    }

    pub(crate) fn add_user(&mut self, user: User) {
        self.accounts.insert(
            user.name.clone(),
            Account {
                user,
                failures: Vec::new(),
                locked_until: 0,
            },
        );
    }

    pub(crate) fn set_state(&mut self, user: &str, state: UserState) -> bool {
        let Some(account) = self.accounts.get_mut(user) else {
            return false;
        };
        account.user.state = state;
        account.failures.clear();
        account.locked_until = 0;
        true
    }

    pub(crate) fn set_password(&mut self, user: &str, password: &str) -> bool {
        self.accounts
            .get_mut(user)
            .map(|a| password.clone_into(&mut a.user.password))
            .is_some()
    }

    pub(crate) fn add_service_account(&mut self, account: ServiceAccount) {
        self.service_accounts.push(account);
    }

    pub(crate) fn remove_service_account(&mut self, namespace: &str, name: &str) {
        self.service_accounts
            .retain(|a| a.namespace != namespace || a.name != name);
    }

    pub(crate) fn user(&self, name: &str) -> Option<&User> {
        self.accounts.get(name).map(|a| &a.user)
    }

    pub(crate) fn is_admin(&self, name: &str) -> bool {
        self.user(name).is_some_and(|u| u.platform_admin)
    }

    pub(crate) fn is_person(&self, name: &str) -> bool {
        self.accounts.contains_key(name)
    }

    /// What a restart of ks-apiserver does to its in-memory cache.
    pub(crate) fn flush(&mut self) {
        self.cache.clear();
    }

    /// The token in the Secret of a ServiceAccount.
    pub(crate) fn static_token(&self, namespace: &str, name: &str) -> Option<String> {
        let account = self
            .service_accounts
            .iter()
            .find(|a| a.namespace == namespace && a.name == name)?;
        Some(self.sign(&json!({
            "iss": ISSUER, "sub": account.user_name(), "token_type": STATIC, "username": account.user_name(),
        })))
    }

    fn signature(&self, text: &str) -> String {
        // Not cryptography: nobody but this process has to believe it.
        let mut bytes = Vec::with_capacity(32);
        for round in 0..4_u64 {
            let hash = text
                .bytes()
                .fold(self.key ^ round.wrapping_mul(0x9e37_79b9_7f4a_7c15), |h, b| {
                    (h.rotate_left(5) ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
                });
            bytes.extend_from_slice(&hash.to_be_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn sign(&self, claims: &Value) -> String {
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let text = format!("{head}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        format!("{text}.{}", self.signature(&text))
    }

    fn claims(&self, token: &str) -> Result<Claims, String> {
        let parts: Vec<&str> = token.split('.').collect();
        let [head, payload, signature] = parts.as_slice() else {
            return Err("token contains an invalid number of segments".into());
        };
        let json = |part: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
        };
        let (Some(_), Some(payload_json)) = (json(head), json(payload)) else {
            return Err("invalid character 'i' looking for beginning of value".into());
        };
        if self.signature(&format!("{head}.{payload}")) != *signature {
            return Err("signature is invalid".into());
        }
        Ok(Claims {
            user: payload_json["sub"].as_str().unwrap_or_default().to_owned(),
            kind: payload_json["token_type"].as_str().unwrap_or_default().to_owned(),
            expires: payload_json["exp"].as_i64(),
        })
    }

    fn verify(&self, token: &str, now: Millis) -> Result<Claims, String> {
        let claims = self.claims(token)?;
        if claims.kind == STATIC {
            let known = self.service_accounts.iter().any(|a| a.user_name() == claims.user);
            return if known {
                Ok(claims)
            } else {
                Err("serviceaccount not found".into())
            };
        }
        if let Some(expires) = claims.expires
            && expires * 1_000 <= now
        {
            let late = now - expires * 1_000;
            return Err(format!(
                "jwt: token is expired by {}.{:03}s",
                late / 1_000,
                late % 1_000
            ));
        }
        if !self.cache.contains(&(claims.user.clone(), token.to_owned())) {
            return Err("token not found in cache".into());
        }
        Ok(claims)
    }

    /// Reads the Authorization header.
    pub(crate) fn authenticate(
        &mut self,
        headers: &HeaderMap,
        auth: &AuthConfig,
        now: Millis,
    ) -> Result<Identity, Reply> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(Identity {
                user: ANONYMOUS.into(),
                basic: false,
            });
        };
        let value = value.to_str().unwrap_or_default().trim();
        let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !credentials.is_empty() {
            let claims = self
                .verify(credentials, now)
                .map_err(|m| Reply::unauthorized(&m))?;
            return Ok(Identity {
                user: claims.user,
                basic: false,
            });
        }
        if scheme.eq_ignore_ascii_case("basic")
            && let Some((user, password)) = basic_credentials(credentials)
        {
            return match self.check_password(&user, &password, auth, now) {
                Ok(()) => Ok(Identity { user, basic: true }),
                Err(_) => Err(Reply::unauthorized("incorrect password")),
            };
        }
        Err(Reply::unauthorized("The request cannot be authenticated."))
    }

    fn check_password(
        &mut self,
        user: &str,
        password: &str,
        auth: &AuthConfig,
        now: Millis,
    ) -> Result<(), Refusal> {
        let account = self.accounts.get_mut(user).ok_or(BAD_PASSWORD)?;
        match account.user.state {
            UserState::AuthLimitExceeded => return Err(LOCKED),
            UserState::Active if account.locked_until > now => return Err(LOCKED),
            UserState::Disabled if account.user.password == password => return Err(SUSPENDED),
            _ => {}
        }
        if !password.is_empty() && account.user.password == password {
            return Ok(());
        }
        let window = auth.lockout_window_seconds * 1_000;
        account.failures.retain(|at| *at + window > now);
        account.failures.push(now);
        if account.failures.len() >= auth.lockout_failures {
            account.failures.clear();
            account.locked_until = now + window;
        }
        Err(BAD_PASSWORD)
    }

    fn issue(&mut self, user: &str, client: &OauthClient, auth: &AuthConfig, now: Millis) -> Value {
        if !auth.multi_login {
            self.cache.retain(|(owner, _)| owner != user);
        }
        let (access, extra) = client
            .lifetimes
            .unwrap_or((auth.access_token_seconds, auth.inactivity_seconds));
        let issued = now / 1_000;
        let mut make = |kind: &str, life: i64| {
            let token = self.sign(&json!({
                "iss": ISSUER, "sub": user, "exp": issued + life, "iat": issued, "token_type": kind, "username": user,
            }));
            self.cache.insert((user.to_owned(), token.clone()));
            token
        };
        let (access_token, refresh_token) = (make(ACCESS, access), make(REFRESH, access + extra));
        let mut answer =
            json!({"access_token": access_token, "token_type": "Bearer", "refresh_token": refresh_token});
        if access > 0 {
            answer["expires_in"] = Value::from(access);
        }
        answer
    }

    fn client(&self, id: &str, secret: &str) -> Result<OauthClient, Refusal> {
        let client = self.clients.iter().find(|c| c.id == id).ok_or(INVALID_CLIENT)?;
        if client.secret != secret {
            return Err(UNAUTHORIZED_CLIENT);
        }
        Ok(client.clone())
    }

    fn grant(&mut self, form: &Query, auth: &AuthConfig, now: Millis) -> Result<(String, Value), Refusal> {
        let client = self.client(form.text("client_id"), form.text("client_secret"))?;
        match form.text("grant_type") {
            "password" if client.trusted => {
                let user = form.text("username");
                self.check_password(user, form.text("password"), auth, now)?;
                Ok((user.to_owned(), self.issue(user, &client, auth, now)))
            }
            "refresh_token" => {
                let claims = self
                    .verify(form.text("refresh_token"), now)
                    .map_err(|_| BAD_REFRESH)?;
                if claims.kind != REFRESH {
                    return Err(BAD_REFRESH);
                }
                let answer = self.issue(&claims.user, &client, auth, now);
                Ok((claims.user, answer))
            }
            _ => Err(UNSUPPORTED),
        }
    }
}

fn basic_credentials(text: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// `POST /oauth/token`
pub(crate) fn token(call: &mut Call<'_>) -> Reply {
    let content_type = call
        .header("content-type")
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    if content_type != "application/x-www-form-urlencoded" {
        let text =
            "415: Unsupported Media Type\n\nAvailable representations: application/x-www-form-urlencoded";
        return Reply::restful(415, text);
    }
    let form = Query::parse(&String::from_utf8_lossy(call.body));
    let (auth, now) = (call.state.auth, call.now);
    let outcome = call.state.sessions.grant(&form, &auth, now);
    let grant = form.text("grant_type");
    let ledger = call.state.context.ledger.clone();
    let reply = match outcome {
        Ok((user, answer)) => {
            ledger.login(grant, &user, "ok");
            Reply::json(200, &answer)
        }
        Err((status, error, description)) => {
            let outcome = if status == 429 { "locked_out" } else { error };
            ledger.login(grant, form.text("username"), outcome);
            Reply::json(status, &json!({"error": error, "error_description": description}))
        }
    };
    reply
        .header("cache-control", "no-store")
        .header("pragma", "no-cache")
}

/// `GET /oauth/userinfo`
pub(crate) fn userinfo(call: &Call<'_>) -> Reply {
    if call.user == ANONYMOUS {
        return Reply::json(401, &Value::from("login_required"));
    }
    Reply::json(
        200,
        &json!({
            "sub": call.user, "url": call.user, "email": format!("{}@example.test", call.user),
            "preferred_username": call.user,
        }),
    )
}

/// `GET /oauth/logout`
pub(crate) fn logout(call: &mut Call<'_>) -> Reply {
    let token = call
        .header("authorization")
        .split_once(' ')
        .map(|(_, t)| t.trim().to_owned());
    if let Some(token) = token {
        call.state.sessions.cache.remove(&(call.user.clone(), token));
    }
    Reply::json(200, &json!({"message": "success"}))
}

/// `GET /.well-known/openid-configuration`
pub(crate) fn well_known() -> Reply {
    Reply::json(
        200,
        &json!({
            "issuer": ISSUER, "authorization_endpoint": format!("{ISSUER}/oauth/authorize"),
            "token_endpoint": format!("{ISSUER}/oauth/token"), "userinfo_endpoint": format!("{ISSUER}/oauth/userinfo"),
            "jwks_uri": format!("{ISSUER}/oauth/keys"),
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "response_types_supported": ["code", "id_token"], "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["plain", "S256"],
            "scopes_supported": ["openid", "email", "profile"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "claims_supported": ["iss", "sub", "aud", "iat", "exp", "email", "locale", "preferred_username"],
        }),
    )
}
