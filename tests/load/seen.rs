//! What a watch saw of BuildRequests, and when: their ends beside the moments at which the remote told them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tenantry::api::{
    build_request::{BuildRequest, RunState},
    conditions::{ConditionType, find},
};
use tenantry_simulator::Ledger;

use super::now;

/// What was seen of one BuildRequest. It stays when the object is gone.
#[derive(Clone, Debug, Default)]
pub struct Build {
    /// Name of its PipelineRun.
    pub run: String,
    /// When its status first said that the run had ended.
    pub ended: Option<i64>,
    /// When `Succeeded` first was True or False: all is home.
    pub decided: Option<i64>,
    /// Whether it was True, with the whole log and, where there are any, the files.
    pub well: bool,
    /// When the object went.
    pub gone: Option<i64>,
    /// How often it was told, at most once per write.
    pub told: usize,
}

impl Build {
    fn take(&mut self, object: &BuildRequest) {
        self.told += 1;
        let Some(status) = &object.status else { return };
        let Some(run) = &status.run else { return };
        self.run = run.name.clone().unwrap_or_default();
        if run.state == RunState::Ended {
            self.ended.get_or_insert_with(now);
        }
        let is = |kind| find(&status.conditions, kind).map_or("", |c| c.status.as_str());
        let succeeded = is(ConditionType::Succeeded);
        if succeeded == "True" || succeeded == "False" {
            self.decided.get_or_insert_with(now);
            let log = status
                .log
                .as_ref()
                .is_some_and(|log| log.complete && !log.truncated);
            let files = object.spec.artifacts.is_none() || is(ConditionType::ArtifactsStored) == "True";
            self.well = succeeded == "True" && log && files && run.attempt == 1;
        }
    }
}

/// Everything that was seen; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Builds(Arc<Mutex<BTreeMap<String, Build>>>);

impl Builds {
    /// Watches until the runtime ends.
    pub fn watch(api: Api<BuildRequest>) -> Self {
        let builds = Self::default();
        let taken = builds.clone();
        tokio::spawn(async move {
            let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                        taken.lock().entry(object.name_any()).or_default().take(&object);
                    }
                    Ok(watcher::Event::Delete(object)) => {
                        taken.lock().entry(object.name_any()).or_default().gone = Some(now());
                    }
                    Ok(watcher::Event::Init | watcher::Event::InitDone) => {}
                    Err(error) => eprintln!("the driver's own watch: {error}"),
                }
            }
        });
        builds
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Build>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All of them by name.
    pub fn all(&self) -> BTreeMap<String, Build> {
        self.lock().clone()
    }

    /// How many are decided.
    pub fn decided(&self) -> usize {
        self.lock().values().filter(|b| b.decided.is_some()).count()
    }

    /// How many are there and not decided.
    pub fn open(&self) -> usize {
        let open = |b: &&Build| b.decided.is_none() && b.gone.is_none();
        self.lock().values().filter(open).count()
    }

    /// How many objects there are.
    pub fn here(&self) -> usize {
        self.lock().values().filter(|b| b.gone.is_none()).count()
    }
}

/// When each PipelineRun's status first told of a moment in its life (`run-started`, `run-ended`), by its name.
pub fn moments(ledger: &Ledger, what: &str) -> HashMap<String, i64> {
    let name = |subject: &str| {
        let (_, rest) = subject.split_once('/')?;
        rest.split(' ').next().map(str::to_owned)
    };
    let all = ledger.actions(what).into_iter();
    all.filter_map(|action| Some((name(&action.subject)?, action.at)))
        .collect()
}
