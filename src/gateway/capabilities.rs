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

impl Known {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes { at: a }, Self::Yes { at: b }) => Self::Yes { at: a.max(b) },
            (yes @ Self::Yes { .. }, _) | (_, yes @ Self::Yes { .. }) => yes,
            (Self::No { at: a }, Self::No { at: b }) => Self::No { at: a.max(b) },
            (no @ Self::No { .. }, _) | (_, no @ Self::No { .. }) => no,
            (Self::Unknown, Self::Unknown) => Self::Unknown,
        }
    }
}

impl Capabilities {
    pub(crate) fn or(self, other: &Self) -> Self {
        Self {
            create_runs: self.create_runs.or(other.create_runs),
            watch_runs: self.watch_runs.or(other.watch_runs),
            jenkins_proxy: self.jenkins_proxy.or(other.jenkins_proxy),
        }
    }

    pub(crate) fn set(&mut self, capability: Capability, granted: bool, at: Timestamp) {
        let known = match capability {
            Capability::CreateRuns => &mut self.create_runs,
            Capability::WatchRuns => &mut self.watch_runs,
            Capability::JenkinsProxy => &mut self.jenkins_proxy,
        };
        *known = if granted {
            Known::Yes { at }
        } else {
            Known::No { at }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_refusal_is_tried_again_after_an_hour() {
        for (known, now, want) in [
            (Known::Unknown, 0, true),
            (Known::Yes { at: at(0) }, 1_000_000, true),
            (Known::No { at: at(0) }, 3599, false),
            (Known::No { at: at(0) }, 3600, true),
        ] {
            assert_eq!(known.worth_trying(at(now)), want, "{known:?} at {now}");
        }
    }

    #[test]
    fn over_all_projects_yes_wins_and_no_beats_unknown() {
        let mut here = Capabilities::default();
        here.set(Capability::CreateRuns, false, at(1));
        here.set(Capability::WatchRuns, false, at(1));
        let mut there = Capabilities::default();
        there.set(Capability::CreateRuns, true, at(2));
        let all = here.or(&there);
        assert_eq!(all.create_runs, Known::Yes { at: at(2) });
        assert_eq!(all.watch_runs, Known::No { at: at(1) });
        assert_eq!(all.jenkins_proxy, Known::Unknown);
    }
}
