//! The log of a build, on the ladder of design §3: raw proxy progressiveText, else the whole run log.
//!
//! An empty answer is never the end of a log (finding F-H): the end is what [`LogEnd`] says, and only Jenkins itself
//! can say `Complete`. Text comes with LF line ends.
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{client::ProjectScope, error::Result, names::RunRef};

/// How far a log was read. Start with the default; keep what [`LogStream::finish`] gives. The same cursor works on
/// every rung, so falling to a lower one neither loses nor repeats text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogCursor {
    /// Bytes handed out so far, as LF text.
    pub(crate) delivered: u64,
    /// Offset in Jenkins' own file, where a rung told it.
    pub(crate) offset: Option<u64>,
    /// The text so far ended in a CR that may belong to a line end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) pending_cr: bool,
}

impl LogCursor {
    /// Bytes handed out so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }
}

/// What is known about the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogEnd {
    /// Jenkins says that there is more to come.
    Growing,
    /// Jenkins says that this is all.
    Complete,
    /// This rung does not tell, or the answer was empty: ask the run. After its end read once more, then stop.
    Unknown,
}

/// Which rung answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRung {
    /// Raw Jenkins proxy: only new text travels.
    Progressive,
    /// Whole run log from the start; what is known already is skipped here.
    Whole,
}

/// New text of a log, read into memory.
#[derive(Debug, Clone)]
pub struct LogChunk {
    /// The text, possibly empty.
    pub text: Bytes,
    /// Where to go on.
    pub next: LogCursor,
    /// What is known about the end.
    pub end: LogEnd,
    /// Which rung answered.
    pub rung: LogRung,
}

/// New text of a log, piece by piece, whatever its size. Take pieces until None, then [`finish`](Self::finish).
pub struct LogStream {}

impl LogStream {
    /// The next piece of new text; None at the end of this answer.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        todo!()
    }

    /// Where to go on, and what is known about the end. To be asked after the last piece.
    pub fn finish(self) -> (LogCursor, LogEnd) {
        todo!()
    }

    /// Which rung answered.
    pub fn rung(&self) -> LogRung {
        todo!()
    }
}

impl ProjectScope {
    /// What is new in a build's log since `cursor`, as a stream. `NotFound` for a queued build: it has no log yet.
    pub async fn open_log(&self, run: &RunRef, cursor: &LogCursor) -> Result<LogStream> {
        let _ = (run, cursor);
        todo!()
    }

    /// [`open_log`](Self::open_log) read into memory; more than `max_bytes` of new text is an error (`TooLarge`).
    pub async fn log(&self, run: &RunRef, cursor: &LogCursor, max_bytes: usize) -> Result<LogChunk> {
        let _ = (run, cursor, max_bytes);
        todo!()
    }
}
