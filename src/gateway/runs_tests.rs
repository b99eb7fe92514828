use serde_json::json;

use super::*;
use crate::gateway::testing::{Seen, Server, answer, build, demo, forbidden};
use crate::gateway::{ErrorClass, GitBranch, Known};

fn pipeline(kind: PipelineKind) -> Pipeline {
    Pipeline {
        name: "p".into(),
        uid: "pu".into(),
        kind,
        spec: json!({"type": "pipeline", "pipeline": {"name": "p"}}),
        synced: true,
        creator: None,
        serial: false,
        parameters: None,
        deleting: false,
    }
}

fn new_run(pipeline: &Pipeline) -> NewRun<'_> {
    NewRun {
        name: "breq-1".into(),
        pipeline,
        branch: Some(EncodedBranch::from_git(&GitBranch::new("feature/x"))),
        parameters: vec![Parameter {
            name: "V".into(),
            value: "1".into(),
        }],
        creator: "alice".into(),
        annotations: BTreeMap::from([("tenantry.dev/token".into(), "t".into())]),
        labels: BTreeMap::new(),
    }
}

fn run_json(name: &str, uid: &str) -> String {
    json!({"metadata": {"name": name, "uid": uid}, "spec": {}, "status": {}}).to_string()
}

#[test]
fn a_created_object_has_everything_the_controller_and_other_tenants_need() {
    let project = ProjectName::new("demo").unwrap();
    let multi = pipeline(PipelineKind::MultiBranch);
    let object = new_run(&multi).object(&project);
    assert_eq!(
        object,
        json!({
            "apiVersion": "devops.kubesphere.io/v1alpha3",
            "kind": "PipelineRun",
            "metadata": {
                "name": "breq-1",
                "namespace": "demo",
                "labels": {"devops.kubesphere.io/pipeline": "p"},
                "annotations": {"devops.kubesphere.io/creator": "alice", "tenantry.dev/token": "t"},
                "ownerReferences": [{
                    "apiVersion": "devops.kubesphere.io/v1alpha3", "kind": "Pipeline", "name": "p", "uid": "pu",
                    "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {
                "pipelineRef": {"kind": "Pipeline", "namespace": "demo", "name": "p"},
                "pipelineSpec": {"type": "pipeline", "pipeline": {"name": "p"}},
                "parameters": [{"name": "V", "value": "1"}],
                "scm": {"refType": "", "refName": "feature%2Fx"},
            },
        })
    );
    let regular = pipeline(PipelineKind::Regular);
    let object = new_run(&regular).object(&project);
    assert_eq!(
        object["spec"]["scm"],
        Value::Null,
        "a regular pipeline has no branch"
    );
}

#[tokio::test]
async fn a_taken_name_is_an_outcome_and_a_refusal_is_remembered() {
    for (status, want) in [
        (201, Some(true)),
        (409, Some(true)),
        (403, Some(false)),
        (500, None),
    ] {
        let server = Server::start(move |_: &Seen| match status {
            201 => answer(201, &[], run_json("breq-1", "u")),
            403 => forbidden(),
            _ => answer(status, &[], r#"{"kind":"Status","message":"x already exists"}"#),
        })
        .await;
        let project = demo(&server);
        let pipeline = pipeline(PipelineKind::Regular);
        let result = project.create_run(&new_run(&pipeline)).await;
        match status {
            201 => assert!(matches!(result.unwrap(), CreateOutcome::Created(run) if run.name == "breq-1")),
            409 => assert!(matches!(result.unwrap(), CreateOutcome::AlreadyExists)),
            403 => assert_eq!(result.unwrap_err().class(), ErrorClass::Denied),
            _ => assert!(result.unwrap_err().ambiguous()),
        }
        let known = project.capabilities().create_runs;
        let learnt = match known {
            Known::Yes { .. } => Some(true),
            Known::No { .. } => Some(false),
            Known::Unknown => None,
        };
        assert_eq!(learnt, want, "after {status}");
    }
}

#[tokio::test]
async fn a_branch_is_posted_encoded_twice_and_a_list_has_no_filter_keys() {
    let server = Server::start(|seen: &Seen| match seen.method.as_str() {
        "POST" => answer(200, &[], run_json("p-x", "u")),
        _ => answer(200, &[], r#"{"items":[],"totalItems":12}"#),
    })
    .await;
    let project = demo(&server);
    let branch = EncodedBranch::from_git(&GitBranch::new("feature/x"));
    project.post_run("p", Some(&branch), &[]).await.unwrap();
    let page = project.runs("p", 1, 50).await.unwrap();
    assert_eq!((page.items.len(), page.total), (0, 12));
    let targets: Vec<_> = server.seen().into_iter().map(|s| s.target).collect();
    let runs = "/kapis/devops.kubesphere.io/v1alpha3/namespaces/demo/pipelines/p/pipelineruns";
    assert_eq!(
        targets,
        [
            format!("{runs}?branch=feature%252Fx"),
            format!("{runs}?page=1&limit=50")
        ]
    );
}

#[tokio::test]
async fn stop_sends_a_json_body_and_stages_may_not_be_there_yet() {
    let server = Server::start(|seen: &Seen| match seen.method.as_str() {
        "POST" => answer(200, &[], r#"{"id":"1","state":"RUNNING","result":"UNKNOWN"}"#),
        _ => answer(500, &[], "unexpected end of JSON input\n"),
    })
    .await;
    let project = demo(&server);
    project.stop(&build()).await.unwrap();
    assert_eq!(server.seen()[0].body, "{}");
    assert_eq!(project.stages("p-1").await.unwrap(), None);
}

#[tokio::test]
async fn a_run_is_deleted_by_the_first_rung_that_may_and_only_if_it_is_ours() {
    struct Row {
        apis: u16,
        kapis_uid: &'static str,
        kapis: u16,
        deletes: usize,
        kind: Option<ErrorKind>,
    }
    for row in [
        Row {
            apis: 200,
            kapis_uid: "u",
            kapis: 200,
            deletes: 1,
            kind: None,
        },
        Row {
            apis: 404,
            kapis_uid: "u",
            kapis: 200,
            deletes: 1,
            kind: None,
        },
        Row {
            apis: 409,
            kapis_uid: "u",
            kapis: 200,
            deletes: 1,
            kind: None,
        },
        Row {
            apis: 403,
            kapis_uid: "u",
            kapis: 200,
            deletes: 2,
            kind: None,
        },
        Row {
            apis: 403,
            kapis_uid: "other",
            kapis: 200,
            deletes: 1,
            kind: None,
        },
        Row {
            apis: 403,
            kapis_uid: "u",
            kapis: 400,
            deletes: 2,
            kind: Some(ErrorKind::Conflict),
        },
        Row {
            apis: 403,
            kapis_uid: "u",
            kapis: 403,
            deletes: 2,
            kind: Some(ErrorKind::Forbidden),
        },
        Row {
            apis: 503,
            kapis_uid: "u",
            kapis: 200,
            deletes: 1,
            kind: Some(ErrorKind::BackendUnavailable),
        },
    ] {
        let Row {
            apis,
            kapis_uid,
            kapis,
            ..
        } = row;
        let server = Server::start(move |seen: &Seen| {
            let first = seen.target.starts_with("/apis");
            match (seen.method.as_str(), if first { apis } else { kapis }) {
                ("GET", _) => answer(200, &[], run_json("a", kapis_uid)),
                (_, 403) => forbidden(),
                (_, 404) => answer(
                    404,
                    &[],
                    r#"{"kind":"Status","message":"\"a\" not found","code":404}"#,
                ),
                (_, status) => answer(status, &[], ""),
            }
        })
        .await;
        let result = demo(&server).delete_run("a", Some("u")).await;
        let deletes: Vec<_> = server
            .seen()
            .into_iter()
            .filter(|s| s.method == "DELETE")
            .collect();
        assert_eq!(
            result.err().map(|e| e.kind()),
            row.kind,
            "{apis} {kapis_uid} {kapis}"
        );
        assert_eq!(deletes.len(), row.deletes, "{apis} {kapis_uid} {kapis}");
        assert!(
            deletes[0].body.contains(r#""preconditions":{"uid":"u"}"#),
            "{}",
            deletes[0].body
        );
    }
}

#[tokio::test]
async fn events_that_may_not_be_read_are_no_error() {
    let server = Server::start(|_: &Seen| forbidden()).await;
    assert_eq!(demo(&server).trigger_failure("a", "u").await.unwrap(), None);
}
