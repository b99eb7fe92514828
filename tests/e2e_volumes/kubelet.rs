//! The part of a kubelet that this cluster lacks: it says of a pod what a node would say, through the status subresource.
//! Everything else (making the pods of a Job, counting them, its policies, its end) is done by the real controllers.

use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tenantry::fetcher::{
    outcome::{Failure, FailureKind, Outcome, Stored, Success},
    plan::{self, Plan},
};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use super::common::Stage;

/// An end as the pod tells it: exit code and termination message.
pub struct End {
    code: u8,
    message: String,
}

impl End {
    /// As the program tells it.
    pub fn of(outcome: &Outcome) -> Self {
        Self {
            code: outcome.exit_code(),
            message: outcome.compact(),
        }
    }

    /// A pod that could not do it.
    pub fn failed(kind: FailureKind, message: &str) -> Self {
        Self::of(&Outcome::Failed(Failure::new(kind, message)))
    }

    /// A pod that brought two files of this run.
    pub fn files(revision: &str) -> Self {
        Self::of(&Outcome::Succeeded(Success {
            revision: revision.into(),
            files: 2,
            bytes: 30,
            stored: Stored::Artifacts {
                manifest: ".tenantry/artifactfetch.files.json".into(),
                reused: 0,
                pruned: 0,
                listed: vec![],
            },
        }))
    }

    /// A pod that wrote a log.
    pub fn log(revision: &str, path: &str, last_lines: &str) -> Self {
        Self::of(&Outcome::Succeeded(Success {
            revision: revision.into(),
            files: 1,
            bytes: 200_000_000,
            stored: Stored::Log {
                path: path.into(),
                sha256: "0".repeat(64),
                last_lines: last_lines.into(),
            },
        }))
    }
}

impl Stage {
    /// Makes a claim that nothing binds.
    pub async fn claim(&self, name: &str) {
        self.apply::<PersistentVolumeClaim>(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }))
        .await;
    }

    /// The fetch Jobs of this namespace that are not being deleted.
    pub async fn jobs(&self) -> Vec<Job> {
        let listed = self
            .api::<Job>()
            .list(&ListParams::default())
            .await
            .expect("Jobs");
        let mut jobs = listed.items;
        jobs.retain(|job| job.metadata.deletion_timestamp.is_none());
        jobs
    }

    /// Waits for a Job that `is`.
    pub async fn until_job(&self, what: &str, is: impl Fn(&Job) -> bool) -> Job {
        wait_for(&format!("a Job {what}"), PATIENCE, async || {
            let jobs = self.jobs().await;
            let names: Vec<_> = jobs.iter().map(kube::ResourceExt::name_any).collect();
            Ok(match jobs.into_iter().find(&is) {
                Some(job) => Seen::Done(job),
                None => Seen::NotYet(format!("{names:?}")),
            })
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The Job number `attempt`.
    pub async fn until_attempt(&self, attempt: u32) -> Job {
        let attempt = attempt.to_string();
        self.until_job(&format!("number {attempt}"), |job| {
            job.annotations().get("tenantry.dev/attempt") == Some(&attempt)
        })
        .await
    }

    /// Waits for a pod of `job` that is not over.
    pub async fn until_pod(&self, job: &Job) -> Pod {
        let params =
            ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", job.name_any()));
        wait_for(
            &format!("a pod of Job {}", job.name_any()),
            PATIENCE,
            async || {
                let pods = self.api::<Pod>().list(&params).await?.items;
                let phases: Vec<_> = pods.iter().map(|pod| format!("{:?}", pod.status)).collect();
                let active = pods.into_iter().find(|pod| {
                    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
                    !matches!(phase, Some("Succeeded" | "Failed"))
                        && pod.metadata.deletion_timestamp.is_none()
                });
                Ok(active.map_or_else(|| Seen::NotYet(phases.join(", ")), Seen::Done))
            },
        )
        .await
        .unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Says of a pod what a node would.
    pub async fn says(&self, pod: &Pod, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        self.api::<Pod>()
            .patch_status(&pod.name_any(), &PatchParams::default(), &patch)
            .await
            .expect("the status of a pod");
    }

    /// The pod runs.
    pub async fn runs(&self, pod: &Pod) {
        let state = json!({"running": {"startedAt": "2026-11-22T12:00:00Z"}});
        self.says(
            pod,
            json!({"phase": "Running", "containerStatuses": [container(pod, &state, true)]}),
        )
        .await;
    }

    /// The pod ends.
    pub async fn ends(&self, pod: &Pod, end: &End) {
        let phase = if end.code == 0 { "Succeeded" } else { "Failed" };
        let state = json!({"terminated": {
            "exitCode": end.code, "message": end.message, "reason": if end.code == 0 { "Completed" } else { "Error" },
            "startedAt": "2026-11-22T12:00:00Z", "finishedAt": "2026-11-22T12:00:01Z",
        }});
        self.says(
            pod,
            json!({"phase": phase, "containerStatuses": [container(pod, &state, false)]}),
        )
        .await;
    }
}

fn container(pod: &Pod, state: &Value, ready: bool) -> Value {
    let image = pod.spec.as_ref().expect("a spec").containers[0].image.clone();
    json!({"name": "fetch", "image": image, "imageID": "sha256:0", "ready": ready, "restartCount": 0, "state": state})
}

/// What a Job's pod is told.
pub fn plan(job: &Job) -> Plan {
    let pod = job
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref())
        .expect("a pod");
    let env = pod.containers[0].env.iter().flatten();
    let told = env.clone().find(|env| env.name == plan::ENV);
    let text = told
        .and_then(|env| env.value.clone())
        .unwrap_or_else(|| panic!("{} has no plan", job.name_any()));
    Plan::parse(&text).expect("a plan")
}
