//! Who may stop a write at the last moment.

/// Asked right before each write is sent, and at each step until it is answered.
pub trait WriteGate: Send + Sync {
    /// Whether a write may be sent now; `what` says which, like `start build in shop`. One that may not ends as
    /// [`ErrorKind::Fenced`](super::ErrorKind::Fenced), and was not sent unless that error is ambiguous.
    fn may_write(&self, what: &str) -> bool;
}

/// Lets every write pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenGate;

impl WriteGate for OpenGate {
    fn may_write(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
