//! Files on their way into the staging directory: a few workers, one queue.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::task::TaskTracker;

use super::{
    artifacts::{blocking, gone},
    desk::Desk,
    journal::Record,
    outcome::{Failure, FailureKind},
    path::RelativePath,
    plan::Plan,
    progress::Progress,
    remote::{self, RemoteRun},
    staging::{Budget, Clerk, Part, Room},
    start::Wanted,
};
use crate::{
    gateway::{Known, ProjectScope, TransferError, transfer},
    sinks::selection::Selection,
};

/// A file of more bytes is fetched alone where the remote would hold it in its memory (contract §4.5, finding F-J).
const LARGE: u64 = 1 << 20;
/// So many of those are on their way at a time, whatever `parallel` says: each takes up to a megabyte of memory, and more
/// of them do not make it quicker.
pub const LARGE_AT_ONCE: usize = 8;
/// Files per worker that are being made safe while the next one is on its way already.
const FINISHING: usize = 4;

/// The files that are still to be fetched, shared by all workers.
pub struct Queue(Mutex<(VecDeque<Wanted>, VecDeque<Wanted>)>);

impl Queue {
    /// All of them.
    pub fn new(wanted: Vec<Wanted>) -> Self {
        let (large, small) = wanted.into_iter().partition(|(_, size)| *size > LARGE);
        Self(Mutex::new((large, small)))
    }

    /// The next one. One worker begins with the large files, so that they do not all come last.
    fn next(&self, large_first: bool) -> Option<Wanted> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (large, small) = &mut *queues;
        if large_first {
            large.pop_front().or_else(|| small.pop_front())
        } else {
            small.pop_front().or_else(|| large.pop_front())
        }
    }
}

/// All that the workers need.
pub struct Fetching {
    /// Where the run is.
    pub project: ProjectScope,
    /// What was told.
    pub plan: Plan,
    /// What must hold of the files.
    pub selection: Selection,
    /// Where they go.
    pub desk: Arc<Desk>,
    /// Who counts.
    pub progress: Arc<Progress>,
    /// Who writes the journal.
    pub clerk: Clerk,
    /// Who writes files.
    pub tracker: TaskTracker,
    /// Where bytes wait to be written.
    pub room: Room,
    /// Bytes that files of unlisted size may have together.
    pub unlisted: Arc<AtomicU64>,
    /// Who has one of these may fetch a large file.
    pub large: Arc<Semaphore>,
    /// Who has this is the only one that the remote may have to hold in its memory.
    pub alone: Arc<Semaphore>,
    /// What is to be done.
    pub queue: Queue,
}

impl Fetching {
    /// Fetches all, with so many workers.
    pub async fn all(self: Arc<Self>, workers: usize) -> Result<(), Failure> {
        let mut working = JoinSet::new();
        for number in 0..workers {
            let this = Arc::clone(&self);
            working.spawn(async move { this.work(number == 0).await });
        }
        drop(self);
        while let Some(ended) = working.join_next().await {
            // Leaving early stops the others.
            ended.map_err(|_| gone())??;
        }
        Ok(())
    }

    async fn work(self: Arc<Self>, large_first: bool) -> Result<(), Failure> {
        let mut finishing = JoinSet::new();
        while let Some((path, size)) = self.queue.next(large_first) {
            if self.clerk.is_gone() {
                return Err(gone());
            }
            let part = self.bring(&path, size).await?;
            let this = Arc::clone(&self);
            finishing.spawn(async move { this.settle(part).await });
            while finishing.len() > FINISHING {
                if let Some(ended) = finishing.join_next().await {
                    ended.map_err(|_| gone())??;
                }
            }
        }
        while let Some(ended) = finishing.join_next().await {
            ended.map_err(|_| gone())??;
        }
        Ok(())
    }

    /// Receives a file into the staging directory.
    async fn bring(&self, path: &RelativePath, size: u64) -> Result<Part, Failure> {
        let _turn = if size > LARGE {
            self.large.acquire().await.ok()
        } else {
            None
        };
        let budget = if size > 0 {
            Budget::Listed
        } else {
            Budget::Shared(Arc::clone(&self.unlisted))
        };
        let mut part = {
            let (desk, path, clerk) = (Arc::clone(&self.desk), path.clone(), self.clerk.clone());
            let (progress, tracker) = (Arc::clone(&self.progress), self.tracker.clone());
            let room = self.room.clone();
            blocking(move || Part::open(&desk.staging, &path, budget, room, clerk, progress, &tracker))
                .await?
        };
        let run = self.plan.run.run_ref();
        let name = self.plan.run.name.as_deref();
        let alone: Mutex<Option<OwnedSemaphorePermit>> = Mutex::new(None);
        let open = async |offset| {
            // Given back first: the transfer broke, and others may be waiting.
            drop(alone.lock().unwrap_or_else(PoisonError::into_inner).take());
            let permit = self.wait_until_alone(size).await;
            let download = self.project.download(&run, name, path.as_str(), offset).await?;
            *alone.lock().unwrap_or_else(PoisonError::into_inner) =
                permit.filter(|_| download.buffered_remotely);
            Ok((download.offset, download))
        };
        let transferred = transfer(&mut part, size, self.selection.max_bytes(), open).await;
        let remote = RemoteRun {
            project: &self.project,
            run: &run,
            name,
            revision: &self.plan.revision,
        };
        match transferred {
            Ok(()) => Ok(part),
            Err(TransferError::Receiver(failure)) => Err(failure),
            Err(TransferError::Short { received, listed }) => {
                Err(remote::short(path.as_str(), received, listed).into())
            }
            Err(TransferError::TooLong { limit }) => Err(remote::too_long(path.as_str(), limit).into()),
            Err(TransferError::Remote(error)) => {
                let refused = matches!(self.project.capabilities().jenkins_proxy, Known::No { .. });
                let mut failure: Failure = remote.not_had(path.as_str(), error).await.into();
                if refused && size > LARGE && failure.kind == FailureKind::RemoteUnavailable {
                    failure.message += "; without the right to use the project's Jenkins proxy a file must come within 15 \
                                        seconds: ask for it";
                }
                Err(failure)
            }
        }
    }

    /// A large file waits for its turn where the remote would, or might, hold it in its memory.
    async fn wait_until_alone(&self, size: u64) -> Option<OwnedSemaphorePermit> {
        let streams = || matches!(self.project.capabilities().jenkins_proxy, Known::Yes { .. });
        if size <= LARGE || streams() {
            return None;
        }
        let permit = Arc::clone(&self.alone).acquire_owned().await.ok();
        permit.filter(|_| !streams())
    }

    /// Makes a file safe and checks its digest.
    async fn settle(&self, part: Part) -> Result<(), Failure> {
        let kept = part.finish().await?;
        match self.selection.digest_of(kept.path.as_str()) {
            Some(wanted) if wanted != kept.sha256 => {
                Err(
                    remote::other_digest(kept.path.as_str(), &self.plan.revision, &kept.sha256, wanted)
                        .into(),
                )
            }
            _ => {
                self.clerk.tell(Record::Whole(kept));
                Ok(())
            }
        }
    }
}
