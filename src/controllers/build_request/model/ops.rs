//! What users and the world do, as proptest generates it.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{
    faults::{Aim, Connection, Fault, Kill},
    world::World,
};
use crate::{
    api::{RECONCILE_REQUESTED_AT, RERUN_REQUESTED_AT, build_request::BuildRequest},
    gateway::JenkinsResult,
};

/// The objects.
const NAMES: [&str; 3] = ["a", "b", "c"];
/// The pipelines.
const PIPELINES: [&str; 2] = ["build", "deploy"];

/// What is done about the build of an object that is deleted; the objects begin with one of each.
const POLICIES: [&str; 3] = ["Retain", "Abort", "Delete"];

/// What stays the same in one world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The tenant may create and delete run objects.
    pub may_create: bool,
    /// The BuildRequests have a correlation parameter.
    pub correlated: bool,
}

/// What a person or the world does to builds and run objects on the remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    /// A build ends so.
    Finish(JenkinsResult),
    /// A build stops moving, or moves again.
    Freeze,
    /// A build waits for a person, or goes on.
    Pause,
    /// Jenkins forgets a build.
    Vanish,
    /// A run object is deleted by somebody else.
    DropRun,
    /// A run object is deleted by somebody else, who makes another of the same name.
    Replace,
    /// Run objects that are over are collected.
    Collect,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A BuildRequest is applied: which, and how often it is tried again.
    Apply { who: usize, retries: u32 },
    /// Its parameter changes.
    Edit { who: usize, version: u8 },
    /// It moves to the other pipeline, or back.
    Move { who: usize },
    /// Another run is asked for.
    Rerun { who: usize, value: u8 },
    /// `spec.cancel`.
    Cancel { who: usize, on: bool },
    /// `spec.suspend`.
    Suspend { who: usize, on: bool },
    /// A label, a sink or the reconcile annotation changes: nothing that builds.
    Touch { who: usize, how: u8 },
    /// Somebody else makes a run object of the name that its next run is going to have.
    Squat { who: usize },
    /// Somebody else starts the same pipeline, with equal parameters or others.
    Stranger { who: usize, equal: bool },
    /// It is deleted.
    Delete { who: usize },
    /// Its deletion policy.
    Policy { who: usize, policy: u8 },
    /// The connection.
    Connect(Connection),
    /// The remote.
    Happen(Mischief, usize),
    /// The controller of the remote stops, or starts.
    Controller { up: bool },
    /// Jenkins stops, or starts.
    Jenkins { up: bool },
    /// Logs can be read, or not.
    Logs { up: bool },
    /// Something goes wrong with a call to come.
    Fault(Fault, Aim),
    /// The process is killed.
    Kill(Kill),
    /// The process ends between two reconciles, and the next begins so many seconds later.
    Away { seconds: u16 },
    /// A user does something in the middle of a reconcile.
    Meanwhile { at: usize, what: u8, who: usize },
    /// Time passes.
    Pass { seconds: u64 },
}

impl Op {
    /// Lets it happen.
    pub fn apply(self, world: &World) {
        let mut inner = world.lock();
        let name = |who: usize| NAMES[who % NAMES.len()];
        match self {
            Self::Apply { who, retries } => {
                let object = object(name(who), who, retries, inner.setup.correlated);
                inner.create(name(who), object);
            }
            Self::Edit { who, version } => inner.user_write(name(who), |o| {
                o.spec.parameters[0].value = Some(format!("{}-{version}", name(who)));
            }),
            Self::Move { who } => inner.user_write(name(who), |o| {
                let other = PIPELINES.iter().find(|p| **p != o.spec.pipeline);
                o.spec.pipeline = (*other.expect("two")).into();
            }),
            Self::Rerun { who, value } => annotate(&mut inner, name(who), RERUN_REQUESTED_AT, value),
            Self::Cancel { who, on } => inner.user_write(name(who), |o| o.spec.cancel = on),
            Self::Suspend { who, on } => inner.user_write(name(who), |o| o.spec.suspend = on),
            Self::Touch { who, how } => match how % 3 {
                0 => inner.user_write(name(who), |o| {
                    o.metadata
                        .labels
                        .get_or_insert_default()
                        .insert("team".into(), how.to_string());
                }),
                1 => inner.user_write(name(who), |o| o.spec.logs.max_bytes += 1_000),
                _ => annotate(&mut inner, name(who), RECONCILE_REQUESTED_AT, how),
            },
            Self::Squat { who } => inner.squat(name(who)),
            Self::Stranger { who, equal } => inner.start_beside(name(who), equal),
            Self::Delete { who } => inner.delete(name(who)),
            Self::Policy { who, policy } => {
                let policy = POLICIES[usize::from(policy) % POLICIES.len()];
                inner.user_write(name(who), |o| {
                    o.spec.deletion_policy = serde_json::from_value(json!(policy)).expect("a policy");
                });
            }
            Self::Connect(connection) => {
                inner.connection = connection;
                drop(inner);
                world.wake_all();
            }
            Self::Happen(what, which) => inner.remote.happen(what, which),
            Self::Controller { up } => inner.remote.controller_down = !up,
            Self::Jenkins { up } => inner.remote.jenkins_down = !up,
            Self::Logs { up } => inner.remote.logs_down = !up,
            Self::Fault(fault, aim) => inner.faults.push_back((fault, aim)),
            Self::Kill(kill) => inner.kill = Some(kill),
            Self::Away { seconds } => {
                drop(inner);
                world.restart(seconds.into());
            }
            Self::Meanwhile { at, what, who } => {
                let op = match what % 7 {
                    0 => Self::Suspend { who, on: true },
                    1 => Self::Cancel { who, on: true },
                    2 => Self::Delete { who },
                    3 => Self::Edit { who, version: what },
                    4 => Self::Rerun { who, value: what },
                    5 => Self::Squat { who },
                    _ => Self::Touch { who, how: what },
                };
                inner.meanwhile = Some((at, op));
            }
            Self::Pass { seconds } => {
                drop(inner);
                world.pass(Duration::from_secs(seconds));
            }
        }
    }
}

fn annotate(inner: &mut super::world::Inner, name: &str, key: &str, value: u8) {
    inner.user_write(name, |o| {
        o.metadata
            .annotations
            .get_or_insert_default()
            .insert(key.into(), value.to_string());
    });
}

fn object(name: &str, who: usize, retries: u32, correlated: bool) -> BuildRequest {
    let mut spec = json!({
        "connectionRef": {"name": "ks"}, "project": "shop", "pipeline": PIPELINES[who % PIPELINES.len()],
        "parameters": [{"name": "VERSION", "value": format!("{name}-0")}],
        "deletionPolicy": POLICIES[who % POLICIES.len()],
    });
    if correlated {
        spec["correlationParameter"] = json!("CORR");
    }
    if retries > 0 {
        spec["retry"] =
            json!({"limit": retries, "backoff": "30s", "on": ["Failed", "Aborted", "Lost", "TriggerFailed"]});
    }
    serde_json::from_value(json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "BuildRequest",
        "metadata": {"name": name, "namespace": "team", "generation": 1},
        "spec": spec,
    }))
    .expect("a BuildRequest")
}

/// Any world.
pub fn setup() -> impl Strategy<Value = Setup> {
    prop_oneof![
        Just((true, false)),
        Just((true, true)),
        Just((false, true)),
        Just((false, false))
    ]
    .prop_map(|(may_create, correlated)| Setup {
        may_create,
        correlated,
    })
}

/// Anything that may happen.
pub fn op() -> impl Strategy<Value = Op> {
    let who = 0..NAMES.len();
    let happen = prop_oneof![
        3 => prop_oneof![
            Just(JenkinsResult::Success), Just(JenkinsResult::Failure), Just(JenkinsResult::Unstable),
            Just(JenkinsResult::Aborted), Just(JenkinsResult::NotBuilt),
        ].prop_map(Mischief::Finish),
        1 => Just(Mischief::Freeze),
        1 => Just(Mischief::Pause),
        1 => Just(Mischief::Vanish),
        1 => Just(Mischief::DropRun),
        1 => Just(Mischief::Replace),
        1 => Just(Mischief::Collect),
    ];
    let connection = prop_oneof![2 => Just(Connection::Good), 1 => Just(Connection::WrongPassword), 1 => Just(Connection::Down)];
    let fault = prop_oneof![
        Just(Fault::RequestLost),
        Just(Fault::AnswerLost),
        Just(Fault::Unavailable),
        (1..15u8).prop_map(Fault::Late),
    ];
    // Mostly it is started again at once.
    let away = prop_oneof![3 => Just(2u16), 1 => 10..2_000u16];
    prop_oneof![
        6 => (who.clone(), 0..3u32).prop_map(|(who, retries)| Op::Apply { who, retries }),
        2 => (who.clone(), 0..3u8).prop_map(|(who, version)| Op::Edit { who, version }),
        1 => who.clone().prop_map(|who| Op::Move { who }),
        2 => (who.clone(), 0..3u8).prop_map(|(who, value)| Op::Rerun { who, value }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, on)| Op::Cancel { who, on }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, on)| Op::Suspend { who, on }),
        1 => (who.clone(), 0..9u8).prop_map(|(who, how)| Op::Touch { who, how }),
        1 => who.clone().prop_map(|who| Op::Squat { who }),
        2 => (who.clone(), any::<bool>()).prop_map(|(who, equal)| Op::Stranger { who, equal }),
        3 => who.clone().prop_map(|who| Op::Delete { who }),
        1 => (who.clone(), 0..3u8).prop_map(|(who, policy)| Op::Policy { who, policy }),
        1 => connection.prop_map(Op::Connect),
        4 => (happen, 0..8usize).prop_map(|(what, which)| Op::Happen(what, which)),
        1 => any::<bool>().prop_map(|up| Op::Controller { up }),
        2 => any::<bool>().prop_map(|up| Op::Jenkins { up }),
        1 => any::<bool>().prop_map(|up| Op::Logs { up }),
        4 => (fault, prop_oneof![Just(Aim::Any), Just(Aim::Change)])
            .prop_map(|(fault, aim)| Op::Fault(fault, aim)),
        4 => (prop_oneof![0..3usize, 0..12usize], any::<bool>(), away).prop_map(|(at, after, away)| Op::Kill(Kill { at, after, away })),
        2 => prop_oneof![1..100u16, 100..2_000u16].prop_map(|seconds| Op::Away { seconds }),
        3 => (0..12usize, 0..14u8, who).prop_map(|(at, what, who)| Op::Meanwhile { at, what, who }),
        8 => prop_oneof![Just(0u64), 1..10u64, 10..90u64, 100..2_000u64].prop_map(|seconds| Op::Pass { seconds }),
    ]
}
