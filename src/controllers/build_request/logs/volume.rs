//! The log of a run that is over, onto a volume: by a Job of this namespace, whole, one file a run.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::VolumeProjection;
use kube::{Resource as _, ResourceExt as _};
use sha2::{Digest as _, Sha256};

use super::super::{
    decide::{after::ActOutcome, title},
    local,
    masking::sent,
    observe::{Observer, reference},
};
use crate::{
    api::{
        artifact_fetch::VolumeDestination,
        build_request::{BuildRequest, CurrentRun, LogFile, LogSource, LogStatus, Logs},
        conditions::Reason,
    },
    controllers::{
        Connected, Context,
        artifact_fetch::transfer::place,
        fetch_jobs::{JobSeen, JobState, Jobs, Next, Order, gateway, next},
    },
    fetcher::{
        outcome::{Stored, Success},
        path::FileName,
        plan::{LogTask, Owner, Plan, RunPlan, Task, mask_file},
    },
    gateway::{ErrorKind, ProjectName},
    sinks::{config_map::ConfigMaps, hex, log::remove_log},
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

/// Stops the Jobs for the log of `run`, which is to go elsewhere by now.
pub async fn abandon(ctx: &Context, object: &BuildRequest, run: &CurrentRun) -> Result<(), Trouble> {
    let namespace = object.namespace().unwrap_or_default();
    let jobs = Jobs::new(ctx, &namespace);
    let mut all = jobs
        .of(object.metadata.uid.as_deref().unwrap_or_default())
        .await?;
    all.retain(|job| job.selection == run.token);
    jobs.stop(&all.iter().collect::<Vec<_>>()).await
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
        let (gateway, mut credentials) = gateway::access(&connected.spec)?;
        let hidden = self.hidden(&connected).await?;
        let masks = u16::try_from(hidden.len()).map_err(|why| invalid(&why))?;
        credentials.extend(hidden);
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
                    masks,
                }),
                target: place(self.volume)?,
            },
            credentials,
        })
    }

    /// The files with the values that the log must not show.
    async fn hidden(&self, connected: &Connected) -> Result<Vec<VolumeProjection>, Trouble> {
        let (object, run) = (self.object, self.run);
        if run.secret_parameters.is_empty() {
            return Ok(Vec::new());
        }
        let project = Observer::project(connected, run)?;
        let sent = match &run.name {
            Some(name) => match project.run(name).await {
                Ok(seen) => sent(run, &seen),
                Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
                Err(error) => return Err(error.into()),
            },
            None => BTreeMap::new(),
        };
        let current = local::secret_values(&self.ctx.client, object, &run.secret_parameters).await?;
        masks(object, run, &sent, &current)
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
        // Those of an earlier run, or of this one before it was to go onto a volume.
        remove_log(&ConfigMaps::of(self.ctx.client.clone(), self.object)?).await?;
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

/// The files with the values that the log of `run` must not show. The pod is given what is in the Secrets now; where that is
/// not what was `sent`, the pod could not mask it, and no log is written.
fn masks(
    object: &BuildRequest,
    run: &CurrentRun,
    sent: &BTreeMap<String, String>,
    current: &BTreeMap<String, String>,
) -> Result<Vec<VolumeProjection>, Trouble> {
    let source = |name: &String| {
        let parameter = object.spec.parameters.iter().find(|p| p.name == *name)?;
        parameter.value_from.as_ref()?.secret_key_ref.as_ref()
    };
    let file = |(number, name): (u16, &String)| {
        let now = current.get(name);
        let is_known = now.is_some() && sent.get(name).is_none_or(|sent| Some(sent) == now);
        match source(name).filter(|_| is_known) {
            Some(key) => Ok(gateway::masked(key, &mask_file(number))),
            None => Err(Trouble::passing(
                Reason::LogUnavailable,
                format!(
                    "the log is not written to its volume, because the value of parameter {name:?} must not be in it, and the \
                     Secret that it was from holds another one by now, or none: put the old one back until the log is there"
                ),
            )),
        }
    };
    (0..).zip(&run.secret_parameters).map(file).collect()
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
    fn what_was_sent_is_masked_by_the_pod_or_no_log_is_written() {
        let mut object = object();
        object.spec.parameters = serde_json::from_value(json!([
            {"name": "plain", "value": "v"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "deploy", "key": "token"}}},
        ]))
        .unwrap();
        let mut run = run_in(&object, RunState::Ended);
        let value = |text: &str| BTreeMap::from([("TOKEN".to_owned(), text.to_owned())]);
        let (nothing, old, new) = (BTreeMap::new(), value("old"), value("new"));
        assert_eq!(masks(&object, &run, &nothing, &nothing), Ok(vec![]));
        run.secret_parameters = vec!["TOKEN".into()];
        let file = json!([{"secret": {"name": "deploy", "items": [{"key": "token", "path": "mask-0"}]}}]);
        for sent in [&old, &nothing] {
            let masks = masks(&object, &run, sent, &old).unwrap();
            assert_eq!(serde_json::to_value(masks).unwrap(), file);
        }
        for (sent, current) in [(&old, &new), (&old, &nothing), (&nothing, &nothing)] {
            let trouble = masks(&object, &run, sent, current).expect_err("a log with a secret");
            assert_eq!(trouble.reason, Reason::LogUnavailable);
            assert!(
                trouble.message.contains("TOKEN") && !trouble.message.contains("\"old\""),
                "{trouble}"
            );
        }
        object.spec.parameters.clear();
        assert!(
            masks(&object, &run, &old, &old).is_err(),
            "the spec does not say any more where it is"
        );
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
