//! One HTTP request over loopback without encryption: health and metrics of a process under test.

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer to [`http_get`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// GET `path` from `address` ("127.0.0.1:8080").
///
/// HTTP/1.0 on purpose: the answer then ends where the connection ends, in one piece.
pub async fn http_get(address: &str, path: &str) -> Result<Answer> {
    let what = || format!("GET http://{address}{path}");
    let mut stream = TcpStream::connect(address).await.with_context(what)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.with_context(what)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.with_context(what)?;
    parse(&bytes).with_context(what)
}

fn parse(bytes: &[u8]) -> Result<Answer> {
    let text = String::from_utf8(bytes.to_vec())?;
    let (head, body) = text
        .split_once("\r\n\r\n")
        .context("the answer has no end of headers")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("the answer has no status code")?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_status_and_body() {
        let answer = parse(b"HTTP/1.0 503 Service Unavailable\r\ncontent-length: 7\r\n\r\nno CRDs").unwrap();
        assert_eq!(
            answer,
            Answer {
                status: 503,
                body: "no CRDs".to_owned()
            }
        );
        assert!(parse(b"HTTP/1.0 200 OK\r\n").is_err());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
