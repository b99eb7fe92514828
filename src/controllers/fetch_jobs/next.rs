//! DECIDE: from the Jobs that there are to the one next thing. Pure.
//!
//! One writer at a time: what is no longer wanted has to be gone before something else is begun. A Job that failed stays
//! for people to look at; how many failed, and since when, is read off the Jobs themselves.

use std::time::Duration;

use jiff::Timestamp;

use super::seen::{JobSeen, JobState};
use crate::trouble::{Remedy, Trouble};

/// The next thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Next<'a> {
    /// Stop these, which are for something that is no longer wanted.
    Stop(Vec<&'a JobSeen>),
    /// Wait until this one is gone.
    Wait(&'a JobSeen),
    /// Make a Job.
    Make {
        /// Which one it is.
        attempt: u32,
    },
    /// It is at work.
    Follow(&'a JobSeen),
    /// It ended well.
    Collect(&'a JobSeen),
    /// It ended badly.
    Judge(&'a JobSeen),
}

/// Decides on `jobs`, all of one object.
pub fn next(jobs: &[JobSeen], is_wanted: impl Fn(&JobSeen) -> bool) -> Next<'_> {
    let stale: Vec<_> = jobs
        .iter()
        .filter(|job| job.state == JobState::Active && !is_wanted(job))
        .collect();
    if !stale.is_empty() {
        return Next::Stop(stale);
    }
    if let Some(leaving) = jobs.iter().find(|job| job.state == JobState::Leaving) {
        return Next::Wait(leaving);
    }
    let latest = jobs
        .iter()
        .filter(|job| is_wanted(job))
        .max_by_key(|job| job.attempt);
    match latest {
        None => Next::Make { attempt: 1 },
        Some(job) => match job.state {
            JobState::Active | JobState::Leaving => Next::Follow(job),
            JobState::Complete => Next::Collect(job),
            JobState::Failed { .. } => Next::Judge(job),
        },
    }
}

/// How long to wait after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// After the first one that time may mend; doubles with each further one.
    pub first: Duration,
    /// At most so long.
    pub cap: Duration,
    /// After one that a person must mend.
    pub person: Duration,
}

impl Pauses {
    /// How long after its end a Job that failed so is followed by another.
    pub fn after(&self, trouble: &Trouble, attempt: u32) -> Duration {
        let at_least = match trouble.remedy {
            Remedy::User => return self.person,
            Remedy::Time(at_least) => at_least.unwrap_or_default(),
            Remedy::Gateway(wait) => wait,
        };
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.cap).max(at_least)
    }

    /// How much of that is left; `None` where the next one is due.
    pub fn left(
        &self,
        trouble: &Trouble,
        attempt: u32,
        ended: Timestamp,
        now: Timestamp,
    ) -> Option<Duration> {
        let passed = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
        self.after(trouble, attempt)
            .checked_sub(passed)
            .filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::testing, *};
    use crate::api::conditions::Reason;

    fn seen(selection: &str, attempt: u32, condition: &str) -> JobSeen {
        let status: Value = match condition {
            "" | "Leaving" => json!({}),
            kind => json!({"conditions": [{"type": kind, "status": "True"}]}),
        };
        let mut job = testing::job(selection, attempt, &status);
        if condition == "Leaving" {
            job.metadata.deletion_timestamp = job.metadata.creation_timestamp.clone();
        }
        JobSeen::of(&job)
    }

    #[test]
    fn one_writer_at_a_time_and_what_is_wanted_only() {
        type Row = (&'static [(&'static str, u32, &'static str)], &'static str);
        /// What it comes to, with the Job that it is about.
        fn short(next: &Next<'_>) -> String {
            match next {
                Next::Stop(jobs) => format!("stop {}", jobs.len()),
                Next::Wait(job) => format!("wait {}", job.name),
                Next::Make { attempt } => format!("make {attempt}"),
                Next::Follow(job) => format!("follow {}", job.name),
                Next::Collect(job) => format!("collect {}", job.name),
                Next::Judge(job) => format!("judge {}", job.name),
            }
        }
        let table: [Row; 11] = [
            (&[], "make 1"),
            (&[("new", 1, "")], "follow files-new-1"),
            (&[("new", 1, "Complete")], "collect files-new-1"),
            (&[("new", 1, "Failed")], "judge files-new-1"),
            (&[("new", 2, "Failed"), ("new", 1, "Failed")], "judge files-new-2"),
            (&[("new", 1, "Failed"), ("new", 2, "")], "follow files-new-2"),
            (&[("old", 1, "")], "stop 1"),
            (&[("old", 1, ""), ("new", 1, "")], "stop 1"),
            (&[("old", 1, "Leaving")], "wait files-old-1"),
            (&[("new", 1, "Leaving")], "wait files-new-1"),
            (&[("old", 1, "Complete"), ("old", 2, "Failed")], "make 1"),
        ];
        for (jobs, expected) in table {
            let jobs: Vec<_> = jobs.iter().map(|(s, a, c)| seen(s, *a, c)).collect();
            let next = next(&jobs, |job| job.selection == "new");
            assert_eq!(short(&next), expected, "{jobs:?}");
        }
    }

    #[test]
    fn failures_are_followed_by_pauses_that_grow_and_end() {
        let pauses = Pauses {
            first: Duration::from_secs(1),
            cap: Duration::from_secs(600),
            person: Duration::from_secs(300),
        };
        let passing = Trouble::passing(Reason::RemoteUnavailable, "");
        let lockout = Trouble::until(Reason::LockedOut, "", Duration::from_secs(900));
        let person = Trouble::user(Reason::VolumeFull, "");
        for (trouble, attempt, seconds) in [
            (&passing, 1, 1),
            (&passing, 4, 8),
            (&passing, 40, 600),
            (&passing, u32::MAX, 600),
            (&lockout, 1, 900),
            (&person, 1, 300),
            (&person, 9, 300),
        ] {
            let pause = pauses.after(trouble, attempt);
            assert_eq!(pause, Duration::from_secs(seconds), "{trouble:?} {attempt}");
        }
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(
            pauses.left(&person, 1, at(0), at(100)),
            Some(Duration::from_secs(200))
        );
        assert_eq!(pauses.left(&person, 1, at(0), at(300)), None);
        assert_eq!(pauses.left(&person, 1, at(0), at(3000)), None);
        assert_eq!(
            pauses.left(&person, 1, at(100), at(0)),
            Some(Duration::from_secs(300)),
            "the clock of another machine"
        );
    }
}
