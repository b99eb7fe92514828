//! Which rungs of the ladders a user may use; found by trying, remembered, tried again (design §3, ladders).
use jiff::Timestamp;

/// A rung that needs a right which installations grant or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Capability {
    /// Create a run with a chosen name through `/apis`.
    CreateRuns,
    /// List and watch runs through `/apis`.
    WatchRuns,
    /// Read from Jenkins through the raw proxy.
    JenkinsProxy,
}

/// What is known about a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Known {
    /// It worked.
    Yes {
        /// When it last worked.
        at: Timestamp,
    },
    /// It was refused (403).
    No {
        /// When it was last refused.
        at: Timestamp,
    },
    /// Not tried yet.
    #[default]
    Unknown,
}

/// What is known about all rungs, in one project or over all of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// See [`Capability::CreateRuns`].
    pub create_runs: Known,
    /// See [`Capability::WatchRuns`].
    pub watch_runs: Known,
    /// See [`Capability::JenkinsProxy`].
    pub jenkins_proxy: Known,
}

/// A refusal is tried again after this long.
pub(crate) const RETRY_REFUSED_SECONDS: i64 = 3600;

impl Known {
    /// Worth trying: it worked, was never tried, or was refused over an hour ago.
    pub fn worth_trying(self, now: Timestamp) -> bool {
        match self {
            Self::Yes { .. } | Self::Unknown => true,
            Self::No { at } => now.as_second() - at.as_second() >= RETRY_REFUSED_SECONDS,
        }
    }
}

impl Capabilities {
    /// What is known about one rung.
    pub fn get(&self, capability: Capability) -> Known {
        match capability {
            Capability::CreateRuns => self.create_runs,
            Capability::WatchRuns => self.watch_runs,
            Capability::JenkinsProxy => self.jenkins_proxy,
        }
    }
}
