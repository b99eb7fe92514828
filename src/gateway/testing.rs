//! A little gateway for unit tests: answers by a closure, remembers what it was asked. And a raw one for broken HTTP.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU32, atomic::Ordering},
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use url::Url;

use super::{Credentials, Gateway, GatewayConfig, Limits};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) accept: Option<String>,
    pub(crate) body: String,
}

/// A server that lives as long as the test's runtime.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Starts one that answers by `answer`.
    pub(crate) async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let app = Router::new().fallback(move |request: Request| {
            let (log, answer) = (log.clone(), answer.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let header = |name| parts.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
                let seen = Seen {
                    method: parts.method.to_string(),
                    target: parts.uri.to_string(),
                    authorization: header("authorization"),
                    accept: header("accept"),
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                log.lock().unwrap().push(seen.clone());
                answer(&seen)
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url_of(listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, seen }
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How often this path was asked for, query aside.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.seen()
            .iter()
            .filter(|s| s.target.split('?').next() == Some(path))
            .count()
    }

    /// A gateway client with alice's password.
    pub(crate) fn gateway(&self) -> Gateway {
        Gateway::new(config(&self.url, Credentials::password("alice", "pa55word"))).unwrap()
    }
}

/// A configuration whose budget never makes a test wait.
pub(crate) fn config(url: &Url, credentials: Credentials) -> GatewayConfig {
    let mut config = GatewayConfig::new(url.clone(), credentials);
    config.limits = Limits {
        requests_per_second: 10_000,
        burst: 10_000,
        ..Limits::default()
    };
    config
}

/// A server that reads one request per connection and answers with these bytes, then closes. The n-th connection gets
/// the n-th answer, later ones the last.
pub(crate) async fn raw(answers: Vec<Vec<u8>>) -> (Url, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = url_of(listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU32::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        loop {
            let Ok((mut socket, _)) = listener.accept().await else {
                return;
            };
            let n = count.fetch_add(1, Ordering::SeqCst) as usize;
            let mut buffer = vec![0; 64 << 10];
            let mut got = 0;
            while !buffer[..got].windows(4).any(|w| w == b"\r\n\r\n") {
                match socket.read(&mut buffer[got..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(more) => got += more,
                }
            }
            let answer = answers.get(n).or(answers.last()).cloned().unwrap_or_default();
            // A client that has gone already is no concern of this server.
            let _ = socket.write_all(&answer).await;
            let _ = socket.shutdown().await;
        }
    });
    (url, connections)
}

fn url_of(address: SocketAddr) -> Url {
    Url::parse(&format!("http://{address}")).unwrap()
}

/// A token answer; the n-th login gives `token-n`.
pub(crate) fn token(n: u32) -> Response {
    let body = json!({"access_token": format!("token-{n}"), "token_type": "Bearer", "refresh_token": "r", "expires_in": 7200});
    axum::Json(body).into_response()
}

/// The gateway's 401.
pub(crate) fn unauthorized() -> Response {
    let status = json!({"kind": "Status", "message": "token not found in cache", "reason": "Unauthorized", "code": 401});
    (StatusCode::UNAUTHORIZED, axum::Json(status)).into_response()
}

/// The gateway's 403.
pub(crate) fn forbidden() -> Response {
    let status = json!({"kind": "Status", "message": "x is forbidden", "reason": "Forbidden", "code": 403});
    (StatusCode::FORBIDDEN, axum::Json(status)).into_response()
}

/// Any answer.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response
            .headers_mut()
            .append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    response
}

/// Project `demo` behind a server, with a token that is always good.
pub(crate) fn demo(server: &Server) -> super::ProjectScope {
    let gateway = Gateway::new(config(&server.url, Credentials::Token("always-good".into()))).unwrap();
    gateway
        .scope(None)
        .project(&super::ProjectName::new("demo").unwrap())
}

/// Build 1 of pipeline `p`.
pub(crate) fn build() -> super::RunRef {
    super::RunRef {
        pipeline: "p".into(),
        branch: None,
        id: super::RunId::new("1").unwrap(),
    }
}
