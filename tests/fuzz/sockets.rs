//! Whole HTTP answers, headers and all, as they come out of a socket, read by the client itself.

use std::{sync::OnceLock, time::Duration};

use futures::StreamExt as _;
use tenantry::gateway::{
    Credentials, Gateway, GatewayConfig, Limits, LogCursor, ProjectName, ProjectScope, RunId, RunRef,
    TimeLimits,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    runtime::Runtime,
};

/// How long the client waits for anything: an answer that ends is here at once.
const TIME: Duration = Duration::from_millis(500);
/// Most of a log that is read into memory.
const LOG: usize = 32 << 10;

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().expect("a runtime"))
}

/// Answers each of some connections with these bytes and closes it; a project behind that.
async fn behind(answer: &[u8]) -> (ProjectScope, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let answer = answer.to_vec();
    let serving = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 8 << 10];
                let _ = socket.read(&mut request).await;
                let _ = socket.write_all(&answer).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    let mut config = GatewayConfig::new(
        url.parse().expect("a URL"),
        Credentials::Token("canary-token".into()),
    );
    config.limits = Limits {
        requests_per_second: 100_000,
        burst: 100_000,
        ..Limits::default()
    };
    config.times = TimeLimits {
        connect: TIME,
        json: TIME,
        log: TIME,
        artifact_idle: TIME,
        watch_idle: TIME,
    };
    let gateway = Gateway::new(config).expect("a gateway");
    let project = gateway
        .scope(None)
        .project(&ProjectName::new("demo").expect("a name"));
    (project, serving)
}

/// An answer to each kind of call: JSON, a log that is read on, a file that is read on.
pub(crate) fn http(bytes: &[u8]) {
    runtime().block_on(async {
        let (project, serving) = behind(bytes).await;
        let run = RunRef {
            pipeline: "p".into(),
            branch: None,
            id: RunId::new("1").expect("an id"),
        };
        let said = |what: &dyn std::fmt::Debug| {
            let text = format!("{what:?}");
            assert!(!text.contains("canary-token"), "{text}");
        };
        if let Err(error) = project.pipeline("p").await {
            said(&error);
        }
        let cursor: LogCursor =
            serde_json::from_str(r#"{"delivered":100,"offset":120,"held":false}"#).expect("a cursor");
        for cursor in [LogCursor::default(), cursor] {
            match project.log(&run, &cursor, LOG).await {
                Ok(chunk) => {
                    assert!(chunk.text.len() <= LOG, "{} bytes of a log", chunk.text.len());
                    let delivered = cursor.delivered() + chunk.text.len() as u64;
                    assert_eq!(chunk.next.delivered(), delivered, "text is counted once");
                }
                Err(error) => said(&error),
            }
        }
        match project.download(&run, "r", "a/b.txt", 7).await {
            Ok(mut file) => {
                assert!(file.offset == 0 || file.offset == 7, "begins at {}", file.offset);
                let mut size = 0;
                while let Some(Ok(piece)) = file.next().await {
                    size += piece.len();
                }
                assert!(size <= bytes.len(), "{size} bytes of {}", bytes.len());
            }
            Err(error) => said(&error),
        }
        serving.abort();
    });
}
