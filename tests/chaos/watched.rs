//! What a watch saw of the BuildRequests: how each stands, and whether an ending was ever taken back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tenantry::api::{
    build_request::{BuildRequest, RunState},
    conditions::{ConditionType, find},
};

/// What was seen so far; cheap to clone.
#[derive(Clone, Default)]
pub struct Watched(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    objects: BTreeMap<String, BuildRequest>,
    /// Endings that were changed, as sentences.
    taken_back: Vec<String>,
}

/// How an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Something is on its way.
    Busy,
    /// Nothing is left to do, and `Ready` or `Stalled` says so about this very spec.
    Settled,
}

impl Watched {
    /// Watches until the test's runtime ends.
    pub fn start(api: Api<BuildRequest>) -> Self {
        let watched = Self::default();
        let inner = watched.clone();
        tokio::spawn(async move {
            let events = watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects();
            let seen = events.inspect_err(|error| eprintln!("the suite's own watch: {error}"));
            seen.for_each(|object| {
                if let Ok(object) = object {
                    inner.lock().take(object);
                }
                std::future::ready(())
            })
            .await;
        });
        watched
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The objects as they were last seen.
    pub fn objects(&self) -> BTreeMap<String, BuildRequest> {
        self.lock().objects.clone()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<BuildRequest> {
        self.lock().objects.get(name).cloned()
    }

    /// Endings that were changed although nobody asked for another run.
    pub fn taken_back(&self) -> Vec<String> {
        self.lock().taken_back.clone()
    }

    /// How many stand so.
    pub fn count(&self, standing: Standing) -> usize {
        let inner = self.lock();
        inner
            .objects
            .values()
            .filter(|o| standing_of(o) == standing)
            .count()
    }
}

impl Inner {
    fn take(&mut self, object: BuildRequest) {
        let name = object.name_any();
        if let Some(change) = self
            .objects
            .get(&name)
            .and_then(|before| changed_end(before, &object))
        {
            self.taken_back.push(format!("{name}: {change}"));
        }
        self.objects.insert(name, object);
    }
}

/// What was wrongly changed about a run that had ended (design §3.3).
pub fn changed_end(before: &BuildRequest, after: &BuildRequest) -> Option<String> {
    if before.metadata.uid != after.metadata.uid {
        return None;
    }
    let run = |o: &BuildRequest| o.status.as_ref().and_then(|s| s.run.clone());
    let ended = run(before).filter(|run| run.state == RunState::Ended)?;
    let Some(now) = run(after) else {
        return Some("the run that ended is no longer in the status".into());
    };
    let told = |outcome, id: &Option<String>, at: &Option<_>| format!("{outcome:?} #{id:?} at {at:?}");
    if now.token == ended.token {
        let (was, is) = (
            told(ended.outcome, &ended.id, &ended.ended_at),
            told(now.outcome, &now.id, &now.ended_at),
        );
        return (now.state != RunState::Ended || was != is)
            .then(|| format!("it had ended as {was}, now it is {:?} {is}", now.state));
    }
    let history = after
        .status
        .as_ref()
        .map(|s| s.history.as_slice())
        .unwrap_or_default();
    let kept = history
        .iter()
        .any(|past| past.token == ended.token && past.outcome == ended.outcome);
    (!kept).then(|| {
        format!(
            "the ending {:?} of run {} is not in the history",
            ended.outcome, ended.token
        )
    })
}

/// How an object stands, by kstatus' rules.
pub fn standing_of(object: &BuildRequest) -> Standing {
    let Some(status) = &object.status else {
        return Standing::Busy;
    };
    let is = |kind| find(&status.conditions, kind).is_some_and(|c| c.status == "True");
    let speaks_of_it = status.observed_generation == object.metadata.generation;
    if speaks_of_it
        && !is(ConditionType::Reconciling)
        && (is(ConditionType::Ready) || is(ConditionType::Stalled))
    {
        Standing::Settled
    } else {
        Standing::Busy
    }
}
