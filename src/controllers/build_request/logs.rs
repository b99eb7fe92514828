//! Bringing a log home: read on the gateway's ladder, put together within a bound, stored in ConfigMaps.
//!
//! What is read stays in memory between two looks at an active run, so that only new text travels. After a restart it
//! is read again from its start; the result is the same.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Client, ResourceExt};

use super::{decide::title, observe::reference};
use crate::{
    api::{
        build_request::{BuildRequest, CurrentRun, LogStatus, Logs},
        conditions::Reason,
    },
    gateway::{ErrorKind, LogCursor, LogEnd, ProjectScope},
    runtime::ObjectKey,
    sinks::{
        config_map::ConfigMaps,
        log::{LogAssembly, store_log},
    },
    trouble::Trouble,
};

/// The logs that are being read, one per active BuildRequest.
#[derive(Default)]
pub struct LogReaders(Mutex<HashMap<ObjectKey, Reader>>);

struct Reader {
    token: String,
    max_bytes: i64,
    assembly: LogAssembly,
    cursor: LogCursor,
    stored_at: Option<Instant>,
    stored: LogStatus,
}

/// What was read and stored.
#[derive(Debug)]
pub struct Pulled {
    /// For the status.
    pub log: LogStatus,
    /// The last lines.
    pub tail: String,
}

impl LogReaders {
    /// Forgets what was read for `key`.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// Reads what is new in the log of `run`. While the build runs it is stored at most every `interval`; None where
    /// there is nothing new to tell. With `last` all of it is read and stored, and the reader is done with.
    pub async fn pull(
        &self,
        client: &Client,
        project: &ProjectScope,
        object: &BuildRequest,
        run: &CurrentRun,
        last: bool,
        interval: Duration,
    ) -> Result<Option<Pulled>, Trouble> {
        let key = ObjectKey::of(object);
        let Some(reference) = reference(run) else {
            return Ok(None);
        };
        let Logs {
            destination,
            max_bytes,
            tail_lines,
        } = &object.spec.logs;
        let known = self
            .lock()
            .remove(&key)
            .filter(|r| r.token == run.token && r.max_bytes == *max_bytes);
        let mut reader = known.unwrap_or_else(|| Reader::new(run, *max_bytes));
        // On the lower rung each look costs the whole log: while it runs, once in an interval is enough.
        let due = reader.stored_at.is_none_or(|at| at.elapsed() >= interval);
        if !last && !due {
            self.lock().insert(key, reader);
            return Ok(None);
        }
        let before = reader.assembly.bytes();
        let read = reader.read(project, &reference, last).await;
        if !last && (read.is_err() || reader.assembly.bytes() == before) {
            // A live log is a courtesy: trouble with it is no trouble of the build.
            reader.stored_at = Some(Instant::now());
            self.lock().insert(key, reader);
            return Ok(None);
        }
        read?;
        if last {
            reader.assembly.finish();
        }
        let image = reader.assembly.image();
        let name = destination
            .config_map
            .name
            .clone()
            .unwrap_or_else(|| default_name(object));
        let maps = ConfigMaps::of(client.clone(), object)?;
        let stored = store_log(&maps, &name, &title(run), &image).await?;
        let log = LogStatus {
            config_maps: stored.config_maps,
            bytes: i64::try_from(image.bytes).unwrap_or(i64::MAX),
            truncated: image.truncated(),
            sha256: last.then(|| image.sha256.clone()),
            complete: last,
        };
        let tail = reader.assembly.last_lines(*tail_lines as usize);
        if !last {
            reader.stored_at = Some(Instant::now());
            reader.stored = log.clone();
            self.lock().insert(key, reader);
        }
        Ok(Some(Pulled { log, tail }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Reader>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn new(run: &CurrentRun, max_bytes: i64) -> Self {
        Self {
            token: run.token.clone(),
            max_bytes,
            assembly: LogAssembly::new(usize::try_from(max_bytes).unwrap_or_default()),
            cursor: LogCursor::default(),
            stored_at: None,
            stored: LogStatus::default(),
        }
    }

    /// Reads on. With `last` until Jenkins says that it is all or, where a rung does not tell, until two answers in a
    /// row bring nothing new: the run is over, and an empty answer alone is never the end (finding H).
    async fn read(
        &mut self,
        project: &ProjectScope,
        reference: &crate::gateway::RunRef,
        last: bool,
    ) -> Result<(), Trouble> {
        let mut silent = 0;
        loop {
            let before = self.assembly.bytes();
            let end = match self.read_once(project, reference).await {
                Ok(end) => end,
                Err(error) if error.kind() == ErrorKind::NotFound && last && self.assembly.bytes() == 0 => {
                    return Err(Trouble::passing(
                        Reason::LogUnavailable,
                        format!("the remote has no log of {reference}: {error}"),
                    ));
                }
                Err(error) => return Err(error.into()),
            };
            silent = if self.assembly.bytes() == before {
                silent + 1
            } else {
                0
            };
            match end {
                _ if !last => return Ok(()),
                LogEnd::Complete => return Ok(()),
                LogEnd::Unknown if silent >= 2 && self.assembly.bytes() > 0 => return Ok(()),
                LogEnd::Unknown | LogEnd::Cut if silent >= 3 => {
                    return Err(Trouble::passing(
                        Reason::LogUnavailable,
                        format!(
                            "the remote answers with less of the log of {reference} than there is, which may mean that Jenkins is down"
                        ),
                    ));
                }
                LogEnd::Growing if silent >= 20 => {
                    return Err(Trouble::passing(
                        Reason::LogUnavailable,
                        format!("the log of {reference} is still growing although the build is over"),
                    ));
                }
                LogEnd::Unknown | LogEnd::Cut | LogEnd::Growing => {}
            }
        }
    }

    async fn read_once(
        &mut self,
        project: &ProjectScope,
        reference: &crate::gateway::RunRef,
    ) -> Result<LogEnd, crate::gateway::GatewayError> {
        let mut stream = project.open_log(reference, &self.cursor).await?;
        let mut broken = None;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => self.assembly.push(&piece),
                Err(error) => broken = Some(error),
            }
        }
        // Also where the answer broke off: what was read of it is kept, and not read again.
        let (cursor, end) = stream.finish();
        self.cursor = cursor;
        broken.map_or(Ok(end), Err)
    }
}

/// The ConfigMap that holds the log of `object` where it names none.
pub fn default_name(object: &BuildRequest) -> String {
    const SUFFIX: &str = "-log";
    let mut head = object.name_any();
    head.truncate(240);
    format!("{}{SUFFIX}", head.trim_end_matches(['-', '.']))
}
