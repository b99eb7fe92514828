//! HTTP: one reqwest client per connection, its budget, time limits and redirects.
//!
//! Knows nothing of logins: the bearer is handed in. It goes to the endpoint's origin only, because every URL is built
//! from the endpoint, and redirects that leave the origin end in an error.

use std::{
    future::{Future as _, poll_fn},
    sync::{Arc, Once},
    task::Poll,
    time::Instant,
};

use http::{HeaderValue, Method, header};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use url::Url;

use super::{
    budget::{Budget, Turn, word},
    config::{GatewayConfig, TimeLimits},
    error::{ErrorKind, GatewayError, Result},
    exchange::{Answer, Answered, Body, failed, root_cause, timed_out},
    gate::WriteGate,
    route::{Limit, Request},
    telemetry::{CallObserver, CallOutcome},
};

/// Redirects followed for one read.
const MAX_REDIRECTS: usize = 3;

pub(crate) struct Transport {
    http: reqwest::Client,
    endpoint: Url,
    times: TimeLimits,
    budget: Budget,
    observer: Arc<dyn CallObserver>,
    gate: Arc<dyn WriteGate>,
    large: Arc<Semaphore>,
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
        Ok(Self {
            http,
            endpoint,
            times: config.times,
            budget: Budget::new(config.limits),
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
        let class = request.class();
        let asked = Instant::now();
        let entered = self.budget.enter(class, request.purpose.object()).await;
        let mut place = entered.map_err(|refusal| refusal.about(&request.subject))?;
        let begun = Instant::now();
        self.observer.waited(class, begun - asked);
        let mut result = match self.send_following(request, bearer, secrets).await {
            Ok(answer) if (200..300).contains(&answer.status) => Ok(Answered::Success(answer)),
            Ok(answer) => answer.whole().await.map(Answered::Refused),
            Err(error) => Err(error),
        };
        if let Some(turn) = place.hear(word(request.subject.route, &result)) {
            self.observer.held_back(turn == Turn::Opened);
        }
        if let Ok(Answered::Success(answer)) = &mut result
            && self.budget.keeps(request.limit)
        {
            answer.body.place = Some(place);
        }
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
                place: None,
                response,
            },
            secrets: secrets.iter().map(|s| (*s).clone()).collect(),
            large: self.large.clone(),
        })
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
