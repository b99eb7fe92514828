//! A gate that is shut stops writes on every rung, and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;

use super::*;
use crate::gateway::{
    Credentials, ErrorClass, ErrorKind, Gateway, ProjectName,
    testing::{Seen, Server, answer, config, token},
};

const TOKEN: &str = "/oauth/token";

fn empty_list() -> axum::response::Response {
    answer(200, &[("content-type", "application/json")], "null")
}

/// A gate that opens and shuts.
struct Shutter(AtomicBool);

impl WriteGate for Shutter {
    fn may_write(&self, what: &str) -> bool {
        assert!(!what.is_empty());
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn behind_a_shut_gate_nothing_is_written_on_any_rung_and_all_is_read() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        _ => empty_list(),
    })
    .await;
    let shutter = Arc::new(Shutter(false.into()));
    let mut config = config(&server.url, Credentials::password("alice", "pa55word"));
    config.gate = shutter.clone();
    let gateway = Gateway::new(config).unwrap();
    let project = gateway.scope(None).project(&ProjectName::new("demo").unwrap());
    gateway
        .scope(None)
        .projects("acme")
        .await
        .expect("a read, and its login");
    let asked = server.seen().len();

    let post = project.post_run("p", None, &[]).await.unwrap_err();
    let params = kube::api::PostParams::default();
    let object = serde_json::from_value(json!({
        "apiVersion": "devops.kubesphere.io/v1alpha3", "kind": "PipelineRun", "metadata": {"name": "p-1"}
    }));
    let created = project
        .runs_api()
        .create(&params, &object.unwrap())
        .await
        .unwrap_err();
    let created = super::super::kube_bridge::from_kube(created, "create a run");
    for error in [post, created] {
        assert_eq!(
            (error.kind(), error.class()),
            (ErrorKind::Fenced, ErrorClass::Fenced)
        );
        assert!(!error.ambiguous(), "certainly not sent");
    }
    assert_eq!(server.seen().len(), asked, "nothing was sent");

    shutter.0.store(true, Ordering::SeqCst);
    // Garbled, but sent.
    let _ = project.post_run("p", None, &[]).await;
    assert_eq!(server.seen().len(), asked + 1);
}
