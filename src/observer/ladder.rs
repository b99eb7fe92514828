//! Which rung the observer stands on. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// A refused rung is tried again after so long (design §3). Other credentials make another connection, and with it
/// another observer, which has not been refused anything.
const RETRY: Duration = Duration::from_secs(3600);
/// One that is allowed and comes to nothing, after so long: what is in the way may be passing.
const DETOUR: Duration = Duration::from_secs(300);

/// The ways of keeping an eye on a project's runs, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rung {
    /// One watch for the project.
    Watch,
    /// One list of the project per tick.
    List,
    /// One list per tick of each pipeline of which several runs are followed.
    Pipelines,
    /// None: each build looks after its own run.
    Alone,
}

impl Rung {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Watch, Self::List, Self::Pipelines, Self::Alone];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Watch => "watch",
            Self::List => "list",
            Self::Pipelines => "pipelines",
            Self::Alone => "alone",
        }
    }
}

/// A right that a rung needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To list the project's run objects.
    List,
    /// To watch them.
    Watch,
}

/// Until when which right is not worth trying.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    list: Option<Instant>,
    watch: Option<Instant>,
}

impl Ladder {
    /// A right was refused.
    pub fn refused(&mut self, need: Need, now: Instant) {
        match need {
            Need::List => self.list = Some(now + RETRY),
            Need::Watch => self.watch = Some(now + RETRY),
        }
    }

    /// Watches are allowed, and come to nothing.
    pub fn no_watch(&mut self, now: Instant) {
        self.watch = Some(now + DETOUR);
    }

    /// The highest rung that is worth trying for followers whose runs are of pipelines with so many followers each.
    pub fn rung(&self, pipelines: impl IntoIterator<Item = usize>, now: Instant) -> Rung {
        let open = |shut: Option<Instant>| shut.is_none_or(|until| now >= until);
        let (mut followers, mut together) = (0, false);
        for count in pipelines {
            followers += count;
            together |= count > 1;
        }
        match (open(self.list), open(self.watch)) {
            (true, true) => Rung::Watch,
            (true, false) if followers > 1 => Rung::List,
            (false, _) if together => Rung::Pipelines,
            // For a single run, one GET tells more than a list.
            _ => Rung::Alone,
        }
    }

    /// When a higher rung is worth trying than now; None where that does not depend on time. Never in the past, and never
    /// while another right is missing that it needs too.
    pub fn retry_at(&self, now: Instant) -> Option<Instant> {
        let shut = |until: Option<Instant>| until.filter(|until| now < *until);
        shut(self.list).or(shut(self.watch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rung_for_each_right_and_each_company() {
        let t0 = Instant::now();
        let hour = RETRY;
        let (yes, no) = (None, Some(t0 + RETRY));
        // May list, may watch, followers per pipeline, how much later; the rung.
        let rows: [(_, _, &[usize], _, _); 11] = [
            (yes, yes, &[1], Duration::ZERO, Rung::Watch),
            (yes, yes, &[20, 1], Duration::ZERO, Rung::Watch),
            (yes, no, &[1, 1], Duration::ZERO, Rung::List),
            (yes, no, &[1], Duration::ZERO, Rung::Alone),
            (no, no, &[2], Duration::ZERO, Rung::Pipelines),
            (no, yes, &[1, 3], Duration::ZERO, Rung::Pipelines),
            (no, yes, &[1, 1], Duration::ZERO, Rung::Alone),
            (no, no, &[1], Duration::from_secs(3599), Rung::Alone),
            (no, no, &[1], hour, Rung::Watch),
            (yes, no, &[5], hour, Rung::Watch),
            (yes, no, &[5], Duration::from_secs(3599), Rung::List),
        ];
        for (list, watch, pipelines, later, rung) in rows {
            let ladder = Ladder { list, watch };
            let got = ladder.rung(pipelines.iter().copied(), t0 + later);
            assert_eq!(got, rung, "{list:?} {watch:?} {pipelines:?} {later:?}");
        }
    }

    #[test]
    fn the_time_to_climb_is_when_the_next_right_opens() {
        let t0 = Instant::now();
        let minute = Duration::from_secs(60);
        let mut ladder = Ladder::default();
        assert_eq!(ladder.retry_at(t0), None);
        ladder.no_watch(t0);
        assert_eq!(ladder.retry_at(t0), Some(t0 + DETOUR));
        ladder.refused(Need::List, t0 + minute);
        let opens = t0 + minute + RETRY;
        assert_eq!(
            ladder.retry_at(t0 + minute),
            Some(opens),
            "no watch without a list"
        );
        assert_eq!(
            ladder.retry_at(t0 + DETOUR + minute),
            Some(opens),
            "nor when a watch would do again"
        );
        assert_eq!(ladder.retry_at(opens), None);
        ladder.refused(Need::Watch, opens);
        assert_eq!(ladder.retry_at(opens), Some(opens + RETRY));
    }
}
