//! What the pod tells the controller.
//!
//! - On standard output, one JSON document a line: [`Line::Progress`] every two seconds or so while something moves, and
//!   as the very last line [`Line::Result`] with the whole [`Outcome`]. Logs for people go to standard error.
//! - In the termination message, the same [`Outcome`] without its list of files: [`Outcome::compact`], at most 4096 bytes.
//! - As exit code: [`OK`], [`AGAIN`] or [`FINAL`], for the Job's `podFailurePolicy` (FailJob on [`FINAL`], count
//!   everything else). A pod that was killed (137) or evicted goes on where it was when it is started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::api::conditions::{Reason, bounded};

/// Exit code: everything is there.
pub const OK: u8 = 0;
/// Exit code: the same Job may succeed in another pod, a little later.
pub const AGAIN: u8 = 75;
/// Exit code: another pod would end the same way. Whether and when there is another Job is the controller's decision.
/// Also what clap ends with (2) means this.
pub const FINAL: u8 = 78;
/// Bytes that the kubelet keeps of a termination message.
pub const TERMINATION_MESSAGE: usize = 4096;
/// Files that an outcome lists.
pub const LISTED: usize = 100;

/// A line on standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// How far it is: `{"progress": {…}}`.
    Progress(Progress),
    /// How it ended: `{"result": {"succeeded": {…}}}` or `{"result": {"failed": {…}}}`. The last line.
    Result(Outcome),
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Files that are whole, those of an earlier try included.
    pub files: u64,
    /// Files in all; 0 while it is not known yet.
    pub total_files: u64,
    /// Bytes on the volume, those of an earlier try included.
    pub bytes: u64,
    /// Bytes in all as the remote lists them; 0 where that is not known (a log).
    pub total_bytes: u64,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything is on the volume.
    Succeeded(Success),
    /// Something stands in the way. What was on the volume before is as it was, and the manifest is true.
    Failed(Failure),
}

/// What is on the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Success {
    /// The run, as the plan names it.
    pub revision: String,
    /// How many files.
    pub files: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// What they are.
    pub stored: Stored,
}

/// What the files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Stored {
    /// Archived files of the run.
    Artifacts {
        /// The manifest with all of them, relative to the volume's root.
        manifest: String,
        /// Files of these that were there already, from an earlier pod or Job.
        reused: u64,
        /// Files of earlier revisions that were removed.
        pruned: u64,
        /// The first [`LISTED`] files by path; none in the termination message.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        listed: Vec<StoredFile>,
    },
    /// The build log, as UTF-8 with LF line ends.
    Log {
        /// The file, relative to the volume's root.
        path: String,
        /// SHA-256, hexadecimal.
        sha256: String,
        /// The last lines, for people; bounded, without terminal control.
        #[serde(default)]
        last_lines: String,
    },
}

/// A file on the volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredFile {
    /// Path in the archive, which is the path in the sub-path too.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What.
    pub kind: FailureKind,
    /// What happened, to what, and what to do.
    pub message: String,
    /// Not to be tried again before so many seconds, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $name:ident => $exit:ident ),+ $(,)?) => {
        /// Everything that can stand in the way: a closed set. What the controller does not know, because the pod is
        /// newer, is read as [`Unknown`](Self::Unknown).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum FailureKind {
            $( $(#[doc = $doc])+ $name, )+
            /// Something that this version has no name for.
            #[serde(other)]
            Unknown,
        }

        impl FailureKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[ $( Self::$name, )+ Self::Unknown ];

            /// The exit code that goes with it.
            pub const fn exit_code(self) -> u8 {
                match self { $( Self::$name => $exit, )+ Self::Unknown => AGAIN }
            }
        }
    };
}

kinds! {
    /// The plan, the command line or a mounted file is not as it should be.
    InvalidPlan => FINAL,
    /// A mounted credentials file is missing, empty or no text.
    CredentialsMissing => FINAL,
    /// The gateway refused user, password or token.
    CredentialsInvalid => FINAL,
    /// The gateway refuses log-ins for a while; the Job must not go on trying.
    LockedOut => FINAL,
    /// The tenant may not do this.
    AccessDenied => FINAL,
    /// The gateway knows no such member cluster.
    ClusterNotFound => FINAL,
    /// Jenkins has no such build any more.
    RunNotFound => FINAL,
    /// No file matches.
    NoMatch => FINAL,
    /// More files than `maxFiles`.
    TooManyFiles => FINAL,
    /// More bytes than `maxBytes`, or than the run lists.
    TooLarge => FINAL,
    /// A file that `verify` names is not among the files.
    VerifyPathMissing => FINAL,
    /// A file does not have the digest that `verify` asks for.
    DigestMismatch => FINAL,
    /// A path that cannot be had on this volume: it climbs out, leads over a symlink, is odd or too long, or collides.
    PathRefused => FINAL,
    /// The volume is full.
    DiskFull => FINAL,
    /// The volume's quota is used up.
    QuotaExceeded => FINAL,
    /// The volume is mounted read-only.
    ReadOnly => FINAL,
    /// The volume does not let the pod's user write.
    PermissionDenied => FINAL,
    /// There is nothing mounted where the volume should be.
    VolumeMissing => FINAL,
    /// The gateway does not take the request.
    RemoteRejected => FINAL,
    /// The volume failed otherwise: an I/O error, a stale handle.
    VolumeFailed => AGAIN,
    /// Another pod of the same owner is at work on the volume.
    VolumeBusy => AGAIN,
    /// The gateway, KubeSphere DevOps or Jenkins does not answer as it should.
    RemoteUnavailable => AGAIN,
    /// The gateway asks us to slow down.
    Throttled => AGAIN,
    /// The remote does something that tenantry does not understand.
    UnexpectedAnswer => AGAIN,
    /// The pod was asked to stop; the next one goes on where it was.
    Interrupted => AGAIN,
}

impl Failure {
    /// A failure without a word on when to try again.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after_seconds: None,
        }
    }

    /// When to try again at the earliest.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_seconds.map(Duration::from_secs)
    }
}

impl FailureKind {
    /// The failure that a reason of `sinks` and `controllers::trouble` is in here.
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::NoMatch => Self::NoMatch,
            Reason::TooManyFiles => Self::TooManyFiles,
            Reason::ArtifactsTooLarge => Self::TooLarge,
            Reason::VerifyPathMissing => Self::VerifyPathMissing,
            Reason::DigestMismatch => Self::DigestMismatch,
            Reason::RunNotFound => Self::RunNotFound,
            Reason::AccessDenied => Self::AccessDenied,
            Reason::CredentialsInvalid => Self::CredentialsInvalid,
            Reason::LockedOut => Self::LockedOut,
            Reason::ClusterNotFound => Self::ClusterNotFound,
            Reason::InvalidSpec => Self::InvalidPlan,
            Reason::RemoteRejected => Self::RemoteRejected,
            Reason::Throttled => Self::Throttled,
            Reason::RemoteUnavailable => Self::RemoteUnavailable,
            _ => Self::UnexpectedAnswer,
        }
    }
}

impl Outcome {
    /// The exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Succeeded(_) => OK,
            Self::Failed(failure) => failure.kind.exit_code(),
        }
    }

    /// As JSON of at most [`TERMINATION_MESSAGE`] bytes: without the files, texts cut as far as needed.
    pub fn compact(&self) -> String {
        let mut room = TERMINATION_MESSAGE;
        loop {
            let text = serde_json::to_string(&self.cut(room)).unwrap_or_default();
            if text.len() <= TERMINATION_MESSAGE || room == 0 {
                return text;
            }
            // Escapes make a text up to six times as long.
            room = room * 3 / 4;
        }
    }

    /// With all texts of at most `room` bytes, the last lines cut at their beginning.
    fn cut(&self, room: usize) -> Self {
        let mut cut = self.clone();
        match &mut cut {
            Self::Succeeded(success) => {
                success.revision = bounded(&success.revision, room.min(512));
                match &mut success.stored {
                    Stored::Artifacts { listed, manifest, .. } => {
                        listed.clear();
                        *manifest = bounded(manifest, room.min(512));
                    }
                    Stored::Log { path, last_lines, .. } => {
                        *path = bounded(path, room.min(1280));
                        *last_lines = ending(last_lines, room.saturating_sub(1024)).to_owned();
                    }
                }
            }
            Self::Failed(failure) => failure.message = bounded(&failure.message, room.min(3072)),
        }
        cut
    }
}

/// The last lines of `text` that fit into `room` bytes.
fn ending(text: &str, room: usize) -> &str {
    if text.len() <= room {
        return text;
    }
    let from = text.len() - room;
    text.as_bytes()[from..]
        .iter()
        .position(|b| *b == b'\n')
        .and_then(|at| text.get(from + at + 1..))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifacts(listed: usize) -> Outcome {
        let file = |n| StoredFile {
            path: format!("out/{n}"),
            size: 1,
            sha256: "0".repeat(64),
        };
        Outcome::Succeeded(Success {
            revision: "shop/build#7".into(),
            files: 2000,
            bytes: 20_000,
            stored: Stored::Artifacts {
                manifest: ".tenantry/artifactfetch.files.json".into(),
                reused: 1,
                pruned: 2,
                listed: (0..listed).map(file).collect(),
            },
        })
    }

    #[test]
    fn lines_are_told_apart_by_their_key() {
        let line = serde_json::to_value(Line::Progress(Progress::default())).unwrap();
        assert_eq!(
            line,
            json!({"progress": {"files": 0, "totalFiles": 0, "bytes": 0, "totalBytes": 0}})
        );
        let line = serde_json::to_value(Line::Result(artifacts(1))).unwrap();
        assert_eq!(
            line["result"]["succeeded"]["stored"]["artifacts"]["listed"][0]["path"],
            "out/0"
        );
        let failed = Outcome::Failed(Failure::new(FailureKind::DiskFull, "full"));
        let line = serde_json::to_value(Line::Result(failed)).unwrap();
        assert_eq!(
            line,
            json!({"result": {"failed": {"kind": "DiskFull", "message": "full"}}})
        );
    }

    #[test]
    fn the_termination_message_always_fits_and_parses() {
        let log = |lines: &str| {
            Outcome::Succeeded(Success {
                revision: "r".repeat(5000),
                files: 1,
                bytes: 1,
                stored: Stored::Log {
                    path: "p".repeat(1300),
                    sha256: "0".repeat(64),
                    last_lines: lines.into(),
                },
            })
        };
        for outcome in [
            artifacts(100),
            log(&"line\n".repeat(5000)),
            log(&"\t".repeat(20_000)),
            log(&"\"\\\n".repeat(9000)),
            Outcome::Failed(Failure::new(FailureKind::NoMatch, "é\"\u{1}".repeat(9000))),
        ] {
            let text = outcome.compact();
            assert!(text.len() <= TERMINATION_MESSAGE, "{} bytes", text.len());
            let read: Outcome = serde_json::from_str(&text).unwrap();
            assert_eq!(read.exit_code(), outcome.exit_code());
        }
        let Outcome::Succeeded(Success { stored, .. }) = log(&"line\n".repeat(5000)).cut(4096) else {
            panic!()
        };
        let Stored::Log { last_lines, .. } = stored else {
            panic!()
        };
        assert!(
            last_lines.starts_with("line\n") && last_lines.len() > 2000,
            "{last_lines}"
        );
    }

    #[test]
    fn a_kind_of_a_later_version_can_be_read() {
        let failure: Failure =
            serde_json::from_value(json!({"kind": "Later", "message": "m", "more": 1})).unwrap();
        assert_eq!(failure.kind, FailureKind::Unknown);
    }

    #[test]
    fn every_kind_has_an_exit_code_for_the_job() {
        for kind in FailureKind::ALL {
            assert!(matches!(kind.exit_code(), AGAIN | FINAL), "{kind:?}");
        }
        assert_eq!(FailureKind::DigestMismatch.exit_code(), FINAL);
        assert_eq!(FailureKind::RemoteUnavailable.exit_code(), AGAIN);
    }
}
