//! Bringing a log home: read as the tenant may (`reader`), put together within a bound and without secret values, stored
//! in ConfigMaps; onto a volume by a Job ([`volume`]).
//!
//! What is read stays in memory between two looks at an active run, so that only new text travels. After a restart it
//! is read again from its start; the result is the same.

mod reader;
mod steps;
pub mod volume;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use kube::{Client, ResourceExt};
use tokio::time::timeout;

use self::reader::Reader;
use super::{decide::title, masking::SecretValues, observe::reference};
use crate::{
    api::{
        build_request::{BuildRequest, CurrentRun, LogSource, LogStatus, Logs},
        conditions::Reason,
    },
    gateway::ProjectScope,
    runtime::ObjectKey,
    sinks::{
        config_map::ConfigMaps,
        log::{LogAssembly, store_log},
    },
    trouble::Trouble,
};

/// How long a look at a live log may take: a gateway that sends it by drops, or without end, must not keep the build from
/// being followed.
const LOOK: Duration = Duration::from_secs(60);
/// How long a live log is let be after that.
const LET_BE: Duration = Duration::from_secs(600);
/// How long the whole of it may take at the end. It leaves a reconcile the time to say what came of it.
const WHOLE: Duration = Duration::from_secs(200);

/// The logs that are being read, one per active BuildRequest.
#[derive(Default)]
pub struct LogReaders(Mutex<HashMap<ObjectKey, Kept>>);

struct Kept {
    token: String,
    max_bytes: i64,
    looked_at: Option<Instant>,
    reader: Reader,
}

/// What was read and stored.
#[derive(Debug)]
pub struct Pulled {
    /// For the status.
    pub log: LogStatus,
    /// The last lines.
    pub tail: String,
}

/// Where a log comes from and goes to.
pub struct Route<'a> {
    /// Our own cluster.
    pub client: &'a Client,
    /// The remote.
    pub project: &'a ProjectScope,
    /// Whose log it is.
    pub object: &'a BuildRequest,
    /// Which run.
    pub run: &'a CurrentRun,
    /// What must not be in it.
    pub secrets: &'a SecretValues,
}

impl LogReaders {
    /// Forgets what was read for `key`.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// Reads what is new in the log of a run. While the build runs it is stored at most every `interval`; None where
    /// there is nothing new to tell. With `last` all of it is read and stored, and the reader is done with.
    pub async fn pull(
        &self,
        route: &Route<'_>,
        last: bool,
        interval: Duration,
    ) -> Result<Option<Pulled>, Trouble> {
        let key = ObjectKey::of(route.object);
        let max_bytes = route.object.spec.logs.max_bytes;
        let known = self
            .lock()
            .remove(&key)
            .filter(|kept| kept.token == route.run.token && kept.max_bytes == max_bytes);
        let mut kept = if let Some(kept) = known {
            kept
        } else {
            // Nothing is read before it is known what has to be kept out of it.
            let masks = match route.masks().await {
                Ok(masks) => masks,
                Err(_) if !last => return Ok(None),
                Err(trouble) => return Err(trouble),
            };
            Kept {
                token: route.run.token.clone(),
                max_bytes,
                looked_at: None,
                reader: Reader::new(usize::try_from(max_bytes).unwrap_or_default(), masks),
            }
        };
        if last {
            let Ok(done) = timeout(WHOLE, self.finish(route, &mut kept)).await else {
                // Where it was interrupted is not known: the next try begins anew.
                return Err(Trouble::passing(
                    Reason::LogUnavailable,
                    format!("the log did not end within {} s of reading", WHOLE.as_secs()),
                ));
            };
            if done.is_err() {
                // What was read is read; the next try goes on from there.
                self.lock().insert(key, kept);
            }
            return done;
        }
        let Ok(pulled) = timeout(LOOK, kept.look(route, interval)).await else {
            let reader = kept.reader.anew();
            let looked_at = Instant::now().checked_add(LET_BE);
            let kept = Kept {
                looked_at,
                reader,
                ..kept
            };
            self.lock().insert(key, kept);
            return Ok(None);
        };
        self.lock().insert(key, kept);
        pulled
    }

    async fn finish(&self, route: &Route<'_>, kept: &mut Kept) -> Result<Option<Pulled>, Trouble> {
        let Some(reference) = reference(route.run) else {
            return Ok(None);
        };
        kept.reader.finish(route.project, &reference).await?;
        let (assembly, source) = kept.reader.text();
        route.store(assembly, source, true).await.map(Some)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    async fn look(&mut self, route: &Route<'_>, interval: Duration) -> Result<Option<Pulled>, Trouble> {
        let Some(reference) = reference(route.run) else {
            return Ok(None);
        };
        if self.looked_at.is_some_and(|at| at.elapsed() < interval) {
            return Ok(None);
        }
        let news = self.reader.look(route.project, &reference, interval).await;
        self.looked_at = Some(Instant::now());
        // A live log is a courtesy: trouble with it is no trouble of the build.
        if !news.unwrap_or(false) {
            return Ok(None);
        }
        let (assembly, source) = self.reader.text();
        let pulled = route.store(assembly, source, false).await?;
        self.looked_at = Some(Instant::now());
        Ok(Some(pulled))
    }
}

impl Route<'_> {
    async fn masks(&self) -> Result<crate::sinks::log::Masks, Trouble> {
        self.secrets
            .of(self.client, self.project, self.object, self.run)
            .await
    }

    async fn store(&self, assembly: &LogAssembly, source: LogSource, last: bool) -> Result<Pulled, Trouble> {
        let Logs {
            destination,
            max_bytes: _,
            tail_lines,
        } = &self.object.spec.logs;
        let image = assembly.image();
        let name = destination
            .config_map
            .as_ref()
            .and_then(|map| map.name.clone())
            .unwrap_or_else(|| default_name(self.object));
        let maps = ConfigMaps::of(self.client.clone(), self.object)?;
        let stored = store_log(&maps, &name, &title(self.run), &image).await?;
        Ok(Pulled {
            log: LogStatus {
                config_maps: stored.config_maps,
                volume: None,
                job: None,
                bytes: i64::try_from(image.bytes).unwrap_or(i64::MAX),
                truncated: image.truncated(),
                sha256: last.then(|| image.sha256.clone()),
                complete: last,
                source,
            },
            tail: assembly.last_lines(*tail_lines as usize),
        })
    }
}

/// The ConfigMap that holds the log of `object` where it names none.
pub fn default_name(object: &BuildRequest) -> String {
    const SUFFIX: &str = "-log";
    let mut head = object.name_any();
    head.truncate(240);
    format!("{}{SUFFIX}", head.trim_end_matches(['-', '.']))
}
