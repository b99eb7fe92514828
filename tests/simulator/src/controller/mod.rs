//! The ks-devops controller of one cluster: turns PipelineRuns into Jenkins builds and tells their state, with all
//! the habits of the real one (contract §6.2). Also the Jenkins event hook that makes PipelineRuns of its own.
//!
//! It is driven by [`step`], which does everything that is due and says when something will be due again.

pub(crate) mod events;
mod hook;
pub(crate) mod pipelines;
mod poll;
mod runs;

use std::collections::BTreeMap;

use crate::clock::Millis;
use crate::jenkins::{JobId, Started};
use crate::state::{Cluster, Context};
use crate::store::{APPLICATIONS, PIPELINES, PROJECTS, RUNS, Touched};

pub(crate) use hook::{make_run, new_run};
pub(crate) use runs::{CREATOR_KEY, KEEP_RECORD, PIPELINE_LABEL, RUN_ID, STAGES_KEY, STATUS_KEY, enqueue};

/// Namespace and name.
pub(crate) type Key = (String, String);

/// Work on one run.
#[derive(Debug, Default, Clone)]
struct Work {
    due: Millis,
    /// A status that was read from Jenkins and is not written yet.
    status: Option<serde_json::Value>,
    /// When to poll again after that write.
    then: Option<Millis>,
}

/// A trigger that Jenkins will carry out although the caller has given up on it.
#[derive(Debug, Clone)]
struct LateTrigger {
    due: Millis,
    job: JobId,
    parameters: Vec<(String, String)>,
}

/// State of the controller.
#[derive(Debug, Default)]
pub(crate) struct Controller {
    /// Stopped on purpose.
    pub(crate) down: bool,
    /// Jenkins events are not delivered.
    pub(crate) hook_down: bool,
    /// Every event makes a PipelineRun, even if there is one already (contract §8.4).
    pub(crate) hook_twins: bool,
    work: BTreeMap<Key, Work>,
    failures: BTreeMap<Key, u32>,
    late: Vec<LateTrigger>,
    hooks: Vec<(Millis, Started)>,
    /// The one worker waits for Jenkins until then.
    busy_until: Millis,
    refreshed: Millis,
    pipelines_due: Option<Millis>,
    projects_due: Option<Millis>,
}

/// Does everything that is due in this cluster; returns when to come back.
pub(crate) fn step(cluster: &mut Cluster, context: &Context, now: Millis) -> Option<Millis> {
    run_late_triggers(cluster, context, now);
    cluster.jenkins.advance(now);
    hook::collect(cluster, context);
    hook::deliver(cluster, now);
    let latency = context.scale.ms(context.timings.controller_latency);
    for touched in cluster.store.take_touched() {
        let controller = &mut cluster.controller;
        if touched.kind == &RUNS {
            let work = controller
                .work
                .entry((touched.namespace, touched.name))
                .or_default();
            // A change of any kind wakes the controller; what it waits for by itself comes no later for that.
            if work.due == 0 || work.due > now + latency {
                work.due = now + latency;
            }
        } else {
            wake(cluster, touched, now + latency);
        }
    }
    let mut due = vec![cluster.jenkins.next_due(now)];
    due.extend(cluster.controller.late.iter().map(|l| Some(l.due)));
    due.extend(cluster.controller.hooks.iter().map(|(at, _)| Some(*at)));
    let running = |cluster: &Cluster| !cluster.controller.down && !pipelines::crashed(cluster);
    if running(cluster) {
        due.push(act(cluster, context, now));
    }
    due.push(crate::gitops::controller::step(
        cluster,
        context,
        !running(cluster),
        now,
    ));
    if cluster.store.was_touched() {
        due.push(Some(now + latency));
    }
    due.into_iter().flatten().min()
}

fn act(cluster: &mut Cluster, context: &Context, now: Millis) -> Option<Millis> {
    if cluster.controller.projects_due.is_some_and(|at| at <= now) {
        cluster.controller.projects_due = None;
        pipelines::sync_projects(cluster);
    }
    let refresh = context.scale.ms(context.timings.metadata_refresh);
    let refresh_due = cluster.controller.refreshed + refresh <= now;
    if refresh_due || cluster.controller.pipelines_due.is_some_and(|at| at <= now) {
        cluster.controller.pipelines_due = None;
        if refresh_due {
            cluster.controller.refreshed = now;
        }
        pipelines::sync_all(cluster, now);
        pipelines::finalize(cluster);
    }
    // The controller's own writes wake it again; they come back through `touched` at the next step.
    loop {
        if cluster.controller.busy_until > now {
            break;
        }
        let next = cluster
            .controller
            .work
            .iter()
            .filter(|(_, w)| w.due <= now)
            .map(|(k, _)| k.clone())
            .next();
        let Some(key) = next else { break };
        let work = cluster.controller.work.remove(&key).unwrap_or_default();
        if let Some(again) = runs::reconcile(cluster, context, &key, work, now) {
            cluster.controller.work.insert(key, again);
        } else {
            cluster.controller.failures.remove(&key);
        }
        swallow_own_changes(cluster, context, now);
    }
    let controller = &cluster.controller;
    let busy = controller.busy_until;
    [
        controller.work.values().map(|w| w.due.max(busy)).min(),
        controller.pipelines_due,
        controller.projects_due,
    ]
    .into_iter()
    .flatten()
    .chain([controller.refreshed + refresh])
    .min()
}

/// A run's own status write wakes the controller in the real system as well, which then polls twice in a row (finding
/// F-J). The second poll sees the same; leaving it out saves work and changes nothing that can be seen.
fn swallow_own_changes(cluster: &mut Cluster, context: &Context, now: Millis) {
    let latency = context.scale.ms(context.timings.controller_latency);
    for touched in cluster.store.take_touched() {
        let controller = &mut cluster.controller;
        if touched.kind == &RUNS {
            let key = (touched.namespace, touched.name);
            let deleting = cluster
                .store
                .get(&RUNS, &key.0, &key.1)
                .is_some_and(|o| o.pointer("/metadata/deletionTimestamp").is_some());
            if deleting {
                controller.work.entry(key).or_default().due = now + latency;
            }
        } else {
            wake(cluster, touched, now + latency);
        }
    }
}

/// Plans the work that a change of anything but a run gives.
fn wake(cluster: &mut Cluster, touched: Touched, due: Millis) {
    let controller = &mut cluster.controller;
    if touched.kind == &PIPELINES {
        controller.pipelines_due.get_or_insert(due);
    } else if touched.kind == &PROJECTS {
        controller.projects_due.get_or_insert(due);
    } else if touched.kind == &APPLICATIONS {
        cluster.gitops.touch((touched.namespace, touched.name), due);
    }
}

fn run_late_triggers(cluster: &mut Cluster, context: &Context, now: Millis) {
    let (due, rest): (Vec<_>, Vec<_>) = cluster.controller.late.drain(..).partition(|l| l.due <= now);
    cluster.controller.late = rest;
    for late in due {
        runs::enqueue(
            cluster,
            context,
            &late.job,
            late.parameters,
            ("controller", "Started by user admin"),
            now,
        );
    }
}

impl Controller {
    /// A restart: what was planned is forgotten, everything is looked at anew and back-offs begin from the start.
    pub(crate) fn restart(&mut self, keys: impl Iterator<Item = Key>, now: Millis) {
        self.failures.clear();
        self.busy_until = 0;
        for key in keys {
            let work = self.work.entry(key).or_default();
            *work = Work {
                due: now,
                ..Work::default()
            };
        }
    }
}
