//! What a connection is made of: endpoint, credentials, TLS, limits.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{
    error::{ErrorKind, GatewayError, Result},
    gate::{OpenGate, WriteGate},
    telemetry::{CallObserver, NoObserver},
};

/// Everything [`Gateway::new`](super::Gateway::new) needs. A change of any of it means a new `Gateway`.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Base URL of the gateway, `http` or `https`, with an optional path prefix.
    pub endpoint: Url,
    /// Who we are.
    pub credentials: Credentials,
    /// How the server's certificate is checked.
    pub tls: TlsOptions,
    /// The request budget of this connection.
    pub limits: Limits,
    /// Time limits per kind of call (contract §8, end).
    pub times: TimeLimits,
    /// What happens after a refused login.
    pub session: SessionPolicy,
    /// Where calls are metered.
    pub observer: Arc<dyn CallObserver>,
    /// Asked before each write.
    pub gate: Arc<dyn WriteGate>,
}

impl GatewayConfig {
    /// A configuration with every default.
    pub fn new(endpoint: Url, credentials: Credentials) -> Self {
        Self {
            endpoint,
            credentials,
            tls: TlsOptions::default(),
            limits: Limits::default(),
            times: TimeLimits::default(),
            session: SessionPolicy::default(),
            observer: Arc::new(NoObserver),
            gate: Arc::new(OpenGate),
        }
    }
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("endpoint", &self.endpoint.as_str())
            .field("credentials", &self.credentials)
            .field("tls", &self.tls)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How we prove who we are. Secrets cannot be printed.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// User name and password, exchanged for tokens (contract §1.1).
    Password {
        /// The KubeSphere user.
        username: String,
        /// Its password.
        password: SecretString,
        /// OAuth client, `kubesphere` unless the installation says otherwise.
        client_id: String,
        /// The client's secret, `kubesphere` by default.
        client_secret: SecretString,
    },
    /// A token that is used as it is, e.g. a service account's (contract §1.4). It cannot be renewed.
    Token(SecretString),
    /// Server, CA and token of a KubeSphere kubeconfig. The endpoint of the configuration wins over its server.
    Kubeconfig(Kubeconfig),
}

impl Credentials {
    /// User name and password with the client every installation has (contract §1.1).
    pub fn password(username: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self::Password {
            username: username.into(),
            password: password.into(),
            client_id: "kubesphere".into(),
            client_secret: SecretString::from("kubesphere"),
        }
    }
}

/// What is used of a kubeconfig: the current context's server, CA and token.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    /// The cluster's server, a fall-back for the endpoint.
    pub server: Option<Url>,
    /// CA certificates as PEM.
    pub ca_pem: Option<Vec<u8>>,
    /// The user's token.
    pub token: SecretString,
}

/// How the server's certificate is checked.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// CA certificates as PEM; when given, only these are trusted.
    pub ca_pem: Option<Vec<u8>>,
    /// Accept any certificate. For trials only.
    pub insecure_skip_verify: bool,
}

/// The request budget of a connection, shared by all its calls.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests per second in the long run.
    pub requests_per_second: u32,
    /// Requests that may be sent at once after a rest.
    pub burst: u32,
    /// Requests that may be in flight at once.
    pub concurrent_requests: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: 20,
            burst: 40,
            concurrent_requests: 16,
        }
    }
}

/// Time limits per kind of call. The remote gives up on Jenkins after 30 s, so ours are a little longer.
#[derive(Debug, Clone, Copy)]
pub struct TimeLimits {
    /// Until a connection stands.
    pub connect: Duration,
    /// A whole JSON exchange.
    pub json: Duration,
    /// Until the headers of a log, and between two pieces of its body.
    pub log: Duration,
    /// Until the headers of an artifact, and between two pieces of its body.
    pub artifact_idle: Duration,
    /// Silence after which a watch is taken for dead. Longer than the server's own watch limit.
    pub watch_idle: Duration,
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            json: Duration::from_secs(35),
            log: Duration::from_secs(40),
            artifact_idle: Duration::from_secs(40),
            watch_idle: Duration::from_secs(6 * 60),
        }
    }
}

/// How long the session keeps quiet after the gateway refused it. Failed logins count towards a lockout that hits the
/// person too (contract §1.2: 5 failures in 30 min by default), so these are long.
#[derive(Debug, Clone, Copy)]
pub struct SessionPolicy {
    /// No login before this passed after a 429.
    pub lockout_window: Duration,
    /// No login before this passed after a refusal (wrong password, client, suspended account).
    pub refused_backoff: Duration,
    /// No login before this passed after no answer or a 5xx.
    pub failed_backoff: Duration,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            lockout_window: Duration::from_secs(10 * 60),
            refused_backoff: Duration::from_secs(10 * 60),
            failed_backoff: Duration::from_secs(1),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawKubeconfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(alias = "cluster", alias = "user", alias = "context")]
    body: serde_json::Value,
}

impl Kubeconfig {
    /// Reads a kubeconfig's current context. Only an inline CA and an inline token are understood: files and plugins
    /// named there are not ours to open or run.
    pub fn parse(text: &SecretString) -> Result<Self> {
        let bad = |why: &str| GatewayError::config(ErrorKind::BadConfig, format!("kubeconfig: {why}"));
        // The parser's own message may quote the document, so it is not passed on.
        let raw: RawKubeconfig = serde_yaml_ng::from_str(text.expose_secret())
            .map_err(|_| bad("it is not a kubeconfig in YAML or JSON"))?;
        let find = |list: &[Named], name: &str| {
            list.iter()
                .find(|n| n.name == name)
                .or_else(|| list.first().filter(|_| name.is_empty()))
                .map(|n| n.body.clone())
        };
        let field = |v: &serde_json::Value, key: &str| v.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        let context = find(&raw.contexts, &raw.current_context)
            .ok_or_else(|| bad("its current-context names no context in it"))?;
        let user = field(&context, "user")
            .and_then(|name| find(&raw.users, &name))
            .ok_or_else(|| bad("the current context names no user in it"))?;
        let token = field(&user, "token").filter(|t| !t.is_empty()).ok_or_else(|| {
            bad("its user has no inline token; client certificates and exec plugins are not supported")
        })?;
        let cluster = field(&context, "cluster")
            .and_then(|name| find(&raw.clusters, &name))
            .unwrap_or_default();
        let server = match field(&cluster, "server") {
            Some(server) => Some(Url::parse(&server).map_err(|_| bad("its server is not a URL"))?),
            None => None,
        };
        let ca_pem = match field(&cluster, "certificate-authority-data") {
            Some(data) => {
                use base64::Engine;
                let pem = base64::engine::general_purpose::STANDARD
                    .decode(data.trim())
                    .map_err(|_| bad("its certificate-authority-data is not base64"))?;
                Some(pem)
            }
            None => None,
        };
        Ok(Self {
            server,
            ca_pem,
            token: SecretString::from(token),
        })
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
