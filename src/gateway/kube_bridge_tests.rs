use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use super::*;
use crate::gateway::testing::{Seen, Server, answer, demo, forbidden, token, unauthorized};
use crate::gateway::{ErrorClass, Known, ProjectName};

fn run(name: &str, version: &str) -> Value {
    json!({
        "apiVersion": "devops.kubesphere.io/v1alpha3", "kind": "PipelineRun",
        "metadata": {"name": name, "namespace": "demo", "uid": name, "resourceVersion": version, "managedFields": []},
        "spec": {"parameters": [{"name": "P", "value": "v"}]}, "status": {"phase": "Running"},
    })
}

fn list(items: &[Value]) -> String {
    json!({"apiVersion": "devops.kubesphere.io/v1alpha3", "kind": "PipelineRunList",
           "metadata": {"resourceVersion": "10"}, "items": items})
    .to_string()
}

fn line(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

#[tokio::test]
async fn runs_are_listed_and_watched_with_our_own_session() {
    let logins = Arc::new(AtomicU32::new(0));
    let server =
        Server::start(
            move |seen: &Seen| match (seen.target.as_str(), seen.authorization.as_deref()) {
                ("/oauth/token", _) => token(logins.fetch_add(1, Ordering::SeqCst) + 1),
                (_, Some("Bearer token-2")) if seen.target.contains("watch=true") => answer(
                    200,
                    &[("content-type", "application/json")],
                    line("ADDED", &run("b", "11"))
                        + &line("MODIFIED", &run("a", "12"))
                        + &line("DELETED", &run("b", "13")),
                ),
                (_, Some("Bearer token-2")) => answer(
                    200,
                    &[("content-type", "application/json")],
                    list(&[run("a", "9")]),
                ),
                _ => unauthorized(), // token-1 was flushed
            },
        )
        .await;
    let gateway = server.gateway();
    let project = gateway
        .scope(Some("m"))
        .project(&ProjectName::new("demo").unwrap());
    let events: Vec<_> = project.watch_runs(Some("a=b")).take(6).collect().await;
    let told: Vec<_> = events
        .into_iter()
        .map(|event| match event.unwrap() {
            RunEvent::Init => "init".to_owned(),
            RunEvent::InitApply(run) => format!("listed {}", run.name),
            RunEvent::InitDone => "listed".to_owned(),
            RunEvent::Apply(run) => format!("{} {:?}", run.name, run.progress()),
            RunEvent::Delete(run) => format!("{} gone", run.name),
        })
        .collect();
    assert_eq!(
        told,
        ["init", "listed a", "listed", "b Running", "a Running", "b gone"]
    );
    let asked = server.seen();
    let path = "/clusters/m/apis/devops.kubesphere.io/v1alpha3/namespaces/demo/pipelineruns";
    assert!(
        asked
            .iter()
            .filter(|s| s.target != "/oauth/token")
            .all(|s| s.target.starts_with(path)),
        "{asked:?}"
    );
    assert!(asked.iter().any(|s| s.target.contains("labelSelector=a%3Db")));
    assert_eq!(server.count("/oauth/token"), 2);
    assert!(matches!(project.capabilities().watch_runs, Known::Yes { .. }));
}

#[tokio::test]
async fn a_refused_watch_is_told_and_remembered() {
    let server = Server::start(|_: &Seen| forbidden()).await;
    let project = demo(&server);
    let mut watch = std::pin::pin!(project.watch_runs(None));
    let error = loop {
        match watch.next().await.unwrap() {
            Ok(RunEvent::Init) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), ErrorClass::Denied);
    assert!(
        error.to_string().contains("watch the runs of project demo"),
        "{error}"
    );
    assert!(matches!(project.capabilities().watch_runs, Known::No { .. }));
}

#[tokio::test]
async fn what_is_not_a_kubernetes_answer_stays_an_error_of_ours() {
    for (status, body, kind) in [
        (
            502,
            r#"{"ErrStatus":{"message":"Error while proxying request: x","code":502}}"#,
            ErrorKind::BackendUnavailable,
        ),
        (200, "<html>a login page</html>", ErrorKind::Garbled),
        (
            200,
            r#"{"metadata":{"name":"a"},"spec":{"parameters":[{"name":"P","value":"s3cret"}"#,
            ErrorKind::Garbled,
        ),
        (
            404,
            r#"{"kind":"Status","message":"pipelineruns \"a\" not found","code":404}"#,
            ErrorKind::NotFound,
        ),
        (302, "", ErrorKind::RedirectRefused),
    ] {
        let server =
            Server::start(move |_: &Seen| answer(status, &[("location", "http://127.0.0.1:1/")], body)).await;
        let error = demo(&server).runs_api().get("a").await.unwrap_err();
        let error = GatewayError::from_kube(error, "get run a");
        assert_eq!(error.kind(), kind, "{status} {body}: {error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
