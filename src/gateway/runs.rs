//! Runs: start (both rungs), get, list, stop, delete, and why a trigger failed.
use std::collections::BTreeMap;

use super::{
    client::{ProjectScope, Scope},
    error::Result,
    names::{EncodedBranch, RunRef},
    wire::{
        pipeline::Pipeline,
        run::{JenkinsRun, Page, Parameter, Run},
        stage::Stage,
    },
};

/// A run to be created with a chosen name (contract §6.6).
#[derive(Debug, Clone)]
pub struct NewRun<'a> {
    /// The object's name: derived from the run token, legal, at most 63 characters.
    pub name: String,
    /// What to run; its spec is copied into the run.
    pub pipeline: &'a Pipeline,
    /// The branch, for multi-branch pipelines; ignored for regular ones.
    pub branch: Option<EncodedBranch>,
    /// Values by name.
    pub parameters: Vec<Parameter>,
    /// The user in whose name it runs: [`Gateway::user_name`](super::Gateway::user_name).
    pub creator: String,
    /// More annotations; ours, so they must not begin with `devops.kubesphere.io/`.
    pub annotations: BTreeMap<String, String>,
    /// More labels.
    pub labels: BTreeMap<String, String>,
}

/// What came of creating a run.
#[derive(Debug, Clone)]
pub enum CreateOutcome {
    /// It is new.
    Created(Box<Run>),
    /// The name is taken (409): GET it and check that it is ours.
    AlreadyExists,
}

impl ProjectScope {
    /// First rung of starting a run: creates the object through `/apis`, under its chosen name, so that a repeat
    /// cannot start a second build.
    pub async fn create_run(&self, run: &NewRun<'_>) -> Result<CreateOutcome> {
        let _ = run;
        todo!()
    }

    /// Second rung: kapis POST. The name cannot be chosen: write the intent down first, and after an
    /// [`ambiguous`](super::GatewayError::ambiguous) error search before sending it again (contract §4.3).
    pub async fn post_run(
        &self,
        pipeline: &str,
        branch: Option<&EncodedBranch>,
        parameters: &[Parameter],
    ) -> Result<Run> {
        let _ = (pipeline, branch, parameters);
        todo!()
    }

    /// One run through kapis, with the Jenkins part. Right after a start a 404 may be a stale cache (finding F-L2).
    pub async fn run(&self, name: &str) -> Result<Run> {
        let _ = name;
        todo!()
    }

    /// One run through `/apis`: without the Jenkins part, but never stale. Needs [`WatchRuns`](super::Capability).
    pub async fn apis_run(&self, name: &str) -> Result<Run> {
        let _ = name;
        todo!()
    }

    /// A page (from 1) of a pipeline's runs through kapis, newest first. No filter keys are sent: they would hide fresh
    /// runs (contract §4.4).
    pub async fn runs(&self, pipeline: &str, page: u32, limit: u32) -> Result<Page<Run>> {
        let _ = (pipeline, page, limit);
        todo!()
    }

    /// All runs of the project that a label selector picks, through `/apis`.
    pub async fn apis_runs(&self, label_selector: Option<&str>) -> Result<Vec<Run>> {
        let _ = label_selector;
        todo!()
    }

    /// The stages of a run; None while the remote has none to tell (contract §8.9).
    pub async fn stages(&self, name: &str) -> Result<Option<Vec<Stage>>> {
        let _ = name;
        todo!()
    }

    /// The build as Jenkins has it. `NotFound` means that the build is gone (contract §7, stale guard).
    pub async fn jenkins_run(&self, run: &RunRef) -> Result<JenkinsRun> {
        let _ = run;
        todo!()
    }

    /// Stops a build, also a queued one. Stopping a finished one does no harm. The answer is its state at that
    /// moment, often still running.
    pub async fn stop(&self, run: &RunRef) -> Result<JenkinsRun> {
        let _ = run;
        todo!()
    }

    /// Deletes the run object: through `/apis`, which takes runs in any phase, else through kapis, which refuses
    /// unfinished ones. Gone already is fine. With `uid`, only that very object.
    pub async fn delete_run(&self, name: &str, uid: Option<&str>) -> Result<()> {
        let _ = (name, uid);
        todo!()
    }

    /// What the remote's newest `TriggerFailed` Event of a run says; None if there is none, or Events may not be read.
    pub async fn trigger_failure(&self, name: &str, uid: &str) -> Result<Option<String>> {
        let _ = (name, uid);
        todo!()
    }
}

impl Scope {
    /// A Kubernetes client whose cluster URL is the gateway (with the cluster prefix): for watching runs with kube's
    /// own `Api` and `watcher`. It carries the session's current bearer, spends the connection's budget and does not
    /// retry by itself.
    pub fn kube_client(&self) -> kube::Client {
        todo!()
    }
}
