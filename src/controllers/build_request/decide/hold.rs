//! Steps that need no look at the remote: held back, cancelled early, waiting for a time, at rest.

use std::time::Duration;

use jiff::Timestamp;

use super::{Act, Decision, Situation, Standing, Wake};
use crate::api::{build_request::BuildPhase, conditions::Reason};

/// Nothing is started while `spec.suspend` is true.
pub fn suspended(situation: &Situation<'_>) -> Decision {
    let message = "nothing is started while spec.suspend is true".into();
    Decision::wait(situation.status(), Standing::Held { message }, Wake::OnChange)
}

/// Cancelled before anything was sent.
pub fn cancelled_early(situation: &Situation<'_>) -> Decision {
    let mut status = situation.status();
    // An intent that was never sent is no run.
    status.run = None;
    status.next_attempt_at = None;
    let message = "cancelled before a build was started: set spec.cancel to false to start one".into();
    Decision::wait(
        status,
        Standing::Stuck {
            phase: BuildPhase::Cancelled,
            reason: Reason::Cancelled,
            message,
        },
        Wake::OnChange,
    )
}

/// The next try is due later.
pub fn wait_to_retry(situation: &Situation<'_>, at: Timestamp, attempt: u32) -> Decision {
    let left = Duration::try_from(at.duration_since(situation.now)).unwrap_or_default();
    let message = format!(
        "try {attempt} of {} follows",
        situation.object.spec.retry.limit + 1
    );
    Decision::wait(
        situation.status(),
        Standing::Busy {
            phase: BuildPhase::Queued,
            reason: Reason::WaitingToRetry,
            message,
        },
        Wake::After(left),
    )
}

/// All is done; what is left is the object's time to live.
pub fn rest(situation: &Situation<'_>, expires_in: Option<Duration>) -> Decision {
    let until = expires_in.and_then(|left| situation.now.checked_add(left).ok());
    let decision = Decision::wait(situation.status(), Standing::Unchanged, Wake::Settled(until));
    match expires_in {
        Some(left) if left.is_zero() => decision.act(Act::DeleteSelf),
        _ => decision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::build_request::{Outcome, RunState},
        controllers::build_request::decide::testing::{object_in, settled, situation},
    };

    #[test]
    fn an_object_goes_when_its_time_is_over_and_not_before() {
        let object = settled(Outcome::Succeeded);
        let s = situation(&object);
        assert_eq!(rest(&s, None).wake, Wake::Settled(None));
        assert_eq!(
            rest(&s, Some(Duration::from_secs(3))).wake,
            Wake::Settled(Some(s.now + Duration::from_secs(3)))
        );
        assert_eq!(rest(&s, Some(Duration::from_secs(3))).act, Act::Nothing);
        assert_eq!(rest(&s, Some(Duration::ZERO)).act, Act::DeleteSelf);
    }

    #[test]
    fn an_intent_that_was_never_sent_is_dropped_by_cancel() {
        let object = object_in(RunState::Intended);
        let decision = cancelled_early(&situation(&object));
        assert_eq!(decision.status.run, None);
        assert!(matches!(
            decision.standing,
            Standing::Stuck {
                reason: Reason::Cancelled,
                ..
            }
        ));
    }
}
