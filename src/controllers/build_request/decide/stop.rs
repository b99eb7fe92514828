//! A run is to end before its time: it is stopped, or removed where it has no build number yet.

use std::time::Duration;

use super::{
    super::inputs,
    Act, Decision, Situation, Standing, Wake, busy,
    ending::{collecting, end, removed},
    follow::Followed,
    hindered,
    step::asked_by,
    title,
};
use crate::{
    api::{
        build_request::{BuildPhase, BuildRequestStatus, Failure, StopReason, StopRequest},
        conditions::{ConditionType, Reason, bounded, is_true},
    },
    trouble::Trouble,
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
    let decision = if asked.is_some() && is_true(&status.conditions, ConditionType::Stalled) {
        // That it was refused stays in the conditions until another request ends otherwise.
        Decision::wait(status, Standing::Unchanged, look_again(situation))
    } else {
        stopping(situation, status)
    };
    Some(if ask_again {
        decision.act(Act::Stop)
    } else {
        decision
    })
}

/// The remote was asked for a stop.
pub(super) fn stopping(situation: &Situation<'_>, status: BuildRequestStatus) -> Decision {
    let Some((run, stop)) = status
        .run
        .as_ref()
        .and_then(|run| run.stop.as_ref().map(|stop| (run, stop)))
    else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    let why = match stop.reason {
        StopReason::Cancelled => "spec.cancel is true",
        StopReason::TimedOut => "it took longer than spec.timeouts.run",
        StopReason::TriggerTimedOut => "it took longer than spec.timeouts.trigger to start",
    };
    let message = format!("{} is being stopped: {why}", title(run));
    let phase = status.phase.unwrap_or(BuildPhase::Running);
    busy(status, phase, Reason::Stopping, &message, look_again(situation))
}

/// The remote refuses to stop a build, or cannot be asked: its end is looked for all the same.
pub(super) fn not_stopped(situation: &Situation<'_>, trouble: &Trouble) -> Decision {
    let status = situation.status();
    let name = status.run.as_ref().map(title).unwrap_or_default();
    let told = Trouble {
        message: bounded(
            &format!("{name} could not be stopped, it is asked again: {trouble}"),
            1000,
        ),
        ..trouble.clone()
    };
    Decision {
        wake: Wake::After(situation.poll),
        ..hindered(situation, &told)
    }
}

/// A build that is being stopped is over soon.
fn look_again(situation: &Situation<'_>) -> Wake {
    let refused = is_true(&situation.status().conditions, ConditionType::Stalled);
    let soon = situation.poll.min(Duration::from_secs(2));
    Wake::After(if refused { situation.poll } else { soon })
}

/// Removes a run that has no build number. It counts as over when the remote has confirmed that, not before: until then
/// it may still be started there, and another try beside it would be a second build; that is for a person to decide.
pub(super) fn remove(
    situation: &Situation<'_>,
    mut status: BuildRequestStatus,
    reason: StopReason,
) -> Decision {
    let Some(run) = &mut status.run else {
        return Decision::wait(status, Standing::Unchanged, Wake::Now);
    };
    if run.stop.is_some() {
        if !asked_by(run, &inputs::wanted(situation.object))
            && is_true(&status.conditions, ConditionType::Stalled)
        {
            // Whoever read that it could not be removed wants another one nevertheless.
            end(&mut status, situation, removed(reason));
            return collecting(status);
        }
        // What came of the last try stays in the conditions until this one ends otherwise.
        return Decision::wait(status, Standing::Unchanged, Wake::Backoff).act(Act::DeleteRun);
    }
    run.stop = Some(StopRequest {
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

#[cfg(test)]
#[path = "stop_tests.rs"]
mod tests;
