//! The made-up world of the model: an API server's objects, the remote, faults, a clock, and the operator's memory, which
//! ends with each life of its process.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use super::{
    super::{
        begun::Begun,
        cycle,
        decide::Wake,
        inputs,
        turns::{self, Turns},
    },
    breaks::Break,
    checks,
    edges::{Hands, given},
    faults::{Aim, Connection, Fault, Kill},
    ops::{Op, Setup},
    remote::Remote,
};
use crate::{
    api::build_request::{BuildRequest, CurrentRun, RunState},
    controllers::Tunables,
    runtime::ObjectKey,
};

/// More looks at one moment than this are a busy loop.
const BUSY: usize = 200;

/// The world without the operator's memory.
pub struct Inner {
    pub setup: Setup,
    pub now: Timestamp,
    pub objects: BTreeMap<String, BuildRequest>,
    version: u64,
    pub remote: Remote,
    pub connection: Connection,
    pub faults: VecDeque<(Fault, Aim)>,
    pub kill: Option<Kill>,
    /// A user's act in the middle of a reconcile: at the so manieth write or call from now.
    pub meanwhile: Option<(usize, Op)>,
    /// When the operator wants to look at what.
    due: BTreeMap<String, Timestamp>,
    failures: BTreeMap<String, u32>,
    /// The process knows that it may not choose names.
    pub knows_refusal: bool,
    /// Calls to the remote so far.
    pub calls: usize,
    /// Reconciles so far.
    pub looks: usize,
    /// Processes that ended so far.
    pub kills: usize,
    /// Since when this process has been there.
    pub alive: Timestamp,
    /// Since when it has been cleaning up, by uid.
    pub cleaning: BTreeMap<String, Timestamp>,
    pub checks: checks::Checks,
}

/// What the operator remembers; it ends with the process.
#[derive(Clone, Default)]
pub struct Memory {
    pub turns: Arc<Turns>,
    pub begun: Arc<Begun>,
}

/// The world.
pub struct World {
    inner: Mutex<Inner>,
    memory: Mutex<Memory>,
    pub tunables: Tunables,
    /// The rule that the operator breaks on purpose in this world.
    pub broken: Option<Break>,
}

impl World {
    pub fn new(setup: Setup, broken: Option<Break>) -> Self {
        let now = Timestamp::from_second(1_800_000_000).expect("a time");
        Self {
            inner: Mutex::new(Inner {
                setup,
                now,
                objects: BTreeMap::new(),
                version: 0,
                remote: Remote::new(now),
                connection: Connection::Good,
                faults: VecDeque::new(),
                kill: None,
                meanwhile: None,
                due: BTreeMap::new(),
                failures: BTreeMap::new(),
                knows_refusal: false,
                calls: 0,
                looks: 0,
                kills: 0,
                alive: now,
                cleaning: BTreeMap::new(),
                checks: checks::Checks::default(),
            }),
            memory: Mutex::default(),
            tunables: Tunables::default(),
            broken,
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this rule is broken here.
    pub fn breaks(&self, rule: Break) -> bool {
        self.broken == Some(rule)
    }

    pub fn memory(&self) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A place in the code where the world may act: the process may be killed here, a user may come in between.
    pub async fn point(&self, after: bool) {
        let act = {
            let mut inner = self.lock();
            match &mut inner.meanwhile {
                Some((0, _)) => inner.meanwhile.take().map(|(_, op)| op),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            }
        };
        if let Some(op) = act {
            op.apply(self);
        }
        let killed = match &mut self.lock().kill {
            Some(kill) if kill.after == after => match kill.at.checked_sub(1) {
                Some(left) => {
                    kill.at = left;
                    false
                }
                None => true,
            },
            _ => false,
        };
        if killed {
            // The reconcile never goes on: whoever polls it sees that and starts another process.
            pending::<()>().await;
        }
    }

    /// The process ends, and a while later another begins: its memory is read from the statuses, and it looks at
    /// everything.
    pub fn restart(&self, away: i64) {
        let memory = Memory::default();
        let remembers = !self.breaks(Break::TurnsAreForgotten);
        let mut inner = self.lock();
        inner.kill = None;
        let until = inner.now + SignedDuration::from_secs(away);
        // The remote does not stand still meanwhile.
        while inner.now < until {
            let now = if inner.remote.is_idle() {
                until
            } else {
                until.min(inner.now + SignedDuration::from_secs(5))
            };
            inner.now = now;
            inner.remote.advance(now);
        }
        let now = inner.now;
        inner.kills += 1;
        inner.alive = now;
        inner.cleaning.clear();
        inner.knows_refusal = false;
        inner.failures.clear();
        inner.due.clear();
        for (name, object) in &inner.objects.clone() {
            let run = turns::contender(object, now).filter(|_| remembers);
            let _ = memory
                .turns
                .note(&ObjectKey::of(object), &super::super::connection_of(object), run);
            inner.due.insert(name.clone(), now);
        }
        drop(inner);
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
    }

    /// Lets the operator work off what is due now.
    pub fn work(&self) {
        for _ in 0..BUSY {
            let next = {
                let inner = self.lock();
                let now = inner.now;
                inner
                    .due
                    .iter()
                    .filter(|(_, at)| **at <= now)
                    .min_by_key(|(_, at)| **at)
                    .map(|(name, _)| name.clone())
            };
            let Some(name) = next else { return };
            self.reconcile(&name);
        }
        let mut inner = self.lock();
        let due = format!("{:?}", inner.due);
        inner.checks.violate("§3.5 no busy loop", &due);
    }

    fn reconcile(&self, name: &str) {
        let object = {
            let mut inner = self.lock();
            inner.due.remove(name);
            inner.objects.get(name).cloned()
        };
        let Some(object) = object else {
            self.gone(&ObjectKey::new("team", name));
            return;
        };
        let object = Arc::new(object);
        let hands = Hands { world: self };
        let calls = self.lock().calls;
        self.lock().looks += 1;
        let rested = checks::is_at_rest(&object, self.lock().now);
        let done = if object.metadata.deletion_timestamp.is_some() {
            hands
                .clean_up(&object)
                .map(|wake| wake.map(|wait| wait.map_or(Wake::OnChange, Wake::After)))
                .now_or_never()
        } else {
            async {
                let object = hands.finalizer(object.clone()).await.ok_or(())?;
                cycle::run(|| Hands { world: self }, object)
                    .await
                    .map(|(_, wake)| wake)
            }
            .now_or_never()
        };
        let Some(done) = done else {
            let away = self.lock().kill.map_or(0, |kill| kill.away);
            self.restart(away.into());
            return;
        };
        let mut inner = self.lock();
        if rested && inner.calls != calls {
            inner
                .checks
                .violate("§3.3 a finished object costs no remote call", name);
        }
        let failures = inner.failures.entry(name.to_owned()).or_default();
        let again = match done {
            Ok(Wake::Now) => Some(Duration::ZERO),
            Ok(Wake::After(pause)) => {
                *failures = 0;
                Some(pause)
            }
            Ok(Wake::Settled(until)) => {
                *failures = 0;
                until.map(|until| Duration::try_from(until.duration_since(inner.now)).unwrap_or_default())
            }
            Ok(Wake::OnChange) => {
                *failures = 0;
                None
            }
            Ok(Wake::Backoff) | Err(()) => {
                *failures += 1;
                Some(
                    Duration::from_millis(500)
                        .saturating_mul(1 << (*failures).min(11))
                        .min(Duration::from_secs(600)),
                )
            }
        };
        let now = inner.now;
        let waits = again.is_some() || inner.due.contains_key(name);
        if let Some(object) = inner.objects.get(name).cloned() {
            inner.checks.after_reconcile(&object, waits);
        }
        if let Some(pause) = again {
            let at = now + SignedDuration::try_from(pause).unwrap_or_default();
            let due = inner.due.entry(name.to_owned()).or_insert(at);
            *due = (*due).min(at);
        }
    }

    /// An object is gone.
    pub fn gone(&self, key: &ObjectKey) {
        let memory = self.memory();
        memory.begun.forget(key);
        self.ring(memory.turns.forget(key));
    }

    pub fn ring(&self, keys: Vec<ObjectKey>) {
        let mut inner = self.lock();
        let now = inner.now;
        for key in keys {
            inner.due.insert(key.name, now);
        }
    }

    /// Lets `duration` pass, looking at everything when it is due.
    pub fn pass(&self, duration: Duration) {
        let end = self.lock().now + SignedDuration::try_from(duration).unwrap_or_default();
        self.work();
        loop {
            let next = {
                let inner = self.lock();
                // The remote moves on by itself, in steps of its own, as long as it has something to do.
                let step = if inner.remote.is_idle() { 3_600 } else { 5 };
                let step = inner.now + SignedDuration::from_secs(step);
                inner
                    .due
                    .values()
                    .min()
                    .copied()
                    .map_or(step, |due| due.min(step))
                    .min(end)
            };
            {
                let mut inner = self.lock();
                inner.now = next.max(inner.now);
                let now = inner.now;
                inner.remote.advance(now);
            }
            self.work();
            let mut inner = self.lock();
            let Inner {
                checks,
                objects,
                remote,
                setup,
                ..
            } = &mut *inner;
            checks.look(*setup, objects, remote);
            if inner.now >= end {
                return;
            }
        }
    }

    /// All obstacles away, and a long time.
    pub fn heal(&self) {
        {
            let mut inner = self.lock();
            inner.faults.clear();
            inner.kill = None;
            inner.meanwhile = None;
            inner.connection = Connection::Good;
            inner.remote.heal();
        }
        self.wake_all();
        self.pass(Duration::from_secs(4 * 3_600));
    }

    /// The connection or its Secret changed: whoever refers to it is looked at.
    pub fn wake_all(&self) {
        let mut inner = self.lock();
        let now = inner.now;
        let names: Vec<_> = inner.objects.keys().cloned().collect();
        for name in names {
            inner.due.insert(name.clone(), now);
            inner.failures.remove(&name);
        }
    }
}

impl Inner {
    /// A new resourceVersion.
    pub fn stamp(&mut self, object: &mut BuildRequest) {
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
    }

    /// What the API server does with a write of the user: a new version, and the operator sees it.
    pub fn user_write(&mut self, name: &str, edit: impl FnOnce(&mut BuildRequest)) {
        let Some(mut object) = self.objects.get(name).cloned() else {
            return;
        };
        let before = object.spec.clone();
        edit(&mut object);
        if object.spec != before {
            object.metadata.generation = Some(object.metadata.generation.unwrap_or(1) + 1);
        }
        self.stamp(&mut object);
        self.checks.wanted(&object);
        self.objects.insert(name.to_owned(), object);
        let now = self.now;
        self.due.insert(name.to_owned(), now);
        self.failures.remove(name);
    }

    /// A new object.
    pub fn create(&mut self, name: &str, mut object: BuildRequest) {
        if self.objects.contains_key(name) {
            return;
        }
        self.stamp(&mut object);
        object.metadata.uid = Some(format!("uid-of-{name}-{}", self.version));
        self.checks.wanted(&object);
        self.objects.insert(name.to_owned(), object);
        let now = self.now;
        self.due.insert(name.to_owned(), now);
    }

    /// Somebody else takes the name of its next run, or of the one that is about to be sent.
    pub fn squat(&mut self, name: &str) {
        if let Some(object) = self.objects.get(name) {
            let pipeline = object.spec.pipeline.clone();
            let run = object.status.as_ref().and_then(|s| s.run.as_ref());
            let unsent = run.filter(|r| matches!(r.state, RunState::Intended | RunState::Sending));
            let next = || inputs::run_name(&pipeline, &inputs::next_token(object, 1));
            let taken = unsent.and_then(|run| run.name.clone()).unwrap_or_else(next);
            self.remote.stranger(Some(taken), &pipeline, vec![]);
        }
    }

    /// Somebody else starts the same pipeline, with equal parameters or others.
    pub fn start_beside(&mut self, name: &str, equal: bool) {
        if let Some(object) = self.objects.get(name) {
            let pipeline = object.spec.pipeline.clone();
            let parameters = if equal { given(object) } else { vec![] };
            self.remote.stranger(None, &pipeline, parameters);
        }
    }

    /// A user deletes it; a finalizer keeps it for a while.
    pub fn delete(&mut self, name: &str) {
        let Some(object) = self.objects.get(name) else {
            return;
        };
        let now = self.now;
        self.due.insert(name.to_owned(), now);
        if object.finalizers().is_empty() {
            self.objects.remove(name);
        } else if object.metadata.deletion_timestamp.is_none() {
            self.user_write(name, |o| o.metadata.deletion_timestamp = Some(Time(now)));
        }
    }

    /// What goes wrong with this call.
    pub fn next_fault(&mut self, call: Aim) -> Option<Fault> {
        let meets = |(_, aim): &(Fault, Aim)| *aim == Aim::Any || *aim == call;
        let at = self.faults.iter().position(meets)?;
        self.faults.remove(at).map(|(fault, _)| fault)
    }

    /// A run is being sent.
    pub fn check_start(&mut self, object: &BuildRequest, run: &CurrentRun) {
        self.checks
            .start((object, run), &self.objects, &self.remote, self.now);
    }

    /// The operator's write under a version. None: overtaken, or gone.
    pub fn replace(&mut self, mut object: BuildRequest) -> Option<BuildRequest> {
        let name = object.name_any();
        let stored = self.objects.get(&name)?;
        if stored.metadata.resource_version != object.metadata.resource_version {
            return None;
        }
        let stored = stored.clone();
        self.stamp(&mut object);
        self.checks.written(
            (&stored, &object),
            &self.remote,
            self.now.duration_since(self.alive),
        );
        if object.metadata.deletion_timestamp.is_some() && object.finalizers().is_empty() {
            let since = stored.uid().and_then(|uid| self.cleaning.get(&uid));
            let tried = since.map_or(SignedDuration::ZERO, |since| self.now.duration_since(*since));
            self.checks.let_go(&stored, tried, &self.remote);
            self.objects.remove(&name);
        } else {
            self.objects.insert(name, object.clone());
        }
        Some(object)
    }
}
