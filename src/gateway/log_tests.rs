//! The log ladder: nothing lost, nothing twice, and no empty answer taken for the end.

use std::sync::{Arc, Mutex};

use axum::response::Response;

use super::*;
use crate::gateway::testing::{Seen, Server, answer, build, demo, forbidden, raw};
use crate::gateway::{Credentials, Gateway, Known, ProjectName, testing::config};

fn normalise(pieces: &[&[u8]]) -> Vec<u8> {
    let mut lines = LineEnds::default();
    let mut out: Vec<u8> = pieces.iter().flat_map(|p| lines.push(p)).collect();
    out.extend(lines.flush());
    out
}

#[test]
fn crlf_becomes_lf_wherever_the_text_is_cut() {
    let text = b"a\r\nb\r\r\n\r50%\r100%\n\r\n\r";
    let want = b"a\nb\r\n\r50%\r100%\n\n\r";
    for cut in 0..=text.len() {
        let (left, right) = text.split_at(cut);
        assert_eq!(normalise(&[left, right]), want, "cut at {cut}");
    }
    let single: Vec<&[u8]> = text.chunks(1).collect();
    assert_eq!(normalise(&single), want);
}

/// A Jenkins with one log, whose stored form has LF line ends and is sent with CR LF, as Blue Ocean does.
#[derive(Clone, Default)]
struct Jenkins(Arc<Mutex<Stored>>);

#[derive(Clone, Default)]
struct Stored {
    text: String,
    done: bool,
    proxy_refused: bool,
    proxy_silent: bool,
}

impl Jenkins {
    fn set(&self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.0.lock().unwrap());
    }

    fn answer(&self, seen: &Seen) -> Response {
        let stored = self.0.lock().unwrap().clone();
        let start: usize = seen
            .target
            .split_once("?start=")
            .expect("every read says from where")
            .1
            .parse()
            .unwrap();
        let start = if start > stored.text.len() { 0 } else { start };
        let sent = stored.text[start..].replace('\n', "\r\n");
        if !seen
            .target
            .contains("/jenkins/job/demo/job/p/1/logText/progressiveText")
        {
            return answer(200, &[], sent);
        }
        if stored.proxy_refused {
            return forbidden();
        }
        if stored.proxy_silent {
            return answer(200, &[], "");
        }
        let size = stored.text.len().to_string();
        let mut headers = vec![("x-jenkins", "2.479.3"), ("x-text-size", size.as_str())];
        if !stored.done {
            headers.push(("x-more-data", "true"));
        }
        answer(200, &headers, sent)
    }
}

async fn jenkins() -> (Jenkins, Server, ProjectScope) {
    let jenkins = Jenkins::default();
    let answering = jenkins.clone();
    let server = Server::start(move |seen: &Seen| answering.answer(seen)).await;
    let project = demo(&server);
    (jenkins, server, project)
}

async fn read(project: &ProjectScope, cursor: &mut LogCursor) -> (String, LogEnd, LogRung) {
    let chunk = project.log(&build(), cursor, 1 << 20).await.unwrap();
    *cursor = chunk.next;
    (
        String::from_utf8(chunk.text.to_vec()).unwrap(),
        chunk.end,
        chunk.rung,
    )
}

#[tokio::test]
async fn only_new_text_travels_on_the_first_rung_and_jenkins_says_when_it_is_all() {
    let (jenkins, server, project) = jenkins().await;
    let mut cursor = LogCursor::default();
    jenkins.set(|j| j.text = "one\ntwo\n".into());
    assert_eq!(
        read(&project, &mut cursor).await,
        ("one\ntwo\n".into(), LogEnd::Growing, LogRung::Progressive)
    );
    assert_eq!(
        read(&project, &mut cursor).await,
        (String::new(), LogEnd::Growing, LogRung::Progressive)
    );
    jenkins.set(|j| j.text.push_str("three\n"));
    jenkins.set(|j| j.done = true);
    assert_eq!(
        read(&project, &mut cursor).await,
        ("three\n".into(), LogEnd::Complete, LogRung::Progressive)
    );
    assert_eq!(cursor.delivered(), 14);
    let starts: Vec<_> = server
        .seen()
        .iter()
        .map(|s| s.target.split_once("start=").unwrap().1.to_owned())
        .collect();
    assert_eq!(starts, ["0", "8", "8"]);
    assert!(matches!(project.capabilities().jenkins_proxy, Known::Yes { .. }));
}

#[tokio::test]
async fn the_whole_log_rung_gives_what_is_new_and_never_says_complete() {
    let (jenkins, server, project) = jenkins().await;
    jenkins.set(|j| j.proxy_refused = true);
    jenkins.set(|j| j.text = "one\n".into());
    let mut cursor = LogCursor::default();
    assert_eq!(
        read(&project, &mut cursor).await,
        ("one\n".into(), LogEnd::Unknown, LogRung::Whole)
    );
    jenkins.set(|j| j.text.push_str("two\n"));
    assert_eq!(
        read(&project, &mut cursor).await,
        ("two\n".into(), LogEnd::Unknown, LogRung::Whole)
    );
    jenkins.set(|j| j.text.clear());
    assert_eq!(
        read(&project, &mut cursor).await,
        (String::new(), LogEnd::Cut, LogRung::Whole),
        "less than there was is never the end"
    );
    jenkins.set(|j| j.text = "one\ntwo\nthree\n".into());
    assert_eq!(
        read(&project, &mut cursor).await,
        ("three\n".into(), LogEnd::Unknown, LogRung::Whole)
    );
    let refused = server
        .seen()
        .iter()
        .filter(|s| s.target.contains("progressiveText"))
        .count();
    assert_eq!(refused, 1, "a refusal is remembered");
    assert!(matches!(project.capabilities().jenkins_proxy, Known::No { .. }));
}

#[tokio::test]
async fn falling_and_climbing_between_rungs_neither_loses_nor_repeats() {
    let (jenkins, _server, project) = jenkins().await;
    let mut cursor = LogCursor::default();
    let mut got = String::new();
    for (line, silent) in [
        ("a\n", false),
        ("b\n", true),
        ("c\n", false),
        ("d\n", false),
        ("e\n", true),
        ("f\n", true),
    ] {
        jenkins.set(|j| j.text.push_str(line));
        jenkins.set(|j| j.proxy_silent = silent);
        let (text, _, rung) = read(&project, &mut cursor).await;
        assert_eq!(
            rung,
            if silent {
                LogRung::Whole
            } else {
                LogRung::Progressive
            }
        );
        got.push_str(&text);
    }
    assert_eq!(got, "a\nb\nc\nd\ne\nf\n");
}

#[tokio::test]
async fn a_line_end_that_jenkins_has_stored_half_comes_once_and_whole() {
    let (jenkins, _server, project) = jenkins().await;
    let mut cursor = LogCursor::default();
    jenkins.set(|j| j.text = "windows\r".into());
    assert_eq!(read(&project, &mut cursor).await.0, "windows");
    // The stand-in would make CR CR LF of it, so it is ended here by a lone CR's next character.
    jenkins.set(|j| j.text.push_str("50%"));
    jenkins.set(|j| j.done = true);
    assert_eq!(
        read(&project, &mut cursor).await,
        ("\r50%".into(), LogEnd::Complete, LogRung::Progressive)
    );
}

#[tokio::test]
async fn a_cr_at_the_very_end_is_held_back_and_told_on_the_rung_that_knows_no_end() {
    let (jenkins, _server, project) = jenkins().await;
    jenkins.set(|j| j.proxy_refused = true);
    let mut cursor = LogCursor::default();
    jenkins.set(|j| j.text = "50%\r".into());
    assert_eq!(read(&project, &mut cursor).await.0, "50%");
    assert_eq!(cursor.held(), b"\r", "the end of the text if nothing more comes");
    assert_eq!(read(&project, &mut cursor).await.0, "");
    assert_eq!(cursor.held(), b"\r");
    jenkins.set(|j| j.text.push_str("100%"));
    assert_eq!(read(&project, &mut cursor).await.0, "\r100%");
    assert_eq!(cursor.held(), b"", "it was handed out");
}

#[tokio::test]
async fn a_log_that_breaks_off_goes_on_where_it_broke() {
    let head =
        "HTTP/1.1 200 OK\r\nX-Jenkins: 2\r\nX-Text-Size: 8\r\nConnection: close\r\nContent-Length: 8\r\n\r\n";
    let (url, _) = raw(vec![
        format!("{head}one\n").into_bytes(),
        format!("{head}one\ntwo\n").into_bytes(),
    ])
    .await;
    let gateway = Gateway::new(config(&url, Credentials::Token("t".into()))).unwrap();
    let project = gateway.scope(None).project(&ProjectName::new("demo").unwrap());
    let mut stream = project.open_log(&build(), &LogCursor::default()).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), "one\n");
    assert_eq!(
        stream.next().await.unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionLost
    );
    let (cursor, end) = stream.finish();
    assert_eq!(end, LogEnd::Unknown);
    let chunk = project.log(&build(), &cursor, 100).await.unwrap();
    assert_eq!(
        (chunk.text, chunk.end),
        (Bytes::from_static(b"two\n"), LogEnd::Complete)
    );
}

#[tokio::test]
async fn more_than_the_callers_bound_is_an_error() {
    let (jenkins, _server, project) = jenkins().await;
    jenkins.set(|j| j.text = "x".repeat(1000));
    let error = project
        .log(&build(), &LogCursor::default(), 999)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}
