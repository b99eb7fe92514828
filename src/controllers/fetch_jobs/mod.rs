//! The Jobs that fill volumes: what ArtifactFetches and BuildRequests with a volume as destination have in common.
//!
//! [`build`] makes the Job from an [`Order`] and the administrator's [`template`]; [`gateway`] says what a pod is told of
//! the TenantConnection; [`seen`] reads Jobs, [`mod@next`] decides what comes next, [`why`] says why something does not go
//! on: all pure. [`Jobs`] is the only I/O. What a pod is told and tells is `fetcher::{plan, outcome}`. What must never come
//! in: which files or which run are wanted; that is decided where the kinds are.

pub mod build;
pub mod gateway;
pub mod next;
mod progress;
pub mod seen;
pub mod template;
#[cfg(test)]
pub mod testing;
pub mod why;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, LogParams, PostParams, Preconditions},
};
use tokio::time::timeout;

pub use self::{
    build::Order,
    next::{Next, Pauses, next},
    seen::{JobSeen, JobState},
    template::{Fetcher, PodTemplate},
    why::Holdup,
};
use super::{Context, Tunables, cluster::get_opt};
use crate::{
    api::{artifact_fetch::Progress, conditions::Reason},
    crash_points::{Write, around},
    fetcher::outcome::{Outcome, Success},
    runtime::harness::plain,
    sinks::config_map::{OWNER_UID, is_policy},
    trouble::Trouble,
};

/// How long one call to our own API server may take.
const CALL: Duration = Duration::from_secs(20);
/// Lines of a pod's log that are read: the last ones, among which people's words may be, too.
const LINES: i64 = 20;
/// Bytes of these while it works.
const LIVE_BYTES: i64 = 32 * 1024;
/// Bytes of these when it is over: the result names a hundred files.
const RESULT_BYTES: i64 = 512 * 1024;

/// The fetch Jobs of one namespace.
pub struct Jobs<'a> {
    client: &'a Client,
    fetcher: &'a Fetcher,
    namespace: &'a str,
}

/// How the work of a Job stands.
#[derive(Clone, Debug, PartialEq)]
pub struct AtWork {
    /// What it waits for, or is doing.
    pub holdup: Holdup,
    /// How far it is, where the pod tells.
    pub progress: Option<Progress>,
    /// Something has been amiss for so long that somebody should look.
    pub overdue: bool,
}

impl<'a> Jobs<'a> {
    /// Those in `namespace`.
    pub fn new(ctx: &'a Context, namespace: &'a str) -> Self {
        Self {
            client: &ctx.client,
            fetcher: &ctx.fetcher,
            namespace,
        }
    }

    /// All of the object with this UID. There are none, and there may be no right to ask, where the operator makes none.
    pub async fn of(&self, owner_uid: &str) -> Result<Vec<JobSeen>, Trouble> {
        if self.fetcher.image.is_none() {
            return Ok(Vec::new());
        }
        let params = ListParams::default().labels(&format!("{OWNER_UID}={owner_uid}"));
        let listed = self
            .call("list the fetch Jobs", self.api::<Job>().list(&params))
            .await?;
        Ok(listed.items.iter().map(JobSeen::of).collect())
    }

    /// Makes the Job; or says why it cannot be made. Its claim has to be there.
    pub async fn make(&self, order: &Order) -> Result<String, Trouble> {
        let job = build::job(order, self.fetcher)?;
        let name = job.name_any();
        let claim = &order.claim;
        match self.claim(claim).await? {
            None => {
                return Err(Trouble::user(
                    Reason::ClaimNotFound,
                    format!(
                        "there is no PersistentVolumeClaim {claim:?} in namespace {}: create it, or correct claimName",
                        self.namespace
                    ),
                ));
            }
            Some(found) if found.metadata.deletion_timestamp.is_some() => {
                return Err(Trouble::user(
                    Reason::ClaimNotFound,
                    format!(
                        "PersistentVolumeClaim {claim:?} is being deleted: make it anew, or name another one"
                    ),
                ));
            }
            Some(_) => {}
        }
        let api = self.api::<Job>();
        let params = PostParams::default();
        match timeout(CALL, around(Write::Job, api.create(&params, &job))).await {
            Ok(Ok(_)) => {
                tracing::info!(job = name, owner = order.owner.name, "made a fetch Job");
                Ok(name)
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Trouble::passing(
                Reason::DestinationConflict,
                format!("a Job {name:?} exists and is not ours: delete it"),
            )),
            Ok(Err(kube::Error::Api(status)))
                if matches!(status.code, 403 | 422) || is_policy(&status.message) =>
            {
                Err(Trouble::user(
                    Reason::StorageUnavailable,
                    format!(
                        "the API server refuses Job {name:?}: {}; a quota, a policy or the operator's role may stand against it",
                        status.message
                    ),
                ))
            }
            Ok(Err(error)) => Err(unavailable(&format!("make Job {name:?}"), &plain(&error))),
            Err(_) => Err(unavailable(&format!("make Job {name:?}"), "no answer in time")),
        }
    }

    /// Deletes `jobs`; each is gone once none of its pods can write any more.
    pub async fn stop(&self, jobs: &[&JobSeen]) -> Result<(), Trouble> {
        let api = self.api::<Job>();
        for job in jobs {
            let this_one = DeleteParams::foreground().preconditions(Preconditions {
                uid: job.uid.clone(),
                resource_version: None,
            });
            let deleted = timeout(CALL, around(Write::JobRemoval, api.delete(&job.name, &this_one))).await;
            match deleted {
                Ok(Ok(_)) => tracing::info!(job = job.name, "stopped a fetch Job"),
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
                Ok(Err(error)) => {
                    return Err(unavailable(&format!("delete Job {:?}", job.name), &plain(&error)));
                }
                Err(_) => {
                    return Err(unavailable(
                        &format!("delete Job {:?}", job.name),
                        "no answer in time",
                    ));
                }
            }
        }
        Ok(())
    }

    /// How a Job that is not over stands.
    pub async fn look(
        &self,
        job: &JobSeen,
        claim: &str,
        now: Timestamp,
        tunables: &Tunables,
    ) -> Result<AtWork, Trouble> {
        let pods = self.pods(job).await?;
        let age = |since: Option<Timestamp>| {
            since.map_or(Duration::ZERO, |at| {
                Duration::try_from(now.duration_since(at)).unwrap_or_default()
            })
        };
        let current = pods.iter().find(|pod| !is_over(pod));
        let (holdup, since) = match current {
            Some(pod) if phase(pod) == "Running" => {
                let progress = self.last_line(pod, LIVE_BYTES, progress::progress).await;
                let told = progress.as_ref().map(progress::sentence);
                let message = told.unwrap_or_else(|| format!("pod {} runs", pod.name_any()));
                return Ok(AtWork {
                    holdup: Holdup {
                        reason: Reason::Fetching,
                        message,
                    },
                    progress,
                    overdue: false,
                });
            }
            Some(pod) => {
                let made = pod.creation_timestamp().map(|time| time.0);
                let found = self.claim(claim).await?;
                (why::not_running(pod, claim, found.as_ref(), age(made)), made)
            }
            None => match pods.first() {
                // Kubernetes starts another one, each time a little later.
                Some(last) => {
                    let trouble = why::job_failed(job, Some(last));
                    let message = format!("another pod follows; the last one said: {}", trouble.message);
                    let holdup = Holdup {
                        reason: trouble.reason,
                        message: crate::api::conditions::bounded(&message, 1000),
                    };
                    (holdup, Some(now))
                }
                None => (why::without_pod(&job.name, age(job.made)), job.made),
            },
        };
        let overdue = holdup.is_amiss() && age(since) >= tunables.pod_deadline;
        Ok(AtWork {
            holdup,
            progress: None,
            overdue,
        })
    }

    /// What a Job that ended well brought; `None` where its pod is gone and with it what it said.
    pub async fn result(&self, job: &JobSeen) -> Result<Option<Success>, Trouble> {
        let pods = self.pods(job).await?;
        let Some(pod) = pods.iter().find(|pod| phase(pod) == "Succeeded") else {
            return Ok(None);
        };
        let whole = self.last_line(pod, RESULT_BYTES, progress::result).await;
        Ok(match whole.or_else(|| why::outcome(pod)) {
            Some(Outcome::Succeeded(success)) => Some(success),
            Some(Outcome::Failed(_)) | None => None,
        })
    }

    /// What stands in the way, where a Job failed.
    pub async fn failure(&self, job: &JobSeen) -> Result<Trouble, Trouble> {
        let pods = self.pods(job).await?;
        Ok(why::job_failed(job, pods.first()))
    }

    /// The pods of a Job, newest first.
    async fn pods(&self, job: &JobSeen) -> Result<Vec<Pod>, Trouble> {
        let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", job.name));
        let what = format!("list the pods of Job {:?}", job.name);
        let mut pods = self.call(&what, self.api::<Pod>().list(&params)).await?.items;
        pods.sort_by_key(|pod| std::cmp::Reverse(pod.creation_timestamp().map(|time| time.0)));
        Ok(pods)
    }

    /// The claim; `None` where there is none.
    async fn claim(&self, name: &str) -> Result<Option<PersistentVolumeClaim>, Trouble> {
        get_opt(&self.api(), name, &format!("PersistentVolumeClaim {name:?}")).await
    }

    /// The last line of a pod's log that `read` understands. A log that cannot be read is no trouble: it is told again, and
    /// the end is in the pod's status too.
    async fn last_line<T>(&self, pod: &Pod, bytes: i64, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let params = LogParams {
            container: Some(build::CONTAINER.into()),
            tail_lines: Some(LINES),
            limit_bytes: Some(bytes),
            ..LogParams::default()
        };
        let api = self.api::<Pod>();
        match timeout(CALL, api.logs(&pod.name_any(), &params)).await {
            Ok(Ok(text)) => text.lines().rev().find_map(read),
            Ok(Err(error)) => {
                tracing::debug!(pod = pod.name_any(), "its log cannot be read: {error}");
                None
            }
            Err(_) => None,
        }
    }

    async fn call<T>(&self, what: &str, call: impl Future<Output = kube::Result<T>>) -> Result<T, Trouble> {
        match timeout(CALL, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(unavailable(what, &plain(&error))),
            Err(_) => Err(unavailable(what, "no answer in time")),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }
}

fn unavailable(what: &str, why: &str) -> Trouble {
    Trouble::passing(Reason::StorageUnavailable, format!("could not {what}: {why}"))
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

fn is_over(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}
