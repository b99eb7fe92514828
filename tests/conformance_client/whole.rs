//! Recordings through the whole client, transport included: what the parsers alone cannot show.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use tenantry::gateway::{
    Credentials, EncodedBranch, ErrorKind, Gateway, GatewayConfig, GitBranch, LogCursor, LogEnd, LogRung,
    ProjectName, ProjectScope, RunEvent, RunId, RunRef,
};
use tenantry_test_support::recorded::{self, Exchange};

use crate::playback::{Play, Playback};

/// The project's own recording with this number.
fn recording(number: &str) -> Exchange {
    crate::exchanges()
        .iter()
        .find(|e| e.number == number)
        .cloned()
        .unwrap_or_else(|| panic!("no recording {number}"))
}

fn play(number: &str) -> Play {
    recording(number)
        .response
        .map_or(Play::Silence, |response| Play::Answer(Box::new(response)))
}

/// A server that gives each recorded request its recorded answer. Runs against the project's own recordings only.
async fn playback(numbers: &[&str]) -> Playback {
    let answers: Vec<(String, Play)> = numbers
        .iter()
        .map(|number| {
            let exchange = recording(number);
            (format!("{} {}", exchange.method, exchange.path), play(number))
        })
        .collect();
    Playback::start(move |line| {
        answers
            .iter()
            .find(|(asked, _)| asked == line)
            .map(|(_, p)| p.clone())
    })
    .await
}

fn gateway(server: &Playback) -> Gateway {
    let mut config = GatewayConfig::new(server.url.clone(), Credentials::Token("t0ken".into()));
    // Short enough to wait for in a test of silence; the server is on loopback.
    config.times.json = Duration::from_secs(5);
    Gateway::new(config).expect("a gateway")
}

fn project(server: &Playback, cluster: Option<&str>, name: &str) -> ProjectScope {
    let name = ProjectName::new(name).expect("a project name");
    gateway(server).scope(cluster).project(&name)
}

fn build(pipeline: &str, id: &str) -> RunRef {
    RunRef {
        pipeline: pipeline.into(),
        branch: None,
        id: RunId::new(id).expect("a run id"),
    }
}

fn skip() -> bool {
    !recorded::is_own()
}

#[tokio::test]
async fn a_cut_artifact_ends_in_an_error_and_a_slow_one_does_not() {
    if skip() {
        return;
    }
    for (number, cut) in [("1843", true), ("1845", false)] {
        let server = playback(&[number]).await;
        let download = project(&server, None, "demo2snmj")
            .download(&build("artifacts", "3"), "artifacts-n2npz", "app.jar", 0)
            .await
            .expect("headers");
        assert_eq!(download.remaining, Some(1_048_576));
        let pieces: Result<Vec<_>, _> = download.try_collect().await;
        match pieces {
            Err(error) => {
                assert!(cut, "{number}: {error}");
                assert_eq!(error.kind(), ErrorKind::ConnectionLost, "{number}");
            }
            Ok(pieces) => {
                assert!(!cut, "{number} ended as if it were whole");
                assert_eq!(pieces.iter().map(bytes::Bytes::len).sum::<usize>(), 1_048_576);
            }
        }
    }
}

#[tokio::test]
async fn silence_ends_in_a_time_out() {
    if skip() {
        return;
    }
    let server = playback(&["3173"]).await;
    let mut config = GatewayConfig::new(server.url.clone(), Credentials::Token("t0ken".into()));
    config.times.json = Duration::from_millis(300);
    let name = ProjectName::new("eastrq64q").expect("a project name");
    let scope = Gateway::new(config).expect("a gateway").scope(Some("member-1"));
    let error = scope.project(&name).pipeline("hello").await.expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    assert!(!error.ambiguous(), "a read cannot have done anything");
}

#[tokio::test]
async fn a_recorded_watch_tells_the_life_of_its_runs() {
    if skip() {
        return;
    }
    let list = recording("3125");
    let watch = play("3142");
    let first = std::sync::atomic::AtomicBool::new(true);
    let server = Playback::start(move |line| {
        if !line.contains("/pipelineruns?") {
            return None;
        }
        let response = list.response.clone().map(|r| Play::Answer(Box::new(r)));
        if !line.contains("watch=true") {
            return response;
        }
        // The stream is played once; after its end the client watches on and hears nothing more.
        let again = !first.swap(false, std::sync::atomic::Ordering::SeqCst);
        Some(if again { Play::Silence } else { watch.clone() })
    })
    .await;
    let mut events = Box::pin(project(&server, Some("member-1"), "eastrq64q").watch_runs(None));
    let mut seen = Vec::new();
    let mut deleted = Vec::new();
    while deleted.is_empty() || seen.len() < 20 {
        let event = tokio::time::timeout(Duration::from_secs(60), events.next())
            .await
            .unwrap_or_else(|_| panic!("only {} events came", seen.len()))
            .expect("a watch does not end");
        match event.expect("no error") {
            RunEvent::Init | RunEvent::InitDone => {}
            RunEvent::Apply(run) | RunEvent::InitApply(run) => seen.push(run),
            RunEvent::Delete(run) => {
                deleted.push(run.name.clone());
                seen.push(run);
            }
        }
    }
    assert_eq!(deleted, ["own-1"]);
    let ends: Vec<_> = seen
        .iter()
        .filter(|r| r.completed.is_some())
        .map(|r| &r.name)
        .collect();
    assert!(ends.iter().any(|n| *n == "hello-qdxbj"), "{ends:?}");
    assert!(
        server
            .asked()
            .iter()
            .any(|l| l.starts_with("GET /clusters/member-1/apis/"))
    );
}

#[tokio::test]
async fn a_watch_from_too_long_ago_and_a_distrusted_one_are_told() {
    if skip() {
        return;
    }
    for (number, wanted) in [
        ("1606", ErrorKind::RemoteFailure),
        ("3172", ErrorKind::BackendUnavailable),
    ] {
        let list = recording("3125");
        let watch = play(number);
        let server = Playback::start(move |line| {
            if line.contains("watch=true") {
                Some(watch.clone())
            } else {
                list.response.clone().map(|r| Play::Answer(Box::new(r)))
            }
        })
        .await;
        let mut events = Box::pin(project(&server, None, "demo2snmj").watch_runs(None));
        let error = loop {
            let event = tokio::time::timeout(Duration::from_secs(60), events.next()).await;
            match event.expect("an event").expect("a watch does not end") {
                Ok(RunEvent::Init | RunEvent::InitDone) => {}
                Ok(other) => panic!("{number}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), wanted, "{number}: {error}");
    }
}

#[tokio::test]
async fn a_log_comes_with_line_feeds_and_an_empty_one_is_not_its_end() {
    if skip() {
        return;
    }
    // (recording of the whole log, run, bytes as LF text: what Jenkins stored, finding F-G)
    for (number, run, stored) in [("0837", "1", None), ("1841", "3", Some(0))] {
        let server = playback(&[number]).await;
        let (pipeline, branch) = if number == "0837" {
            ("multi", Some(EncodedBranch::from_git(&GitBranch::new("main"))))
        } else {
            ("artifacts", None)
        };
        let run = RunRef {
            branch,
            ..build(pipeline, run)
        };
        // The proxy is not in this recording: the 404 of the playback server makes the client take the next rung.
        let chunk = project(&server, None, "demo2snmj")
            .log(&run, &LogCursor::default(), 1 << 20)
            .await
            .unwrap_or_else(|e| panic!("{number}: {e}"));
        assert_eq!(chunk.rung, LogRung::Whole, "{number}");
        assert_eq!(chunk.end, LogEnd::Unknown, "{number}: only the run tells the end");
        assert!(!chunk.text.windows(2).any(|w| w == b"\r\n"), "{number}");
        let whole = recording(number).response.expect("an answer").body;
        let lines = whole.windows(2).filter(|w| *w == b"\r\n").count();
        assert_eq!(
            chunk.text.len(),
            stored.unwrap_or(whole.len() - lines),
            "{number}"
        );
    }
}

#[tokio::test]
async fn progressive_text_tells_where_to_go_on() {
    if skip() {
        return;
    }
    let exchange = recording("1205");
    let header = |name: &str| {
        let response = exchange.response.as_ref().expect("an answer");
        response
            .headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    // The recording begins at 10000; it is played to a client that begins at 0, which is what a cursor starts with.
    let answer = play("1205");
    let server = Playback::start(move |line| line.contains("progressiveText").then(|| answer.clone())).await;
    let chunk = project(&server, None, "demo2snmj")
        .log(&build("slow", "2"), &LogCursor::default(), 1 << 20)
        .await
        .expect("a log");
    assert_eq!(chunk.rung, LogRung::Progressive);
    assert_eq!(header("x-more-data"), "true");
    assert_eq!(chunk.end, LogEnd::Growing);
    let next = project(&server, None, "demo2snmj")
        .log(&build("slow", "2"), &chunk.next, 1 << 20)
        .await;
    next.expect("the same again");
    let last = server.asked().pop().expect("a request");
    assert!(
        last.ends_with(&format!("start={}", header("x-text-size"))),
        "{last}"
    );
}
