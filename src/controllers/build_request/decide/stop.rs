//! A run is to end before its time: it is stopped, or removed where it has no build number yet.

use std::time::Duration;

use super::{Act, Decision, Situation, Standing, Wake, busy, follow::Followed, title};
use crate::api::{
    build_request::{BuildPhase, BuildRequestStatus, Failure, StopReason, StopRequest},
    conditions::{Reason, bounded},
};

/// Asks for a stop where one is due, again every half minute as long as it has no effect.
pub(super) fn stop_if_due(situation: &Situation<'_>, status: &BuildRequestStatus) -> Option<Decision> {
    let spec = &situation.object.spec;
    let run = status.run.as_ref()?;
    let began = run.start_time.as_ref().or(run.sent_at.as_ref())?;
    let due = if spec.cancel {
        Some(StopReason::Cancelled)
    } else if situation.since(began) >= spec.timeouts.run.get() {
        Some(StopReason::TimedOut)
    } else {
        None
    };
    // A stop that was asked for is carried through, also if the wish was taken back meanwhile.
    let reason = run.stop.as_ref().map(|stop| stop.reason).or(due)?;
    let asked = run.stop.as_ref().map(|stop| situation.since(&stop.requested_at));
    let mut status = status.clone();
    status.input = None;
    let ask_again = asked.is_none_or(|ago| ago >= Duration::from_secs(30));
    if ask_again && let Some(run) = &mut status.run {
        run.stop = Some(StopRequest {
            reason,
            requested_at: situation.time(),
        });
    }
    let why = match reason {
        StopReason::Cancelled => "spec.cancel is true",
        StopReason::TimedOut => "it took longer than spec.timeouts.run",
        StopReason::TriggerTimedOut => "it took longer than spec.timeouts.trigger to start",
    };
    let name = status.run.as_ref().map(title).unwrap_or_default();
    let phase = situation
        .object
        .status
        .as_ref()
        .and_then(|s| s.phase)
        .unwrap_or(BuildPhase::Running);
    let decision = busy(
        status,
        phase,
        Reason::Stopping,
        &format!("{name} is being stopped: {why}"),
        Wake::After(situation.poll.min(Duration::from_secs(2))),
    );
    Some(if ask_again {
        decision.act(Act::Stop)
    } else {
        decision
    })
}

/// Removes a run that has no build number. It counts as over when the remote has confirmed that, not before: until then
/// it may still be started there, and another try beside it would be a second build.
pub(super) fn remove(
    situation: &Situation<'_>,
    mut status: BuildRequestStatus,
    reason: StopReason,
) -> Decision {
    let Some(run) = &mut status.run else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    run.stop.get_or_insert(StopRequest {
        reason,
        requested_at: situation.time(),
    });
    let message = format!("{} has no build number and is being removed", title(run));
    busy(
        status,
        BuildPhase::Pending,
        Reason::Stopping,
        &message,
        Wake::Backoff,
    )
    .act(Act::DeleteRun)
}

/// Nothing but removal helps a run that the remote cannot start (contract §6.2 step 5).
pub(super) fn trigger_failed(
    situation: &Situation<'_>,
    mut status: BuildRequestStatus,
    seen: &Followed,
) -> Decision {
    let said = seen
        .trigger_failure
        .as_deref()
        .unwrap_or("the remote gave no reason");
    status.failure = Some(Failure {
        stage: None,
        reason: Reason::TriggerFailed.as_str().into(),
        message: bounded(&format!("KubeSphere could not start the run: {said}"), 1000),
        log_tail: None,
    });
    remove(situation, status, StopReason::TriggerTimedOut)
}
