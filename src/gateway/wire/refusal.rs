//! What a refusal means: one table over status, body shape and route (contract §4.0, findings F-B, F-H, F-O1).
//!
//! Five origins write errors in five shapes, and Jenkins' own answers arrive inside a 500. Where a shape says more than
//! the status, the shape wins; a 404 counts as "not there" only if it was said by someone who looked.

use std::time::Duration;

use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::{
    disguise,
    gateway::{
        error::{ErrorKind, GatewayError, Result, Subject},
        telemetry::RouteClass,
    },
};

/// An answer as it came: what every parser of [`wire`](super) takes.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// What was asked.
    pub subject: &'a Subject,
    /// HTTP status.
    pub status: u16,
    /// Response headers.
    pub headers: &'a HeaderMap,
    /// The whole body, or as much of an error's body as was read.
    pub body: &'a [u8],
    /// What must not come into a message, should the remote echo it.
    pub secrets: &'a [SecretString],
}

impl Reply<'_> {
    /// Passes a success on; anything else becomes its error.
    pub fn accept(&self) -> Result<()> {
        if (200..300).contains(&self.status) {
            Ok(())
        } else {
            Err(refusal(self))
        }
    }

    /// Takes secrets out of a sentence, once its meaning was read: a secret may be an ordinary word. A remote that echoes
    /// a request echoes them as they were sent: in a form, in JSON, in a header.
    pub(crate) fn redact(&self, sentence: impl Into<String>) -> String {
        let mut sentence = sentence.into();
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret) {
            let mut forms = disguises(secret);
            // A form may contain another.
            forms.sort_unstable_by_key(|form| std::cmp::Reverse(form.len()));
            for form in forms {
                if sentence.contains(&form) {
                    sentence = sentence.replace(&form, "[redacted]");
                }
            }
        }
        sentence
    }
}

/// What a text must not have in it where this is a secret. Of a very short one only itself: its other forms are in any text.
pub(crate) fn disguises(secret: &str) -> Vec<String> {
    match secret.len() {
        0 => vec![],
        1..4 => vec![secret.to_owned()],
        _ => disguise::forms(secret),
    }
}

/// Set by Jenkins on every answer of its own; missing when something in between answered (contract §5.6).
pub(crate) const X_JENKINS: &str = "x-jenkins";

/// The sentence of a refusal, by the shape of its body.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// A Kubernetes Status, as it is or wrapped in `ErrStatus`.
    Status { message: String, wrapped: bool },
    /// OAuth's `error` and `error_description`.
    OAuth { error: String, description: String },
    /// Jenkins' JSON with its own status code.
    Jenkins { message: String, code: u16 },
    /// A page for people: its text.
    Html(String),
    /// One line.
    Text(String),
    /// Nothing.
    Nothing,
}

#[derive(Deserialize)]
struct Shapes {
    #[serde(rename = "ErrStatus")]
    err_status: Option<Status>,
    kind: Option<String>,
    #[serde(default)]
    message: String,
    code: Option<u16>,
    error: Option<String>,
    #[serde(default)]
    error_description: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

fn said(body: &[u8]) -> Said {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return Said::Nothing;
    }
    if let Ok(shapes) = serde_json::from_slice::<Shapes>(body) {
        if let Some(status) = shapes.err_status {
            return Said::Status {
                message: status.message,
                wrapped: true,
            };
        }
        if shapes.kind.as_deref() == Some("Status") {
            return Said::Status {
                message: shapes.message,
                wrapped: false,
            };
        }
        if let Some(error) = shapes.error {
            return Said::OAuth {
                error,
                description: shapes.error_description,
            };
        }
        if let Some(code) = shapes.code {
            return Said::Jenkins {
                message: shapes.message,
                code,
            };
        }
    }
    if let Ok(line) = serde_json::from_slice::<String>(body) {
        return Said::Text(line); // "login_required" (contract §1.4)
    }
    if text.starts_with('<') {
        Said::Html(strip_tags(text))
    } else {
        Said::Text(unescape(text))
    }
}

/// ks-devops escapes its one-line errors for HTML (contract §4.0).
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&#34;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

fn strip_tags(page: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for c in page.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                out.push(' ');
            }
            c if !inside => out.push(c),
            _ => {}
        }
    }
    unescape(&out)
}

/// Whether the gateway, or what stands before it, says this about itself: what it says about others comes as a Status, and
/// what Jenkins says has its mark.
pub(crate) fn is_of_the_gateway(reply: &Reply<'_>) -> bool {
    let plain = matches!(said(reply.body), Said::Html(_) | Said::Text(_) | Said::Nothing);
    plain && !reply.headers.contains_key(X_JENKINS)
}

/// The error for an answer that is not a success.
pub(crate) fn refusal(reply: &Reply<'_>) -> GatewayError {
    let said = said(reply.body);
    let kind = kind(reply, &said);
    let sentence = match &said {
        Said::Status { message, .. } | Said::Jenkins { message, .. } => message.clone(),
        Said::OAuth { error, description } if description.is_empty() => error.clone(),
        Said::OAuth { description, .. } => description.clone(),
        Said::Html(text) | Said::Text(text) => text.clone(),
        Said::Nothing if (300..400).contains(&reply.status) => location(reply.headers),
        Said::Nothing => String::new(),
    };
    let definite = match (reply.status, &said) {
        (_, Said::Jenkins { code, .. }) => (400..500).contains(code),
        // The dispatcher has not passed it on, or the member has not let it in (finding F-O1).
        (503, Said::Status { wrapped, .. }) => *wrapped,
        (511, _) => true,
        _ => false,
    };
    let may_have_happened = matches!(reply.status, 408 | 500..=599) && !definite;
    GatewayError::new(kind, reply.subject)
        .with_status(reply.status)
        .with_remote(&reply.redact(sentence))
        .with_retry_after(retry_after(reply.headers))
        .with_ambiguous(reply.subject.write && may_have_happened)
}

#[allow(clippy::match_same_arms)] // one line a status, in order
fn kind(reply: &Reply<'_>, said: &Said) -> ErrorKind {
    let route = reply.subject.route;
    let from_jenkins = reply.headers.contains_key(X_JENKINS);
    match (reply.status, said) {
        // Through the raw proxy Jenkins speaks for itself, about itself: its 401 says nothing of our token.
        (404, _) if from_jenkins => ErrorKind::NotFound,
        (416, _) if from_jenkins => ErrorKind::BadRequestForm,
        (status, _) if from_jenkins && status != 500 => ErrorKind::JenkinsUnavailable,
        (300..=399, _) => ErrorKind::RedirectRefused,
        (400 | 401, Said::OAuth { .. }) => ErrorKind::CredentialsRefused,
        (400, Said::Status { wrapped: true, .. }) => ErrorKind::UnknownCluster,
        (400, Said::Text(line)) if line.contains("Unable to unmarshal content of type") => {
            ErrorKind::BadRequestForm
        }
        // These routes turn every failure but "not found" into a 400; a GET there holds nothing that could be wrong.
        (400, _) if matches!(route, RouteClass::Pipelines | RouteClass::Projects) && !reply.subject.write => {
            ErrorKind::RemoteFailure
        }
        (400, _) if route == RouteClass::RunDelete => ErrorKind::Conflict, // "cannot delete a running PipelineRun"
        (401, _) if route == RouteClass::Token => ErrorKind::CredentialsRefused,
        (401, _) => ErrorKind::TokenRejected,
        (403, _) => ErrorKind::Forbidden,
        (404, said) => not_found(said),
        (408, _) => ErrorKind::TimedOut,
        (409, _) => ErrorKind::Conflict,
        (410, _) => ErrorKind::RemoteFailure, // too old a list or watch: begin again
        (400 | 422, _) => ErrorKind::Rejected,
        (429, _) if route == RouteClass::Token => ErrorKind::LockedOut,
        (429, _) => ErrorKind::Throttled,
        (402..=499, _) => ErrorKind::BadRequestForm,
        (500, said) => internal(route, said),
        (502..=504 | 511, _) => ErrorKind::BackendUnavailable,
        (status, _) if status >= 500 => ErrorKind::RemoteFailure,
        _ => ErrorKind::Garbled,
    }
}

/// "The object is not there" and "there is no such route" share a status; only the sentence tells them apart.
fn not_found(said: &Said) -> ErrorKind {
    let sentence = match said {
        Said::Status { message, .. } => message,
        Said::Text(line) => line,
        _ => return ErrorKind::RouteMissing,
    };
    let looked = sentence.contains("not found") && !sentence.starts_with("404");
    if looked {
        ErrorKind::NotFound
    } else {
        ErrorKind::RouteMissing
    }
}

/// A 500 of ks-devops is anything from "not yet" to Jenkins' own 404.
fn internal(route: RouteClass, said: &Said) -> ErrorKind {
    match said {
        Said::Jenkins { code: 404, .. } => ErrorKind::NotFound,
        Said::Jenkins { code: 409, .. } => ErrorKind::Conflict,
        Said::Jenkins { code: 400 | 422, .. } => ErrorKind::Rejected,
        Said::Jenkins { .. } => ErrorKind::JenkinsUnavailable,
        Said::Text(line) if route == RouteClass::Stages && line == "unexpected end of JSON input" => {
            ErrorKind::NotYet
        }
        Said::Text(line) if route == RouteClass::Download && line.ends_with("not found run ID") => {
            ErrorKind::NotYet
        }
        Said::Text(line) if route == RouteClass::Download && line.ends_with("status code is 404") => {
            ErrorKind::NotFound
        }
        Said::Text(line) if route == RouteClass::Download && line.starts_with("invalid URL escape") => {
            ErrorKind::BadRequestForm
        }
        _ if route.behind_jenkins() => ErrorKind::JenkinsUnavailable,
        _ => ErrorKind::RemoteFailure,
    }
}

fn location(headers: &HeaderMap) -> String {
    let to = headers
        .get(header::LOCATION)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    // A query may hold what is not ours to show.
    to.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// `Retry-After` in seconds, or as a date measured against the answer's own `Date`; at most a day.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    const DAY: u64 = 24 * 3600;
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let value = text(header::RETRY_AFTER)?;
    let seconds = if let Ok(seconds) = value.parse::<u64>() {
        seconds
    } else {
        let date = |text: &str| {
            jiff::fmt::rfc2822::parse(text)
                .ok()
                .map(|t| t.timestamp().as_second())
        };
        u64::try_from(date(value)? - date(text(header::DATE)?)?).unwrap_or(0)
    };
    Some(Duration::from_secs(seconds.min(DAY)))
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
