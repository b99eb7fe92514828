//! A run is over: what is written down of that, whichever way it ended.

use super::{Act, Decision, Situation, Wake, busy, facts::duration, outcome, verdict};
use crate::{
    api::{
        build_request::{BuildPhase, BuildRequestStatus, Outcome, RunState, StopReason},
        conditions::Reason,
    },
    gateway::BuildOutcome,
};

/// Writes down that the run is over, and how.
pub(super) fn end(status: &mut BuildRequestStatus, situation: &Situation<'_>, outcome: Outcome) {
    if let Some(run) = &mut status.run {
        run.state = RunState::Ended;
        run.outcome = Some(outcome);
        run.dequeued = true;
        run.missing_since = None;
        run.ended_at = Some(situation.time());
        run.completion_time.get_or_insert(situation.time());
    }
    status.input = None;
}

/// The run is over: write it down, then bring its bytes home.
pub(super) fn over(situation: &Situation<'_>, mut status: BuildRequestStatus, how: BuildOutcome) -> Decision {
    let stop = status
        .run
        .as_ref()
        .and_then(|run| run.stop.as_ref())
        .map(|stop| stop.reason);
    end(&mut status, situation, outcome::of(how, stop));
    if let Some(run) = &mut status.run {
        run.result.get_or_insert_with(|| result_text(how).into());
        run.duration = duration(run);
    }
    collecting(status)
}

const fn result_text(how: BuildOutcome) -> &'static str {
    match how {
        BuildOutcome::Success => "SUCCESS",
        BuildOutcome::Unstable => "UNSTABLE",
        BuildOutcome::Failure => "FAILURE",
        BuildOutcome::Aborted => "ABORTED",
        BuildOutcome::Skipped => "SKIPPED",
        BuildOutcome::Indeterminate => "UNKNOWN",
    }
}

/// The outcome of a run that is gone after we asked for that.
pub const fn removed(reason: StopReason) -> Outcome {
    match reason {
        StopReason::Cancelled => Outcome::Cancelled,
        StopReason::TimedOut => Outcome::TimedOut,
        StopReason::TriggerTimedOut => Outcome::TriggerFailed,
    }
}

/// The run will never end on the remote: it is forgotten there.
pub(super) fn lost(situation: &Situation<'_>, mut status: BuildRequestStatus) -> Decision {
    let stop = status
        .run
        .as_ref()
        .and_then(|run| run.stop.as_ref())
        .map(|stop| stop.reason);
    // A build that was stopped in Jenkins' queue leaves nothing behind (contract §6.2): that is its end, not a loss.
    end(&mut status, situation, stop.map_or(Outcome::Lost, removed));
    // What is left of it on the remote would be polled there for ever (finding A5).
    collecting(status).act(Act::DeleteRun)
}

/// The run is over, and its bytes are to be brought home.
pub fn collecting(status: BuildRequestStatus) -> Decision {
    let message = status.run.as_ref().map(verdict).unwrap_or_default();
    busy(
        status,
        BuildPhase::Collecting,
        Reason::Collecting,
        &format!("{message}; its log and artifacts are being brought home"),
        Wake::Now,
    )
}
