//! The lines that a pod writes for us among those that it writes for people. Pure.

use crate::{
    api::artifact_fetch::Progress,
    fetcher::outcome::{Line, Outcome, Progress as Told},
};

/// How far it is, where the line says that.
pub fn progress(line: &str) -> Option<Progress> {
    match serde_json::from_str(line) {
        Ok(Line::Progress(told)) => Some(shown(&told)),
        _ => None,
    }
}

/// How it ended, where the line says that.
pub fn result(line: &str) -> Option<Outcome> {
    match serde_json::from_str(line) {
        Ok(Line::Result(outcome)) => Some(outcome),
        _ => None,
    }
}

fn shown(told: &Told) -> Progress {
    let Told {
        files,
        total_files,
        bytes,
        total_bytes,
    } = *told;
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // What is being written is bytes too: all of them is not the end.
    let percent = (total_bytes > 0).then(|| {
        let percent = u128::from(bytes.min(total_bytes)) * 100 / u128::from(total_bytes);
        format!("{percent}%")
    });
    Progress {
        files: number(files),
        total_files: number(total_files),
        bytes: number(bytes),
        total_bytes: number(total_bytes),
        percent,
    }
}

/// The same for people.
pub fn sentence(progress: &Progress) -> String {
    let Progress {
        files,
        total_files,
        bytes,
        total_bytes,
        percent,
    } = progress;
    match (total_files, percent) {
        (0, _) => format!("{bytes} bytes so far"),
        (_, None) => format!("{files} of {total_files} files"),
        (_, Some(percent)) => {
            format!("{files} of {total_files} files, {bytes} of {total_bytes} bytes ({percent})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_lines_are_told_from_others() {
        let line = r#"{"progress":{"files":1,"totalFiles":4,"bytes":10,"totalBytes":30}}"#;
        let seen = progress(line).unwrap();
        assert_eq!(seen.percent.as_deref(), Some("33%"));
        assert_eq!(sentence(&seen), "1 of 4 files, 10 of 30 bytes (33%)");
        assert_eq!(result(line), None);
        let end = r#"{"result":{"failed":{"kind":"DiskFull","message":"full"}}}"#;
        assert!(result(end).is_some() && progress(end).is_none());
        for other in [
            "",
            "{}",
            "2026-11-22 INFO fetching",
            r#"{"progress":7}"#,
            "\u{1b}[31m",
        ] {
            assert!(progress(other).is_none() && result(other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_total_that_is_not_known_or_wrong_does_not_confuse() {
        let seen = progress(r#"{"progress":{"files":0,"totalFiles":0,"bytes":10,"totalBytes":0}}"#).unwrap();
        assert_eq!(
            (seen.percent.as_deref(), sentence(&seen).as_str()),
            (None, "10 bytes so far")
        );
        let seen = progress(r#"{"progress":{"files":1,"totalFiles":1,"bytes":90,"totalBytes":30}}"#).unwrap();
        assert_eq!(seen.percent.as_deref(), Some("100%"));
    }
}
