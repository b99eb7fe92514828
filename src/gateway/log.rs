//! The log of a build: raw proxy progressiveText, else the whole run log; and the logs of its single steps.
//!
//! The steps' logs tell where to go on, so that only new text travels for tenants without the raw proxy too, but put
//! together they are not the build's log: what Jenkins itself writes is in none of them, and parallel ones come in another
//! order. So they are no rung of [`ProjectScope::open_log`]: callers take them for a live view, or where the whole log
//! cannot be had, and say so.
//!
//! An empty answer is never the end of a log (finding F-H): the end is what [`LogEnd`] says, and only Jenkins itself
//! can say `Complete`. Text comes with LF line ends.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{
    capabilities::Capability,
    client::ProjectScope,
    error::{ErrorKind, GatewayError, Result},
    exchange::{Answer, Body},
    names::RunRef,
    route::{Limit, Request, proxy_path, run_path, segment},
    telemetry::RouteClass,
    wire::stage::{self, Stage, Step},
};

/// How many stages or steps are asked for at once: Blue Ocean's own default is a page of 100.
const NODES: &str = "10000";

/// How far a log was read. Start with the default; keep what [`LogStream::finish`] gives. The same cursor works on
/// every rung, so falling to a lower one neither loses nor repeats text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogCursor {
    /// Bytes handed out so far, as LF text.
    pub(crate) delivered: u64,
    /// Offset in Jenkins' own file, where a rung told it.
    pub(crate) offset: Option<u64>,
    /// The answer ended in a CR that was not handed out.
    #[serde(default)]
    pub(crate) held: bool,
}

impl LogCursor {
    /// Bytes handed out so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Whether the next read begins at the start of the log, because no rung told where to go on.
    pub fn is_from_start(&self) -> bool {
        self.offset.is_none()
    }

    /// What was read and not handed out, because it may be half of a line end: it is the end of the text if nothing
    /// more comes.
    pub fn held(&self) -> &'static [u8] {
        if self.held { b"\r" } else { b"" }
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
    /// The answer held less than was read before: it was cut, or Jenkins is down. Never the end.
    Cut,
}

/// Which rung answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogRung {
    /// Raw Jenkins proxy: only new text travels.
    Progressive,
    /// Whole run log from the start; what is known already is skipped here.
    Whole,
    /// The log of one step: only new text travels.
    Step,
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
pub struct LogStream {
    body: Body,
    rung: LogRung,
    /// Text to pass over, because it was handed out before.
    skip: u64,
    lines: LineEnds,
    cursor: LogCursor,
    /// Offset to go on from, once this answer was read to its end.
    next_offset: Option<u64>,
    end: LogEnd,
    over: bool,
}

impl LogStream {
    /// The next piece of new text; None at the end of this answer.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        while !self.over {
            let text = match self.body.next().await {
                Ok(Some(piece)) => self.lines.push(&piece),
                Ok(None) => {
                    self.over = true;
                    self.last_piece()
                }
                Err(error) => {
                    // What was handed out stays counted; the offset does not, so the next read goes by the count.
                    self.over = true;
                    self.cursor.offset = None;
                    self.next_offset = None;
                    self.end = LogEnd::Unknown;
                    return Some(Err(error));
                }
            };
            let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(text.len());
            self.skip -= known as u64;
            let fresh = text.slice(known..);
            if !fresh.is_empty() {
                self.cursor.delivered += fresh.len() as u64;
                return Some(Ok(fresh));
            }
        }
        None
    }

    /// A CR at the very end may be half of a line end: unless the log is complete it is left for the next read.
    fn last_piece(&mut self) -> Bytes {
        let held = self.lines.flush();
        if self.end == LogEnd::Complete || held.is_empty() {
            return held;
        }
        self.next_offset = self
            .next_offset
            .map(|offset| offset.saturating_sub(held.len() as u64));
        self.cursor.held = true;
        Bytes::new()
    }

    /// Where to go on, and what is known about the end. Before the last piece was taken nothing is known about it, and
    /// the cursor stands after the last piece taken.
    pub fn finish(self) -> (LogCursor, LogEnd) {
        let Self {
            mut cursor,
            next_offset,
            end,
            over,
            skip,
            ..
        } = self;
        if !over {
            return (
                LogCursor {
                    offset: None,
                    ..cursor
                },
                LogEnd::Unknown,
            );
        }
        // Less text than we had before is a cut answer or another log; neither tells where it ends.
        if skip > 0 {
            return (
                LogCursor {
                    offset: None,
                    ..cursor
                },
                LogEnd::Cut,
            );
        }
        cursor.offset = next_offset;
        (cursor, end)
    }

    /// Which rung answered.
    pub fn rung(&self) -> LogRung {
        self.rung
    }

    /// Starts a stream from an answer with Jenkins' own headers. X-Text-Size is where to go on, X-More-Data whether Jenkins is
    /// still writing (contract §5.4, §5.6).
    fn incremental(answer: Answer, cursor: &LogCursor, start: u64, rung: LogRung) -> Self {
        let (_, headers, body) = answer.into_parts();
        let size: Option<u64> = headers
            .get("x-text-size")
            .and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let more = headers
            .get("x-more-data")
            .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"true"));
        // A start beyond the end restarts at 0 (contract §5.6), as does a log that was replaced by a shorter one.
        let resumed = start > 0 && size.is_none_or(|s| s >= start);
        Self {
            body,
            rung,
            skip: if resumed { 0 } else { cursor.delivered },
            lines: LineEnds::default(),
            cursor: LogCursor {
                held: false,
                ..cursor.clone()
            },
            next_offset: size,
            end: match (size, more) {
                (_, true) => LogEnd::Growing,
                (Some(_), false) => LogEnd::Complete,
                (None, false) => LogEnd::Unknown,
            },
            over: false,
        }
    }

    /// Starts a stream from the whole run log, which tells neither offset nor end (finding F-G).
    fn whole(answer: Answer, cursor: &LogCursor) -> Self {
        Self {
            body: answer.into_body(),
            rung: LogRung::Whole,
            skip: cursor.delivered,
            lines: LineEnds::default(),
            cursor: LogCursor {
                held: false,
                ..cursor.clone()
            },
            next_offset: None,
            end: LogEnd::Unknown,
            over: false,
        }
    }
}

impl ProjectScope {
    /// What is new in a build's log since `cursor`, as a stream. `NotFound` for a queued build: it has no log yet.
    pub async fn open_log(&self, run: &RunRef, cursor: &LogCursor) -> Result<LogStream> {
        match self.open_live_log(run, cursor).await? {
            Some(stream) => Ok(stream),
            None => self.open_whole_log(run, cursor).await,
        }
    }

    /// [`open_log`](Self::open_log) on the first rung only, where a look costs no more than what is new; None where it
    /// cannot be used.
    pub async fn open_live_log(&self, run: &RunRef, cursor: &LogCursor) -> Result<Option<LogStream>> {
        if !self.may_try(Capability::JenkinsProxy) {
            return Ok(None);
        }
        match self.open_progressive(run, cursor).await {
            Err(error) if falls_to_next_rung(&error) => Ok(None),
            result => result.map(Some),
        }
    }

    async fn open_whole_log(&self, run: &RunRef, cursor: &LogCursor) -> Result<LogStream> {
        let what = format!("read the log of build {run} of project {}", self.name);
        // Without start=0 only the tail would come (contract §5.4).
        let path = format!("{}/log", run_path(&self.name, run));
        let request = Request::get(RouteClass::Log, path, what)
            .query("start", "0")
            .limit(Limit::Log);
        let answer = self.scope.send(request).await?.accept()?;
        Ok(LogStream::whole(answer, cursor))
    }

    async fn open_progressive(&self, run: &RunRef, cursor: &LogCursor) -> Result<LogStream> {
        let what = format!(
            "read the log of build {run} of project {} from Jenkins",
            self.name
        );
        let path = format!("{}/logText/progressiveText", proxy_path(&self.name, run));
        let start = cursor.offset.unwrap_or(0);
        let request = Request::get(RouteClass::LogProxy, path, what)
            .query("start", start.to_string())
            .limit(Limit::Log);
        let opened = self.proxied(request).await;
        self.learn(Capability::JenkinsProxy, &opened);
        Ok(LogStream::incremental(
            opened?,
            cursor,
            start,
            LogRung::Progressive,
        ))
    }

    /// The stages of a build as Jenkins has them now, without their steps.
    pub async fn nodes(&self, run: &RunRef) -> Result<Vec<Stage>> {
        let what = format!("list the stages of build {run} of project {}", self.name);
        let path = format!("{}/nodes", run_path(&self.name, run));
        let request = Request::get(RouteClass::Nodes, path, what).query("limit", NODES);
        stage::nodes(&self.scope.exchange(request).await?.reply())
    }

    /// The steps of a stage as Jenkins has them now.
    pub async fn steps(&self, run: &RunRef, stage: &str) -> Result<Vec<Step>> {
        let what = format!(
            "list the steps of stage {stage:?} of build {run} of project {}",
            self.name
        );
        let path = format!("{}/nodes/{}/steps", run_path(&self.name, run), segment(stage));
        let request = Request::get(RouteClass::Steps, path, what).query("limit", NODES);
        stage::steps(&self.scope.exchange(request).await?.reply())
    }

    /// What is new in the log of one step since `cursor`, which is this step's own. `NotFound` for a step without a log.
    pub async fn open_step_log(
        &self,
        run: &RunRef,
        stage: &str,
        step: &str,
        cursor: &LogCursor,
    ) -> Result<LogStream> {
        let what = format!(
            "read the log of step {step:?} of build {run} of project {}",
            self.name
        );
        let path = format!(
            "{}/nodes/{}/steps/{}/log",
            run_path(&self.name, run),
            segment(stage),
            segment(step)
        );
        let start = cursor.offset.unwrap_or(0);
        let request = Request::get(RouteClass::StepLog, path, what)
            .query("start", start.to_string())
            .limit(Limit::Log);
        let answer = self.scope.send(request).await?.accept()?;
        Ok(LogStream::incremental(answer, cursor, start, LogRung::Step))
    }

    /// Sends a request through the raw Jenkins proxy and makes sure that Jenkins itself answered.
    pub(crate) async fn proxied(&self, request: Request) -> Result<Answer> {
        let answer = self.scope.send(request).await?.accept()?;
        answer.distrusted().map_or(Ok(answer), Err)
    }

    /// [`open_log`](Self::open_log) read into memory; more than `max_bytes` of new text is an error (`TooLarge`).
    pub async fn log(&self, run: &RunRef, cursor: &LogCursor, max_bytes: usize) -> Result<LogChunk> {
        let mut stream = self.open_log(run, cursor).await?;
        let mut text = BytesMut::new();
        while let Some(piece) = stream.next().await {
            text.extend_from_slice(&piece?);
            if text.len() > max_bytes {
                return Err(GatewayError::new(ErrorKind::TooLarge, stream.body.subject()));
            }
        }
        let rung = stream.rung();
        let (next, end) = stream.finish();
        Ok(LogChunk {
            text: text.freeze(),
            next,
            end,
            rung,
        })
    }
}

/// Whether the next lower rung may do what this one could not: it was refused, is not there, or the answer has no mark
/// of Jenkins. The latter is how Jenkins looks when it is down, but also behind something that strips headers; the
/// lower rung says plainly which.
pub(crate) fn falls_to_next_rung(error: &GatewayError) -> bool {
    match error.kind() {
        ErrorKind::Forbidden | ErrorKind::RouteMissing | ErrorKind::BadRequestForm => true,
        ErrorKind::JenkinsUnavailable => error.status().is_some_and(|s| (200..300).contains(&s)),
        _ => false,
    }
}

/// Turns CR LF into LF, across pieces; a lone CR (a progress bar) stays.
#[derive(Debug, Default)]
struct LineEnds {
    held: bool,
}

impl LineEnds {
    fn push(&mut self, piece: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(piece.len() + 1);
        for &byte in piece {
            if std::mem::take(&mut self.held) && byte != b'\n' {
                out.extend_from_slice(b"\r");
            }
            if byte == b'\r' {
                self.held = true;
            } else {
                out.extend_from_slice(&[byte]);
            }
        }
        out.freeze()
    }

    /// The end of an answer: what was held back was a lone CR after all.
    fn flush(&mut self) -> Bytes {
        if std::mem::take(&mut self.held) {
            Bytes::from_static(b"\r")
        } else {
            Bytes::new()
        }
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
