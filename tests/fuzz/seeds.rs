//! Where the inputs begin: recorded answers of a real system, and what else a target needs.

use http::Method;
use tenantry::fetcher::outcome::{Failure, FailureKind, Line, Outcome, Stored, StoredFile, Success};
use tenantry_test_support::recorded::{self, Exchange};

/// Larger ones say nothing that smaller ones do not.
const MAX: usize = 24 << 10;

fn recordings() -> Vec<Exchange> {
    recorded::exchanges().expect("the recordings")
}

/// Recorded answers, written like HTTP.
pub(crate) fn exchanges() -> Vec<Vec<u8>> {
    recordings()
        .into_iter()
        .filter_map(|exchange| {
            let response = exchange.response?;
            let mut text =
                format!("{} {} {}\n", exchange.method, exchange.path, response.status).into_bytes();
            for (name, value) in &response.headers {
                text.extend_from_slice(format!("{name}: ").as_bytes());
                text.extend_from_slice(value.as_bytes());
                text.push(b'\n');
            }
            text.push(b'\n');
            text.extend_from_slice(&response.body);
            (text.len() <= MAX).then_some(text)
        })
        .collect()
}

fn bodies(wanted: impl Fn(&Exchange) -> bool) -> Vec<Vec<u8>> {
    recordings()
        .into_iter()
        .filter(wanted)
        .filter_map(|exchange| exchange.response.map(|response| response.body))
        .filter(|body| !body.is_empty() && body.len() <= MAX)
        .collect()
}

pub(crate) fn watches() -> Vec<Vec<u8>> {
    bodies(|exchange| exchange.path.contains("watch=true") || exchange.path.contains("watch=1"))
}

pub(crate) fn tokens() -> Vec<Vec<u8>> {
    let mut all =
        bodies(|exchange| exchange.method == Method::POST && exchange.path.starts_with("/oauth/token"));
    all.push(br#"{"access_token":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJyb2JvIiwiZXhwIjoxNzk1MzU3ODEwfQ.sig","expires_in":7200,"refresh_token":"r"}"#.to_vec());
    all
}

pub(crate) fn kubeconfigs() -> Vec<Vec<u8>> {
    let yaml = "apiVersion: v1\nkind: Config\ncurrent-context: robo@host\nclusters:\n- name: host\n  cluster:\n    server: https://ks.example.org\n    certificate-authority-data: Zm9v\ncontexts:\n- name: robo@host\n  context: {cluster: host, user: robo, namespace: default}\nusers:\n- name: robo\n  user:\n    token: canary-token\n";
    let anchors = "a: &a [canary, canary]\nb: &b [*a, *a]\nc: &c [*b, *b]\nclusters: *c\n";
    vec![yaml.into(), anchors.into()]
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    [
        "demo2snmj",
        "7",
        "feature/login",
        "refs/heads/main",
        "PR-7",
        "feature%2Flogin",
        "..",
        "ünïcödé#[x]?",
    ]
    .map(Vec::from)
    .into()
}

pub(crate) fn outcomes() -> Vec<Vec<u8>> {
    let stored = Stored::Artifacts {
        manifest: ".tenantry/artifactfetch.files.json".into(),
        reused: 1,
        pruned: 0,
        listed: vec![StoredFile {
            path: "a/b.txt".into(),
            size: 3,
            sha256: "ab".repeat(32),
        }],
    };
    let log = Stored::Log {
        path: "logs/build.log".into(),
        sha256: "cd".repeat(32),
        last_lines: "\u{1}\"line\"\n".repeat(900),
    };
    let success = |stored| Success {
        revision: "demo/p#7".into(),
        files: 1,
        bytes: 3,
        stored,
    };
    let ends = [
        Outcome::Succeeded(success(stored)),
        Outcome::Succeeded(success(log)),
        Outcome::Failed(Failure::new(
            FailureKind::DiskFull,
            "the volume is full \u{1}\u{2}".repeat(300),
        )),
    ];
    let mut all: Vec<Vec<u8>> = ends
        .into_iter()
        .map(|end| serde_json::to_vec(&Line::Result(end)).expect("JSON"))
        .collect();
    all.push(br#"{"progress":{"files":1,"totalFiles":4,"bytes":10,"totalBytes":30}}"#.to_vec());
    all.push(include_bytes!("plan.json").to_vec());
    all
}

pub(crate) fn volumes() -> Vec<Vec<u8>> {
    let kept = r#"{"path":"a/b.txt","size":3,"sha256":"abc","inode":7,"modified":"2026-03-19T02:50:12.7Z"}"#;
    let key = r#""subPath":"shop/latest","revision":"demo/p#7","selectionDigest":"d""#;
    let manifest = format!(
        r#"{{"version":1,"owner":"artifactfetch.files",{key},"files":[{kept}],"earlier":[{kept}],"directories":["shop","shop/latest"]}}"#
    );
    let journal = format!(
        "{{\"begin\":{{{key},\"boot\":\"b\"}}}}\n{{\"whole\":{kept}}}\n{{\"partial\":{{\"path\":\"c/d\",\"safe\":17}}}}\n\"publishing\"\n{{\"made\":\"shop\"}}\n"
    );
    vec![manifest.into(), journal.into()]
}

pub(crate) fn logs() -> Vec<Vec<u8>> {
    let mut all = bodies(|exchange| exchange.path.contains("/log") || exchange.path.contains("consoleText"));
    all.push(b"\x1b[8mha:////4AAAA\x1b[0mStarted by user\r\n\x1b[31mred\x1b[0m 10%\r 50%\r100%\r\nhunter2 and aaaaaaaaaaaa\r\nbroken \xff\xf0\x9f\x98 text\r\nit's \"quoted\"\nsecond line\n".to_vec());
    all.push("ünïcödé in a long line ".repeat(900).into_bytes());
    all.push(b"a line\n".repeat(3_000));
    all
}

pub(crate) fn listings() -> Vec<Vec<u8>> {
    let mut all = bodies(|exchange| {
        exchange
            .path
            .split('?')
            .next()
            .is_some_and(|path| path.ends_with("/artifacts"))
    });
    all.push(br#"[{"path":"a/b.txt","size":3},{"path":"../../etc/passwd","size":1},{"path":"a\u202eb","size":9},{"path":".tenantry/x","size":1},{"path":"/abs","size":-1},{"path":"A.b.txt","size":0},{"path":"a.b.txt","size":0},{"path":"a/./b","size":1}]"#.to_vec());
    all
}

/// Whole answers of a server.
pub(crate) fn raw_answers() -> Vec<Vec<u8>> {
    let log = "Started\r\nline 2\r\nFinished: SUCCESS\r\n".repeat(8);
    let size = log.len();
    let gzip: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0,
    ];
    let mut zipped = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n".to_vec();
    zipped.extend_from_slice(gzip);
    vec![
        format!("HTTP/1.1 200 OK\r\nX-Jenkins: 2.4\r\nX-Text-Size: {size}\r\nX-More-Data: true\r\nContent-Length: {size}\r\n\r\n{log}").into(),
        format!("HTTP/1.1 200 OK\r\nX-Jenkins: 2.4\r\nX-Text-Size: {size}\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{log}\r\n0\r\n\r\n").into(),
        format!("HTTP/1.1 206 Partial Content\r\nX-Jenkins: 2.4\r\nContent-Range: bytes 7-{size}/{size}\r\nContent-Length: {size}\r\n\r\n{log}").into(),
        "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 31536000\r\nDate: Sun, 22 Nov 2026 20:00:00 GMT\r\nContent-Length: 2\r\n\r\n{}".into(),
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nDate: Sun, 22 Nov 2026 20:00:00 GMT\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 120\r\n\r\n{\"metadata\":{\"name\":\"p\",\"uid\":\"u\",\"annotations\":{}},\"spec\":{\"type\":\"pipeline\",\"pipeline\":{\"name\":\"p\",\"jenkinsfile\":\"x\"}}}".into(),
        zipped,
    ]
}
