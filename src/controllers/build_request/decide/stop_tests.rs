//! Tables of runs that are to end before their time.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    super::follow::{
        Followed, decide,
        tests::{came, finished, remote, see, with_run, written},
    },
    *,
};
use crate::{
    api::build_request::{BuildRequest, Outcome, RunState},
    controllers::build_request::{
        decide::{
            after::{self, ActOutcome},
            testing::{ago, object_in, situation, t0},
        },
        turns::contender,
    },
    gateway::{JenkinsResult, JenkinsState, RunPhase},
};

/// Pretends that the stop of the active run was asked for at `at`.
fn stop_asked_at(object: &mut BuildRequest, at: Time) {
    let run = object.status.as_mut().unwrap().run.as_mut().unwrap();
    run.stop.as_mut().unwrap().requested_at = at;
}

#[test]
fn the_trigger_deadline_removes_the_run_and_tells_what_jenkins_said() {
    let object = with_run(RunState::Submitted, |run| {
        run.id = None;
        run.sent_at = Some(ago(601));
    });
    let seen = Followed {
        run: Some(remote(None, RunPhase::None, None)),
        trigger_failure: Some("No such parameter definition: X".into()),
        ..Default::default()
    };
    let decision = decide(&situation(&object), &Ok(seen));
    assert_eq!(decision.act, Act::DeleteRun);
    let run = decision.status.run.as_ref().unwrap();
    assert_eq!(
        run.state,
        RunState::Submitted,
        "over only when its removal is confirmed"
    );
    assert!(
        decision
            .status
            .failure
            .as_ref()
            .unwrap()
            .message
            .contains("No such parameter definition")
    );

    let mut written = object.clone();
    written.status = Some(decision.status.clone());
    let removed = after::decide(&situation(&written), &decision, &after::ActOutcome::Removed);
    let run = removed.status.run.unwrap();
    assert_eq!(
        (run.state, run.outcome),
        (RunState::Ended, Some(Outcome::TriggerFailed))
    );
}

#[test]
fn cancel_and_time_out_stop_a_build_once_in_half_a_minute() {
    let running = || Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running)));
    let mut cancelled = object_in(RunState::Started);
    cancelled.spec.cancel = true;
    let late = with_run(RunState::Started, |run| run.start_time = Some(ago(100_000)));
    for (object, reason) in [(cancelled, StopReason::Cancelled), (late, StopReason::TimedOut)] {
        let first = see(&object, running());
        assert_eq!(first.act, Act::Stop);
        assert_eq!(
            first.status.run.as_ref().unwrap().stop.as_ref().unwrap().reason,
            reason
        );
        let mut again = object.clone();
        again.status = Some(first.status);
        assert_eq!(see(&again, running()).act, Act::Nothing, "it was just asked for");
        stop_asked_at(&mut again, ago(31));
        assert_eq!(see(&again, running()).act, Act::Stop);
        let over = see(&again, Some(finished(RunPhase::Failed, JenkinsResult::Aborted)));
        let expected = if reason == StopReason::Cancelled {
            Outcome::Cancelled
        } else {
            Outcome::TimedOut
        };
        assert_eq!(over.status.run.unwrap().outcome, Some(expected));
    }
}

#[test]
fn cancel_before_there_is_a_build_number_removes_the_run() {
    let mut object = with_run(RunState::Submitted, |run| run.id = None);
    object.spec.cancel = true;
    assert_eq!(
        see(&object, Some(remote(None, RunPhase::None, None))).act,
        Act::DeleteRun
    );
}

#[test]
fn a_run_that_may_not_be_removed_stalls_by_name_and_gives_its_turn_back() {
    let unborn = || Some(remote(None, RunPhase::None, None));
    let object = with_run(RunState::Submitted, |run| {
        run.id = None;
        run.sent_at = Some(ago(601));
    });
    let refused = ActOutcome::Failed(Trouble::user(Reason::AccessDenied, "you may not"));

    let asked = see(&object, unborn());
    let object = written(&object, &asked);
    assert!(contender(&object, t0()).is_some(), "until its removal is refused");
    let stuck = came(&object, &asked, &refused);
    let Standing::Stuck { reason, message, .. } = &stuck.standing else {
        panic!("{:?}", stuck.standing)
    };
    assert_eq!(*reason, Reason::AccessDenied);
    for words in ["build-x", "you may not", "Delete it", "rerun"] {
        assert!(message.contains(words), "{words} is not in: {message}");
    }
    let object = written(&object, &stuck);
    assert_eq!(contender(&object, t0()), None, "nobody waits for it any more");

    // Looked at again: the same, without a word that differs.
    let again = see(&object, unborn());
    assert_eq!(again.act, Act::DeleteRun);
    assert_eq!(written(&object, &again).status, object.status);
    let still = came(&object, &again, &refused);
    assert_eq!(written(&object, &still).status, object.status);

    // A person who wants another one gets it.
    let mut rerun = object.clone();
    rerun.metadata.annotations = Some([(crate::api::RERUN_REQUESTED_AT.into(), "1".into())].into());
    let left = see(&rerun, unborn()).status.run.unwrap();
    assert_eq!(
        (left.state, left.outcome),
        (RunState::Ended, Some(Outcome::TriggerFailed))
    );

    // One that got its number after all is stopped.
    let mut late = object;
    late.status
        .as_mut()
        .unwrap()
        .run
        .as_mut()
        .unwrap()
        .stop
        .as_mut()
        .unwrap()
        .requested_at = ago(31);
    let stopped = see(
        &late,
        Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running))),
    );
    assert_eq!(stopped.act, Act::Stop);
}

#[test]
fn a_stop_that_is_refused_is_told_and_the_build_is_followed_on() {
    let running = || Some(remote(Some("7"), RunPhase::Running, Some(JenkinsState::Running)));
    let mut object = object_in(RunState::Started);
    object.spec.cancel = true;
    let asked = see(&object, running());
    let object = written(&object, &asked);
    let refused = ActOutcome::Failed(Trouble::user(Reason::AccessDenied, "you may not"));
    let stuck = came(&object, &asked, &refused);
    assert!(matches!(
        stuck.standing,
        Standing::Stuck {
            reason: Reason::AccessDenied,
            ..
        }
    ));
    assert_eq!(
        stuck.wake,
        Wake::After(situation(&object).poll),
        "its end is not missed"
    );

    let mut object = written(&object, &stuck);
    let between = see(&object, running());
    assert_eq!(between.act, Act::Nothing);
    assert_eq!(
        written(&object, &between).status,
        object.status,
        "it says so until it is asked again"
    );
    stop_asked_at(&mut object, ago(31));
    let again = see(&object, running());
    let object = written(&object, &again);
    let taken = came(&object, &again, &ActOutcome::Nothing);
    assert!(matches!(
        taken.standing,
        Standing::Busy {
            reason: Reason::Stopping,
            ..
        }
    ));
}

#[test]
fn a_run_that_the_remote_will_never_start_is_removed() {
    let mut orphan = remote(None, RunPhase::None, None);
    orphan.orphan = true;
    let object = with_run(RunState::Submitted, |run| run.id = None);
    assert_eq!(see(&object, Some(orphan)).act, Act::DeleteRun);
}
