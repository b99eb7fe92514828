//! The recorded exchanges of a real system in `tests/fixtures/recorded`, one JSON file each.
//!
//! `TENANTRY_RECORDINGS` names another folder of the same form, so that recordings made elsewhere can be run against the
//! same suites.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Map, Value};

/// Names another folder of recordings.
pub const FOLDER_VARIABLE: &str = "TENANTRY_RECORDINGS";

/// One file of the folder.
#[derive(Debug)]
pub enum Recording {
    /// A request and what came back.
    Exchange(Box<Exchange>),
    /// Something seen behind the scenes, not an answer.
    Evidence(String),
}

/// A request and what came back.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The number the papers cite, e.g. `0601`: the file name up to the first dash.
    pub number: String,
    /// The whole file name without `.json`.
    pub name: String,
    /// HTTP method.
    pub method: Method,
    /// Path with query, as sent.
    pub path: String,
    /// Request headers; bearers of the recording's users read `Bearer <alice>`.
    pub request_headers: HeaderMap,
    /// Request body: JSON, a form as an object, or text; null for none.
    pub request_body: Value,
    /// What came back; None if nothing did before the client gave up.
    pub response: Option<Response>,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers. Content-Length is kept apart.
    pub headers: HeaderMap,
    /// What Content-Length announced; None if the body was chunked.
    pub announced: Option<u64>,
    /// How many bytes came.
    pub size: u64,
    /// The body: exactly as it came for text, equal JSON for JSON. Of a long or binary one only head and tail were kept:
    /// the middle is filled with dots, so that the size is right.
    pub body: Vec<u8>,
    /// The body as JSON, where it is JSON.
    pub json: Option<Value>,
    /// Whether [`body`](Self::body) was filled up.
    pub shortened: bool,
}

impl Exchange {
    /// The `Content-Type` of the answer, empty if there is none.
    pub fn content_type(&self) -> &str {
        self.response
            .as_ref()
            .and_then(|r| r.headers.get("content-type")?.to_str().ok())
            .unwrap_or_default()
    }
}

/// The folder the suites run against.
pub fn folder() -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE).map_or_else(own_folder, PathBuf::from)
}

/// Whether the suites run against the project's own recordings.
pub fn is_own() -> bool {
    std::env::var_os(FOLDER_VARIABLE).is_none()
}

fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/recorded")
}

/// Every recording of [`folder`], in the order of their numbers, which is the order of time.
pub fn all() -> anyhow::Result<Vec<Recording>> {
    let folder = folder();
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("no recordings in {}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "json"));
    files.sort();
    anyhow::ensure!(!files.is_empty(), "no recordings in {}", folder.display());
    files
        .iter()
        .map(|path| read(path).with_context(|| format!("cannot read the recording {}", path.display())))
        .collect()
}

/// Every exchange of [`folder`], in order.
pub fn exchanges() -> anyhow::Result<Vec<Exchange>> {
    Ok(all()?
        .into_iter()
        .filter_map(|recording| match recording {
            Recording::Exchange(exchange) => Some(*exchange),
            Recording::Evidence(_) => None,
        })
        .collect())
}

fn read(path: &Path) -> anyhow::Result<Recording> {
    let value: Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let name = path
        .file_stem()
        .and_then(|n| n.to_str())
        .unwrap_or_default()
        .to_owned();
    let (Some(request), Some(response)) = (value.get("request"), value.get("response")) else {
        return Ok(Recording::Evidence(name));
    };
    let (Some(request), Some(response)) = (request.as_object(), response.as_object()) else {
        return Ok(Recording::Evidence(name));
    };
    let text = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
    Ok(Recording::Exchange(Box::new(Exchange {
        number: name.split('-').next().unwrap_or_default().to_owned(),
        method: text("method").parse()?,
        path: text("path").to_owned(),
        request_headers: headers(request)?,
        request_body: request.get("body").cloned().unwrap_or_default(),
        response: answer(response)?,
        name,
    })))
}

fn answer(response: &Map<String, Value>) -> anyhow::Result<Option<Response>> {
    let number = |key: &str| response.get(key).and_then(Value::as_u64);
    let status = u16::try_from(number("status").unwrap_or(0))?;
    if status == 0 {
        return Ok(None);
    }
    let size = number("size").unwrap_or(0);
    let (body, json, shortened) = match response.get("body") {
        Some(Value::String(text)) if text.len() as u64 == size => {
            (text.clone().into_bytes(), serde_json::from_str(text).ok(), false)
        }
        // An absent body and a JSON null look the same but for their size.
        Some(Value::Null) if size == 0 => (Vec::new(), None, false),
        Some(json) => (json.to_string().into_bytes(), Some(json.clone()), false),
        None => (filled(response, size)?, None, true),
    };
    Ok(Some(Response {
        status,
        headers: headers(response)?,
        announced: number("content_length"),
        size,
        body,
        json,
        shortened,
    }))
}

fn filled(response: &Map<String, Value>, size: u64) -> anyhow::Result<Vec<u8>> {
    let size = usize::try_from(size)?;
    let part = |key: &str| {
        response
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .as_bytes()
    };
    let (head, tail) = (part("body_head"), part("body_tail"));
    // Short and binary bodies: replacement characters make head and tail longer than what they stand for.
    if head.len() + tail.len() > size {
        return Ok(vec![b'.'; size]);
    }
    let mut body = head.to_vec();
    body.resize(size - tail.len(), b'.');
    body.extend_from_slice(tail);
    Ok(body)
}

fn headers(of: &Map<String, Value>) -> anyhow::Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in of.get("headers").and_then(Value::as_object).into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        map.append(
            HeaderName::try_from(name.as_str())?,
            HeaderValue::try_from(value)?,
        );
    }
    Ok(map)
}
