use axum::response::Response;
use futures::TryStreamExt as _;
use serde_json::json;

use super::*;
use crate::gateway::testing::{Seen, Server, answer, build, config, demo, forbidden, raw};
use crate::gateway::{Credentials, Gateway, ProjectName};

const JENKINS: (&str, &str) = ("x-jenkins", "2.479.3");

async fn bytes(download: Download) -> Result<Vec<u8>> {
    download
        .try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
}

fn list(from: usize, to: usize) -> Response {
    let files: Vec<_> = (from..to)
        .map(|n| json!({"path": format!("f{n}"), "size": n}))
        .collect();
    axum::response::IntoResponse::into_response(axum::Json(files))
}

fn number(target: &str, key: &str) -> usize {
    let (_, rest) = target.split_once(&format!("{key}=")).unwrap();
    rest.split('&').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn all_pages_of_a_list_are_read_and_no_file_comes_twice() {
    let server = Server::start(|seen: &Seen| {
        let start = number(&seen.target, "start");
        list(start, (start + number(&seen.target, "limit")).min(1234))
    })
    .await;
    let all = demo(&server).artifacts(&build()).await.unwrap();
    assert_eq!(all.len(), 1234);
    assert_eq!(
        all[0],
        Artifact {
            path: "f0".into(),
            size: 0
        }
    );
    assert_eq!(
        server.seen().len(),
        4,
        "the last page may be a full one of a remote with smaller pages"
    );
}

#[tokio::test]
async fn a_remote_with_smaller_pages_than_asked_for_is_read_to_its_end() {
    let server = Server::start(|seen: &Seen| {
        let start = number(&seen.target, "start");
        list(start, (start + 100).min(250))
    })
    .await;
    assert_eq!(demo(&server).artifacts(&build()).await.unwrap().len(), 250);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_remote_that_does_not_page_does_not_make_an_endless_loop() {
    let server = Server::start(|_: &Seen| list(0, PAGE)).await;
    assert_eq!(demo(&server).artifacts(&build()).await.unwrap().len(), PAGE);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_file_is_streamed_through_the_proxy_and_resumed_by_range() {
    let server = Server::start(|seen: &Seen| {
        assert!(
            seen.target
                .ends_with("/jenkins/job/demo/job/p/1/artifact/dir/a%20b.bin"),
            "{}",
            seen.target
        );
        answer(200, &[JENKINS], "0123456789")
    })
    .await;
    let project = demo(&server);
    let whole = project.download(&build(), "p-1", "dir/a b.bin", 0).await.unwrap();
    assert_eq!(
        (whole.remaining, whole.offset, whole.buffered_remotely),
        (Some(10), 0, false)
    );
    assert_eq!(bytes(whole).await.unwrap(), b"0123456789");
    let not_resumed = project.download(&build(), "p-1", "dir/a b.bin", 4).await.unwrap();
    assert_eq!(not_resumed.offset, 0, "200 is the whole file");

    let server =
        Server::start(|_: &Seen| answer(206, &[JENKINS, ("content-range", "bytes 4-9/10")], "456789")).await;
    let project = demo(&server);
    let rest = project.download(&build(), "p-1", "f", 4).await.unwrap();
    assert_eq!((rest.remaining, rest.offset), (Some(6), 4));
    let error = project.download(&build(), "p-1", "f", 5).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::Garbled,
        "another part than the one asked for"
    );
}

#[tokio::test]
async fn where_the_proxy_is_refused_the_buffered_download_is_used() {
    let server = Server::start(|seen: &Seen| {
        if seen.target.contains("/jenkins/") {
            forbidden()
        } else {
            answer(200, &[], "bytes")
        }
    })
    .await;
    let project = demo(&server);
    for _ in 0..2 {
        let file = project.download(&build(), "p-1", "a+b%20c.txt", 0).await.unwrap();
        assert!(file.buffered_remotely);
        assert_eq!(bytes(file).await.unwrap(), b"bytes");
    }
    let targets: Vec<_> = server.seen().into_iter().map(|s| s.target).collect();
    let download = "/kapis/devops.kubesphere.io/v1alpha3/namespaces/demo/pipelineruns/p-1/artifacts/download\
                    ?filename=a%25252Bb%25252520c.txt";
    assert_eq!(
        targets[1..],
        [download, download],
        "the proxy is tried once, then known to be refused"
    );
}

#[tokio::test]
async fn a_missing_file_is_missing_on_both_rungs_and_a_climbing_path_is_not_asked_for() {
    let server = Server::start(|seen: &Seen| {
        if seen.target.contains("/jenkins/") {
            answer(404, &[JENKINS], "<html>Not Found</html>")
        } else {
            answer(500, &[], "failed to get artifact. the HTTP status code is 404\n")
        }
    })
    .await;
    let project = demo(&server);
    assert_eq!(
        project
            .download(&build(), "p-1", "nope", 0)
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::NotFound
    );
    assert_eq!(server.seen().len(), 1, "Jenkins itself said so");
    for bad in ["../x", "/x", "a//b", ""] {
        assert_eq!(
            project
                .download(&build(), "p-1", bad, 0)
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Rejected
        );
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_cut_file_ends_in_an_error() {
    let cut =
        b"HTTP/1.1 200 OK\r\nX-Jenkins: 2\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf".to_vec();
    let (url, _) = raw(vec![cut]).await;
    let gateway = Gateway::new(config(&url, Credentials::Token("t".into()))).unwrap();
    let project = gateway.scope(None).project(&ProjectName::new("demo").unwrap());
    let file = project.download(&build(), "p-1", "f", 0).await.unwrap();
    assert_eq!(bytes(file).await.unwrap_err().kind(), ErrorKind::ConnectionLost);
}

#[tokio::test]
async fn jenkins_down_is_not_an_empty_file() {
    let server = Server::start(|seen: &Seen| {
        if seen.target.contains("/jenkins/") {
            answer(200, &[], "")
        } else {
            answer(
                500,
                &[],
                "Get \"http://jenkins/\": dial tcp: connect: connection refused\n",
            )
        }
    })
    .await;
    let error = demo(&server).download(&build(), "p-1", "f", 0).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JenkinsUnavailable);
}
