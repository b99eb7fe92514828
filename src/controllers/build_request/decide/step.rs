//! What has to be looked at next, from what is written down alone.

use std::time::Duration;

use jiff::Timestamp;

use super::super::{
    inputs::{self, Wanted},
    outcome,
};
use crate::api::{
    build_request::{BuildPhase, BuildRequest, BuildRequestSpec, CurrentRun, RunState},
    conditions::{ConditionType, find},
};

/// What has to be looked at next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Held back by `spec.suspend`.
    Suspended,
    /// Cancelled before anything was started.
    CancelledEarly,
    /// A run is wanted: look at connection, project, pipeline, parameters.
    Begin {
        /// Which try it is.
        attempt: u32,
    },
    /// A try is due at that time.
    WaitToRetry {
        /// When.
        at: Timestamp,
        /// Which try it will be.
        attempt: u32,
    },
    /// A run was being sent: find out whether it arrived.
    Find,
    /// A run is on its way: look at it.
    Follow,
    /// A run is over: bring home its log and artifacts.
    Collect,
    /// All is done. The object goes after that time, if there is one.
    Rest {
        /// What is left of its time.
        expires_in: Option<Duration>,
    },
}

/// What has to be looked at next.
pub fn next_step(object: &BuildRequest, now: Timestamp) -> Step {
    let spec = &object.spec;
    let wanted = inputs::wanted(object);
    let Some(status) = &object.status else {
        return first(spec);
    };
    let Some(run) = &status.run else {
        // A cancelled object that was never started may be started when cancel is taken back.
        return first(spec);
    };
    match run.state {
        // Nothing was sent: it may still be held back, cancelled, or another may be wanted.
        RunState::Intended if spec.cancel => Step::CancelledEarly,
        RunState::Intended if spec.suspend => Step::Suspended,
        RunState::Intended if asked_by(run, &wanted) => Step::Begin { attempt: run.attempt },
        RunState::Intended => Step::Begin { attempt: 1 },
        RunState::Sending => Step::Find,
        RunState::Submitted | RunState::Started => Step::Follow,
        RunState::Ended => after_end(object, run, &wanted, now),
    }
}

fn first(spec: &BuildRequestSpec) -> Step {
    if spec.cancel {
        Step::CancelledEarly
    } else if spec.suspend {
        Step::Suspended
    } else {
        Step::Begin { attempt: 1 }
    }
}

fn after_end(object: &BuildRequest, run: &CurrentRun, wanted: &Wanted, now: Timestamp) -> Step {
    let spec = &object.spec;
    let status = object.status.as_ref();
    let phase = status.and_then(|s| s.phase);
    if phase == Some(BuildPhase::Collecting) {
        return Step::Collect;
    }
    if !asked_by(run, wanted) {
        // Another run is wanted: by other inputs, or by the rerun annotation.
        return if spec.cancel {
            settled(object, run, now)
        } else if spec.suspend {
            Step::Suspended
        } else {
            Step::Begin { attempt: 1 }
        };
    }
    if let Some(at) = next_attempt_at(object, run) {
        return if spec.cancel {
            // The tries that are left are cancelled; the last ending stands.
            Step::Collect
        } else if spec.suspend {
            Step::Suspended
        } else if at <= now {
            Step::Begin {
                attempt: run.attempt + 1,
            }
        } else {
            Step::WaitToRetry {
                at,
                attempt: run.attempt + 1,
            }
        };
    }
    settled(object, run, now)
}

/// No other run is to be started: the ending is told, then the object rests. Sinks may have changed since: that is looked
/// at without building again.
fn settled(object: &BuildRequest, run: &CurrentRun, now: Timestamp) -> Step {
    let seen = object.status.as_ref().and_then(|s| s.observed_generation);
    if seen != object.metadata.generation || !is_settled(object) {
        return Step::Collect;
    }
    rest(object, run, now)
}

/// Whether the conditions tell the end already.
fn is_settled(object: &BuildRequest) -> bool {
    let conditions = object
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    find(conditions, ConditionType::Succeeded).is_some_and(|c| c.status != "Unknown")
        && find(conditions, ConditionType::Reconciling).is_none()
}

fn rest(object: &BuildRequest, run: &CurrentRun, now: Timestamp) -> Step {
    let expires_in = object
        .spec
        .ttl_after_finished
        .zip(run.ended_at.as_ref())
        .map(|(ttl, ended)| {
            let age = Duration::try_from(now.duration_since(ended.0)).unwrap_or_default();
            ttl.get().saturating_sub(age)
        });
    Step::Rest { expires_in }
}

/// Whether `run` is what is wanted.
pub fn asked_by(run: &CurrentRun, wanted: &Wanted) -> bool {
    run.inputs_digest == wanted.digest && run.rerun == wanted.rerun
}

/// Whether a run that ended so is to be tried again, under the spec as it is now.
pub fn may_retry(spec: &BuildRequestSpec, run: &CurrentRun) -> bool {
    !spec.cancel
        && run.attempt <= spec.retry.limit
        && run
            .outcome
            .and_then(outcome::retry_on)
            .is_some_and(|ending| spec.retry.outcomes.contains(&ending))
        && run.outcome.is_some_and(|o| !outcome::is_success(o, spec))
}

/// The pause before the try after `attempt`: doubles each time, at most ten minutes (design §3.5).
pub fn pause_after(spec: &BuildRequestSpec, attempt: u32) -> Duration {
    const CAP: Duration = Duration::from_secs(600);
    let doublings = attempt.saturating_sub(1).min(20);
    spec.retry.backoff.get().saturating_mul(1 << doublings).min(CAP)
}

fn next_attempt_at(object: &BuildRequest, run: &CurrentRun) -> Option<Timestamp> {
    let at = object.status.as_ref()?.next_attempt_at.as_ref()?;
    // What was promised is kept unless the spec took it back.
    (run.attempt <= object.spec.retry.limit).then_some(at.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::build_request::Outcome,
        controllers::build_request::decide::testing::{ago, object, run_in, settled, t0},
    };

    #[test]
    fn the_way_through_the_states() {
        let in_state = |state| {
            let mut o = object();
            o.status.as_mut().unwrap().run = Some(run_in(&o, state));
            o
        };
        let rows = [
            (None, Step::Begin { attempt: 1 }),
            (Some(RunState::Intended), Step::Begin { attempt: 1 }),
            (Some(RunState::Sending), Step::Find),
            (Some(RunState::Submitted), Step::Follow),
            (Some(RunState::Started), Step::Follow),
        ];
        for (state, step) in rows {
            let o = state.map_or_else(object, in_state);
            assert_eq!(next_step(&o, t0()), step, "{state:?}");
        }
    }

    #[test]
    fn an_active_run_is_followed_whatever_the_spec_says_now() {
        for state in [RunState::Sending, RunState::Submitted, RunState::Started] {
            let mut o = object();
            o.status.as_mut().unwrap().run = Some(run_in(&o, state));
            let expected = next_step(&o, t0());
            o.spec.suspend = true;
            o.spec.cancel = true;
            o.spec.parameters.clear();
            o.spec.pipeline = "other".into();
            o.metadata.generation = Some(9);
            assert_eq!(next_step(&o, t0()), expected, "{state:?}");
        }
    }

    #[test]
    fn cancel_and_suspend_hold_back_what_was_not_sent() {
        let mut o = object();
        o.spec.suspend = true;
        assert_eq!(next_step(&o, t0()), Step::Suspended);
        o.spec.cancel = true;
        assert_eq!(next_step(&o, t0()), Step::CancelledEarly);
        o.status.as_mut().unwrap().run = Some(run_in(&o, RunState::Intended));
        assert_eq!(next_step(&o, t0()), Step::CancelledEarly);
    }

    #[test]
    fn a_settled_object_rests_until_something_that_builds_changes() {
        let o = settled(Outcome::Succeeded);
        assert_eq!(next_step(&o, t0()), Step::Rest { expires_in: None });

        let mut relabelled = o.clone();
        relabelled.metadata.labels = Some([("a".into(), "b".into())].into());
        assert_eq!(next_step(&relabelled, t0()), Step::Rest { expires_in: None });

        let mut sink = o.clone();
        sink.metadata.generation = Some(2);
        sink.spec.logs.max_bytes = 5000;
        assert_eq!(
            next_step(&sink, t0()),
            Step::Collect,
            "a sink that changed is looked at, without a build"
        );

        let mut rerun = o.clone();
        rerun.metadata.annotations = Some([(crate::api::RERUN_REQUESTED_AT.into(), "1".into())].into());
        assert_eq!(next_step(&rerun, t0()), Step::Begin { attempt: 1 });

        let mut other = o;
        other.spec.branch = Some("other".into());
        other.metadata.generation = Some(2);
        assert_eq!(next_step(&other, t0()), Step::Begin { attempt: 1 });
    }

    #[test]
    fn time_to_live_counts_from_the_end() {
        let mut o = settled(Outcome::Failed);
        o.spec.ttl_after_finished = Some(crate::api::common::Duration::from_secs(100));
        o.status.as_mut().unwrap().run.as_mut().unwrap().ended_at = Some(ago(30));
        assert_eq!(
            next_step(&o, t0()),
            Step::Rest {
                expires_in: Some(Duration::from_secs(70))
            }
        );
        o.status.as_mut().unwrap().run.as_mut().unwrap().ended_at = Some(ago(130));
        assert_eq!(
            next_step(&o, t0()),
            Step::Rest {
                expires_in: Some(Duration::ZERO)
            }
        );
    }

    #[test]
    fn pauses_double_up_to_ten_minutes() {
        let mut o = object();
        o.spec.retry.backoff = crate::api::common::Duration::from_secs(30);
        let pauses: Vec<_> = (1..=7).map(|n| pause_after(&o.spec, n).as_secs()).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        assert_eq!(pause_after(&o.spec, u32::MAX).as_secs(), 600);
    }

    #[test]
    fn tries_end_at_the_limit_and_only_named_endings_are_tried() {
        let mut o = settled(Outcome::Failed);
        o.spec.retry.limit = 2;
        let mut run = o.status.clone().unwrap().run.unwrap();
        for (attempt, again) in [(1, true), (2, true), (3, false)] {
            run.attempt = attempt;
            assert_eq!(may_retry(&o.spec, &run), again, "attempt {attempt}");
        }
        run.attempt = 1;
        run.outcome = Some(Outcome::Unstable);
        assert!(!may_retry(&o.spec, &run));
        o.spec.retry.outcomes = vec![crate::api::build_request::RetryOn::Unstable];
        assert!(may_retry(&o.spec, &run));
        o.spec.accept_unstable = true;
        assert!(
            !may_retry(&o.spec, &run),
            "what counts as a success is not tried again"
        );
        o.spec.accept_unstable = false;
        o.spec.cancel = true;
        assert!(!may_retry(&o.spec, &run));
    }
}
