//! What a run's phases mean: the whole table of contract §7, from kapis and from `/apis`.

use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::gateway::wire::jenkins::JenkinsResult;
use crate::gateway::{error::Subject, telemetry::RouteClass};
use BuildOutcome as O;
use RunProgress as P;

fn object(phase: &str, completed: bool, id: bool, condition: &str, jenkins: Option<(&str, &str)>) -> Value {
    let mut annotations = json!({ CREATOR: "robo", RUN_STAGES: "" });
    if id {
        annotations[RUN_ID] = "17".into();
    }
    if let Some((state, result)) = jenkins {
        annotations[RUN_STATUS] = json!({"id": "17", "state": state, "result": result})
            .to_string()
            .into();
    }
    let mut status = json!({});
    if !phase.is_empty() {
        status["phase"] = phase.into();
    }
    if completed {
        status["completionTime"] = "2026-03-19T02:51:02Z".into();
    }
    if !condition.is_empty() {
        status["conditions"] = json!([
            {"type": "Succeeded", "reason": condition, "lastProbeTime": "2026-03-19T02:51:05Z"},
            {"type": "Ready", "reason": "RUNNING", "lastProbeTime": "2026-03-19T02:51:01Z"},
        ]);
    }
    json!({"metadata": {"name": "a", "uid": "u", "annotations": annotations}, "spec": {}, "status": status})
}

#[test]
fn every_row_of_the_phase_table() {
    for (phase, completed, id, condition, jenkins, want) in [
        ("", false, false, "", None, P::Submitted),
        ("", false, true, "", None, P::Triggered),
        ("", false, true, "", Some(("QUEUED", "UNKNOWN")), P::Queued),
        (
            "Running",
            false,
            true,
            "QUEUED",
            Some(("QUEUED", "UNKNOWN")),
            P::Queued,
        ),
        ("Running", false, true, "QUEUED", None, P::Queued),
        (
            "Running",
            false,
            true,
            "RUNNING",
            Some(("RUNNING", "UNKNOWN")),
            P::Running,
        ),
        ("Running", false, true, "RUNNING", None, P::Running),
        ("Running", false, true, "", None, P::Running),
        (
            "Pending",
            false,
            true,
            "PAUSED",
            Some(("PAUSED", "UNKNOWN")),
            P::Paused,
        ),
        ("Pending", false, true, "PAUSED", None, P::Paused),
        ("Pending", false, true, "", None, P::Paused),
        (
            "Succeeded",
            false,
            true,
            "SKIPPED",
            Some(("SKIPPED", "NOT_BUILT")),
            P::Finished(Some(O::Skipped)),
        ),
        (
            "Succeeded",
            false,
            true,
            "SKIPPED",
            None,
            P::Finished(Some(O::Skipped)),
        ),
        (
            "Unknown",
            false,
            true,
            "NOT_BUILT",
            Some(("NOT_BUILT", "UNKNOWN")),
            P::Undecided,
        ),
        ("Unknown", false, true, "WEIRD", None, P::Undecided),
        ("Unknown", false, true, "", None, P::Undecided),
        (
            "Succeeded",
            true,
            true,
            "FINISHED",
            Some(("FINISHED", "SUCCESS")),
            P::Finished(Some(O::Success)),
        ),
        (
            "Succeeded",
            true,
            true,
            "FINISHED",
            None,
            P::Finished(Some(O::Success)),
        ),
        (
            "Failed",
            true,
            true,
            "FINISHED",
            Some(("FINISHED", "UNSTABLE")),
            P::Finished(Some(O::Unstable)),
        ),
        (
            "Failed",
            true,
            true,
            "FINISHED",
            Some(("FINISHED", "FAILURE")),
            P::Finished(Some(O::Failure)),
        ),
        (
            "Failed",
            true,
            true,
            "FINISHED",
            Some(("FINISHED", "ABORTED")),
            P::Finished(Some(O::Aborted)),
        ),
        ("Failed", true, true, "FINISHED", None, P::Finished(None)),
        (
            "Unknown",
            true,
            true,
            "FINISHED",
            Some(("FINISHED", "NOT_BUILT")),
            P::Finished(Some(O::Indeterminate)),
        ),
        (
            "Unknown",
            true,
            true,
            "FINISHED",
            None,
            P::Finished(Some(O::Indeterminate)),
        ),
        ("Cancelled", false, true, "", None, P::Finished(Some(O::Aborted))),
        // annotation and phase are two writes
        (
            "Running",
            false,
            true,
            "RUNNING",
            Some(("FINISHED", "SUCCESS")),
            P::Running,
        ),
        (
            "Running",
            false,
            true,
            "RUNNING",
            Some(("PAUSED", "UNKNOWN")),
            P::Paused,
        ),
        (
            "Pending",
            false,
            true,
            "PAUSED",
            Some(("FINISHED", "SUCCESS")),
            P::Running,
        ),
        (
            "Failed",
            true,
            true,
            "FINISHED",
            Some(("RUNNING", "UNKNOWN")),
            P::Finished(None),
        ),
    ] {
        let run = run_from_value(object(phase, completed, id, condition, jenkins)).unwrap();
        assert_eq!(
            run.progress(),
            want,
            "{phase:?} {completed} {id} {condition:?} {jenkins:?}"
        );
    }
}

#[test]
fn a_run_from_the_contract_is_read_whole() {
    let body = json!({
        "kind": "PipelineRun",
        "metadata": {
            "name": "build-x9f4q", "uid": "33", "labels": {"devops.kubesphere.io/pipeline": "build"},
            "annotations": {
                CREATOR: "robo", RUN_ID: "17", "tenantry.dev/token": "t",
                RUN_STATUS: r#"{"causes":[{"shortDescription":"Started by user admin"}],"enQueueTime":"2026-03-19T02:50:12Z",
                    "startTime":"2026-03-19T02:50:14Z","endTime":null,"durationInMillis":-1,"id":"17","state":"RUNNING",
                    "result":null,"commitId":"abc","runSummary":"?","artifactsZipFile":"/job/x"}"#,
            },
            "creationTimestamp": "2026-03-19T02:50:10Z", "deletionTimestamp": null,
        },
        "spec": {"parameters": [{"name": "CORR", "value": "op-42"}], "scm": {"refType": "", "refName": "feature%2Ffoo"},
                 "pipelineRef": {"name": "build"}},
        "status": {"startTime": "2026-03-19T02:50:14Z", "phase": "Running"},
    });
    let run = run_from_value(body).unwrap();
    assert_eq!(run.pipeline, "build");
    assert_eq!(run.branch.as_ref().unwrap().as_str(), "feature%2Ffoo");
    assert_eq!(run.creator.as_deref(), Some("robo"));
    assert_eq!(run.parameter("CORR"), Some("op-42"));
    assert_eq!(
        run.annotations.len(),
        3,
        "the JSON annotations are not kept twice"
    );
    assert_eq!(
        run.reference().unwrap().to_string(),
        "build branch feature/foo #17"
    );
    let jenkins = run.jenkins.unwrap();
    assert_eq!(jenkins.causes, ["Started by user admin"]);
    assert_eq!(jenkins.commit.as_deref(), Some("abc"));
    assert_eq!(
        (jenkins.duration_ms, jenkins.ended, jenkins.summary),
        (None, None, None)
    );
    assert_eq!(jenkins.result, JenkinsResult::Unknown);
    assert!(jenkins.has_artifacts);
}

#[test]
fn parameter_values_are_not_printed() {
    let parameter = Parameter {
        name: "TOKEN".into(),
        value: "s3cret".into(),
    };
    assert!(!format!("{parameter:?}").contains("s3cret"));
}

#[test]
fn the_newest_trigger_failure_of_this_run_is_found() {
    let event = |uid: &str, reason: &str, at: &str, message: &str| json!({"reason": reason, "message": message, "lastTimestamp": at, "involvedObject": {"uid": uid}});
    let body = json!({"items": [
        event("u", "TriggerFailed", "2026-03-19T02:50:10Z", "old"),
        event("u", "TriggerFailed", "2026-03-19T02:50:20Z", "bad request,\ncode 400"),
        event("u", "Started", "2026-03-19T02:50:30Z", "not this"),
        event("v", "TriggerFailed", "2026-03-19T02:50:30Z", "another's"),
    ]})
    .to_string();
    let subject = Subject {
        route: RouteClass::Events,
        what: "events".into(),
        write: false,
    };
    let headers = HeaderMap::new();
    let reply = Reply {
        subject: &subject,
        status: 200,
        headers: &headers,
        body: body.as_bytes(),
        secrets: &[],
    };
    assert_eq!(
        trigger_failure(&reply, "u").unwrap().as_deref(),
        Some("bad request, code 400")
    );
    assert_eq!(trigger_failure(&reply, "w").unwrap(), None);
}
