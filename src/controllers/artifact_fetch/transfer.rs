//! ACT, for volumes: a Job of this namespace brings the files. This side makes it, follows it and takes over its result.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use super::{
    decide::{asked, content_digest, selection_digest},
    report::{Came, FailedJob, Fetched, Place, Working},
    target::Target,
};
use crate::{
    api::{
        ArtifactFetch,
        artifact_fetch::{FetchedFile, FileSelection, VolumeDestination, VolumeStatus},
        conditions::Reason,
    },
    controllers::{
        Context,
        fetch_jobs::{JobSeen, JobState, Jobs, Next, Order, build, gateway, next},
    },
    fetcher::{
        outcome::{Stored, StoredFile, Success},
        path::SubPath,
        plan::{self, ArtifactsTask, Owner, Parallel, Plan, RunPlan, Task},
    },
    sinks::selection::Selection,
    trouble::Trouble,
};

/// What a volume takes where `maxBytes` is not set: what its claim holds.
const UNBOUNDED: u64 = i64::MAX as u64;

/// Does the next thing for the files of `target`; of the Job that is at work where that is `None`.
pub async fn transfer(
    ctx: &Context,
    object: &ArtifactFetch,
    target: Option<&Target>,
    jobs: &[JobSeen],
) -> Came {
    let asked = asked(object);
    let selection = target.map(|target| selection_digest(object, target));
    let is_wanted = |job: &JobSeen| {
        job.asked == asked
            && selection
                .as_ref()
                .is_none_or(|selection| job.selection == *selection)
    };
    let Some(volume) = &object.spec.files.destination.volume else {
        return Came::Unchanged;
    };
    let namespace = object.namespace().unwrap_or_default();
    let transfer = Transfer {
        ctx,
        object,
        volume,
        jobs: Jobs::new(ctx, &namespace),
    };
    match (next(jobs, is_wanted), target) {
        (Next::Stop(stale), _) => transfer.stop_first(&stale).await,
        (Next::Wait(leaving), _) => transfer.waits(leaving),
        (Next::Make { attempt }, Some(target)) => transfer.make(target, attempt).await,
        (Next::Follow(job), _) => transfer.follow(job).await,
        (Next::Collect(job), _) => transfer.collect(job).await,
        (Next::Judge(job), Some(target)) => transfer.judge(job, target).await,
        // A Job that was at work a moment ago is not any more: looked at anew.
        (Next::Make { .. } | Next::Judge(_), None) => Came::Waiting {
            message: "the Job that was at work is gone: looking again".into(),
            look_in: Some(ctx.tunables.fetch_interval),
        },
    }
}

/// Stops what is at work: nothing is to be fetched now.
pub async fn stop(ctx: &Context, object: &ArtifactFetch, jobs: &[JobSeen]) -> Result<(), Trouble> {
    let namespace = object.namespace().unwrap_or_default();
    let active: Vec<_> = jobs.iter().filter(|job| job.state == JobState::Active).collect();
    Jobs::new(ctx, &namespace).stop(&active).await
}

struct Transfer<'a> {
    ctx: &'a Context,
    object: &'a ArtifactFetch,
    volume: &'a VolumeDestination,
    jobs: Jobs<'a>,
}

impl Transfer<'_> {
    async fn stop_first(&self, stale: &[&JobSeen]) -> Came {
        let Some(first) = stale.first() else {
            return Came::Unchanged;
        };
        match self.jobs.stop(stale).await {
            Ok(()) => self.waits(first),
            Err(trouble) => failed(first, trouble, None),
        }
    }

    fn waits(&self, leaving: &JobSeen) -> Came {
        self.working(
            leaving,
            Reason::Fetching,
            format!(
                "Job {} is for another run or another spec and is being stopped: one at a time writes to the volume",
                leaving.name
            ),
        )
    }

    async fn make(&self, target: &Target, attempt: u32) -> Came {
        let asked = asked(self.object);
        let selection = selection_digest(self.object, target);
        let name = build::name(&self.object.name_any(), &asked, &selection, attempt);
        let made = match self.order(target, asked, selection, attempt).await {
            Ok(order) => self.jobs.make(&order).await,
            Err(trouble) => Err(trouble),
        };
        match made {
            Ok(name) => Came::Working(Box::new(Working {
                message: format!(
                    "Job {name} brings the files of {} to {}",
                    target.revision, self.volume
                ),
                job: name,
                revision: Some(target.revision.clone()),
                reason: Reason::Fetching,
                progress: None,
                stuck: false,
                look_in: self.ctx.tunables.fetch_interval,
            })),
            Err(trouble) => Came::Failed {
                trouble,
                revision: Some(target.revision.clone()),
                job: Some(FailedJob { name, failed: None }),
            },
        }
    }

    async fn order(
        &self,
        target: &Target,
        asked: String,
        selection: String,
        attempt: u32,
    ) -> Result<Order, Trouble> {
        let Some(owner) = self.object.controller_owner_ref(&()) else {
            return Err(Trouble::passing(
                Reason::StorageUnavailable,
                "this object has no UID yet",
            ));
        };
        let namespace = self.object.namespace().unwrap_or_default();
        // Also finds out whether Secrets and keys are there, before a pod waits for them in vain.
        let connected = self.ctx.connections.get(&namespace, &target.connection).await?;
        let (gateway, credentials) = gateway::access(&connected.spec)?;
        Ok(Order {
            namespace,
            owner,
            content: "files",
            asked,
            selection,
            attempt,
            claim: self.volume.claim_name.clone(),
            plan: Plan {
                owner: Owner::of("artifactfetch", &self.object.name_any()).map_err(invalid)?,
                revision: target.revision.clone(),
                gateway,
                run: run(target),
                task: Task::Artifacts(task(self.object, target)?),
                target: place(self.volume)?,
            },
            credentials,
        })
    }

    async fn follow(&self, job: &JobSeen) -> Came {
        let tunables = &self.ctx.tunables;
        let claim = &self.volume.claim_name;
        match self.jobs.look(job, claim, Timestamp::now(), tunables).await {
            Ok(at_work) => {
                // Whoever mends it wants to see that; it may take long, and each look is three calls.
                let look_in = if at_work.overdue {
                    tunables.fetch_interval * 6
                } else {
                    tunables.fetch_interval
                };
                Came::Working(Box::new(Working {
                    job: job.name.clone(),
                    revision: revision(job),
                    reason: at_work.holdup.reason,
                    message: at_work.holdup.message,
                    progress: at_work.progress,
                    stuck: at_work.overdue,
                    look_in,
                }))
            }
            Err(trouble) => failed(job, trouble, None),
        }
    }

    async fn collect(&self, job: &JobSeen) -> Came {
        match self.jobs.result(job).await {
            Ok(Some(success)) => match fetched(job, self.volume, success) {
                Some(fetched) => Came::Fetched(Box::new(fetched)),
                None => failed(
                    job,
                    Trouble::user(
                        Reason::UnexpectedAnswer,
                        format!(
                            "Job {} ended well and tells of no files: please report it",
                            job.name
                        ),
                    ),
                    None,
                ),
            },
            // What it brought is there; another one finds it and tells what it is.
            Ok(None) => match self.jobs.stop(&[job]).await {
                Ok(()) => self.working(
                    job,
                    Reason::Fetching,
                    format!(
                        "the pod of Job {} is gone, and what it said with it: another one looks",
                        job.name
                    ),
                ),
                Err(trouble) => failed(job, trouble, None),
            },
            Err(trouble) => failed(job, trouble, None),
        }
    }

    /// A Job failed: says why, until the next one is due.
    async fn judge(&self, job: &JobSeen, target: &Target) -> Came {
        let trouble = match self.jobs.failure(job).await {
            Ok(trouble) => trouble,
            Err(trouble) => return failed(job, trouble, None),
        };
        let JobState::Failed { at, .. } = &job.state else {
            return Came::Unchanged;
        };
        let pauses = self.ctx.tunables.pauses();
        match pauses.left(&trouble, job.attempt, *at, Timestamp::now()) {
            Some(left) => failed(job, trouble, Some((job.attempt, left))),
            None => self.make(target, job.attempt.saturating_add(1)).await,
        }
    }

    fn working(&self, job: &JobSeen, reason: Reason, message: String) -> Came {
        Came::Working(Box::new(Working {
            job: job.name.clone(),
            revision: revision(job),
            reason,
            message,
            progress: None,
            stuck: false,
            look_in: self.ctx.tunables.fetch_interval,
        }))
    }
}

fn failed(job: &JobSeen, trouble: Trouble, failed: Option<(u32, Duration)>) -> Came {
    Came::Failed {
        trouble,
        revision: revision(job),
        job: Some(FailedJob {
            name: job.name.clone(),
            failed,
        }),
    }
}

fn revision(job: &JobSeen) -> Option<String> {
    job.plan.as_ref().map(|plan| plan.revision.clone())
}

/// The run, as the pod is told.
pub fn run(target: &Target) -> RunPlan {
    // A new field has to be decided on here.
    let Target {
        connection: _,
        cluster,
        project,
        run,
        run_name,
        revision: _,
        incarnation: _,
    } = target;
    RunPlan {
        cluster: cluster.clone(),
        project: project.clone(),
        pipeline: run.pipeline.clone(),
        branch: run.branch.clone(),
        id: run.id.clone(),
        name: run_name.clone(),
    }
}

fn task(object: &ArtifactFetch, target: &Target) -> Result<ArtifactsTask, Trouble> {
    // What cannot work is said here, not by a pod.
    Selection::compile(&object.spec.files, UNBOUNDED)?;
    let FileSelection {
        include,
        exclude,
        destination: _,
        verify,
        max_bytes,
        max_files,
        prune,
        parallel,
    } = &object.spec.files;
    let parallel = parallel.map(Parallel::new).transpose().map_err(invalid)?;
    Ok(ArtifactsTask {
        include: include.clone(),
        exclude: exclude.clone(),
        verify: verify.clone(),
        max_bytes: max_bytes.map_or(UNBOUNDED, |max| u64::try_from(max).unwrap_or_default()),
        max_files: u64::try_from(*max_files).unwrap_or_default(),
        selection_digest: content_digest(object, target),
        prune: *prune,
        parallel: parallel.unwrap_or_default(),
    })
}

/// Where on the volume, as the pod is told.
pub fn place(volume: &VolumeDestination) -> Result<plan::Target, Trouble> {
    let path = volume.sub_path.as_deref().unwrap_or_default();
    let sub_path = SubPath::new(path).map_err(|why| {
        Trouble::user(
            Reason::InvalidSpec,
            format!("volume.subPath: {why}: write another one"),
        )
    })?;
    Ok(plan::Target {
        mount_path: build::MOUNT_PATH.into(),
        sub_path,
    })
}

fn invalid(why: plan::BadPlan) -> Trouble {
    Trouble::user(Reason::InvalidSpec, why.to_string())
}

/// What a Job brought, for the status.
fn fetched(job: &JobSeen, volume: &VolumeDestination, success: Success) -> Option<Fetched> {
    let Success {
        revision,
        files,
        bytes,
        stored,
    } = success;
    let Stored::Artifacts { manifest, listed, .. } = stored else {
        return None;
    };
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Some(Fetched {
        revision,
        selection: job.selection.clone(),
        place: Place::Volume(VolumeStatus {
            claim_name: volume.claim_name.clone(),
            sub_path: volume.sub_path.clone(),
            manifest,
        }),
        count: number(files),
        bytes: number(bytes),
        files: listed
            .into_iter()
            .map(|StoredFile { path, size, sha256 }| FetchedFile {
                path,
                key: None,
                size: number(size),
                sha256,
            })
            .collect(),
    })
}

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod tests;
