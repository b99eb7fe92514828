//! One error for everything that can go wrong between us and KubeSphere.
//!
//! [`ErrorKind`] says what happened and is a closed set; [`ErrorKind::class`] is the one table that fixes how callers
//! treat it. Messages carry the remote's own sentence, cut and cleaned; they never carry a token or password, because
//! requests are described by route and object, never by their headers or body.

use std::{fmt, time::Duration};

use super::telemetry::RouteClass;

/// Result of a gateway call.
pub type Result<T, E = GatewayError> = std::result::Result<T, E>;

/// How callers treat an error: it fixes retry, condition reason and metric label (design §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorClass {
    /// Someone has to change what they wrote; trying again changes nothing.
    User,
    /// Not allowed, or not logged in. Wait for other credentials or roles; one probe now and then.
    Denied,
    /// Too many requests or logins: wait at least [`GatewayError::retry_after`].
    Throttled,
    /// The remote, or something before it, is not well. Keep the last truth, try later.
    Unavailable,
    /// The object is not there, said by someone who knows.
    Gone,
    /// The object is there already, or changed meanwhile.
    Conflict,
    /// We sent what we should not have, or could not handle the answer.
    Bug,
    /// Stopped, because this process may not write (any more). It is about us and not about the object: whoever may
    /// write does it.
    Fenced,
}

impl ErrorClass {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Denied => "denied",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Gone => "gone",
            Self::Conflict => "conflict",
            Self::Bug => "bug",
            Self::Fenced => "fenced",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The connection's configuration cannot work: URL, CA, kubeconfig.
    BadConfig,
    /// The gateway refused user name, password or OAuth client (contract §1.1).
    CredentialsRefused,
    /// The user is locked out after too many failed logins (429 of the login route).
    LockedOut,
    /// 401 although the token is as fresh as we can make it.
    TokenRejected,
    /// 403. Also for a namespace that does not exist (contract §3.3).
    Forbidden,
    /// 404, or Jenkins' 404 inside a 500.
    NotFound,
    /// 404 for the route itself: KubeSphere DevOps is not installed there, or in another version.
    RouteMissing,
    /// 409: the name is taken, or the object changed meanwhile.
    Conflict,
    /// 400 or 422: the remote does not accept the content. Also Jenkins' 400 inside a 500.
    Rejected,
    /// 400 of the dispatcher: no such cluster (contract §2).
    UnknownCluster,
    /// 429.
    Throttled,
    /// 503 of the dispatcher, 502, 511: the cluster or the DevOps service behind the gateway does not answer or does
    /// not trust the gateway (finding F-O1).
    BackendUnavailable,
    /// Jenkins is down, starting, or answered with an error of its own.
    JenkinsUnavailable,
    /// Any other 5xx.
    RemoteFailure,
    /// What was asked for does not exist yet, though it will (contract §8.9).
    NotYet,
    /// No connection: name, address, TLS, refused.
    ConnectFailed,
    /// The connection broke, or the body was cut.
    ConnectionLost,
    /// No answer in time.
    TimedOut,
    /// A redirect that is not followed: off the endpoint's origin, or of a write.
    RedirectRefused,
    /// A success whose body is not what the route answers.
    Garbled,
    /// A body longer than we take.
    TooLarge,
    /// 405, 406, 415 and other signs that we asked in the wrong way.
    BadRequestForm,
    /// A write that the [`WriteGate`](super::WriteGate) stopped. It was not sent, unless it is
    /// [ambiguous](GatewayError::ambiguous): then it was stopped while it waited for its answer.
    Fenced,
}

impl ErrorKind {
    /// Every kind, for tables and docs.
    pub const ALL: [Self; 23] = [
        Self::BadConfig,
        Self::CredentialsRefused,
        Self::LockedOut,
        Self::TokenRejected,
        Self::Forbidden,
        Self::NotFound,
        Self::RouteMissing,
        Self::Conflict,
        Self::Rejected,
        Self::UnknownCluster,
        Self::Throttled,
        Self::BackendUnavailable,
        Self::JenkinsUnavailable,
        Self::RemoteFailure,
        Self::NotYet,
        Self::ConnectFailed,
        Self::ConnectionLost,
        Self::TimedOut,
        Self::RedirectRefused,
        Self::Garbled,
        Self::TooLarge,
        Self::BadRequestForm,
        Self::Fenced,
    ];

    /// How callers treat it.
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::BadConfig | Self::Rejected | Self::UnknownCluster | Self::RedirectRefused => {
                ErrorClass::User
            }
            Self::CredentialsRefused | Self::TokenRejected | Self::Forbidden => ErrorClass::Denied,
            Self::LockedOut | Self::Throttled => ErrorClass::Throttled,
            Self::NotFound => ErrorClass::Gone,
            Self::Conflict => ErrorClass::Conflict,
            Self::RouteMissing
            | Self::BackendUnavailable
            | Self::JenkinsUnavailable
            | Self::RemoteFailure
            | Self::NotYet
            | Self::ConnectFailed
            | Self::ConnectionLost
            | Self::TimedOut
            | Self::Garbled => ErrorClass::Unavailable,
            Self::TooLarge | Self::BadRequestForm => ErrorClass::Bug,
            Self::Fenced => ErrorClass::Fenced,
        }
    }

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::BadConfig => "bad_config",
            Self::CredentialsRefused => "credentials_refused",
            Self::LockedOut => "locked_out",
            Self::TokenRejected => "token_rejected",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::RouteMissing => "route_missing",
            Self::Conflict => "conflict",
            Self::Rejected => "rejected",
            Self::UnknownCluster => "unknown_cluster",
            Self::Throttled => "throttled",
            Self::BackendUnavailable => "backend_unavailable",
            Self::JenkinsUnavailable => "jenkins_unavailable",
            Self::RemoteFailure => "remote_failure",
            Self::NotYet => "not_yet",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectionLost => "connection_lost",
            Self::TimedOut => "timed_out",
            Self::RedirectRefused => "redirect_refused",
            Self::Garbled => "garbled",
            Self::TooLarge => "too_large",
            Self::BadRequestForm => "bad_request_form",
            Self::Fenced => "fenced",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::BadConfig => "the connection is not configured right",
            Self::CredentialsRefused => "the gateway refuses these credentials",
            Self::LockedOut => "the user is locked out after too many failed logins",
            Self::TokenRejected => "the gateway does not accept the token",
            Self::Forbidden => "not allowed, or no such project",
            Self::NotFound => "not found",
            Self::RouteMissing => "the gateway has no such route: is KubeSphere DevOps installed there?",
            Self::Conflict => "the object is there already, or not in a state for this",
            Self::Rejected => "the remote does not accept the request",
            Self::UnknownCluster => "the gateway knows no such cluster",
            Self::Throttled => "too many requests",
            Self::BackendUnavailable => "what is behind the gateway does not answer it",
            Self::JenkinsUnavailable => "Jenkins does not answer as it should",
            Self::RemoteFailure => "the remote failed",
            Self::NotYet => "not there yet",
            Self::ConnectFailed => "could not connect",
            Self::ConnectionLost => "the connection broke",
            Self::TimedOut => "no answer in time",
            Self::RedirectRefused => {
                "the gateway redirects elsewhere, which is not followed; set the endpoint to the final address"
            }
            Self::Garbled => "the answer is not what this route gives",
            Self::TooLarge => "the answer is larger than accepted",
            Self::BadRequestForm => "the remote does not take this form of request",
            Self::Fenced => "stopped: this replica may not write any more",
        }
    }
}

/// An error of the gateway client: what was asked, what happened, what the remote said about it.
pub struct GatewayError(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    status: Option<u16>,
    subject: Option<Subject>,
    remote: Option<String>,
    retry_after: Option<Duration>,
    ambiguous: bool,
    /// Nothing was sent, and nothing will be for so long.
    held: Option<Duration>,
}

/// What a request is about: enough for a message, nothing secret.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Kind of request.
    pub route: RouteClass,
    /// What it does to which object, e.g. `get run demo2snmj/hello-1`.
    pub what: String,
    /// Whether it changes something on the remote.
    pub write: bool,
}

impl GatewayError {
    pub(crate) fn new(kind: ErrorKind, subject: &Subject) -> Self {
        Self(Box::new(Inner {
            kind,
            status: None,
            subject: Some(subject.clone()),
            remote: None,
            retry_after: None,
            ambiguous: false,
            held: None,
        }))
    }

    pub(crate) fn config(kind: ErrorKind, why: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            status: None,
            subject: None,
            remote: Some(why.into()),
            retry_after: None,
            ambiguous: false,
            held: None,
        }))
    }

    /// Says what was asked in better words.
    pub(crate) fn about(mut self, subject: &Subject) -> Self {
        self.0.subject = Some(subject.clone());
        self
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.0.status = Some(status);
        self
    }

    /// Adds the remote's own sentence, cleaned and cut.
    pub(crate) fn with_remote(mut self, text: &str) -> Self {
        let text = clean(text);
        self.0.remote = (!text.is_empty()).then_some(text);
        self
    }

    pub(crate) fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.0.retry_after = after.or(self.0.retry_after);
        self
    }

    pub(crate) fn with_ambiguous(mut self, ambiguous: bool) -> Self {
        self.0.ambiguous = ambiguous;
        self
    }

    /// The same, for a request that is not sent because of it; nothing is for so long.
    pub(crate) fn held_for(mut self, wait: Duration) -> Self {
        self.0.ambiguous = false;
        self.0.retry_after = Some(wait);
        self.0.held = Some(wait);
        self
    }

    /// The same refusal, for another caller (single flight).
    pub(crate) fn share(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            status: self.0.status,
            subject: self.0.subject.clone(),
            remote: self.0.remote.clone(),
            retry_after: self.0.retry_after,
            ambiguous: self.0.ambiguous,
            held: self.0.held,
        }))
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// How to treat it.
    pub fn class(&self) -> ErrorClass {
        self.0.kind.class()
    }

    /// A write that may have been carried out: look for its effect before sending it again. Always false for reads.
    pub fn ambiguous(&self) -> bool {
        self.0.ambiguous
    }

    /// How long to wait at least, where it is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Nothing was sent, because the gateway wants to be left alone or is not there; for how long nothing will be. This is
    /// no failure of its own: whoever comes back then is let in, or finds that it goes on.
    pub fn held_back(&self) -> Option<Duration> {
        self.0.held
    }

    /// The HTTP status, where there was an answer.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The kind of request that failed.
    pub fn route(&self) -> Option<RouteClass> {
        self.0.subject.as_ref().map(|s| s.route)
    }

    /// The remote's own sentence, cleaned and cut to 400 characters.
    pub fn remote_message(&self) -> Option<&str> {
        self.0.remote.as_deref()
    }
}

impl fmt::Display for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &self.0;
        if let Some(subject) = &e.subject {
            write!(f, "{}: ", subject.what)?;
        }
        f.write_str(e.kind.sentence())?;
        if let Some(status) = e.status {
            write!(f, " (HTTP {status})")?;
        }
        if let Some(remote) = &e.remote {
            write!(f, ": {remote}")?;
        }
        if e.held.is_some() {
            f.write_str("; nothing is sent through this connection until the gateway is well again")?;
        }
        Ok(())
    }
}

impl fmt::Debug for GatewayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayError({}: {self})", self.0.kind.label())
    }
}

// No source: what happened is in the message, and a parser's or client's own text may quote what we keep to ourselves.
impl std::error::Error for GatewayError {}

/// Whether a character shows nothing itself but changes how others show: directions, joiners, marks.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Longest remote sentence kept, in characters.
const REMOTE_MAX: usize = 400;

/// Makes text from the remote fit for a condition or a log line: one line, no control characters, bounded.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::new();
    let mut count = 0;
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|w| !w.is_empty())
    {
        if count >= REMOTE_MAX {
            out.push('…');
            return out;
        }
        if count > 0 {
            out.push(' ');
            count += 1;
        }
        for c in word.chars().filter(|c| !is_invisible(*c)) {
            if count >= REMOTE_MAX {
                out.push('…');
                return out;
            }
            out.push(c);
            count += 1;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_its_own_label() {
        let labels: BTreeSet<_> = ErrorKind::ALL.iter().map(|k| k.label()).collect();
        assert_eq!(labels.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn remote_text_becomes_one_bounded_printable_line() {
        assert_eq!(clean("a\r\n\tb\u{1b}[31m\0c\n"), "a b [31m c");
        let long = clean(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), REMOTE_MAX + 1);
        // Wherever the words end.
        for word in ["x ", "xx ", "xxxx ", "xxxxxxxxxxxxxxxx "] {
            assert!(
                clean(&word.repeat(5_000)).chars().count() <= REMOTE_MAX + 1,
                "{word:?}"
            );
        }
        assert_eq!(clean("gnp\u{202e}exe.\u{200b}txt"), "gnpexe.txt");
    }
}
