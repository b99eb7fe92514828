//! What comes back: bounded bodies, each piece within its time limit.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    budget::Place,
    error::{ErrorKind, GatewayError, Result, Subject},
    telemetry::RouteClass,
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
    pub(super) body: Body,
    pub(super) secrets: Vec<SecretString>,
    pub(super) large: Arc<Semaphore>,
}

/// A body that is read piece by piece, each within the time limit.
pub(crate) struct Body {
    pub(super) response: reqwest::Response,
    pub(super) subject: Subject,
    pub(super) idle: Duration,
    pub(super) deadline: Option<tokio::time::Instant>,
    pub(super) expected: Option<u64>,
    /// Among the requests in flight, as long as the body comes.
    pub(super) place: Option<Place>,
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

pub(super) fn timed_out(subject: &Subject) -> GatewayError {
    GatewayError::new(ErrorKind::TimedOut, subject).with_ambiguous(subject.write)
}

pub(super) fn failed(subject: &Subject, error: &reqwest::Error) -> GatewayError {
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
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
