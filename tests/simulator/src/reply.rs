//! Answers, and the five shapes in which the layers of the real system say no (contract §4.0).

use axum::body::Body;
use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

/// What a stream of body chunks yields.
pub(crate) type Chunk = Result<Bytes, std::io::Error>;

/// The body of an answer.
pub(crate) enum ReplyBody {
    /// Known in full; carries a `Content-Length`.
    Full(Bytes),
    /// Known in full, but sent the way Go sends it when a handler wrote more than its buffer: chunked.
    Chunked(Bytes),
    /// Produced while it is sent.
    Stream(BoxStream<'static, Chunk>),
}

/// An answer before faults were applied to it.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Boxed: an answer is also the error of most handlers and should be small.
    pub(crate) headers: Box<HeaderMap>,
    pub(crate) body: ReplyBody,
    /// Real milliseconds that pass before the answer begins.
    pub(crate) wait: i64,
}

/// Go's buffer: a body that fits goes out with a `Content-Length`, a longer one is chunked.
const GO_BUFFER: usize = 2048;

/// A Kubernetes Status, its keys in the order Go writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_field_names, reason = "the names are Kubernetes'")]
pub(crate) struct Status<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Value,
    status: &'static str,
    message: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
    code: u16,
}

impl<'a> Status<'a> {
    pub(crate) fn new(code: u16, reason: &'a str, message: &'a str, details: Option<Value>) -> Self {
        Self {
            kind: "Status",
            api_version: "v1",
            metadata: json!({}),
            status: "Failure",
            message,
            reason,
            details,
            code,
        }
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// JSON over several lines.
fn indented(value: &Value, indent: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value
        .serialize(&mut writer)
        .expect("a JSON value can always be written");
    text
}

/// The value, or the reply that says why there is none.
macro_rules! tri {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reply) => return reply,
        }
    };
}
pub(crate) use tri;

impl Reply {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut reply = Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers: Box::default(),
            body: ReplyBody::Full(body.into()),
            wait: 0,
        };
        if !content_type.is_empty() {
            reply = reply.header("content-type", content_type);
        }
        reply
    }

    /// JSON as go-restful prints it: indented by one space.
    pub(crate) fn json(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json", indented(value, b" "))
    }

    /// JSON as Kubernetes prints it: one line.
    pub(crate) fn line(status: u16, value: &Value) -> Self {
        Self::new(status, "application/json", format!("{value}\n"))
    }

    /// JSON as ks-devops sends it: long bodies are chunked.
    pub(crate) fn devops_json(value: &Value) -> Self {
        Self::json(200, value).chunk_long()
    }

    /// An empty 200 without a content type.
    pub(crate) fn empty() -> Self {
        Self::new(200, "", "")
    }

    /// The text errors of go-restful itself (404, 405, 406, 415, panics): no final newline.
    pub(crate) fn restful(status: u16, text: &str) -> Self {
        Self::new(status, "text/plain; charset=utf-8", text.to_owned())
    }

    /// The text errors of a v1alpha3 handler: one line, HTML-escaped, final newline.
    pub(crate) fn text_error(status: u16, text: &str) -> Self {
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        Self::new(status, "text/plain; charset=utf-8", format!("{text}\n"))
            .header("x-content-type-options", "nosniff")
    }

    /// A panic in ks-devops.
    pub(crate) fn panic() -> Self {
        Self::restful(500, "Internal server error")
    }

    /// A bare Kubernetes Status.
    pub(crate) fn status(code: u16, reason: &str, message: &str, details: Option<Value>) -> Self {
        Self::new(
            code,
            "application/json",
            Status::new(code, reason, message, details).text() + "\n",
        )
    }

    /// 401 of ks-apiserver.
    pub(crate) fn unauthorized(message: &str) -> Self {
        Self::status(401, "Unauthorized", message, None)
    }

    /// 511 of the cluster dispatcher: a bare Status without the final newline of all others.
    pub(crate) fn identity_rejected() -> Self {
        let message = "The request could not be authenticated due to a system issue.";
        let status = Status::new(511, "Network Authentication Required", message, None);
        Self::new(511, "application/json", status.text())
    }

    /// The wrapped Status of the cluster dispatcher and the APIService hop: indented by two spaces.
    pub(crate) fn err_status(code: u16, reason: &str, message: &str) -> Self {
        let status = json!({"ErrStatus": {
            "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code,
        }});
        Self::new(code, "application/json", indented(&status, b"  "))
    }

    /// 502 of a proxy hop; this one lacks the `status` key (recorded).
    pub(crate) fn bad_gateway(cause: &str) -> Self {
        let status = json!({"ErrStatus": {
            "metadata": {}, "message": format!("Error while proxying request: {cause}"),
            "reason": "Bad Gateway", "code": 502,
        }});
        Self::new(502, "application/json", indented(&status, b"  "))
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        // Go writes header values as raw bytes; a UTF-8 file name in Content-Disposition is recorded so.
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    /// Sends a body longer than Go's buffer without a `Content-Length`.
    pub(crate) fn chunk_long(self) -> Self {
        self.chunk_above(GO_BUFFER)
    }

    /// The same behind an HTTP/2 hop, whose frames hold more.
    pub(crate) fn chunk_above(mut self, limit: usize) -> Self {
        if let ReplyBody::Full(bytes) = &self.body
            && bytes.len() > limit
        {
            self.body = ReplyBody::Chunked(bytes.clone());
        }
        self
    }

    /// Lets time pass before the answer.
    pub(crate) fn after(mut self, wait: i64) -> Self {
        self.wait = wait;
        self
    }

    /// The body, if it is known already.
    pub(crate) fn bytes(&self) -> Option<&Bytes> {
        match &self.body {
            ReplyBody::Full(bytes) | ReplyBody::Chunked(bytes) => Some(bytes),
            ReplyBody::Stream(_) => None,
        }
    }

    /// Turns the answer into one for axum. `HEAD` keeps the length and drops the body (the server does that).
    pub(crate) fn into_response(self) -> http::Response<Body> {
        let body = match self.body {
            ReplyBody::Full(bytes) => Body::from(bytes),
            ReplyBody::Chunked(bytes) => Body::from_stream(futures::stream::iter([Chunk::Ok(bytes)])),
            ReplyBody::Stream(stream) => Body::from_stream(stream),
        };
        let mut response = http::Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        response.headers_mut().remove(header::TRANSFER_ENCODING);
        response
    }
}
