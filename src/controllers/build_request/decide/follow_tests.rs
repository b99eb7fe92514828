//! Tables of what is decided on a run on its way.

use super::*;
use crate::{
    api::build_request::{BuildRequest, CurrentRun, Outcome, RunState},
    controllers::build_request::decide::{
        after::{self, ActOutcome},
        ours::TOKEN_ANNOTATION,
        testing::{ago, object_in, situation, t0},
    },
    gateway::{EncodedBranch, JenkinsResult, JenkinsState, RunId, RunPhase},
};

pub fn remote(id: Option<&str>, phase: RunPhase, state: Option<JenkinsState>) -> Run {
    Run {
        name: "build-x".into(),
        uid: "run-uid".into(),
        resource_version: "1".into(),
        created: Some(t0()),
        deleting: false,
        pipeline: "build".into(),
        branch: Some(EncodedBranch::from_remote("main")),
        run_id: id.map(|id| RunId::new(id).unwrap()),
        creator: Some("robo".into()),
        parameters: vec![],
        phase,
        started: None,
        completed: None,
        updated: Some(t0()),
        jenkins: state.clone().map(|state| build(state, JenkinsResult::Unknown)),
        state,
        orphan: false,
        annotations: [(TOKEN_ANNOTATION.to_owned(), "t".to_owned())].into(),
        labels: Default::default(),
    }
}

fn build(state: JenkinsState, result: JenkinsResult) -> JenkinsRun {
    JenkinsRun {
        id: Some(RunId::new("7").unwrap()),
        state,
        result,
        queued: None,
        started: None,
        ended: None,
        duration_ms: None,
        estimated_ms: None,
        commit: None,
        causes: vec![],
        blocked: None,
        has_artifacts: false,
        summary: None,
    }
}

pub fn finished(phase: RunPhase, result: JenkinsResult) -> Run {
    let mut run = remote(Some("7"), phase, Some(JenkinsState::Finished));
    run.jenkins = Some(build(JenkinsState::Finished, result));
    run.completed = Some(t0());
    run
}

pub fn see(object: &BuildRequest, run: Option<Run>) -> Decision {
    decide(
        &situation(object),
        &Ok(Followed {
            run,
            ..Default::default()
        }),
    )
}

pub fn with_run(state: RunState, edit: impl FnOnce(&mut CurrentRun)) -> BuildRequest {
    let mut object = object_in(state);
    edit(object.status.as_mut().unwrap().run.as_mut().unwrap());
    object
}

/// Contract §7, row by row.
#[test]
fn the_phase_table_of_the_contract() {
    use JenkinsState as S;
    let rows = [
        (
            "no run id",
            remote(None, RunPhase::None, None),
            BuildPhase::Pending,
            false,
        ),
        (
            "never polled",
            remote(Some("7"), RunPhase::None, None),
            BuildPhase::Queued,
            false,
        ),
        (
            "queued",
            remote(Some("7"), RunPhase::Running, Some(S::Queued)),
            BuildPhase::Queued,
            false,
        ),
        (
            "running",
            remote(Some("7"), RunPhase::Running, Some(S::Running)),
            BuildPhase::Running,
            true,
        ),
        (
            "paused",
            remote(Some("7"), RunPhase::Pending, Some(S::Paused)),
            BuildPhase::Paused,
            true,
        ),
        (
            "not built yet",
            remote(Some("7"), RunPhase::Unknown, Some(S::NotBuilt)),
            BuildPhase::Running,
            true,
        ),
        (
            "another word",
            remote(Some("7"), RunPhase::Unknown, Some(S::Other("X".into()))),
            BuildPhase::Running,
            true,
        ),
    ];
    for (what, run, phase, dequeued) in rows {
        let decision = see(&object_in(RunState::Submitted), Some(run));
        let Standing::Busy { phase: seen, .. } = decision.standing else {
            panic!("{what}: {:?}", decision.standing)
        };
        assert_eq!(seen, phase, "{what}");
        assert_eq!(decision.status.run.unwrap().dequeued, dequeued, "{what}");
    }
    let endings = [
        (RunPhase::Succeeded, JenkinsResult::Success, Outcome::Succeeded),
        (RunPhase::Failed, JenkinsResult::Unstable, Outcome::Unstable),
        (RunPhase::Failed, JenkinsResult::Failure, Outcome::Failed),
        (RunPhase::Failed, JenkinsResult::Aborted, Outcome::Aborted),
        (RunPhase::Unknown, JenkinsResult::NotBuilt, Outcome::Indeterminate),
        (RunPhase::Unknown, JenkinsResult::Unknown, Outcome::Indeterminate),
    ];
    for (phase, result, outcome) in endings {
        let decision = see(&object_in(RunState::Started), Some(finished(phase, result)));
        let run = decision.status.run.unwrap();
        assert_eq!(
            (run.state, run.outcome),
            (RunState::Ended, Some(outcome)),
            "{phase:?} {result:?}"
        );
        assert!(run.ended_at.is_some());
    }
    let skipped = remote(Some("7"), RunPhase::Succeeded, Some(S::Skipped));
    assert_eq!(
        see(&object_in(RunState::Started), Some(skipped))
            .status
            .run
            .unwrap()
            .outcome,
        Some(Outcome::Skipped)
    );
}

#[test]
fn another_object_of_the_same_name_is_not_our_run() {
    let mut stranger = finished(RunPhase::Succeeded, JenkinsResult::Success);
    stranger.uid = "another".into();
    let run = see(&object_in(RunState::Started), Some(stranger))
        .status
        .run
        .unwrap();
    assert_eq!((run.state, run.outcome), (RunState::Started, None));
    assert!(run.missing_since.is_some());
}

#[test]
fn a_run_that_is_missing_is_never_sent_again() {
    for state in [RunState::Submitted, RunState::Started] {
        for gone in [0, 1, 4, 10, 30, 10_000] {
            let object = with_run(state, |run| {
                if state == RunState::Submitted {
                    run.id = None;
                }
                run.missing_since = (gone > 0).then(|| ago(gone));
            });
            let decision = see(&object, None);
            assert!(
                !matches!(decision.act, Act::Create | Act::Post),
                "{state:?} gone for {gone} s"
            );
            let run = decision.status.run.unwrap();
            assert!(matches!(
                run.state,
                RunState::Submitted | RunState::Started | RunState::Ended
            ));
        }
    }
}

#[test]
fn a_404_may_be_a_stale_cache() {
    let object = with_run(RunState::Submitted, |run| run.id = None);
    let first = see(&object, None);
    assert_eq!(first.wake, Wake::After(Duration::from_secs(1)));
    let mut later = object.clone();
    later.status = Some(first.status);
    let back = see(
        &later,
        Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running))),
    );
    let run = back.status.run.unwrap();
    assert_eq!((run.missing_since, run.state), (None, RunState::Started));
}

#[test]
fn a_dropped_duplicate_is_followed_as_its_twin_or_is_lost() {
    let object = with_run(RunState::Submitted, |run| {
        run.id = None;
        run.missing_since = Some(ago(10));
    });
    let twin = |name: &str| Run {
        name: name.into(),
        uid: format!("uid-{name}"),
        ..remote(Some("8"), RunPhase::None, None)
    };
    let look = |twins| {
        decide(
            &situation(&object),
            &Ok(Followed {
                twins,
                ..Default::default()
            }),
        )
    };
    let run = look(vec![twin("a")]).status.run.unwrap();
    assert_eq!(
        (run.name.as_deref(), run.uid.as_deref(), run.state),
        (Some("a"), Some("uid-a"), RunState::Submitted)
    );
    let several = look(vec![twin("a"), twin("b")]);
    assert!(matches!(
        several.standing,
        Standing::Stuck {
            reason: Reason::AmbiguousRun,
            ..
        }
    ));
    assert!(
        matches!(look(vec![]).standing, Standing::Busy { .. }),
        "the window is not over"
    );
    let object = with_run(RunState::Submitted, |run| {
        run.id = None;
        run.missing_since = Some(ago(25));
    });
    let lost = see(&object, None);
    assert_eq!(lost.status.run.unwrap().outcome, Some(Outcome::Lost));
}

#[test]
fn a_build_without_its_object_is_followed_in_jenkins() {
    let object = with_run(RunState::Started, |run| run.missing_since = Some(ago(10)));
    let look = |jenkins| {
        decide(
            &situation(&object),
            &Ok(Followed {
                jenkins,
                ..Default::default()
            }),
        )
    };
    let running = look(Asked::Build(Box::new(build(
        JenkinsState::Running,
        JenkinsResult::Unknown,
    ))));
    assert!(matches!(
        running.standing,
        Standing::Busy {
            phase: BuildPhase::Running,
            ..
        }
    ));
    let over = look(Asked::Build(Box::new(build(
        JenkinsState::Finished,
        JenkinsResult::Success,
    ))));
    assert_eq!(over.status.run.unwrap().outcome, Some(Outcome::Succeeded));
    assert_eq!(look(Asked::Gone).status.run.unwrap().outcome, Some(Outcome::Lost));
}

#[test]
fn a_stuck_run_whose_build_is_gone_is_lost_and_its_object_removed() {
    let object = object_in(RunState::Started);
    let seen = Followed {
        run: Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running))),
        jenkins: Asked::Gone,
        ..Default::default()
    };
    let decision = decide(&situation(&object), &Ok(seen));
    assert_eq!(decision.act, Act::DeleteRun);
    assert_eq!(decision.status.run.unwrap().outcome, Some(Outcome::Lost));
}

#[test]
fn an_unreachable_remote_keeps_the_last_truth() {
    let object = object_in(RunState::Started);
    let decision = decide(
        &situation(&object),
        &Err(Trouble::passing(Reason::RemoteUnavailable, "down")),
    );
    assert_eq!(decision.status, object.status.clone().unwrap());
    assert!(matches!(
        decision.standing,
        Standing::Busy {
            phase: BuildPhase::Running,
            reason: Reason::RemoteUnavailable,
            ..
        }
    ));
    assert_eq!(decision.wake, Wake::Backoff);
}

#[test]
fn the_same_observation_gives_the_same_status() {
    let object = object_in(RunState::Started);
    let once = see(
        &object,
        Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running))),
    );
    let mut again = object;
    again.status = Some(once.status.clone());
    let twice = see(
        &again,
        Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running))),
    );
    assert_eq!(once.status, twice.status);
}

/// The decision, its status as it is written, and what comes of its act, as it is written.
pub fn written(object: &BuildRequest, decision: &Decision) -> BuildRequest {
    let mut next = object.clone();
    next.status = Some(crate::controllers::build_request::report::status(
        &situation(object),
        decision,
    ));
    next
}

pub fn came(object: &BuildRequest, decision: &Decision, outcome: &ActOutcome) -> Decision {
    after::decide(&situation(object), decision, outcome)
}

#[test]
fn a_lost_run_that_may_not_be_removed_is_lost_all_the_same() {
    let object = object_in(RunState::Started);
    let seen = Followed {
        run: Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running))),
        jenkins: Asked::Gone,
        ..Default::default()
    };
    let lost = decide(&situation(&object), &Ok(seen));
    let object = written(&object, &lost);
    let refused = ActOutcome::Failed(Trouble::user(Reason::AccessDenied, "you may not"));
    let then = came(&object, &lost, &refused);
    assert_eq!((&then.standing, then.wake), (&Standing::Unchanged, Wake::Now));
    assert!(then.notes[0].message.contains("build-x"), "{:?}", then.notes);
}

#[test]
fn a_failure_that_nobody_explains_ends_as_a_failure() {
    let failed = |ended: i64| {
        let mut run = remote(Some("7"), RunPhase::Failed, None);
        run.completed = Some(ago(ended).0);
        run
    };
    let rows = [
        (1, Asked::No, None),
        (1, Asked::Gone, Some(Outcome::Failed)),
        (601, Asked::No, Some(Outcome::Failed)),
    ];
    for (ended, jenkins, outcome) in rows {
        let object = object_in(RunState::Started);
        let seen = Followed {
            run: Some(failed(ended)),
            jenkins: jenkins.clone(),
            ..Default::default()
        };
        let decision = decide(&situation(&object), &Ok(seen));
        assert_eq!(
            decision.status.run.unwrap().outcome,
            outcome,
            "{ended} s, {jenkins:?}"
        );
    }
}

#[test]
fn who_is_told_of_changes_looks_only_for_what_no_row_shows() {
    const QUIET: u64 = 200;
    let running = Some(JenkinsState::Running);
    let queued = Some(JenkinsState::Queued);
    // Build number and state of the run, how long ago it was sent, whether its row is watched; seconds to the next look.
    // The interval is 5 s; the run has a minute to get a number, and ten to end.
    let rows = [
        (None, None, 1, false, 1),
        (None, None, 1, true, 1),
        (None, None, 20, true, 10),
        (None, None, 59, true, 1),
        (Some("7"), queued.clone(), 4, false, 5),
        (Some("7"), queued.clone(), 4, true, 5),
        (Some("7"), queued.clone(), 100, true, 25),
        (Some("7"), running.clone(), 100, false, 5),
        (Some("7"), running.clone(), 100, true, QUIET),
        (Some("7"), running.clone(), 520, true, 80),
        (Some("7"), running, 599, true, 5),
        (Some("7"), Some(JenkinsState::Paused), 100, true, QUIET),
    ];
    for (id, state, sent, watched, expected) in rows {
        let mut object = object_in(RunState::Submitted);
        object.spec.timeouts.trigger = "1m".parse().unwrap();
        object.spec.timeouts.run = "10m".parse().unwrap();
        object.status.as_mut().unwrap().run.as_mut().unwrap().sent_at = Some(ago(sent));
        let seen = Followed {
            run: Some(remote(id, RunPhase::None, state.clone())),
            quiet: watched.then_some(Duration::from_secs(QUIET)),
            ..Followed::default()
        };
        let decision = decide(&situation(&object), &Ok(seen));
        assert_eq!(
            decision.wake,
            Wake::After(Duration::from_secs(expected)),
            "{id:?} {state:?}, sent {sent} s ago, watched: {watched}"
        );
    }
}
