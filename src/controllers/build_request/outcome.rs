//! What a remote ending means in our words: one table for outcome, phase, reason and retry (contract §7).

use crate::{
    api::{
        build_request::{BuildPhase, BuildRequestSpec, Outcome, RetryOn, StopReason},
        conditions::Reason,
    },
    gateway::BuildOutcome,
};

/// The outcome of a run that ended as `remote`, after we asked for its stop for the reason `stop`, if we did.
///
/// A run that ended well although its stop was asked for, ended well: the stop came too late.
pub fn of(remote: BuildOutcome, stop: Option<StopReason>) -> Outcome {
    match (remote, stop) {
        (BuildOutcome::Success, _) => Outcome::Succeeded,
        (BuildOutcome::Aborted | BuildOutcome::Indeterminate, Some(StopReason::Cancelled)) => {
            Outcome::Cancelled
        }
        (BuildOutcome::Aborted | BuildOutcome::Indeterminate, Some(StopReason::TimedOut)) => {
            Outcome::TimedOut
        }
        (BuildOutcome::Aborted | BuildOutcome::Indeterminate, Some(StopReason::TriggerTimedOut)) => {
            Outcome::TriggerFailed
        }
        (BuildOutcome::Unstable, _) => Outcome::Unstable,
        (BuildOutcome::Failure, _) => Outcome::Failed,
        (BuildOutcome::Aborted, None) => Outcome::Aborted,
        (BuildOutcome::Skipped, _) => Outcome::Skipped,
        (BuildOutcome::Indeterminate, None) => Outcome::Indeterminate,
    }
}

/// Whether an outcome is what the BuildRequest asked for.
pub fn is_success(outcome: Outcome, spec: &BuildRequestSpec) -> bool {
    match outcome {
        Outcome::Succeeded | Outcome::Skipped => true,
        Outcome::Unstable => spec.accept_unstable,
        Outcome::Failed
        | Outcome::Aborted
        | Outcome::Indeterminate
        | Outcome::Cancelled
        | Outcome::TimedOut
        | Outcome::TriggerFailed
        | Outcome::Lost => false,
    }
}

/// Whether a run that ended so may have archived files: whatever Jenkins built may have archived something before.
pub const fn may_have_files(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Succeeded
        | Outcome::Unstable
        | Outcome::Failed
        | Outcome::Aborted
        | Outcome::Indeterminate
        | Outcome::Cancelled
        | Outcome::TimedOut => true,
        Outcome::Skipped | Outcome::TriggerFailed | Outcome::Lost => false,
    }
}

/// The phase of a BuildRequest whose last run ended so.
pub fn phase(outcome: Outcome, spec: &BuildRequestSpec) -> BuildPhase {
    if is_success(outcome, spec) {
        BuildPhase::Succeeded
    } else if outcome == Outcome::Cancelled {
        BuildPhase::Cancelled
    } else {
        BuildPhase::Failed
    }
}

/// The reason of `Succeeded` and `Ready` for an outcome.
pub const fn reason(outcome: Outcome) -> Reason {
    match outcome {
        Outcome::Succeeded => Reason::Succeeded,
        Outcome::Unstable => Reason::BuildUnstable,
        Outcome::Failed => Reason::BuildFailed,
        Outcome::Aborted => Reason::BuildAborted,
        Outcome::Skipped => Reason::BuildSkipped,
        Outcome::Indeterminate => Reason::BuildIndeterminate,
        Outcome::Cancelled => Reason::Cancelled,
        Outcome::TimedOut => Reason::RunTimedOut,
        Outcome::TriggerFailed => Reason::TriggerFailed,
        Outcome::Lost => Reason::RunLost,
    }
}

/// The ending that `spec.retry.outcomes` would have to name for another try; None where there is none.
pub const fn retry_on(outcome: Outcome) -> Option<RetryOn> {
    match outcome {
        Outcome::Failed => Some(RetryOn::Failure),
        Outcome::Unstable => Some(RetryOn::Unstable),
        Outcome::Aborted => Some(RetryOn::Aborted),
        Outcome::TimedOut => Some(RetryOn::TimedOut),
        Outcome::TriggerFailed => Some(RetryOn::TriggerFailed),
        Outcome::Lost => Some(RetryOn::Lost),
        Outcome::Succeeded | Outcome::Skipped | Outcome::Indeterminate | Outcome::Cancelled => None,
    }
}

/// What a person reads about an outcome.
pub const fn sentence(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Unstable => "is unstable: it was built, but tests failed",
        Outcome::Failed => "failed",
        Outcome::Aborted => "was aborted on the remote",
        Outcome::Skipped => "was skipped by the pipeline",
        Outcome::Indeterminate => "ended with neither success nor failure",
        Outcome::Cancelled => "was cancelled",
        Outcome::TimedOut => "took longer than spec.timeouts.run and was stopped",
        Outcome::TriggerFailed => "was never started by KubeSphere within spec.timeouts.trigger",
        Outcome::Lost => "was forgotten by the remote before it ended",
    }
}

/// Every outcome, for tables.
#[cfg(test)]
pub const ALL: [Outcome; 10] = [
    Outcome::Succeeded,
    Outcome::Unstable,
    Outcome::Failed,
    Outcome::Aborted,
    Outcome::Skipped,
    Outcome::Indeterminate,
    Outcome::Cancelled,
    Outcome::TimedOut,
    Outcome::TriggerFailed,
    Outcome::Lost,
];

#[cfg(test)]
mod tests {
    use super::*;
    use BuildOutcome as Remote;

    #[test]
    fn the_whole_table_of_endings() {
        let stops = [
            None,
            Some(StopReason::Cancelled),
            Some(StopReason::TimedOut),
            Some(StopReason::TriggerTimedOut),
        ];
        let rows: [(Remote, [Outcome; 4]); 6] = [
            (Remote::Success, [Outcome::Succeeded; 4]),
            (Remote::Unstable, [Outcome::Unstable; 4]),
            (Remote::Failure, [Outcome::Failed; 4]),
            (
                Remote::Aborted,
                [
                    Outcome::Aborted,
                    Outcome::Cancelled,
                    Outcome::TimedOut,
                    Outcome::TriggerFailed,
                ],
            ),
            (Remote::Skipped, [Outcome::Skipped; 4]),
            (
                Remote::Indeterminate,
                [
                    Outcome::Indeterminate,
                    Outcome::Cancelled,
                    Outcome::TimedOut,
                    Outcome::TriggerFailed,
                ],
            ),
        ];
        for (remote, outcomes) in rows {
            for (stop, outcome) in stops.into_iter().zip(outcomes) {
                assert_eq!(of(remote, stop), outcome, "{remote:?} after {stop:?}");
            }
        }
    }

    #[test]
    fn unstable_is_a_success_only_where_it_is_accepted() {
        let spec = |accept: bool| -> BuildRequestSpec {
            serde_json::from_value(serde_json::json!({
                "connectionRef": {"name": "ks"}, "project": "p", "pipeline": "b", "acceptUnstable": accept
            }))
            .unwrap()
        };
        for outcome in ALL {
            let expected = matches!(outcome, Outcome::Succeeded | Outcome::Skipped);
            assert_eq!(is_success(outcome, &spec(false)), expected, "{outcome:?}");
            assert_eq!(
                is_success(outcome, &spec(true)),
                expected || outcome == Outcome::Unstable,
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn a_success_is_never_tried_again() {
        for outcome in [Outcome::Succeeded, Outcome::Skipped, Outcome::Cancelled] {
            assert_eq!(retry_on(outcome), None, "{outcome:?}");
        }
    }
}
