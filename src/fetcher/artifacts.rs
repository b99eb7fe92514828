//! The archived files of a run, onto the volume: list, select, look before leaping, fetch, verify, publish.

use std::sync::{Arc, atomic::AtomicU64};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{
    desk::Desk,
    journal::Journal,
    manifest::{Kept, Key, Manifest},
    outcome::{Failure, FailureKind, LISTED, Outcome, Stored, StoredFile, Success},
    plan::{ArtifactsTask, Plan},
    progress::Progress,
    publish::publish,
    remote::RemoteRun,
    staging::{Clerk, Room},
    start::Start,
    transfers::{Fetching, LARGE_AT_ONCE, Queue},
};
use crate::{gateway::Gateway, runtime::shutdown::Shutdown, sinks::selection::Selection};

/// Brings the files home.
pub async fn run(
    plan: &Plan,
    task: &ArtifactsTask,
    gateway: &Gateway,
    progress: &Arc<Progress>,
    shutdown: &Shutdown,
) -> Result<Outcome, Failure> {
    let desk = {
        let (target, owner) = (plan.target.clone(), plan.owner.clone());
        blocking(move || Desk::open(&target, &owner)).await?
    };
    let desk = Arc::new(desk);
    let result = fetch(plan, task, gateway, progress, shutdown, &desk).await;
    if let Err(failure) = &result
        && is_over(failure.kind)
    {
        // It cannot go on until somebody changes something, and the room may be wanted by others until then.
        let desk = Arc::clone(&desk);
        if let Err(why) = blocking(move || desk.discard()).await {
            tracing::warn!("what was fetched in part could not be removed: {why}");
        }
    }
    result
}

/// Whether the same fetch would end the same, so that what it left is of no use.
const fn is_over(kind: FailureKind) -> bool {
    matches!(
        kind,
        FailureKind::DigestMismatch
            | FailureKind::TooLarge
            | FailureKind::TooManyFiles
            | FailureKind::NoMatch
            | FailureKind::VerifyPathMissing
            | FailureKind::PathRefused
            | FailureKind::DiskFull
            | FailureKind::QuotaExceeded
    )
}

async fn fetch(
    plan: &Plan,
    task: &ArtifactsTask,
    gateway: &Gateway,
    progress: &Arc<Progress>,
    shutdown: &Shutdown,
    desk: &Arc<Desk>,
) -> Result<Outcome, Failure> {
    // A new field has to be decided on here.
    let ArtifactsTask {
        include,
        exclude,
        verify,
        max_bytes,
        max_files,
        selection_digest,
        prune,
        parallel,
    } = task;
    let selection = Selection::new(include, exclude, verify, *max_bytes, *max_files)?;
    let project = gateway
        .scope(plan.run.cluster.as_deref())
        .project(&plan.run.project);
    let run = plan.run.run_ref();
    let remote = RemoteRun {
        project: &project,
        run: &run,
        name: plan.run.name.as_deref(),
        revision: &plan.revision,
    };
    let listed = stoppable(shutdown, async { Ok(remote.list().await?) }).await?;
    let picked = selection.pick(&plan.revision, &listed)?;
    drop(listed);
    let key = Key {
        sub_path: plan.target.sub_path.clone(),
        revision: plan.revision.clone(),
        selection_digest: selection_digest.clone(),
        endpoint: plan.gateway.endpoint.to_string(),
    };
    let start = {
        let (desk, key) = (Arc::clone(desk), key.clone());
        blocking(move || Start::of(&desk, &key, picked)).await?
    };
    let Start {
        past,
        there,
        wanted,
        total,
    } = start;
    let reused = there.len() as u64;
    progress.expect(reused + wanted.len() as u64, total);
    for kept in &there {
        progress.add_file();
        progress.add_bytes(kept.size);
    }
    tracing::info!(
        revision = plan.revision,
        files = wanted.len(),
        there = reused,
        bytes = total,
        "fetching"
    );

    let journal = {
        let (desk, past) = (Arc::clone(desk), past);
        blocking(move || Journal::begin(&desk.state, &desk.owner, &past)).await?
    };
    let unlisted = max_bytes.saturating_sub(total);
    let staging = desk.staging.try_clone()?;
    let (clerk, books) = Clerk::start(journal, staging, Arc::clone(progress));
    let tracker = TaskTracker::new();
    let fetching = Fetching {
        project: project.clone(),
        plan: plan.clone(),
        selection,
        desk: Arc::clone(desk),
        progress: Arc::clone(progress),
        clerk,
        tracker: tracker.clone(),
        room: Room::default(),
        unlisted: Arc::new(AtomicU64::new(unlisted)),
        large: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        alone: Arc::new(Semaphore::new(1)),
        queue: Queue::new(wanted),
    };
    let fetched = stoppable(shutdown, Arc::new(fetching).all(parallel.get())).await;
    // Whatever came of it: what is here is made safe, and the journal knows.
    tracker.close();
    tracker.wait().await;
    let (journal, whole) = books.await.map_err(|_| gone())??;
    fetched?;

    let mut files: Vec<Kept> = there.into_iter().chain(whole).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let success = Success {
        revision: plan.revision.clone(),
        files: files.len() as u64,
        bytes: files.iter().map(|file| file.size).sum(),
        stored: Stored::Artifacts {
            manifest: Manifest::path(&plan.owner),
            reused,
            pruned: 0,
            listed: files.iter().take(LISTED).map(stored_file).collect(),
        },
    };
    let pruned = {
        let (desk, prune) = (Arc::clone(desk), *prune);
        blocking(move || publish(&desk, journal, &key, files, prune)).await?
    };
    Ok(Outcome::Succeeded(with_pruned(success, pruned)))
}

fn stored_file(kept: &Kept) -> StoredFile {
    StoredFile {
        path: kept.path.to_string(),
        size: kept.size,
        sha256: kept.sha256.clone(),
    }
}

fn with_pruned(mut success: Success, count: u64) -> Success {
    if let Stored::Artifacts { pruned, .. } = &mut success.stored {
        *pruned = count;
    }
    success
}

/// `work`, unless the pod is asked to stop first.
pub async fn stoppable<T>(
    shutdown: &Shutdown,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = shutdown.requested() => Err(Failure::new(
            FailureKind::Interrupted,
            "the pod was asked to stop; the next one goes on where this one was",
        )),
        result = work => result,
    }
}

/// Runs what waits for the disk where it holds up nobody.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| gone())?
}

/// A task of ours ended without a word.
pub fn gone() -> Failure {
    Failure::new(
        FailureKind::VolumeFailed,
        "a task that writes to the volume ended unexpectedly; it is tried again",
    )
}
