//! Archived files of a build, on the ladder of design §3: raw proxy, streamed and resumable; else v1alpha3 download.

use std::{
    collections::HashSet,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, HeaderValue, header};

use super::{
    capabilities::Capability,
    client::ProjectScope,
    error::{ErrorKind, GatewayError, Result, Subject},
    exchange::Body,
    log::falls_to_next_rung,
    names::RunRef,
    route::{Limit, Request, V3, download_name, proxy_artifact_path, run_path, segment},
    telemetry::RouteClass,
    wire::artifact::{self, Artifact},
};

/// How many files are asked for at once; without a limit the remote gives 100 and says nothing (contract §8.18).
const PAGE: usize = 500;
/// The page that Jenkins itself gives; a shorter one is the last, whatever limit it holds to.
const LEAST_PAGE: usize = 100;
/// A list longer than this is not taken: nobody archives so many files on purpose.
const MAX_FILES: usize = 200_000;
/// Bytes of all paths of a list: as many files of usual names, or fewer of long ones.
const MAX_PATHS: usize = 16 << 20;

/// A file on its way: a stream of its bytes. A body that is cut ends in an error, never in a silent end.
pub struct Download {
    /// Bytes that will come, where the remote tells (the raw proxy does).
    pub remaining: Option<u64>,
    /// Where in the file this starts: what was asked for, or 0 if the rung cannot resume.
    pub offset: u64,
    /// The remote holds the whole file in memory meanwhile (second rung): keep such downloads few and small.
    pub buffered_remotely: bool,
    pieces: BoxStream<'static, Result<Bytes>>,
}

impl Download {
    fn new(body: Body, offset: u64, buffered_remotely: bool) -> Self {
        let remaining = body.expected();
        let pieces = futures::stream::try_unfold(body, |mut body| async move {
            Ok(body.next().await?.map(|piece| (piece, body)))
        });
        Self {
            remaining,
            offset,
            buffered_remotely,
            pieces: pieces.boxed(),
        }
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download")
            .field("remaining", &self.remaining)
            .field("offset", &self.offset)
            .field("buffered_remotely", &self.buffered_remotely)
            .finish_non_exhaustive()
    }
}

impl Stream for Download {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.poll_next_unpin(cx)
    }
}

impl ProjectScope {
    /// All archived files of a build. While it runs the list may be empty.
    pub async fn artifacts(&self, run: &RunRef) -> Result<Vec<Artifact>> {
        let what = format!("list the artifacts of build {run} of project {}", self.name);
        let path = format!("{}/artifacts", run_path(&self.name, run));
        let mut seen = HashSet::new();
        let mut all = Vec::new();
        let (mut start, mut paths) = (0, 0);
        loop {
            let request = Request::get(RouteClass::Artifacts, path.as_str(), what.as_str())
                .query("start", start.to_string())
                .query("limit", PAGE.to_string());
            let page = artifact::artifacts(&self.scope.exchange(request).await?.reply())?;
            let count = page.len();
            let known = all.len();
            paths += page.iter().map(|file| file.path.len()).sum::<usize>();
            all.extend(page.into_iter().filter(|file| seen.insert(file.path.clone())));
            // A page without news means that the remote does not page.
            let over = count < LEAST_PAGE || all.len() == known;
            if over && all.len() <= MAX_FILES && paths <= MAX_PATHS {
                return Ok(all);
            }
            if all.len() > MAX_FILES || paths > MAX_PATHS {
                let subject = Subject {
                    route: RouteClass::Artifacts,
                    what,
                    write: false,
                };
                let why = format!("more than {MAX_FILES} files, or {MAX_PATHS} bytes of their names");
                return Err(GatewayError::new(ErrorKind::TooLarge, &subject).with_remote(&why));
            }
            start += count;
        }
    }

    /// One file, from `offset` on if the rung can. `run_name` is the run object's name: without one, because the remote
    /// removed the object and kept the build, there is only the first rung.
    /// The rung that answered and where it starts are told by the [`Download`].
    pub async fn download<'a>(
        &self,
        run: &RunRef,
        run_name: impl Into<Option<&'a str>>,
        path: &str,
        offset: u64,
    ) -> Result<Download> {
        let run_name = run_name.into();
        let what = format!("download {path:?} of build {run} of project {}", self.name);
        let Some(proxied) = proxy_artifact_path(&self.name, run, path) else {
            let subject = Subject {
                route: RouteClass::DownloadProxy,
                what,
                write: false,
            };
            return Err(GatewayError::new(ErrorKind::Rejected, &subject)
                .with_remote("the path must be relative, without empty, '.' or '..' parts"));
        };
        if self.may_try(Capability::JenkinsProxy) {
            match self.download_proxied(&proxied, offset, &what).await {
                Err(error) if falls_to_next_rung(&error) && run_name.is_some() => {}
                result => return result,
            }
        }
        let Some(run_name) = run_name else {
            let subject = Subject {
                route: RouteClass::DownloadProxy,
                what,
                write: false,
            };
            return Err(GatewayError::new(ErrorKind::Forbidden, &subject)
                .with_remote("the run object is gone, and the raw Jenkins proxy was refused lately"));
        };
        let route = format!(
            "{V3}/namespaces/{}/pipelineruns/{}/artifacts/download",
            self.name,
            segment(run_name)
        );
        // `Accept: */*` stays: octet-stream, of all, is refused here (finding F-I).
        let request = Request::get(RouteClass::Download, route, what)
            .query("filename", download_name(path))
            .limit(Limit::Artifact);
        let answer = self.scope.send(request).await?.accept()?;
        Ok(Download::new(answer.into_body(), 0, true))
    }

    async fn download_proxied(&self, route: &str, offset: u64, what: &str) -> Result<Download> {
        let ask = |from: u64| {
            let request = Request::get(RouteClass::DownloadProxy, route, what).limit(Limit::Artifact);
            match HeaderValue::try_from(format!("bytes={from}-")) {
                Ok(range) if from > 0 => request.header(header::RANGE, range),
                _ => request,
            }
        };
        let mut opened = self.proxied(ask(offset)).await;
        // 416: the file is not longer than what we have; only a fresh read tells what it is now.
        if offset > 0 && opened.as_ref().is_err_and(|e| e.status() == Some(416)) {
            opened = self.proxied(ask(0)).await;
        }
        self.learn(Capability::JenkinsProxy, &opened);
        let answer = opened?;
        let resumed = if answer.status == 206 {
            range_start(&answer.headers).unwrap_or(u64::MAX)
        } else {
            0
        };
        if resumed != 0 && resumed != offset {
            return Err(GatewayError::new(ErrorKind::Garbled, answer.subject())
                .with_status(answer.status)
                .with_remote("the part that came is not the part that was asked for"));
        }
        Ok(Download::new(answer.into_body(), resumed, false))
    }
}

/// Where a part starts, from `Content-Range: bytes 100-199/200`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?
        .strip_prefix("bytes ")?;
    range.split('-').next()?.trim().parse().ok()
}

#[cfg(test)]
#[path = "artifacts_tests.rs"]
mod tests;
