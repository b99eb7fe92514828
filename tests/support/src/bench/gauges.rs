//! What a process takes and says of itself at one moment: CPU time from `/proc`, values from the text of its metrics.

use std::fs;

/// Clock ticks per second in `/proc/PID/stat`: the kernel's promise to programs, on every architecture.
const TICKS: f64 = 100.0;

/// CPU time that a process has used, in user and kernel mode, seconds; `None` where the process is gone.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?).map(|ticks| ticks / TICKS)
}

fn ticks(stat: &str) -> Option<f64> {
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// The sum of a metric over all its label sets that hold `labels` (`kind="Secret"`; empty: all).
pub fn metric(text: &str, name: &str, labels: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (set, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        set.contains(labels)
            .then(|| value.split(' ').next()?.parse::<f64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_of_any_form() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 999 1 2";
        assert_eq!(ticks(stat), Some(200.0));
        assert_eq!(ticks("7 (a"), None);
        assert!(cpu_seconds(std::process::id()).is_some());
    }

    #[test]
    fn a_metric_is_summed_over_the_labels_that_fit() {
        let text = "# TYPE a gauge\na{kind=\"x\"} 2\na{kind=\"y\",b=\"1\"} 3\nab 9\nc 4\n";
        assert_eq!(metric(text, "a", ""), 5.0);
        assert_eq!(metric(text, "a", "kind=\"y\""), 3.0);
        assert_eq!(metric(text, "c", ""), 4.0);
        assert_eq!(metric(text, "nothing", ""), 0.0);
    }
}
