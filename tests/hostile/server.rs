//! A gateway that means harm: between the operator and the simulator, it passes on what it does not spoil. It reads and
//! writes raw bytes, so that it can send what no HTTP library would.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What is done to the requests that match.
#[derive(Clone, Debug)]
pub enum Evil {
    /// These bytes, and the connection is closed.
    Bytes(Vec<u8>),
    /// A head, and then this again and again: so many bytes a second until nobody listens.
    Endless {
        head: String,
        piece: Vec<u8>,
        per_second: usize,
    },
    /// A head, and then a byte a second.
    Drip { head: String },
    /// Nothing, for ever.
    Silence,
    /// 302 to itself.
    Loop,
    /// 500 with all that was sent, head and body, in it.
    Echo,
}

/// A hostile gateway, for as long as it is held.
pub struct Hostile {
    pub address: SocketAddr,
    /// How many requests it has spoilt.
    pub spoilt: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Whether a request, `METHOD PATH`, is spoilt: all words are in it.
type Match = Vec<&'static str>;

impl Hostile {
    /// Spoils what holds all the words of some match; all else is answered by `upstream`.
    pub async fn start(upstream: &str, spoils: Vec<(Match, Evil)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let spoilt = Arc::new(AtomicUsize::new(0));
        let (count, upstream, spoils) = (spoilt.clone(), upstream.to_owned(), Arc::new(spoils));
        // An error means that someone installed one before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        let serving = tokio::spawn(async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else {
                    continue;
                };
                let (count, upstream, spoils, client) =
                    (count.clone(), upstream.clone(), spoils.clone(), client.clone());
                // A client that goes away in the middle is what is hoped for.
                tokio::spawn(async move {
                    let _ = serve(socket, &client, &upstream, &spoils, &count).await;
                });
            }
        });
        Self {
            address,
            spoilt,
            serving,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it has spoilt.
    pub fn count(&self) -> usize {
        self.spoilt.load(Ordering::SeqCst)
    }
}

/// A request as it came.
struct Asked {
    line: String,
    head: String,
    body: Vec<u8>,
}

async fn read(socket: &mut TcpStream) -> std::io::Result<Option<Asked>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let mut body = bytes.split_off(end);
    while body.len() < length {
        if socket.read_buf(&mut body).await? == 0 {
            break;
        }
    }
    let line = head.lines().next().unwrap_or_default();
    let line = line.rsplit_once(' ').map_or(line, |(line, _)| line).to_owned();
    Ok(Some(Asked { line, head, body }))
}

async fn serve(
    mut socket: TcpStream,
    client: &reqwest::Client,
    upstream: &str,
    spoils: &[(Match, Evil)],
    count: &AtomicUsize,
) -> anyhow::Result<()> {
    let Some(asked) = read(&mut socket).await? else {
        return Ok(());
    };
    let spoil = spoils
        .iter()
        .find(|(words, _)| words.iter().all(|word| asked.line.contains(word)));
    match spoil {
        Some((_, evil)) => {
            count.fetch_add(1, Ordering::SeqCst);
            harm(&mut socket, evil, &asked).await?;
        }
        None => pass_on(&mut socket, client, upstream, &asked).await?,
    }
    socket.shutdown().await?;
    Ok(())
}

async fn harm(socket: &mut TcpStream, evil: &Evil, asked: &Asked) -> std::io::Result<()> {
    match evil {
        Evil::Bytes(bytes) => socket.write_all(bytes).await,
        Evil::Endless {
            head,
            piece,
            per_second,
        } => {
            socket.write_all(head.as_bytes()).await?;
            let part = piece.repeat((per_second / 20 / piece.len()).max(1));
            loop {
                socket.write_all(&part).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Evil::Drip { head } => {
            socket.write_all(head.as_bytes()).await?;
            loop {
                socket.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Evil::Silence => {
            let mut rest = [0; 1];
            socket.read(&mut rest).await.map(|_| ())
        }
        Evil::Loop => {
            let path = asked.line.split(' ').nth(1).unwrap_or("/");
            let answer = format!(
                "HTTP/1.1 302 Found\r\nLocation: {path}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            socket.write_all(answer.as_bytes()).await
        }
        Evil::Echo => {
            let text = format!(
                "cannot serve {}\n{}",
                asked.head,
                String::from_utf8_lossy(&asked.body)
            );
            socket
                .write_all(&answer(
                    "500 Internal Server Error",
                    "text/plain",
                    text.as_bytes(),
                ))
                .await
        }
    }
}

async fn pass_on(
    socket: &mut TcpStream,
    client: &reqwest::Client,
    upstream: &str,
    asked: &Asked,
) -> anyhow::Result<()> {
    let (method, path) = asked.line.split_once(' ').unwrap_or(("GET", "/"));
    let mut request = client
        .request(method.parse()?, format!("{upstream}{path}"))
        .body(asked.body.clone());
    for (name, value) in asked
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
    {
        if ["authorization", "content-type", "accept", "range"].contains(&name.to_ascii_lowercase().as_str())
        {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await?;
    let mut head = format!("HTTP/1.1 {}\r\nConnection: close\r\n", answer.status());
    for (name, value) in answer.headers() {
        if name != "transfer-encoding" && name != "content-length" && name != "connection" {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
        }
    }
    let body = answer.bytes().await?;
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&body).await?;
    Ok(())
}

/// A whole answer.
pub fn answer(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nX-Jenkins: 2.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A whole answer of JSON.
pub fn json(body: &str) -> Vec<u8> {
    answer("200 OK", "application/json", body.as_bytes())
}

/// The head of an answer of JSON that ends with the connection.
pub fn endless_head(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nX-Jenkins: 2.4\r\nConnection: close\r\n\r\n")
}

/// `count` times `item`, in gzip.
pub fn bomb(item: &str, count: usize) -> Vec<u8> {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    zip.write_all(b"[").expect("in memory");
    let part = item.repeat(10_000);
    for _ in 0..count / 10_000 {
        zip.write_all(part.as_bytes()).expect("in memory");
    }
    let body = zip.finish().expect("in memory");
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}

/// Somebody else's server: whoever comes here was led astray.
pub struct Trap {
    pub address: SocketAddr,
    came: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Trap {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let came = Arc::new(AtomicUsize::new(0));
        let count = came.clone();
        let serving = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self {
            address,
            came,
            serving,
        }
    }

    pub fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
