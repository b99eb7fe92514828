//! Objects for the tables of the decide tests.

use std::{sync::LazyLock, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{super::inputs, Situation, ours::TOKEN_ANNOTATION};
use crate::{
    api::build_request::{
        BuildPhase, BuildRequest, BuildRequestStatus, CurrentRun, Outcome, RunState, TriggerRung,
    },
    controllers::Tunables,
    gateway::{EncodedBranch, Parameter, Run, RunPhase},
};

/// A fixed now.
pub fn t0() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// So many seconds before it.
pub fn ago(seconds: i64) -> Time {
    Time(t0() - SignedDuration::from_secs(seconds))
}

static TUNABLES: LazyLock<Tunables> = LazyLock::new(Tunables::default);

/// The situation of `object`, now.
pub fn situation(object: &BuildRequest) -> Situation<'_> {
    Situation {
        object,
        now: t0(),
        tunables: &TUNABLES,
        poll: Duration::from_secs(5),
    }
}

/// A BuildRequest of `shop/build` on `main`, with one parameter and an empty status.
pub fn object() -> BuildRequest {
    serde_json::from_value(json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest",
        "metadata": {"name": "b", "namespace": "team", "uid": "11111111-2222-3333-4444-555555555555", "generation": 1},
        "spec": {
            "connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "build", "branch": "main",
            "parameters": [{"name": "VERSION", "value": "1"}],
        },
        "status": {},
    }))
    .unwrap()
}

/// The run that `object` asks for, in a state.
pub fn run_in(object: &BuildRequest, state: RunState) -> CurrentRun {
    let wanted = inputs::wanted(object);
    let token = inputs::token(object.metadata.uid.as_deref().unwrap(), &wanted, 1);
    let known = matches!(state, RunState::Submitted | RunState::Started | RunState::Ended);
    CurrentRun {
        name: Some(inputs::run_name("build", &token)),
        token,
        attempt: 1,
        inputs_digest: wanted.digest,
        rerun: wanted.rerun,
        state,
        trigger: TriggerRung::ChosenName,
        endpoint: Some("https://ks.example.com".into()),
        cluster: None,
        project: "shopx7k2p".into(),
        pipeline: "build".into(),
        branch: Some("main".into()),
        encoded_branch: Some("main".into()),
        uid: known.then(|| "run-uid".into()),
        id: matches!(state, RunState::Started | RunState::Ended).then(|| "7".into()),
        phase: None,
        result: None,
        dequeued: state == RunState::Ended,
        commit: None,
        outcome: None,
        intended_at: ago(20),
        sent_at: (state != RunState::Intended).then(|| ago(20)),
        missing_since: None,
        stop: None,
        start_time: None,
        completion_time: None,
        duration: None,
        ended_at: None,
        secret_parameters: vec![],
    }
}

/// The object with its run in a state.
pub fn object_in(state: RunState) -> BuildRequest {
    let mut object = object();
    object.status = Some(BuildRequestStatus {
        run: Some(run_in(&object, state)),
        phase: Some(BuildPhase::Running),
        observed_generation: Some(1),
        ..Default::default()
    });
    object
}

/// An object whose run ended so, with everything written down.
pub fn settled(outcome: Outcome) -> BuildRequest {
    let mut object = object_in(RunState::Ended);
    let phase = super::outcome::phase(outcome, &object.spec);
    let status = object.status.as_mut().unwrap();
    status.phase = Some(phase);
    let run = status.run.as_mut().unwrap();
    run.outcome = Some(outcome);
    run.ended_at = Some(ago(10));
    let facts = crate::controllers::build_request::report::settled_facts(outcome, phase);
    crate::api::conditions::replace(&mut status.conditions, &facts, Some(1), &ago(10));
    object
}

/// A run on the remote, as `robo` started it for the object of these tests.
pub fn remote(name: &str, token: Option<&str>) -> Run {
    Run {
        name: name.into(),
        uid: format!("uid-of-{name}"),
        resource_version: "1".into(),
        created: Some(t0()),
        deleting: false,
        pipeline: "build".into(),
        branch: Some(EncodedBranch::from_remote("main")),
        run_id: None,
        creator: Some("robo".into()),
        parameters: vec![Parameter {
            name: "VERSION".into(),
            value: "1".into(),
        }],
        phase: RunPhase::None,
        started: None,
        completed: None,
        updated: None,
        state: None,
        jenkins: None,
        orphan: false,
        annotations: token
            .map(|t| (TOKEN_ANNOTATION.to_owned(), t.to_owned()))
            .into_iter()
            .collect(),
        labels: Default::default(),
    }
}
