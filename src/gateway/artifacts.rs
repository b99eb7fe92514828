//! Archived files of a build, on the ladder of design §3: raw proxy, streamed and resumable; else v1alpha3 download.
use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;

use super::{client::ProjectScope, error::Result, names::RunRef, wire::artifact::Artifact};

/// A file on its way: a stream of its bytes. A body that is cut ends in an error, never in a silent end.
pub struct Download {
    /// Bytes that will come, where the remote tells (the raw proxy does).
    pub remaining: Option<u64>,
    /// Where in the file this starts: what was asked for, or 0 if the rung cannot resume.
    pub offset: u64,
    /// The remote holds the whole file in memory meanwhile (second rung): keep such downloads few and small.
    pub buffered_remotely: bool,
}

impl Stream for Download {
    type Item = Result<Bytes>;
    fn poll_next(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        todo!()
    }
}

impl ProjectScope {
    /// All archived files of a build. While it runs the list may be empty.
    pub async fn artifacts(&self, run: &RunRef) -> Result<Vec<Artifact>> {
        let _ = run;
        todo!()
    }

    /// One file, from `offset` on if the rung can. `run_name` is the run object's name (the second rung needs it).
    pub async fn download(&self, run: &RunRef, run_name: &str, path: &str, offset: u64) -> Result<Download> {
        let _ = (run, run_name, path, offset);
        todo!()
    }
}
