//! Rules broken on purpose: whether the model would notice. Each break is made where the operator meets the world, so
//! that the operator's own code needs no switch for it.

use super::checks;

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    NoSearchAfterAnUnclearEnd,
    IntentIsNotWritten,
    WrittenWhateverTheVersion,
    AdoptedByNameAlone,
    ConflictIsTakenForOurs,
    FollowedByNameAlone,
    RemovedByNameAlone,
    NoTurns,
    TurnsAreForgotten,
    NobodyLooksForTwins,
    VanishedIsTakenForDone,
    UnreachableIsTakenForGone,
    LogsExpireWhileNobodyIsThere,
    DeletionDoesNotWaitForTheStop,
    FinalizerGoesFirst,
    DeletionsExpireWhileNobodyIsThere,
}

impl Break {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::NoSearchAfterAnUnclearEnd,
        Self::IntentIsNotWritten,
        Self::WrittenWhateverTheVersion,
        Self::AdoptedByNameAlone,
        Self::ConflictIsTakenForOurs,
        Self::FollowedByNameAlone,
        Self::RemovedByNameAlone,
        Self::NoTurns,
        Self::TurnsAreForgotten,
        Self::NobodyLooksForTwins,
        Self::VanishedIsTakenForDone,
        Self::UnreachableIsTakenForGone,
        Self::LogsExpireWhileNobodyIsThere,
        Self::DeletionDoesNotWaitForTheStop,
        Self::FinalizerGoesFirst,
        Self::DeletionsExpireWhileNobodyIsThere,
    ];

    /// What the operator does wrong then, for people.
    pub fn what(self) -> &'static str {
        match self {
            Self::NoSearchAfterAnUnclearEnd => {
                "a start with an unclear end counts as not sent: nobody searches before it is sent again"
            }
            Self::IntentIsNotWritten => "a run is sent before its intent is in the status",
            Self::WrittenWhateverTheVersion => "a status is written whatever was changed since it was read",
            Self::AdoptedByNameAlone => {
                "after an unclear end whatever bears the chosen name is adopted, with or without our token"
            }
            Self::ConflictIsTakenForOurs => "a 409 is answered without a look at whose run it is",
            Self::FollowedByNameAlone => "a run is followed by its name, whatever its UID",
            Self::RemovedByNameAlone => "a run is removed by its name, whatever its UID",
            Self::NoTurns => "nobody waits for anybody",
            Self::TurnsAreForgotten => "whose turn it was is not read from the statuses after a restart",
            Self::NobodyLooksForTwins => {
                "a run that the remote replaced is not looked for under another name"
            }
            Self::VanishedIsTakenForDone => "a build that Jenkins has forgotten counts as a success",
            Self::UnreachableIsTakenForGone => "a Jenkins that cannot be asked has no such build",
            Self::LogsExpireWhileNobodyIsThere => {
                "the deadline of a log passes while no operator is there to bring it"
            }
            Self::DeletionDoesNotWaitForTheStop => {
                "that a build could not be stopped does not keep a deleted object"
            }
            Self::FinalizerGoesFirst => "the finalizer is removed without a clean-up",
            Self::DeletionsExpireWhileNobodyIsThere => {
                "the deadline of a clean-up passes while no operator is there to do it"
            }
        }
    }

    /// The promise that it breaks.
    pub fn rule(self) -> &'static str {
        match self {
            Self::NoSearchAfterAnUnclearEnd => checks::ONE_START,
            Self::IntentIsNotWritten => checks::INTENT_FIRST,
            Self::WrittenWhateverTheVersion => checks::NOT_SUSPENDED,
            Self::AdoptedByNameAlone | Self::ConflictIsTakenForOurs | Self::FollowedByNameAlone => {
                checks::OURS
            }
            Self::RemovedByNameAlone => checks::HARMLESS,
            Self::NoTurns | Self::TurnsAreForgotten => checks::SERIALISED,
            Self::NobodyLooksForTwins => checks::FOUND,
            Self::VanishedIsTakenForDone | Self::UnreachableIsTakenForGone => checks::TRUE_OUTCOME,
            Self::LogsExpireWhileNobodyIsThere => checks::LOG_TRIED,
            Self::DeletionDoesNotWaitForTheStop
            | Self::FinalizerGoesFirst
            | Self::DeletionsExpireWhileNobodyIsThere => checks::STOPPED_FIRST,
        }
    }
}
