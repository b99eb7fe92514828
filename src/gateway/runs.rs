//! Runs: start (both rungs), get, list, stop, delete, and why a trigger failed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    capabilities::Capability,
    client::ProjectScope,
    error::{ErrorKind, Result},
    names::{EncodedBranch, ProjectName, RunRef},
    route::{APIS, Request, V3, run_path, segment},
    telemetry::RouteClass,
    wire::{
        jenkins::{self, JenkinsRun},
        pipeline::{Pipeline, PipelineKind},
        run::{self, CREATOR, PIPELINE, Page, Parameter, Run},
        stage::{self, Stage},
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

impl NewRun<'_> {
    /// The object as kapis would make it, name aside (contract §6.6). It always has an annotation and the pipeline's
    /// spec: without the one, lists of the whole project break, without the other the controller panics at each poll
    /// (findings F-A8, F-E).
    fn object(&self, project: &ProjectName) -> Value {
        let Self {
            name,
            pipeline,
            branch,
            parameters,
            creator,
            annotations,
            labels,
        } = self;
        let mut annotations = annotations.clone();
        annotations.insert(CREATOR.into(), creator.clone());
        let mut labels = labels.clone();
        labels.insert(PIPELINE.into(), pipeline.name.clone());
        let mut spec = json!({
            "pipelineRef": {"kind": "Pipeline", "namespace": project, "name": pipeline.name},
            "pipelineSpec": pipeline.spec,
            "parameters": parameters,
        });
        if let (PipelineKind::MultiBranch, Some(branch)) = (&pipeline.kind, branch) {
            spec["scm"] = json!({"refType": "", "refName": branch});
        }
        json!({
            "apiVersion": "devops.kubesphere.io/v1alpha3",
            "kind": "PipelineRun",
            "metadata": {
                "name": name,
                "namespace": project,
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [{
                    "apiVersion": "devops.kubesphere.io/v1alpha3",
                    "kind": "Pipeline",
                    "name": pipeline.name,
                    "uid": pipeline.uid,
                    "controller": true,
                    "blockOwnerDeletion": true,
                }],
            },
            "spec": spec,
        })
    }
}

impl ProjectScope {
    /// First rung of starting a run: creates the object through `/apis`, under its chosen name, so that a repeat
    /// cannot start a second build.
    pub async fn create_run(&self, run: &NewRun<'_>) -> Result<CreateOutcome> {
        let project = &self.name;
        let path = format!("{APIS}/namespaces/{project}/pipelineruns");
        let what = format!(
            "create run {} of pipeline {:?} in project {project}",
            run.name, run.pipeline.name
        );
        let request = Request::post(RouteClass::RunCreate, path, what, &run.object(project));
        let result = match self.scope.exchange(request).await {
            Ok(whole) => run::run(&whole.reply()),
            Err(error) => Err(error),
        };
        self.learn(Capability::CreateRuns, &result);
        match result {
            Ok(run) => Ok(CreateOutcome::Created(Box::new(run))),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(CreateOutcome::AlreadyExists),
            Err(error) => Err(error),
        }
    }

    /// Second rung: kapis POST. The name cannot be chosen: write the intent down first, and after an
    /// [`ambiguous`](super::GatewayError::ambiguous) error search before sending it again (contract §4.3).
    pub async fn post_run(
        &self,
        pipeline: &str,
        branch: Option<&EncodedBranch>,
        parameters: &[Parameter],
    ) -> Result<Run> {
        let project = &self.name;
        let path = format!(
            "{V3}/namespaces/{project}/pipelines/{}/pipelineruns",
            segment(pipeline)
        );
        let what = format!("start pipeline {pipeline:?} of project {project}");
        let mut request = Request::post(
            RouteClass::RunTrigger,
            path,
            what,
            &json!({"parameters": parameters}),
        );
        if let Some(branch) = branch {
            request = request.query("branch", branch.as_str());
        }
        run::run(&self.scope.exchange(request).await?.reply())
    }

    /// One run through kapis, with the Jenkins part. Right after a start a 404 may be a stale cache (finding F-L2).
    pub async fn run(&self, name: &str) -> Result<Run> {
        let path = format!("{V3}/namespaces/{}/pipelineruns/{}", self.name, segment(name));
        let request = Request::get(RouteClass::RunGet, path, format!("get run {}/{name}", self.name));
        run::run(&self.scope.exchange(request).await?.reply())
    }

    /// One run through `/apis`: without the Jenkins part, but never stale. Needs the right behind
    /// [`Capability::WatchRuns`].
    pub async fn apis_run(&self, name: &str) -> Result<Run> {
        let path = format!("{APIS}/namespaces/{}/pipelineruns/{}", self.name, segment(name));
        let request = Request::get(
            RouteClass::Kubernetes,
            path,
            format!("get run object {}/{name}", self.name),
        );
        run::run(&self.scope.exchange(request).await?.reply())
    }

    /// A page (from 1) of a pipeline's runs through kapis, newest first. No filter keys are sent: they would hide fresh
    /// runs (contract §4.4).
    pub async fn runs(&self, pipeline: &str, page: u32, limit: u32) -> Result<Page<Run>> {
        let project = &self.name;
        let path = format!(
            "{V3}/namespaces/{project}/pipelines/{}/pipelineruns",
            segment(pipeline)
        );
        let what = format!("list the runs of pipeline {pipeline:?} of project {project}");
        let request = Request::get(RouteClass::RunList, path, what)
            .query("page", page.max(1).to_string())
            .query("limit", limit.max(1).to_string());
        run::runs(&self.scope.exchange(request).await?.reply())
    }

    /// All runs of the project that a label selector picks, through `/apis`.
    pub async fn apis_runs(&self, label_selector: Option<&str>) -> Result<Vec<Run>> {
        let path = format!("{APIS}/namespaces/{}/pipelineruns", self.name);
        let what = format!("list the run objects of project {}", self.name);
        let mut request = Request::get(RouteClass::Kubernetes, path, what);
        if let Some(selector) = label_selector {
            request = request.query("labelSelector", selector);
        }
        let result = match self.scope.exchange(request).await {
            Ok(whole) => run::runs(&whole.reply()).map(|page| page.items),
            Err(error) => Err(error),
        };
        // Who may not list may not watch; who may list may still not.
        if result.is_err() {
            self.learn(Capability::WatchRuns, &result);
        }
        result
    }

    /// The stages of a run; None while the remote has none to tell (contract §8.9).
    pub async fn stages(&self, name: &str) -> Result<Option<Vec<Stage>>> {
        let path = format!(
            "{V3}/namespaces/{}/pipelineruns/{}/nodedetails",
            self.name,
            segment(name)
        );
        let what = format!("get the stages of run {}/{name}", self.name);
        stage::stages(
            &self
                .scope
                .exchange(Request::get(RouteClass::Stages, path, what))
                .await?
                .reply(),
        )
    }

    /// The build as Jenkins has it. `NotFound` means that the build is gone (contract §7, stale guard).
    pub async fn jenkins_run(&self, run: &RunRef) -> Result<JenkinsRun> {
        let what = format!("ask Jenkins for build {run} of project {}", self.name);
        let request = Request::get(RouteClass::JenkinsRun, run_path(&self.name, run), what);
        jenkins::jenkins_run(&self.scope.exchange(request).await?.reply())
    }

    /// Stops a build, also a queued one. Stopping a finished one does no harm. The answer is its state at that
    /// moment, often still running.
    pub async fn stop(&self, run: &RunRef) -> Result<JenkinsRun> {
        let what = format!("stop build {run} of project {}", self.name);
        let path = format!("{}/stop", run_path(&self.name, run));
        let request = Request::post(RouteClass::Stop, path, what, &json!({}));
        jenkins::jenkins_run(&self.scope.exchange(request).await?.reply())
    }

    /// Deletes the run object: through `/apis`, which takes runs in any phase, else through kapis, which refuses
    /// unfinished ones (`Conflict`). Gone already is fine. With `uid`, only that very object: another one of this name
    /// is left alone, and counts as gone.
    pub async fn delete_run(&self, name: &str, uid: Option<&str>) -> Result<()> {
        let what = format!("delete run {}/{name}", self.name);
        let options = uid
            .map(|uid| json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}));
        let path = format!("{APIS}/namespaces/{}/pipelineruns/{}", self.name, segment(name));
        match self
            .deleted(Request::delete(path, what.as_str(), options.as_ref()))
            .await
        {
            Err(error) if error.kind() == ErrorKind::Forbidden => {}
            // The precondition failed: what has this name now is not ours.
            Err(error) if error.status() == Some(409) && uid.is_some() => return Ok(()),
            done => return done,
        }
        if let Some(uid) = uid {
            match self.run(name).await {
                Ok(run) if run.uid == uid => {}
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let path = format!("{V3}/namespaces/{}/pipelineruns/{}", self.name, segment(name));
        self.deleted(Request::delete(path, what, None)).await
    }

    async fn deleted(&self, request: Request) -> Result<()> {
        match self.scope.exchange(request).await?.reply().accept() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// What the remote's newest `TriggerFailed` Event of a run says; None if there is none, or Events may not be read.
    pub async fn trigger_failure(&self, name: &str, uid: &str) -> Result<Option<String>> {
        let path = format!("/api/v1/namespaces/{}/events", self.name);
        let what = format!("list the events of run {}/{name}", self.name);
        let request = Request::get(RouteClass::Events, path, what)
            .query(
                "fieldSelector",
                format!("involvedObject.kind=PipelineRun,involvedObject.name={name}"),
            )
            .query("limit", "500");
        match run::trigger_failure(&self.scope.exchange(request).await?.reply(), uid) {
            Err(error) if error.kind() == ErrorKind::Forbidden => Ok(None),
            result => result,
        }
    }
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
