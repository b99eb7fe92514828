//! What the benches of the workspace share: repeated measurements, the memory of a process, and one form of report.
//!
//! A bench prints figures side by side with a baseline of the same run, writes them to `target/bench/NAME.json`, and ends
//! with an error where a target is missed. It is never a test: a test does not depend on time.

pub mod gauges;
pub mod memory;
pub mod plot;
mod report;

pub use report::{Figure, Report, Target, path};

/// Measurements of one thing, repeated.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut all: Vec<_> = values.into_iter().collect();
        all.sort_by(f64::total_cmp);
        Self(all)
    }
}

impl Samples {
    /// One more.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one in the middle; of an even number the mean of the two. 0 where there is none.
    pub fn median(&self) -> f64 {
        let all = &self.0;
        match all.len() {
            0 => 0.0,
            n if n % 2 == 1 => all[n / 2],
            n => f64::midpoint(all[n / 2 - 1], all[n / 2]),
        }
    }

    /// The value that so many percent are not above; 0 where there is none.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or_default()
    }

    /// The least; 0 where there is none.
    pub fn least(&self) -> f64 {
        self.0.first().copied().unwrap_or_default()
    }

    /// The most; 0 where there is none.
    pub fn most(&self) -> f64 {
        self.0.last().copied().unwrap_or_default()
    }
}

/// The machine, in a line: cores, processor, memory, kernel.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap_or("?");
        line.trim_matches([':', ' ', '\t']).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = after(&read("/proc/meminfo"), "MemTotal");
    let kib: u64 = memory
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or_default();
    format!(
        "{cores} cores of {}, {:.0} GiB, Linux {}",
        after(&read("/proc/cpuinfo"), "model name"),
        memory::mib(kib) / 1024.0,
        read("/proc/sys/kernel/osrelease").trim(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle_whatever_the_order() {
        let of = |values: &[f64]| {
            let mut samples = Samples::default();
            for value in values {
                samples.add(*value);
            }
            (samples.least(), samples.median(), samples.most())
        };
        assert_eq!(of(&[]), (0.0, 0.0, 0.0));
        assert_eq!(of(&[9.0, 1.0, 2.0]), (1.0, 2.0, 9.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 100.0]), (1.0, 3.0, 100.0));
    }

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let samples: Samples = (1..=200).rev().map(f64::from).collect();
        assert_eq!(samples.percentile(50.0), 100.0);
        assert_eq!(samples.percentile(99.0), 198.0);
        assert_eq!(samples.percentile(100.0), 200.0);
        assert_eq!(Samples::from_iter([7.0]).percentile(99.0), 7.0);
        assert_eq!(Samples::default().percentile(99.0), 0.0);
    }

    #[test]
    fn the_machine_is_told_by_what_it_says_of_itself() {
        let told = machine();
        assert!(told.contains(" cores of ") && told.contains("Linux "), "{told}");
        assert!(!told.contains(", 0 GiB"), "{told}");
    }
}
