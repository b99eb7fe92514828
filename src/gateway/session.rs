//! The login of a connection: one at a time, renewed early, quiet after a refusal (contract §1, findings F-B).
//!
//! The rules are in [`State`], which is pure: it is told the time and says what to do. [`Session`] carries it out.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::header;
use jiff::Timestamp;
use oauth2::{
    AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RefreshToken, ResourceOwnerPassword,
    ResourceOwnerUsername, TokenUrl, basic::BasicClient,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::{
    config::{Credentials, SessionPolicy},
    error::{ErrorClass, ErrorKind, GatewayError, Result},
    exchange::Whole,
    route::Request,
    telemetry::{CallObserver, Grant, LoginOutcome, RouteClass},
    transport::Transport,
    wire::oauth::{self, Tokens},
};

const TOKEN_PATH: &str = "/oauth/token";
/// A token is renewed after this part of its life.
const RENEW_AT: f64 = 0.8;
/// Longest silence after new tokens were rejected again and again.
const MAX_REJECTED_BACKOFF: Duration = Duration::from_secs(60);

/// A bearer, and when it should and must be replaced.
pub(crate) struct Bearer {
    pub(crate) access: SecretString,
    refresh: Option<SecretString>,
    renew_at: Option<Instant>,
    ends_at: Option<Instant>,
    pub(crate) expires: Option<Timestamp>,
    /// Some request with it was not answered by 401.
    accepted: AtomicBool,
}

impl Bearer {
    fn fixed(token: SecretString) -> Self {
        let expires = oauth::claims(token.expose_secret())
            .expires_at
            .and_then(|s| Timestamp::from_second(s).ok());
        Self {
            access: token,
            refresh: None,
            renew_at: None,
            ends_at: None,
            expires,
            accepted: AtomicBool::new(false),
        }
    }

    fn issued(tokens: Tokens, now: Instant) -> Self {
        let life = tokens.expires_in;
        Self {
            access: tokens.access,
            refresh: tokens.refresh,
            // A life beyond what a clock can tell is one without an end.
            renew_at: life.and_then(|l| now.checked_add(l.mul_f64(RENEW_AT))),
            ends_at: life.and_then(|l| now.checked_add(l)),
            expires: life.and_then(|l| Timestamp::now().checked_add(l).ok()),
            accepted: AtomicBool::new(false),
        }
    }

    /// A request with it was let in.
    pub(crate) fn mark_accepted(&self) {
        self.accepted.store(true, Ordering::Relaxed);
    }
}

/// What to do for a caller who wants a bearer.
enum Plan {
    Use(Arc<Bearer>),
    /// Usable, but someone should renew it.
    Renew(Arc<Bearer>),
    Login,
    Refuse(GatewayError),
}

#[derive(Default)]
struct State {
    bearer: Option<Arc<Bearer>>,
    quiet: Option<Quiet>,
    /// New bearers that were rejected without ever having been accepted, in a row.
    rejected: u32,
}

/// A refusal that is remembered, so that many callers do not repeat it.
struct Quiet {
    until: Instant,
    error: GatewayError,
}

impl State {
    fn plan(&self, now: Instant) -> Plan {
        let live = self
            .bearer
            .as_ref()
            .filter(|b| b.ends_at.is_none_or(|end| now < end));
        let quiet = self.quiet.as_ref().filter(|q| now < q.until);
        match (live, quiet) {
            (Some(bearer), None) if bearer.renew_at.is_some_and(|at| now >= at) => {
                Plan::Renew(bearer.clone())
            }
            (Some(bearer), _) => Plan::Use(bearer.clone()),
            (None, Some(quiet)) => {
                Plan::Refuse(quiet.error.share().with_retry_after(Some(quiet.until - now)))
            }
            (None, None) => Plan::Login,
        }
    }

    fn logged_in(&mut self, bearer: Bearer) -> Arc<Bearer> {
        let bearer = Arc::new(bearer);
        self.bearer = Some(bearer.clone());
        self.quiet = None;
        bearer
    }

    fn login_failed(&mut self, error: &GatewayError, policy: &SessionPolicy, now: Instant) {
        let least = match error.class() {
            ErrorClass::Throttled => policy.lockout_window,
            ErrorClass::Denied => policy.refused_backoff,
            _ => policy.failed_backoff,
        };
        let wait = error.retry_after().map_or(least, |after| after.max(least));
        self.quiet = Some(Quiet {
            until: now + wait,
            error: error.share(),
        });
    }

    /// The gateway answered 401 to this bearer: forget it, unless another caller replaced it already. The refresh token
    /// goes with it: what kills one kills the other (contract §1.2).
    fn reject(&mut self, rejected: &Arc<Bearer>, error: &GatewayError, policy: &SessionPolicy, now: Instant) {
        if !self.bearer.as_ref().is_some_and(|b| Arc::ptr_eq(b, rejected)) {
            return;
        }
        self.bearer = None;
        if rejected.accepted.load(Ordering::Relaxed) {
            self.rejected = 0;
            return;
        }
        // A bearer fresh from a login: once may be chance (another replica), more is not cured by logging in faster.
        self.rejected += 1;
        if self.rejected > 1 {
            let wait = policy
                .failed_backoff
                .saturating_mul(1 << self.rejected.min(16))
                .min(MAX_REJECTED_BACKOFF);
            self.quiet = Some(Quiet {
                until: now + wait,
                error: error.share(),
            });
        }
    }
}

pub(crate) struct Session {
    credentials: Credentials,
    policy: SessionPolicy,
    observer: Arc<dyn CallObserver>,
    state: Mutex<State>,
    /// Held during a login, so that there is one at a time.
    flight: tokio::sync::Mutex<()>,
}

impl Session {
    pub(crate) fn new(
        credentials: Credentials,
        policy: SessionPolicy,
        observer: Arc<dyn CallObserver>,
    ) -> Self {
        let fixed = match &credentials {
            Credentials::Token(token) => Some(token.clone()),
            Credentials::Kubeconfig(config) => Some(config.token.clone()),
            Credentials::Password { .. } => None,
        };
        let state = State {
            bearer: fixed.map(|t| Arc::new(Bearer::fixed(t))),
            ..State::default()
        };
        if let Some(bearer) = &state.bearer {
            observer.token(bearer.expires);
        }
        Self {
            credentials,
            policy,
            observer,
            state: Mutex::new(state),
            flight: tokio::sync::Mutex::new(()),
        }
    }

    /// Whether a 401 can be cured by logging in again.
    pub(crate) fn renewable(&self) -> bool {
        matches!(self.credentials, Credentials::Password { .. })
    }

    /// The configured user name, for credentials that have one.
    pub(crate) fn configured_user(&self) -> Option<&str> {
        match &self.credentials {
            Credentials::Password { username, .. } => Some(username),
            Credentials::Token(_) | Credentials::Kubeconfig(_) => None,
        }
    }

    /// What must not come into a message when a request with this bearer is refused.
    pub(crate) fn secrets<'a>(&'a self, bearer: &'a Bearer) -> Vec<&'a SecretString> {
        let mut secrets = vec![&bearer.access];
        if let Credentials::Password { password, .. } = &self.credentials {
            secrets.push(password);
        }
        secrets
    }

    /// A bearer to send a request with; logs in or renews if it must. Of many callers at once one logs in, the others
    /// wait for it, or go on with the old bearer while it is good.
    pub(crate) async fn bearer(&self, transport: &Transport) -> Result<Arc<Bearer>> {
        let _flight = match self.plan() {
            Plan::Use(bearer) => return Ok(bearer),
            Plan::Refuse(error) => return Err(error),
            Plan::Renew(bearer) => match self.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(bearer),
            },
            Plan::Login => self.flight.lock().await,
        };
        match self.plan() {
            Plan::Use(bearer) => Ok(bearer),
            Plan::Refuse(error) => Err(error),
            Plan::Renew(old) => Ok(self.renew(transport, &old).await.unwrap_or(old)),
            Plan::Login => self.login(transport).await,
        }
    }

    /// Tells that a request with this bearer got a 401.
    pub(crate) fn reject(&self, bearer: &Arc<Bearer>, error: &GatewayError) {
        if self.renewable() {
            self.lock().reject(bearer, error, &self.policy, Instant::now());
        }
    }

    /// Refresh first, then password. An error leaves the old bearer in use, and keeps quiet for a while.
    async fn renew(&self, transport: &Transport, old: &Bearer) -> Result<Arc<Bearer>> {
        if let Some(refresh) = &old.refresh {
            match self.ask(transport, Grant::Refresh, Some(refresh)).await {
                Ok(bearer) => return Ok(bearer),
                // A dead refresh token says nothing about the password.
                Err(error) if error.class() == ErrorClass::Denied => {}
                Err(error) if error.held_back().is_some() => return Err(error),
                Err(error) => {
                    self.lock().login_failed(&error, &self.policy, Instant::now());
                    return Err(error);
                }
            }
        }
        self.login(transport).await
    }

    async fn login(&self, transport: &Transport) -> Result<Arc<Bearer>> {
        let result = self.ask(transport, Grant::Password, None).await;
        // Of what was not sent nothing is learnt, and the budget refuses the next one by itself.
        if let Err(error) = &result
            && error.held_back().is_none()
        {
            self.lock().login_failed(error, &self.policy, Instant::now());
        }
        result
    }

    async fn ask(
        &self,
        transport: &Transport,
        grant: Grant,
        refresh: Option<&SecretString>,
    ) -> Result<Arc<Bearer>> {
        let result = self.exchange(transport, refresh).await;
        let outcome = match &result {
            Err(error) if error.held_back().is_some() => return Err(error.share()),
            Ok(_) => LoginOutcome::Ok,
            Err(e) if e.kind() == ErrorKind::LockedOut => LoginOutcome::LockedOut,
            Err(e) if e.class() == ErrorClass::Denied => LoginOutcome::Refused,
            Err(_) => LoginOutcome::Failed,
        };
        self.observer.login(grant, outcome);
        let tokens = result?;
        let bearer = self.lock().logged_in(Bearer::issued(tokens, Instant::now()));
        self.observer.token(bearer.expires);
        Ok(bearer)
    }

    /// One request to the token route, built by the `oauth2` crate, sent by our transport and read by our own
    /// parser, which keeps the status.
    async fn exchange(&self, transport: &Transport, refresh: Option<&SecretString>) -> Result<Tokens> {
        let Credentials::Password {
            username,
            password,
            client_id,
            client_secret,
        } = &self.credentials
        else {
            return Err(GatewayError::config(
                ErrorKind::BadConfig,
                "a fixed token cannot be renewed",
            ));
        };
        let mut secrets = vec![password];
        // The usual client secret is no secret, and it is a part of every API group's name.
        secrets.extend(Some(client_secret).filter(|s| s.expose_secret() != client_id));
        secrets.extend(refresh);
        // The crate wants a whole URL; only path and body of what it makes are used.
        let url = TokenUrl::from_url(transport.endpoint().clone());
        let client = BasicClient::new(ClientId::new(client_id.clone()))
            .set_client_secret(ClientSecret::new(client_secret.expose_secret().to_owned()))
            .set_auth_type(AuthType::RequestBody)
            .set_token_uri(url);
        let built = Mutex::new(None);
        let keep = |request: HttpRequest| -> std::result::Result<HttpResponse, Infallible> {
            *built.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
            Ok(HttpResponse::default())
        };
        // The crate's own reading of the (here empty) answer always fails and is not of interest.
        if let Some(token) = refresh {
            let token = RefreshToken::new(token.expose_secret().to_owned());
            let _ = client.exchange_refresh_token(&token).request(&keep);
        } else {
            let user = ResourceOwnerUsername::new(username.clone());
            let password = ResourceOwnerPassword::new(password.expose_secret().to_owned());
            let _ = client.exchange_password(&user, &password).request(&keep);
        }
        let form = built
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .ok_or_else(|| {
                GatewayError::config(ErrorKind::BadConfig, "the login request could not be built")
            })?;
        oauth::tokens(&send_form(transport, form, &secrets).await?.reply())
    }

    fn plan(&self) -> Plan {
        self.lock().plan(Instant::now())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a login. Never with a bearer: a stale one would be refused before the password is looked at (finding F-B).
async fn send_form(transport: &Transport, form: HttpRequest, secrets: &[&SecretString]) -> Result<Whole> {
    let mut request = Request::get(RouteClass::Token, TOKEN_PATH, "log in");
    request.method = http::Method::POST;
    request.headers.extend(
        form.headers()
            .get(header::CONTENT_TYPE)
            .map(|v| (header::CONTENT_TYPE, v.clone())),
    );
    request.body = Some(form.into_body().into());
    transport.send(&request, None, secrets).await?.whole().await
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
