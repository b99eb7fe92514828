//! What the gateway answers, taken through the parser of its route; and what else names come from.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tenantry::gateway::{
    EncodedBranch, GatewayError, GitBranch, Kubeconfig, ProjectName, RunId, Stage,
    wire::{
        answer::{self, Answer},
        oauth,
        row::{self, RowEvent},
        run::{self, WatchLine},
    },
};

/// Longest message, in characters: what was asked, what happened, and 400 of the remote's own.
const MESSAGE: usize = 1_000;

/// A message is one line that a person can read, whatever the remote sent.
fn is_fit_to_show(error: &GatewayError) {
    let said = error.remote_message().unwrap_or_default();
    assert!(
        said.chars().count() <= 401,
        "{} characters: {said}",
        said.chars().count()
    );
    assert!(
        !said.chars().any(char::is_control),
        "control characters: {said:?}"
    );
    assert!(
        !said.contains(['\u{202e}', '\u{2066}', '\u{200b}']),
        "direction marks: {said:?}"
    );
    let what = error.to_string();
    assert!(what.chars().count() <= MESSAGE, "{what}");
    assert!(
        error
            .retry_after()
            .is_none_or(|after| after <= Duration::from_secs(24 * 3600)),
        "{error:?} waits for {:?}",
        error.retry_after()
    );
}

/// Method, path, status, headers and body of an exchange that is written like HTTP.
fn parts(bytes: &[u8]) -> Option<(Method, String, u16, HeaderMap, &[u8])> {
    let end = bytes.windows(2).position(|w| w == b"\n\n")?;
    let (head, body) = (std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 2..]);
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let method = first.next()?.parse().ok()?;
    let path: String = first.next()?.chars().take(300).collect();
    let status = first.next()?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    Some((method, path, status, headers, body))
}

/// An answer of any route.
pub(crate) fn answer(bytes: &[u8]) {
    let Some((method, path, status, headers, body)) = parts(bytes) else {
        return;
    };
    let read = || answer::read(&method, &path, status, &headers, body);
    match read() {
        Err(error) => {
            is_fit_to_show(&error);
            assert_eq!(
                format!("{:?}", read().unwrap_err()),
                format!("{error:?}"),
                "not the same twice"
            );
        }
        Ok(answer) => {
            assert!(
                (200..300).contains(&status) || matches!(answer, Answer::Stages(None)),
                "{status} is no success"
            );
            holds_no_more_than_was_sent(&answer, body.len());
        }
    }
}

/// A few bytes of JSON are a few values.
fn holds_no_more_than_was_sent(answer: &Answer, bytes: usize) {
    let most = 2_000 + bytes / 24;
    let nodes = |stages: &[Stage]| stages.iter().map(|stage| 1 + stage.steps.len()).sum::<usize>();
    let count = match answer {
        Answer::Runs(page) => page.items.len(),
        Answer::Artifacts(files) => files.len(),
        Answer::Projects(projects) => projects.len(),
        Answer::Pipelines(pipelines) => pipelines.len(),
        Answer::Stages(Some(stages)) => nodes(stages),
        _ => 0,
    };
    assert!(count <= most, "{count} values of {bytes} bytes");
}

/// What a watch says is what its whole lines say, wherever it is cut.
pub(crate) fn watch(bytes: &[u8]) {
    let read = |bytes: &[u8]| -> Vec<String> {
        let lines = bytes
            .split_inclusive(|b| *b == b'\n')
            .filter(|line| line.ends_with(b"\n"));
        lines
            .map(|line| format!("{:?}", run::watch_line(&line[..line.len() - 1])))
            .collect()
    };
    let all = read(bytes);
    let cut = bytes
        .first()
        .map_or(0, |first| usize::from(*first) * bytes.len() / 256);
    let some = read(&bytes[..cut]);
    assert_eq!(all[..some.len()], some[..], "cut at {cut}");
    let mut columns = None;
    for line in bytes.split(|b| *b == b'\n') {
        if let Some(line) = row::line(line, &mut columns)
            && let RowEvent::Changed(row) = line.event
        {
            assert!(!row.name.is_empty());
        }
        if let Some(WatchLine::Changed(run) | WatchLine::Deleted(run)) = run::watch_line(line) {
            let _ = (run.progress(), run.reference());
        }
    }
}

/// A token answer, and the claims of whatever came as a token.
pub(crate) fn token(bytes: &[u8]) {
    let read = answer::read(&Method::POST, "/oauth/token", 200, &HeaderMap::new(), bytes);
    match read {
        Ok(Answer::Tokens(tokens)) => {
            use secrecy::ExposeSecret as _;
            let bearer = tokens.access.expose_secret();
            assert!(
                HeaderValue::from_str(bearer).is_ok(),
                "a bearer that is no header"
            );
            assert!(
                !format!("{tokens:?}").contains(bearer) || bearer.len() < 4,
                "a bearer is shown"
            );
            let _ = oauth::claims(bearer);
        }
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            is_fit_to_show(&error);
            // What may be a token is never quoted.
            assert!(!error.to_string().contains("eyJ"), "{error}");
        }
    }
    let _ = oauth::claims(&String::from_utf8_lossy(bytes));
}

/// A kubeconfig, from a Secret of the tenant.
pub(crate) fn kubeconfig(bytes: &[u8]) {
    // What is larger than a Secret cannot come.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64 << 10)]).into_owned();
    if let Err(error) = Kubeconfig::parse(&text.into()) {
        is_fit_to_show(&error);
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

/// Names out of remote objects, and branches.
pub(crate) fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(name) = ProjectName::new(text.as_ref()) {
        assert!(name.as_str().len() <= 63 && !name.as_str().contains(['/', '.', '%']));
    }
    if let Ok(id) = RunId::new(text.as_ref()) {
        assert!(id.as_str().parse::<u64>().is_ok(), "{id}");
    }
    let branch = GitBranch::new(text.as_ref());
    let encoded = EncodedBranch::from_git(&branch);
    assert!(
        !encoded.as_str().is_empty() && !encoded.as_str().contains(['/', '?', '#', '\\']),
        "{encoded}"
    );
    assert!(!matches!(encoded.as_str(), "." | ".."), "{encoded}");
    assert_eq!(encoded.to_git(), branch);
    let _ = EncodedBranch::from_remote(text.as_ref()).to_git();
}
