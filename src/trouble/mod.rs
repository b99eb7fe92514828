//! What stands in the way of an object: the reason, the sentence for people, and what can change it.
//!
//! What lives here: the value that whoever meets an obstacle hands up, and nothing that knows where it comes from. What may
//! call it: `controllers` and `sinks`. What must never come in: the gateway (what its errors mean is decided in
//! `controllers/refusal.rs`), Kubernetes, I/O.

use std::time::Duration;

use crate::api::conditions::Reason;

/// Who or what can remove a [`Trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A person must change something that we watch or that is cheap to look at again: `Stalled`.
    User,
    /// Time: it is tried again with backoff, or not before so long: `Reconciling`.
    Time(Option<Duration>),
    /// The gateway, which wants to be left alone for so long, or is not there: nothing was tried, so nothing failed, and
    /// all that go through it come back then. `Reconciling`.
    Gateway(Duration),
}

/// What stands in the way of an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Trouble {
    /// The reason that the conditions get.
    pub reason: Reason,
    /// What happened, to which object, what to do.
    pub message: String,
    /// What can change it.
    pub remedy: Remedy,
}

impl Trouble {
    /// Trouble that a person must end.
    pub fn user(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            remedy: Remedy::User,
        }
    }

    /// Trouble that time may end.
    pub fn passing(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            remedy: Remedy::Time(None),
        }
    }

    /// Trouble that time may end, not before `after`.
    pub fn until(reason: Reason, message: impl Into<String>, after: Duration) -> Self {
        Self {
            reason,
            message: message.into(),
            remedy: Remedy::Time(Some(after)),
        }
    }

    /// Whether only a person can end it.
    pub fn is_stalled(&self) -> bool {
        self.remedy == Remedy::User
    }
}
