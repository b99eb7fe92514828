//! The simulated Jenkins: jobs, queue, builds, logs, artifacts, inputs, and its bad days.
//!
//! A build is a plan plus the few facts that cannot be planned (when it left the queue, when it was stopped or
//! answered); everything else is worked out from the time at which somebody looks. Nothing in here knows of HTTP,
//! PipelineRuns or tenants.

mod artifacts;
mod build;
pub(crate) mod declare;
mod job;
mod log;
mod outage;
mod plan;
pub(crate) mod render;

use std::collections::BTreeMap;

pub(crate) use artifacts::content as artifact_bytes;
pub(crate) use build::{Build, State, View};
pub(crate) use job::Job;
pub(crate) use log::{serve, stored, stored_of_stage};
pub use outage::{JenkinsFault, JenkinsOutage};
pub(crate) use outage::{Outages, Trouble};
pub(crate) use plan::Artifact;

use crate::clock::{Millis, Scale};
use crate::world::{Branch, PipelineKind};

/// Where Jenkins lives inside; shows up in error texts only.
pub(crate) const URL: &str = "http://127.0.0.1:18081";
/// `X-Jenkins`
pub(crate) const VERSION: &str = "2.479.3";

/// A buildable job.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobId {
    pub(crate) project: String,
    pub(crate) pipeline: String,
    /// Leaf name of a branch job: encoded.
    pub(crate) branch: Option<String>,
}

impl JobId {
    /// `demo/multi/main`
    pub(crate) fn full_name(&self) -> String {
        match &self.branch {
            Some(branch) => format!("{}/{}/{branch}", self.project, self.pipeline),
            None => format!("{}/{}", self.project, self.pipeline),
        }
    }

    /// `/job/demo/job/multi/job/main`
    pub(crate) fn path(&self) -> String {
        self.full_name()
            .split('/')
            .fold(String::new(), |path, part| path + "/job/" + part)
    }

    /// Blue Ocean's link to the job.
    pub(crate) fn blue_path(&self) -> String {
        let base = format!(
            "/blue/rest/organizations/jenkins/pipelines/{}/pipelines/{}",
            self.project, self.pipeline
        );
        match &self.branch {
            Some(branch) => format!("{base}/branches/{}", branch.replace('%', "%25")),
            None => base,
        }
    }

    /// The name Blue Ocean calls a run's pipeline by.
    pub(crate) fn leaf(&self) -> &str {
        self.branch.as_deref().unwrap_or(&self.pipeline)
    }
}

/// A pipeline as Jenkins sees it: one job, or a folder of branch jobs.
#[derive(Debug, Clone)]
pub(crate) struct JenkinsPipeline {
    pub(crate) kind: PipelineKind,
    pub(crate) branches: Vec<Branch>,
}

/// A build that just started, for the event plugin.
#[derive(Debug, Clone)]
pub(crate) struct Started {
    pub(crate) job: JobId,
    pub(crate) number: u64,
    pub(crate) at: Millis,
}

/// Jenkins.
#[derive(Debug)]
pub(crate) struct Jenkins {
    pub(crate) pipelines: BTreeMap<(String, String), JenkinsPipeline>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) outages: Outages,
    /// Events not yet delivered to ks-devops.
    pub(crate) started: Vec<Started>,
    pub(crate) scale: Scale,
    next_queue_id: u64,
}

impl Jenkins {
    pub(crate) fn new(scale: Scale) -> Self {
        Self {
            pipelines: BTreeMap::new(),
            jobs: BTreeMap::new(),
            outages: Outages::default(),
            started: Vec::new(),
            scale,
            next_queue_id: 100,
        }
    }

    /// Finds a job by the branch as it arrives in a Jenkins URL once decoded: the encoded name, or (the fallback of
    /// newer branch-api) the plain one.
    pub(crate) fn find(&self, project: &str, pipeline: &str, branch: Option<&str>) -> Option<JobId> {
        let id = |branch: Option<String>| JobId {
            project: project.into(),
            pipeline: pipeline.into(),
            branch,
        };
        match branch {
            None => Some(id(None)).filter(|id| self.jobs.contains_key(id)),
            Some(branch) => {
                // ks-devops pastes the segment into a URL that is decoded again; deeper encodings peel off.
                let mut name = branch.to_owned();
                loop {
                    let encoded = id(Some(name.clone()));
                    if self.jobs.contains_key(&encoded) {
                        return Some(encoded);
                    }
                    let plain = id(Some(crate::query::branch_job(&name)));
                    if self.jobs.contains_key(&plain) {
                        return Some(plain);
                    }
                    let decoded = crate::query::decode(&name);
                    if decoded == name {
                        return None;
                    }
                    name = decoded;
                }
            }
        }
    }

    /// Lets queued builds start whose time has come.
    pub(crate) fn advance(&mut self, now: Millis) {
        for (id, job) in &mut self.jobs {
            for (number, at) in job.advance(now) {
                self.started.push(Started {
                    job: id.clone(),
                    number,
                    at,
                });
            }
        }
    }

    /// When something will happen by itself next.
    pub(crate) fn next_due(&self, now: Millis) -> Option<Millis> {
        self.jobs.values().filter_map(|job| job.next_due(now)).min()
    }

    pub(crate) fn queue_id(&mut self) -> u64 {
        self.next_queue_id += 1;
        self.next_queue_id
    }

    /// Removes a pipeline with all its jobs.
    pub(crate) fn remove_pipeline(&mut self, project: &str, pipeline: &str) {
        self.pipelines.remove(&(project.to_owned(), pipeline.to_owned()));
        self.jobs
            .retain(|id, _| id.project != project || id.pipeline != pipeline);
    }
}

#[cfg(test)]
mod tests;
