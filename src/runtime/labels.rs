//! The words of phases and outcomes in metrics.

use crate::api::build_request::{BuildPhase, Outcome};

/// The phases of what is not finished.
pub(super) const PHASES: [BuildPhase; 6] = [
    BuildPhase::Pending,
    BuildPhase::Suspended,
    BuildPhase::Queued,
    BuildPhase::Running,
    BuildPhase::Paused,
    BuildPhase::Collecting,
];

/// Whether nothing comes after it.
pub(super) const fn phase_is_final(phase: BuildPhase) -> bool {
    matches!(
        phase,
        BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Cancelled
    )
}

/// The label of a phase.
pub(super) const fn phase_label(phase: BuildPhase) -> &'static str {
    match phase {
        BuildPhase::Pending => "pending",
        BuildPhase::Suspended => "suspended",
        BuildPhase::Queued => "queued",
        BuildPhase::Running => "running",
        BuildPhase::Paused => "paused",
        BuildPhase::Collecting => "collecting",
        BuildPhase::Succeeded => "succeeded",
        BuildPhase::Failed => "failed",
        BuildPhase::Cancelled => "cancelled",
    }
}

/// The label of an outcome.
pub(super) const fn outcome_label(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Unstable => "unstable",
        Outcome::Failed => "failed",
        Outcome::Aborted => "aborted",
        Outcome::Skipped => "skipped",
        Outcome::Indeterminate => "indeterminate",
        Outcome::Cancelled => "cancelled",
        Outcome::TimedOut => "timed_out",
        Outcome::TriggerFailed => "trigger_failed",
        Outcome::Lost => "lost",
    }
}
