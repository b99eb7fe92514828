//! A server on loopback that answers with recorded answers, to the byte where that matters: announced lengths that are
//! not kept, chunks, silence.

use std::sync::{Arc, Mutex, PoisonError};

use tenantry_test_support::recorded::Response;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// What to answer.
#[derive(Clone)]
pub enum Play {
    /// A recorded answer.
    Answer(Box<Response>),
    /// Nothing, for ever.
    Silence,
}

/// The server; it ends with the test's runtime.
pub struct Playback {
    /// Its base URL.
    pub url: url::Url,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Playback {
    /// Starts a server. `answers` gives the answer for a request line such as `GET /path?query`; without one it is a
    /// 404 that no real system gives.
    pub async fn start(answers: impl Fn(&str) -> Option<Play> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answers: Answers = Arc::new(answers);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answers.clone(), log.clone()));
            }
        });
        let url = format!("http://{address}").parse().expect("a URL");
        Self { url, asked }
    }

    /// The request lines so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Answers = Arc<dyn Fn(&str) -> Option<Play> + Send + Sync>;

/// One request per connection: simple, and nothing is left over between tests.
async fn serve(mut stream: TcpStream, answers: Answers, log: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let head = read_request(&mut stream).await?;
    let line = head.lines().next().unwrap_or_default();
    let line = line.rsplit_once(' ').map_or(line, |(line, _)| line).to_owned();
    log.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(line.clone());
    match answers(&line) {
        Some(Play::Answer(response)) => send(&mut stream, &response).await,
        Some(Play::Silence) => std::future::pending().await,
        None => {
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\nConnection: close\r\n\r\nunplayed\n";
            stream.write_all(answer.as_bytes()).await
        }
    }
}

/// Reads head and body; gives the head.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let announced = head
                .lines()
                .filter_map(|l| l.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .and_then(|(_, value)| value.trim().parse().ok())
                .unwrap_or(0);
            if body.len() >= announced {
                return Ok(head.to_owned());
            }
        }
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..count]);
    }
}

async fn send(stream: &mut TcpStream, response: &Response) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Recorded\r\nConnection: close\r\n", response.status);
    for (name, value) in &response.headers {
        head.extend([name.as_str(), ": ", value.to_str().unwrap_or_default(), "\r\n"]);
    }
    let framing = match response.announced {
        Some(length) => format!("Content-Length: {}\r\n\r\n", announced(response, length)),
        None => "Transfer-Encoding: chunked\r\n\r\n".into(),
    };
    head.push_str(&framing);
    stream.write_all(head.as_bytes()).await?;
    if response.announced.is_some() {
        stream.write_all(&response.body).await?;
    } else {
        for chunk in response.body.chunks(50_000) {
            stream
                .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
                .await?;
            stream.write_all(chunk).await?;
            stream.write_all(b"\r\n").await?;
        }
        stream.write_all(b"0\r\n\r\n").await?;
    }
    stream.shutdown().await
}

/// JSON is written anew and may have another length than it had; what was cut short stays cut short.
fn announced(response: &Response, length: u64) -> u64 {
    if length == response.size {
        response.body.len() as u64
    } else {
        length
    }
}
