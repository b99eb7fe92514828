//! The log of a run that is over, onto a volume: by a Job of this namespace, whole, one file a run.

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};
use sha2::{Digest as _, Sha256};

use super::super::{
    decide::{after::ActOutcome, title},
    observe::reference,
};
use crate::{
    api::{
        artifact_fetch::VolumeDestination,
        build_request::{BuildRequest, CurrentRun, LogFile, LogSource, LogStatus, Logs},
        conditions::Reason,
    },
    controllers::{
        Context,
        artifact_fetch::transfer::place,
        fetch_jobs::{JobSeen, JobState, Jobs, Next, Order, gateway, next},
    },
    fetcher::{
        outcome::{Stored, Success},
        path::FileName,
        plan::{LogTask, Owner, Plan, RunPlan, Task},
    },
    gateway::ProjectName,
    sinks::hex,
    trouble::{Remedy, Trouble},
};

/// Bytes of an object's name in the name of a file.
const NAME: usize = 200;
/// Characters of the token in it.
const TOKEN: usize = 8;

/// The name of the file for the log of `run`: the same for the same run, and another for any other, also where a branch or
/// a pipeline that was made anew counts its builds from one again.
pub fn file_name(object: &BuildRequest, run: &CurrentRun) -> String {
    let mut name = object.name_any();
    name.truncate(NAME);
    let token: String = run.token.chars().take(TOKEN).collect();
    format!("{name}-{}-{token}.log", run.id.as_deref().unwrap_or_default())
}

/// Does the next thing for the log of `run`.
pub async fn archive(
    ctx: &Context,
    object: &BuildRequest,
    run: &CurrentRun,
    volume: &VolumeDestination,
) -> ActOutcome {
    let namespace = object.namespace().unwrap_or_default();
    let archive = Archive {
        ctx,
        object,
        run,
        volume,
        jobs: Jobs::new(ctx, &namespace),
    };
    archive.step().await.unwrap_or_else(ActOutcome::Failed)
}

struct Archive<'a> {
    ctx: &'a Context,
    object: &'a BuildRequest,
    run: &'a CurrentRun,
    volume: &'a VolumeDestination,
    jobs: Jobs<'a>,
}

impl Archive<'_> {
    async fn step(&self) -> Result<ActOutcome, Trouble> {
        let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
        let asked = hex(&Sha256::digest(format!("{uid} {} {:?}", self.run.token, self.volume))[..16]);
        let mut jobs = self.jobs.of(uid).await?;
        // Jobs for other runs write other files.
        jobs.retain(|job| job.selection == self.run.token);
        match next(&jobs, |job| job.asked == asked) {
            Next::Stop(stale) => {
                self.jobs.stop(&stale).await?;
                Ok(self.waits(stale.first().map_or("", |job| &job.name)))
            }
            Next::Wait(leaving) => Ok(self.waits(&leaving.name)),
            Next::Make { attempt } => self.make(asked, attempt).await,
            Next::Follow(job) => self.follow(job).await,
            Next::Collect(job) => self.collect(job).await,
            Next::Judge(job) => self.judge(job, asked).await,
        }
    }

    fn waits(&self, job: &str) -> ActOutcome {
        self.underway(
            job,
            format!("Job {job} is for another place and is being stopped first"),
        )
    }

    fn underway(&self, job: &str, message: String) -> ActOutcome {
        ActOutcome::LogUnderway {
            job: job.to_owned(),
            reason: Reason::Fetching,
            message,
            stuck: false,
            look_in: self.ctx.tunables.fetch_interval,
        }
    }

    async fn make(&self, asked: String, attempt: u32) -> Result<ActOutcome, Trouble> {
        let order = self.order(asked, attempt).await?;
        let name = self.jobs.make(&order).await?;
        let message = format!("Job {name} writes it to {}", self.volume);
        Ok(self.underway(&name, message))
    }

    async fn order(&self, asked: String, attempt: u32) -> Result<Order, Trouble> {
        let invalid = |why: &dyn std::fmt::Display| Trouble::user(Reason::InvalidSpec, why.to_string());
        let (object, run) = (self.object, self.run);
        let namespace = object.namespace().unwrap_or_default();
        let (Some(owner), Some(reference)) = (object.controller_owner_ref(&()), reference(run)) else {
            return Err(Trouble::passing(
                Reason::StorageUnavailable,
                "this object has no UID yet, or its run no build number",
            ));
        };
        let connection = &object.spec.connection_ref.name;
        let connected = self.ctx.connections.get(&namespace, connection).await?;
        let (gateway, credentials) = gateway::access(&connected.spec)?;
        let Logs {
            destination: _,
            max_bytes: _,
            tail_lines,
        } = &object.spec.logs;
        Ok(Order {
            namespace,
            owner,
            content: "log",
            asked,
            selection: run.token.clone(),
            attempt,
            claim: self.volume.claim_name.clone(),
            plan: Plan {
                owner: Owner::of("buildrequest", &object.name_any()).map_err(|why| invalid(&why))?,
                revision: title(run),
                gateway,
                run: RunPlan {
                    cluster: run.cluster.clone(),
                    project: ProjectName::new(run.project.as_str()).map_err(|why| invalid(&why))?,
                    pipeline: reference.pipeline,
                    branch: reference.branch,
                    id: reference.id,
                    name: run.name.clone(),
                },
                task: Task::Log(LogTask {
                    file_name: FileName::new(&file_name(object, run)).map_err(|why| invalid(&why))?,
                    tail_lines: *tail_lines,
                }),
                target: place(self.volume)?,
            },
            credentials,
        })
    }

    async fn follow(&self, job: &JobSeen) -> Result<ActOutcome, Trouble> {
        let tunables = &self.ctx.tunables;
        let claim = &self.volume.claim_name;
        let at_work = self.jobs.look(job, claim, Timestamp::now(), tunables).await?;
        Ok(ActOutcome::LogUnderway {
            job: job.name.clone(),
            reason: at_work.holdup.reason,
            message: at_work.holdup.message,
            stuck: at_work.overdue,
            look_in: tunables.fetch_interval,
        })
    }

    async fn collect(&self, job: &JobSeen) -> Result<ActOutcome, Trouble> {
        let Some(success) = self.jobs.result(job).await? else {
            self.jobs.stop(&[job]).await?;
            let message = format!(
                "the pod of Job {} is gone, and what it said with it: another one looks",
                job.name
            );
            return Ok(self.underway(&job.name, message));
        };
        archived(self.volume, success).ok_or_else(|| {
            Trouble::user(
                Reason::UnexpectedAnswer,
                format!(
                    "Job {} ended well and tells of no log: please report it",
                    job.name
                ),
            )
        })
    }

    /// A Job failed: says why, until the next one is due.
    async fn judge(&self, job: &JobSeen, asked: String) -> Result<ActOutcome, Trouble> {
        let mut trouble = self.jobs.failure(job).await?;
        let JobState::Failed { at, .. } = &job.state else {
            return Ok(ActOutcome::Nothing);
        };
        let pauses = self.ctx.tunables.pauses();
        let Some(left) = pauses.left(&trouble, job.attempt, *at, Timestamp::now()) else {
            return self.make(asked, job.attempt.saturating_add(1)).await;
        };
        if let Remedy::Time(at_least) = &mut trouble.remedy {
            *at_least = Some(left);
        }
        Err(trouble)
    }
}

/// What a Job brought, for the status.
fn archived(volume: &VolumeDestination, success: Success) -> Option<ActOutcome> {
    let Success {
        revision: _,
        files: _,
        bytes,
        stored,
    } = success;
    let Stored::Log {
        path,
        sha256,
        last_lines,
    } = stored
    else {
        return None;
    };
    Some(ActOutcome::Log {
        log: LogStatus {
            config_maps: Vec::new(),
            volume: Some(LogFile {
                claim_name: volume.claim_name.clone(),
                path,
            }),
            job: None,
            bytes: i64::try_from(bytes).unwrap_or(i64::MAX),
            truncated: false,
            sha256: Some(sha256),
            complete: true,
            source: LogSource::Run,
        },
        tail: Some(last_lines).filter(|lines| !lines.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::build_request::RunState,
        controllers::build_request::decide::testing::{object, run_in},
    };

    #[test]
    fn each_run_has_a_file_of_its_own_that_people_can_find() {
        let object = object();
        let mut run = run_in(&object, RunState::Ended);
        run.token = "0123456789abcdef".into();
        let name = file_name(&object, &run);
        let id = run.id.clone().unwrap();
        assert_eq!(name, format!("{}-{id}-01234567.log", object.name_any()));
        assert_eq!(name, file_name(&object, &run));
        let mut other = run.clone();
        other.token = "fedcba9876543210".into();
        assert_ne!(
            name,
            file_name(&object, &other),
            "the same number of another branch"
        );
        let mut long = object.clone();
        long.metadata.name = Some("n".repeat(253));
        run.id = Some("9".repeat(18));
        assert!(FileName::new(&file_name(&long, &run)).is_ok());
    }

    #[test]
    fn what_a_job_brought_is_what_the_status_tells() {
        let volume = serde_json::from_value(json!({"claimName": "logs"})).unwrap();
        let success = |stored: serde_json::Value| {
            serde_json::from_value(json!({"revision": "r", "files": 1, "bytes": 12, "stored": stored}))
                .unwrap()
        };
        let log = success(json!({"log": {"path": "shop/b-7-0.log", "sha256": "0", "lastLines": "a\nb\n"}}));
        let Some(ActOutcome::Log { log, tail }) = archived(&volume, log) else {
            panic!("no log")
        };
        let file = log.volume.unwrap();
        assert_eq!(
            (file.claim_name.as_str(), file.path.as_str()),
            ("logs", "shop/b-7-0.log")
        );
        assert_eq!((log.bytes, log.complete, log.truncated), (12, true, false));
        assert_eq!(tail.as_deref(), Some("a\nb\n"));
        let files = success(json!({"artifacts": {"manifest": "m", "reused": 0, "pruned": 0}}));
        assert!(archived(&volume, files).is_none());
    }
}
