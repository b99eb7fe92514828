//! HTTP: one reqwest client per connection, its budget, time limits, bounded bodies and redirects.
//!
//! Knows nothing of logins: the bearer is handed in. It goes to the endpoint's origin only, because every URL is built
//! from the endpoint, and redirects that leave the origin end in an error.

use std::{
    future::{Future as _, poll_fn},
    num::NonZeroU32,
    sync::{Arc, Once},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, HeaderValue, Method, header};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::{
    config::{GatewayConfig, TimeLimits},
    error::{ErrorKind, GatewayError, Result, Subject},
    gate::WriteGate,
    route::{Limit, Request},
    telemetry::{CallObserver, CallOutcome, RouteClass},
    wire::{
        answer::proxied as proxied_by_jenkins,
        refusal::{Reply, X_JENKINS, disguises},
    },
};

/// Longest JSON body taken.
const MAX_JSON: usize = 16 << 20;
/// A longer body is read one at a time per connection, so that what a gateway makes us hold does not grow with the number
/// of objects that ask it.
const SMALL_JSON: usize = 128 << 10;
/// How much of an error's body is read.
const MAX_ERROR: usize = 64 << 10;
/// Redirects followed for one read.
const MAX_REDIRECTS: usize = 3;

pub(crate) struct Transport {
    http: reqwest::Client,
    endpoint: Url,
    times: TimeLimits,
    budget: DefaultDirectRateLimiter,
    observer: Arc<dyn CallObserver>,
    gate: Arc<dyn WriteGate>,
    large: Arc<Semaphore>,
}

/// What came back: a success whose body is still to come, or a refusal, whole, because its body says what it means.
pub(crate) enum Answered {
    /// A status in the 200s.
    Success(Answer),
    /// Any other.
    Refused(Whole),
}

/// A success whose body is still to come.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    body: Body,
    secrets: Vec<SecretString>,
    large: Arc<Semaphore>,
}

/// A body that is read piece by piece, each within the time limit.
pub(crate) struct Body {
    response: reqwest::Response,
    subject: Subject,
    idle: Duration,
    deadline: Option<tokio::time::Instant>,
    expected: Option<u64>,
}

/// An answer with its whole body.
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) subject: Subject,
    secrets: Vec<SecretString>,
    /// Held until the body has been read, where it is a large one.
    _large: Option<OwnedSemaphorePermit>,
}

impl Whole {
    /// As the parsers of `wire` take it.
    pub(crate) fn reply(&self) -> Reply<'_> {
        Reply {
            subject: &self.subject,
            status: self.status,
            headers: &self.headers,
            body: &self.body,
            secrets: &self.secrets,
        }
    }

    /// Whether the gateway does not take the bearer. Jenkins' own 401, through the raw proxy, is about its own users.
    pub(crate) fn rejects_the_token(&self) -> bool {
        self.status == 401 && !self.headers.contains_key(X_JENKINS)
    }

    /// Whether the body repeats what must not come into messages; then nobody else gets to see it.
    pub(crate) fn quotes_a_secret(&self) -> bool {
        let quotes = |form: &String| {
            self.body
                .windows(form.len())
                .any(|window| window == form.as_bytes())
        };
        let secrets = self.secrets.iter().map(ExposeSecret::expose_secret);
        secrets.flat_map(disguises).any(|form| quotes(&form))
    }

    /// The error that a refusal stands for.
    pub(crate) fn refusal(&self) -> GatewayError {
        super::wire::refusal::refusal(&self.reply())
    }
}

impl Answered {
    /// The answer, or the error that a refusal stands for.
    pub(crate) fn accept(self) -> Result<Answer> {
        match self {
            Self::Success(answer) => Ok(answer),
            Self::Refused(whole) => Err(whole.refusal()),
        }
    }

    /// With the whole body, whatever it is.
    pub(crate) async fn whole(self) -> Result<Whole> {
        match self {
            Self::Success(answer) => answer.whole().await,
            Self::Refused(whole) => Ok(whole),
        }
    }
}

impl Transport {
    pub(crate) fn new(config: &GatewayConfig, ca_pem: Option<&[u8]>) -> Result<Self> {
        // reqwest is built without a provider of its own; kube brings the same one.
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // An error means that someone installed one before, which is as good.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let bad = |why: String| GatewayError::config(ErrorKind::BadConfig, why);
        let endpoint = endpoint(&config.endpoint)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tenantry/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.times.connect)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .tls_danger_accept_invalid_certs(config.tls.insecure_skip_verify);
        if let Some(pem) = ca_pem {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|c| !c.is_empty())
                .ok_or_else(|| bad("the CA is not a PEM bundle of certificates".into()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let http = builder
            .build()
            .map_err(|e| bad(format!("TLS cannot be set up: {}", root_cause(&e))))?;
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(config.limits.requests_per_second))
            .allow_burst(at_least_one(config.limits.burst));
        Ok(Self {
            http,
            endpoint,
            times: config.times,
            budget: RateLimiter::direct(quota),
            observer: config.observer.clone(),
            gate: config.gate.clone(),
            large: Arc::new(Semaphore::new(1)),
        })
    }

    /// The origin everything goes to.
    pub(crate) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Sends a request once (following redirects of reads) and waits for the headers of a success, or for all of a
    /// refusal. `secrets` is what a gateway that echoes them must not bring into messages.
    pub(crate) async fn send(
        &self,
        request: &Request,
        bearer: Option<&SecretString>,
        secrets: &[&SecretString],
    ) -> Result<Answered> {
        self.budget.until_ready().await;
        let begun = Instant::now();
        let result = match self.send_following(request, bearer, secrets).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(Answered::Success(answer)),
            Ok(answer) => answer.whole().await.map(Answered::Refused),
            Err(error) => Err(error),
        };
        let outcome = outcome_of(&result);
        self.observer
            .call(request.subject.route, outcome, begun.elapsed());
        result
    }

    async fn send_following(
        &self,
        request: &Request,
        bearer: Option<&SecretString>,
        secrets: &[&SecretString],
    ) -> Result<Answer> {
        let subject = &request.subject;
        let mut url = self.url(request)?;
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send_to(url.clone(), request, bearer, secrets).await?;
            let redirected = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
            if !redirected || request.method != Method::GET {
                return Ok(answer);
            }
            let target = answer.headers.get(header::LOCATION).and_then(|l| l.to_str().ok());
            match target.and_then(|t| url.join(t).ok()) {
                Some(next) if next.origin() == self.endpoint.origin() => url = next,
                // Ends as a redirect that is refused, with the place named.
                _ => return Ok(answer),
            }
        }
        Err(GatewayError::new(ErrorKind::RedirectRefused, subject).with_remote("too many redirects"))
    }

    fn url(&self, request: &Request) -> Result<Url> {
        let mut url = self.endpoint.clone();
        let path = format!("{}{}", url.path().trim_end_matches('/'), request.path);
        url.set_path(&path);
        if url.path() != path {
            // A dot segment was resolved: some name in it is not one.
            return Err(GatewayError::new(ErrorKind::Rejected, &request.subject)
                .with_remote("a name in it cannot be part of a path"));
        }
        url.set_query((!request.query.is_empty()).then_some(request.query.as_str()));
        Ok(url)
    }

    async fn send_to(
        &self,
        url: Url,
        request: &Request,
        bearer: Option<&SecretString>,
        secrets: &[&SecretString],
    ) -> Result<Answer> {
        let subject = &request.subject;
        let mut builder = self
            .http
            .request(request.method.clone(), url)
            .headers(request.headers.clone());
        if !request.headers.contains_key(header::ACCEPT) {
            builder = builder.header(header::ACCEPT, "*/*");
        }
        if request.limit != Limit::Json {
            // Sizes and ranges are those of the file, so it must come as it is.
            builder = builder.header(header::ACCEPT_ENCODING, "identity");
        }
        if let Some(token) = bearer {
            let mut value =
                HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| {
                    GatewayError::new(ErrorKind::BadConfig, subject).with_remote("the token is not a token")
                })?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        let (until_headers, idle) = match request.limit {
            Limit::Json => (self.times.json, self.times.json),
            Limit::Log => (self.times.log, self.times.log),
            Limit::Artifact => (self.times.artifact_idle, self.times.artifact_idle),
            Limit::Watch => (self.times.json, self.times.watch_idle),
        };
        // After the wait for the budget, and right before it is sent: what is refused here has not gone out.
        if subject.write && !self.gate.may_write(&subject.what) {
            return Err(GatewayError::new(ErrorKind::Fenced, subject));
        }
        let deadline = tokio::time::Instant::now() + until_headers;
        let mut sending = Box::pin(builder.send());
        // Asked at each step: what waits for a connection when the process is stopped is not sent when it wakes.
        let guarded = poll_fn(|cx| {
            if subject.write && !self.gate.may_write(&subject.what) {
                return Poll::Ready(None);
            }
            sending.as_mut().poll(cx).map(Some)
        });
        let response = tokio::time::timeout_at(deadline, guarded)
            .await
            .map_err(|_| timed_out(subject))?
            // It may have been sent before.
            .ok_or_else(|| GatewayError::new(ErrorKind::Fenced, subject).with_ambiguous(true))?
            .map_err(|e| failed(subject, &e))?;
        let expected = response
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|v| v.to_str().ok()?.parse().ok());
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: Body {
                subject: subject.clone(),
                idle,
                deadline: (request.limit == Limit::Json).then_some(deadline),
                expected: expected.filter(|_| request.method != Method::HEAD),
                response,
            },
            secrets: secrets.iter().map(|s| (*s).clone()).collect(),
            large: self.large.clone(),
        })
    }
}

impl Answer {
    /// Reads the whole body: of a success up to 16 MiB, of an error its first 64 KiB.
    pub(crate) async fn whole(self) -> Result<Whole> {
        let Self {
            status,
            headers,
            mut body,
            secrets,
            large,
        } = self;
        let mut permit = None;
        let success = (200..300).contains(&status);
        let subject = body.subject.clone();
        let mut all = BytesMut::new();
        loop {
            let piece = match body.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(_) if !success => break, // the status is what counts
                Err(error) => return Err(error),
            };
            if success && all.len() + piece.len() > MAX_JSON {
                return Err(GatewayError::new(ErrorKind::TooLarge, &subject)
                    .with_status(status)
                    .with_ambiguous(subject.write));
            }
            if all.len() + piece.len() > SMALL_JSON && permit.is_none() {
                permit = Some(body.within(large.clone().acquire_owned()).await?);
            }
            all.extend_from_slice(&piece);
            if !success && all.len() >= MAX_ERROR {
                all.truncate(MAX_ERROR);
                break;
            }
        }
        let body = all.freeze();
        Ok(Whole {
            status,
            headers,
            body,
            subject,
            secrets,
            // It is never closed.
            _large: permit.and_then(std::result::Result::ok),
        })
    }

    /// Why this success is none: the raw Jenkins proxy may answer for a Jenkins that is down (finding F-H).
    pub(crate) fn distrusted(&self) -> Option<GatewayError> {
        let proxied = matches!(
            self.body.subject.route,
            RouteClass::LogProxy | RouteClass::DownloadProxy
        );
        let reply = Reply {
            subject: &self.body.subject,
            status: self.status,
            headers: &self.headers,
            body: b"",
            secrets: &[],
        };
        if proxied {
            proxied_by_jenkins(&reply).err()
        } else {
            None
        }
    }

    /// What was asked for.
    pub(crate) fn subject(&self) -> &Subject {
        &self.body.subject
    }

    /// The body, to be read piece by piece.
    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    /// The answer as an HTTP response, for the Kubernetes client.
    pub(crate) fn into_parts(self) -> (u16, HeaderMap, Body) {
        (self.status, self.headers, self.body)
    }
}

impl Body {
    /// The next piece; None at the true end. A body that is shorter than announced is an error, which hyper sees to.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let limit = self.limit();
        tokio::time::timeout_at(limit, self.response.chunk())
            .await
            .map_err(|_| timed_out(&self.subject))?
            .map_err(|e| failed(&self.subject, &e))
    }

    /// Waits for something else that the body needs, within the body's own time.
    async fn within<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout_at(self.limit(), wait)
            .await
            .map_err(|_| timed_out(&self.subject))
    }

    fn limit(&self) -> tokio::time::Instant {
        let limit = tokio::time::Instant::now() + self.idle;
        self.deadline.map_or(limit, |d| d.min(limit))
    }

    /// How many bytes were announced.
    pub(crate) fn expected(&self) -> Option<u64> {
        self.expected
    }

    /// What was asked for.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }
}

/// How a call ended, by the same tables that callers go by.
fn outcome_of(result: &Result<Answered>) -> CallOutcome {
    let trouble = match result {
        Ok(Answered::Success(answer)) => answer.distrusted().map(|e| e.kind()),
        Ok(Answered::Refused(whole)) => Some(whole.refusal().kind()),
        Err(error) => Some(error.kind()),
    };
    trouble.map_or(CallOutcome::Ok, CallOutcome::Error)
}

/// Checks and normalises the endpoint.
fn endpoint(url: &Url) -> Result<Url> {
    let bad = |why: &str| {
        Err(GatewayError::config(
            ErrorKind::BadConfig,
            format!("the endpoint {why}"),
        ))
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return bad("must be an http or https URL with a host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return bad("must not contain a user name or password");
    }
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn timed_out(subject: &Subject) -> GatewayError {
    GatewayError::new(ErrorKind::TimedOut, subject).with_ambiguous(subject.write)
}

fn failed(subject: &Subject, error: &reqwest::Error) -> GatewayError {
    let connect = error.is_connect() || error.is_builder();
    let kind = match () {
        () if connect => ErrorKind::ConnectFailed,
        () if error.is_timeout() => ErrorKind::TimedOut,
        () => ErrorKind::ConnectionLost,
    };
    // Before a connection stood nothing was sent, so nothing can have happened.
    GatewayError::new(kind, subject)
        .with_remote(&root_cause(error))
        .with_ambiguous(subject.write && !connect)
}

/// The innermost reason: the outer ones repeat the URL.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_must_be_a_plain_http_url() {
        for (url, ok) in [
            ("http://ks.example", true),
            ("https://ks.example:8443/prefix/", true),
            ("ftp://ks.example", false),
            ("https://user@ks.example", false),
            ("https://user:pw@ks.example", false),
            ("unix:/run/x", false),
        ] {
            let got = endpoint(&Url::parse(url).unwrap());
            assert_eq!(got.is_ok(), ok, "{url}");
            if let Err(error) = got {
                assert!(!error.to_string().contains("pw"), "{error}");
            }
        }
    }
}
