//! Wall-clock milliseconds and the time formats of the systems we stand for.
//!
//! Every time in the simulator is wall-clock time, so that timestamps make sense to the program under test; only
//! *lengths* (polls, builds, back-offs) are shortened, see [`Scale`].

use jiff::Timestamp;

/// Milliseconds since the Unix epoch.
pub(crate) type Millis = i64;

/// The present moment.
pub(crate) fn now() -> Millis {
    Timestamp::now().as_millisecond()
}

/// Shortens nominal lengths of time by the configured factor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(pub(crate) f64);

impl Scale {
    /// Nominal seconds as they really take.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn seconds(self, nominal: f64) -> Millis {
        self.ms((nominal * 1_000.0) as Millis)
    }

    /// A nominal length as it really takes; never zero for a length that is not zero.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    pub(crate) fn ms(self, nominal: Millis) -> Millis {
        if nominal <= 0 {
            return 0;
        }
        ((nominal as f64 * self.0) as Millis).max(1)
    }
}

fn format(at: Millis, pattern: &str) -> String {
    Timestamp::from_millisecond(at)
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .strftime(pattern)
        .to_string()
}

/// Kubernetes: whole seconds, UTC.
pub(crate) fn rfc3339(at: Millis) -> String {
    format(at, "%Y-%m-%dT%H:%M:%SZ")
}

/// Jenkins and Blue Ocean.
pub(crate) fn jenkins(at: Millis) -> String {
    format(at, "%Y-%m-%dT%H:%M:%S.%3f+0000")
}

/// Go's `time.Time.String()`, which ks-devops writes into sync annotations.
pub(crate) fn go(at: Millis) -> String {
    format!(
        "{} +0000 UTC m=+{}.{:03}",
        format(at, "%Y-%m-%d %H:%M:%S.%9f"),
        at % 1_000,
        at % 997
    )
}

/// HTTP headers.
pub(crate) fn http(at: Millis) -> String {
    format(at, "%a, %d %b %Y %H:%M:%S GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_look_like_the_recorded_ones() {
        let at = 1_795_350_671_954;
        assert_eq!(rfc3339(at), "2026-11-22T12:31:11Z");
        assert_eq!(jenkins(at), "2026-11-22T12:31:11.954+0000");
        assert_eq!(http(at), "Sun, 22 Nov 2026 12:31:11 GMT");
    }

    #[test]
    fn a_short_length_never_becomes_nothing() {
        assert_eq!(Scale(0.05).ms(3_000), 150);
        assert_eq!(Scale(0.001).ms(60), 1);
        assert_eq!(Scale(0.05).ms(0), 0);
    }
}
