//! Changing a running simulator: faults, outages, edits of the world, things that happen by themselves in a real
//! installation. Everything here can also be done over HTTP (`/_sim/…`), see [`http`].

mod argo;
pub(crate) mod http;
mod world;

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::Value;

use crate::clock;
use crate::controller;
use crate::faults::Fault;
use crate::jenkins::{JenkinsOutage, JobId, Started};
use crate::query::branch_job;
use crate::random_faults::{FaultKind, RandomFaults};
use crate::server::Shared;
use crate::state::{Cluster, ClusterHealth, State};
use crate::store::{CONFIG_MAPS, RUNS, label, name};

/// Why a control could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlError(pub String);

impl std::fmt::Display for ControlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ControlError {}

/// What a build looks like from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuildSummary {
    /// Number.
    pub number: u64,
    /// Branch job, encoded.
    pub branch: Option<String>,
    /// QUEUED, RUNNING, PAUSED or FINISHED.
    pub state: String,
    /// SUCCESS, FAILURE, …, UNKNOWN.
    pub result: String,
    /// Parameters with defaults.
    pub parameters: Vec<(String, String)>,
}

/// Changes a running simulator. Cheap to clone; works from any thread or runtime.
#[derive(Debug, Clone)]
pub struct Control {
    shared: Arc<Shared>,
    cluster: String,
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            cluster: "host".into(),
        }
    }

    /// The same for another cluster; everything about projects, pipelines and Jenkins then happens there.
    #[must_use]
    pub fn on(&self, cluster: &str) -> Self {
        Self {
            shared: self.shared.clone(),
            cluster: cluster.into(),
        }
    }

    fn state<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let result = act(&mut self.shared.state());
        self.shared.wake.notify_one();
        result
    }

    fn here<T>(&self, act: impl FnOnce(&mut Cluster) -> Result<T, ControlError>) -> Result<T, ControlError> {
        self.state(|state| {
            let cluster = state
                .cluster(&self.cluster)
                .ok_or_else(|| ControlError(format!("there is no cluster {}", self.cluster)))?;
            cluster.jenkins.advance(clock::now());
            act(cluster)
        })
    }

    /// Adds a fault; returns its number.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.state(|state| state.faults.add(fault))
    }

    /// Takes a fault back.
    pub fn remove_fault(&self, id: u64) -> bool {
        self.state(|state| state.faults.remove(id))
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.state(|state| state.faults.clear());
    }

    /// The faults in force.
    pub fn faults(&self) -> Vec<(u64, Fault)> {
        self.state(|state| state.faults.list())
    }

    /// Lets requests meet faults at random from now on; `None` ends it.
    pub fn random_faults(&self, faults: Option<RandomFaults>) {
        self.state(|state| state.dice.set(faults));
    }

    /// How many faults of which sort were drawn at random so far.
    pub fn random_faults_served(&self) -> BTreeMap<FaultKind, u64> {
        self.state(|state| state.dice.served())
    }

    /// Gives Jenkins a bad day.
    pub fn jenkins_outage(&self, outage: JenkinsOutage) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.jenkins.outages.add(outage);
            Ok(())
        })
    }

    /// Ends all bad days of Jenkins.
    pub fn jenkins_up(&self) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.jenkins.outages.lift();
            Ok(())
        })
    }

    /// Stops or starts the ks-devops controller. A start looks at everything anew.
    pub fn controller(&self, running: bool) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.controller.down = !running;
            if running {
                let keys: Vec<_> = cluster
                    .store
                    .list(&RUNS, None)
                    .map(|r| (crate::store::namespace(r).to_owned(), name(r).to_owned()))
                    .collect();
                cluster.controller.restart(keys.into_iter(), clock::now());
            }
            Ok(())
        })
    }

    /// Whether Jenkins' events reach ks-devops, and whether each of them makes a PipelineRun even if there is one.
    pub fn jenkins_events(&self, delivered: bool, twins: bool) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.controller.hook_down = !delivered;
            cluster.controller.hook_twins = twins;
            Ok(())
        })
    }

    /// ks-devops' API server down (502) or up.
    pub fn devops_apiserver(&self, up: bool) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.devops_down = !up;
            Ok(())
        })
    }

    /// The DevOps extension Available or not (503).
    pub fn extension(&self, available: bool) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.extension_unavailable = !available;
            Ok(())
        })
    }

    /// How the cluster answers through `/clusters/{name}`. The host is always healthy.
    pub fn cluster_health(&self, health: ClusterHealth) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.health = health;
            Ok(())
        })
    }

    /// Forgets the change log: every open or later watch from before is answered 410.
    pub fn compact(&self) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster.store.compact();
            Ok(())
        })
    }

    /// The suffixes of the next generated names, so that a replay meets recorded names.
    pub fn next_suffixes(&self, suffixes: &[&str]) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster
                .store
                .suffixes
                .extend(suffixes.iter().map(|&s| s.to_owned()));
            Ok(())
        })
    }

    fn job(
        cluster: &Cluster,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
    ) -> Result<JobId, ControlError> {
        cluster
            .jenkins
            .find(project, pipeline, branch.map(branch_job).as_deref())
            .ok_or_else(|| {
                let branch = branch.map(|b| format!(" branch {b}")).unwrap_or_default();
                ControlError(format!("Jenkins has no job {project}/{pipeline}{branch}"))
            })
    }

    /// All builds Jenkins still has of a pipeline, in all its branches.
    pub fn builds(&self, project: &str, pipeline: &str) -> Result<Vec<BuildSummary>, ControlError> {
        let now = clock::now();
        self.here(|cluster| {
            let jobs = cluster.jenkins.jobs.iter();
            Ok(jobs
                .filter(|(id, _)| id.project == project && id.pipeline == pipeline)
                .flat_map(|(id, job)| job.builds.values().map(move |b| (id, b)))
                .map(|(id, build)| {
                    let view = build.view(now);
                    BuildSummary {
                        number: build.number,
                        branch: id.branch.clone(),
                        state: view.state.name().into(),
                        result: view.result,
                        parameters: build.parameters.clone(),
                    }
                })
                .collect())
        })
    }

    /// Ends a build now with this result (`SUCCESS`, `FAILURE`, `ABORTED`, …). A queued one starts and ends.
    pub fn finish_build(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        number: u64,
        result: &str,
    ) -> Result<(), ControlError> {
        let now = clock::now();
        self.here(|cluster| {
            let id = Self::job(cluster, project, pipeline, branch)?;
            let build = cluster
                .jenkins
                .jobs
                .get_mut(&id)
                .and_then(|j| j.builds.get_mut(&number));
            let build = build.ok_or_else(|| no_build(&id, number))?;
            build.started_at.get_or_insert(now);
            if build.end(now).is_none() {
                build.forced_end = Some((now, result.to_owned()));
            }
            Ok(())
        })
    }

    /// Makes Jenkins forget a build, as its own discarder or an administrator would.
    pub fn vanish_build(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        number: u64,
    ) -> Result<(), ControlError> {
        self.here(|cluster| {
            let id = Self::job(cluster, project, pipeline, branch)?;
            let job = cluster.jenkins.jobs.get_mut(&id);
            job.and_then(|j| j.builds.remove(&number))
                .map(|_| ())
                .ok_or_else(|| no_build(&id, number))
        })
    }

    /// Answers the input a build waits at.
    pub fn answer_input(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        number: u64,
        proceed: bool,
    ) -> Result<(), ControlError> {
        let now = clock::now();
        self.here(|cluster| {
            let id = Self::job(cluster, project, pipeline, branch)?;
            if cluster.answer_input(&id, number, !proceed, now) {
                Ok(())
            } else {
                Err(no_build(&id, number))
            }
        })
    }

    /// The number of the next build of a job, so that a replay meets recorded run ids.
    pub fn set_next_build_number(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        number: u64,
    ) -> Result<(), ControlError> {
        self.here(|cluster| {
            let id = Self::job(cluster, project, pipeline, branch)?;
            let Some(job) = cluster.jenkins.jobs.get_mut(&id) else {
                return Err(no_build(&id, number));
            };
            if let Some(last) = job.builds.keys().next_back().filter(|last| **last >= number) {
                let name = id.full_name();
                return Err(ControlError(format!(
                    "{name} has a build {last} already: choose a higher number"
                )));
            }
            job.next_number = number;
            Ok(())
        })
    }

    /// The number that the next build of a job gets.
    pub fn next_build_number(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
    ) -> Result<u64, ControlError> {
        self.here(|cluster| {
            let id = Self::job(cluster, project, pipeline, branch)?;
            Ok(cluster.jenkins.jobs[&id].next_number)
        })
    }

    /// Starts a build in Jenkins itself, as a cron trigger or an administrator would. Returns its number.
    pub fn start_build(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        parameters: &[(&str, &str)],
    ) -> Result<u64, ControlError> {
        let now = clock::now();
        let sent: Vec<(String, String)> = parameters
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        self.state(|state| {
            let context = state.context.clone();
            let cluster = state
                .cluster(&self.cluster)
                .ok_or_else(|| ControlError(format!("there is no cluster {}", self.cluster)))?;
            let id = Self::job(cluster, project, pipeline, branch)?;
            let all = cluster.jenkins.jobs[&id]
                .complete(Some(&sent))
                .map_err(|e| ControlError(e.message))?;
            let cause = ("control", "Started by timer");
            Ok(controller::enqueue(cluster, &context, &id, all, cause, now))
        })
    }

    /// A build that ended just now with this result after running for so many seconds. Returns its number.
    pub fn past_build(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        parameters: &[(&str, &str)],
        seconds: f64,
        result: &str,
    ) -> Result<u64, ControlError> {
        let number = self.start_build(project, pipeline, branch, parameters)?;
        self.finish_build(project, pipeline, branch, number, result)?;
        self.here(|cluster| {
            let took = cluster.jenkins.scale.seconds(seconds);
            let id = Self::job(cluster, project, pipeline, branch)?;
            let job = cluster.jenkins.jobs.get_mut(&id);
            let build = job.and_then(|j| j.builds.get_mut(&number));
            let build = build.ok_or_else(|| no_build(&id, number))?;
            build.queued_at -= took;
            build.started_at = build.started_at.map(|at| at - took);
            Ok(number)
        })
    }

    /// Makes a PipelineRun for a build, like the Jenkins event does: a stranger or a twin. Returns its name.
    pub fn make_run(
        &self,
        project: &str,
        pipeline: &str,
        branch: Option<&str>,
        number: u64,
    ) -> Result<String, ControlError> {
        let at = clock::now();
        self.here(|cluster| {
            let job = Self::job(cluster, project, pipeline, branch)?;
            let started = Started {
                job: job.clone(),
                number,
                at,
            };
            let run = controller::make_run(cluster, &started).ok_or_else(|| no_build(&job, number))?;
            Ok(name(&run).to_owned())
        })
    }

    /// A stored object as it is now, by plural (`pipelineruns`, `pipelines`, `configmaps`, `events`, …).
    pub fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        self.here(|cluster| {
            let kind = crate::store::KINDS
                .into_iter()
                .find(|k| k.plural == plural)
                .ok_or_else(|| ControlError(format!("unknown kind {plural}")))?;
            Ok(cluster.store.get(kind, namespace, name).cloned())
        })
        .ok()
        .flatten()
    }

    /// Changes when an object was created, so that a replay gets its lists in recorded order.
    pub fn set_creation_time(
        &self,
        plural: &str,
        namespace: &str,
        name: &str,
        time: &str,
    ) -> Result<(), ControlError> {
        self.here(|cluster| {
            let kind = crate::store::KINDS.into_iter().find(|k| k.plural == plural);
            let kind = kind.ok_or_else(|| ControlError(format!("unknown kind {plural}")))?;
            if cluster.store.backdate(kind, namespace, name, time) {
                Ok(())
            } else {
                Err(ControlError(format!("there is no {plural} {namespace}/{name}")))
            }
        })
    }

    /// The PipelineRuns of a project.
    pub fn runs(&self, project: &str) -> Vec<Value> {
        self.here(|cluster| Ok(cluster.store.list(&RUNS, Some(project)).cloned().collect()))
            .unwrap_or_default()
    }

    /// Removes a run object at once, finalizer or not; its build stays in Jenkins.
    pub fn drop_run(&self, project: &str, run: &str) -> Result<(), ControlError> {
        self.here(|cluster| {
            let gone = cluster.edit(&RUNS, project, run, crate::store::Writer::main("gc"), |o| {
                o["metadata"]["finalizers"] = Value::from(Vec::<Value>::new());
            });
            gone.ok_or_else(|| ControlError(format!("there is no run {project}/{run}")))?;
            cluster
                .store
                .delete(&RUNS, project, run, clock::now())
                .map(|_| ())
                .map_err(|e| ControlError(e.message))
        })
    }

    /// The GC cron job (contract §6.3): deletes finished runs of a pipeline but the newest `keep`, builds included.
    /// Returns the names.
    pub fn gc_runs(&self, project: &str, pipeline: &str, keep: usize) -> Result<Vec<String>, ControlError> {
        self.here(|cluster| {
            let mut runs: Vec<Value> = cluster
                .store
                .list(&RUNS, Some(project))
                .filter(|r| label(r, controller::PIPELINE_LABEL) == Some(pipeline))
                .filter(|r| r.pointer("/status/completionTime").is_some())
                .cloned()
                .collect();
            runs.sort_by_key(|r| std::cmp::Reverse(r["metadata"]["creationTimestamp"].to_string()));
            let old: Vec<String> = runs.iter().skip(keep).map(|r| name(r).to_owned()).collect();
            for run in &old {
                let _ = cluster.store.delete(&RUNS, project, run, clock::now());
            }
            Ok(old)
        })
    }

    /// Removes the ConfigMap with a run's status and stages.
    pub fn drop_run_data(&self, project: &str, run: &str) -> Result<(), ControlError> {
        self.here(|cluster| {
            cluster
                .store
                .delete(&CONFIG_MAPS, project, run, clock::now())
                .map(|_| ())
                .map_err(|e| ControlError(e.message))
        })
    }
}

fn no_build(id: &JobId, number: u64) -> ControlError {
    ControlError(format!("{} has no build {number}", id.full_name()))
}
