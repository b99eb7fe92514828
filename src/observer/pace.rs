//! How often to look, where nothing tells by itself. Pure: ages, estimates and a random number in, durations out.

use std::time::Duration;

use super::board::Age;

/// How much slower than the connection's interval a tick may be, in the middle of long builds.
const SLOWEST: u32 = 6;
/// The longest pause after failures in a row.
const PAUSE_CAP: Duration = Duration::from_secs(30);
/// The pause after the first.
const PAUSE: Duration = Duration::from_millis(250);

/// The time until the next list: as the run that is most likely to change asks for.
pub fn tick(ages: impl IntoIterator<Item = Age>, poll: Duration, random: f64) -> Duration {
    let slowest = poll * SLOWEST;
    let wanted = ages.into_iter().map(|age| interval(age, poll)).min();
    jittered(wanted.unwrap_or(slowest), random)
}

/// Quick after the start and near the estimated end, slow in the middle and long after.
fn interval(Age { age, estimate }: Age, poll: Duration) -> Duration {
    let slowest = poll * SLOWEST;
    let since_start = age / 8;
    let from_end = match estimate {
        Some(estimate) => {
            let off = estimate.abs_diff(age);
            // A tenth of the estimate around it is near.
            off.saturating_sub(estimate / 10) / 4
        }
        None => slowest,
    };
    since_start.min(from_end).clamp(poll, slowest)
}

/// How long one build may go without a look of its own while its row is watched: the looks of all followers together are
/// no more than those of one that polls, and each has one within `longest`, in case an event was lost.
pub fn quiet(followers: usize, poll: Duration, longest: Duration, random: f64) -> Duration {
    let followers = u32::try_from(followers.max(1)).unwrap_or(u32::MAX);
    let share = poll.checked_mul(followers).unwrap_or(longest);
    jittered(share.min(longest.max(poll)), random)
}

/// The pause after so many failures in a row.
pub fn pause(failures: u32, random: f64) -> Duration {
    let doubled = PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    jittered(doubled.min(PAUSE_CAP), random)
}

/// A fifth more or less. `random` is from 0 to 1.
fn jittered(duration: Duration, random: f64) -> Duration {
    duration.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLL: Duration = Duration::from_secs(5);
    const MIDDLE: f64 = 0.5;

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn quick_at_both_ends_and_slow_in_the_middle() {
        // Age and estimate in seconds; the interval.
        for (age, estimate, expected) in [
            (0, None, 5),
            (40, None, 5),
            (120, None, 15),
            (10_000, None, 30),
            (0, Some(600), 5),
            (300, Some(600), 30),
            (540, Some(600), 5),
            (600, Some(600), 5),
            (660, Some(600), 5),
            (720, Some(600), 15),
            (6_000, Some(600), 30),
        ] {
            let age = Age {
                age: seconds(age),
                estimate: estimate.map(seconds),
            };
            assert_eq!(tick([age], POLL, MIDDLE), seconds(expected), "{age:?}");
        }
        assert_eq!(tick([], POLL, MIDDLE), seconds(30));
    }

    #[test]
    fn the_liveliest_run_sets_the_pace() {
        let age = |s| Age {
            age: seconds(s),
            estimate: None,
        };
        assert_eq!(
            tick([age(10_000), age(120), age(9_000)], POLL, MIDDLE),
            seconds(15)
        );
    }

    #[test]
    fn many_followers_look_as_often_as_one_together() {
        for (followers, expected) in [(0, 5), (1, 5), (20, 100), (36, 180), (2_000, 180)] {
            assert_eq!(
                quiet(followers, POLL, seconds(180), MIDDLE),
                seconds(expected),
                "{followers}"
            );
        }
        assert_eq!(
            quiet(3, seconds(600), seconds(180), MIDDLE),
            seconds(600),
            "never more often than asked"
        );
    }

    #[test]
    fn pauses_double_up_to_a_cap() {
        let all: Vec<_> = (0..12).map(|failures| pause(failures, MIDDLE)).collect();
        assert_eq!(all[..5], [250, 250, 500, 1_000, 2_000].map(Duration::from_millis));
        assert_eq!(all[11], PAUSE_CAP);
    }

    proptest! {
        #[test]
        fn whatever_the_age_the_tick_is_between_the_bounds(
            age in 0_u64..1_000_000, estimate in proptest::option::of(0_u64..1_000_000), random in 0.0_f64..=1.0,
        ) {
            let age = Age { age: seconds(age), estimate: estimate.map(seconds) };
            let tick = tick([age], POLL, random);
            prop_assert!(tick >= POLL.mul_f64(0.79) && tick <= (POLL * SLOWEST).mul_f64(1.21), "{tick:?}");
        }
    }
}
