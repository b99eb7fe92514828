//! One controller's loop. It alone starts reconciles, and it never waits for one of them.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use jiff::Timestamp;
use kube::{Resource, core::PartialObjectMeta};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tracing::Instrument as _;

use super::{
    Env, ReconcileError, Reconciler, Requeue,
    holdings::Holdings,
    known::{Known, News},
    marks,
    shares::{Shares, share},
};
use crate::{
    api::conditions::Reason,
    runtime::{
        glimpse::Glimpse,
        kind::{Kind, ObjectKey, Watched},
        metrics::ReconcileResult,
        queue::WorkQueue,
        references::ReferenceIndex,
        watches::{Seen, Sighting},
    },
};

/// How long reading one object, or letting it go, may take.
pub const READ_LIMIT: Duration = Duration::from_secs(30);
/// After somebody else changed the object: soon, and with each further time in a row later, up to 64 times as long.
const CONFLICT_PAUSE: Duration = Duration::from_millis(100);
const CONFLICT_DOUBLINGS: u32 = 6;

/// The loop of one controller.
pub struct Loop<R: Reconciler> {
    worker: Arc<Worker<R>>,
    sightings: mpsc::Receiver<Sighting>,
    rings: mpsc::UnboundedReceiver<ObjectKey>,
    owned: HashSet<Kind>,
    minded: HashSet<Kind>,
    known: Known,
    holdings: Holdings,
    queue: WorkQueue<ObjectKey>,
    running: JoinSet<Done>,
    /// Objects that wait until a place of their connection is given back.
    parked: HashMap<ObjectKey, VecDeque<ObjectKey>>,
    /// How often in a row somebody else was quicker.
    conflicts: HashMap<ObjectKey, u32>,
}

/// A reconcile that ended.
struct Done {
    key: ObjectKey,
    /// The TenantConnection that it went through.
    connection: Option<ObjectKey>,
    end: End,
}

/// How it ended.
#[derive(Debug)]
enum End {
    Requeue(Requeue),
    Failed(ReconcileError),
    TimedOut,
    Panicked,
    Invalid,
    Gone,
    /// All places of its connection were taken: nothing was done.
    Parked,
}

impl<R: Reconciler> Loop<R> {
    pub fn new(
        reconciler: R,
        env: Env,
        sightings: mpsc::Receiver<Sighting>,
        rings: mpsc::UnboundedReceiver<ObjectKey>,
    ) -> Self {
        Self {
            worker: Arc::new(Worker {
                reconciler,
                env,
                references: ReferenceIndex::default(),
                shares: Shares::default(),
            }),
            sightings,
            rings,
            owned: HashSet::new(),
            minded: HashSet::new(),
            known: Known::default(),
            holdings: Holdings::default(),
            queue: WorkQueue::default(),
            running: JoinSet::new(),
            parked: HashMap::new(),
            conflicts: HashMap::new(),
        }
    }

    pub fn owns(&mut self, kind: Kind) {
        self.owned.insert(kind);
    }

    pub fn minds(&mut self, kind: Kind) {
        self.minded.insert(kind);
    }

    /// Runs until a shutdown is asked for and what was in flight then has ended or has run out of time.
    pub async fn run(mut self) {
        let shutdown = self.worker.env.shutdown.clone();
        loop {
            self.start_what_is_due();
            self.gauge();
            // Nothing to wait for by the clock while all places are taken.
            let next = self
                .queue
                .next_due()
                .filter(|_| self.running.len() < self.worker.env.concurrency);
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                Some(done) = self.running.join_next() => self.finished(done),
                Some(sighting) = self.sightings.recv() => self.sighted(sighting),
                Some(key) = self.rings.recv() => self.wake(key),
                () = async { sleep_until(next.unwrap_or_else(Instant::now)).await }, if next.is_some() => {}
            }
        }
        self.drain(shutdown.grace()).await;
    }

    fn start_what_is_due(&mut self) {
        while self.running.len() < self.worker.env.concurrency {
            let Some(key) = self.queue.take(Instant::now()) else {
                return;
            };
            let span = tracing::info_span!("reconcile", kind = %R::Kind::KIND, object = %key);
            self.running
                .spawn(self.worker.clone().reconcile(key).instrument(span));
        }
    }

    fn gauge(&self) {
        let env = &self.worker.env;
        env.metrics.queue(
            R::Kind::KIND,
            self.queue.len(),
            self.running.len(),
            env.backoffs.waiting(R::Kind::KIND),
        );
    }

    /// Wakes `key`, with a clean slate: something changed.
    fn wake(&mut self, key: ObjectKey) {
        if self.known.contains(&key) {
            self.worker.env.backoffs.reset(R::Kind::KIND, &key);
            self.queue.push(key, Instant::now());
        }
    }

    fn sighted(&mut self, sighting: Sighting) {
        if sighting.kind != R::Kind::KIND {
            return self.related(sighting);
        }
        let counts = self.holdings.owners(sighting.shard, &sighting.what);
        let shard = sighting.shard;
        for news in self.known.learn(sighting.shard, sighting.what) {
            match news {
                News::Changed(key) => self.wake(key),
                News::Settled(key, settled) => self.rests(&key, settled.until),
                News::Gone(key) => {
                    self.queue.forget(&key);
                    self.worker.forget(&key);
                }
            }
        }
        self.check(shard, counts);
    }

    /// Looks at the finished objects that lack something of what they hold.
    fn check(&mut self, shard: usize, there: Option<HashMap<ObjectKey, u32>>) {
        for key in there.map_or_else(Vec::new, |there| self.known.lacking(shard, &there)) {
            self.worker.reconciler.disturbed(&key);
            self.wake(key);
        }
    }

    /// A finished object: nothing to do, or not before `until`.
    fn rests(&mut self, key: &ObjectKey, until: Option<Timestamp>) {
        if let Some(at) = until.and_then(|until| Instant::now().checked_add(marks::left_until(until))) {
            self.queue.push(key.clone(), at);
        }
    }

    fn related(&mut self, sighting: Sighting) {
        let (kind, shard) = (sighting.kind, sighting.shard);
        let counts = kind == Kind::ConfigMap && self.holdings.counts(shard);
        if counts && (self.owned.contains(&kind) || self.minded.contains(&kind)) {
            let owner = match &sighting.what {
                Seen::Object(glimpse) => owner_of::<R>(glimpse),
                _ => None,
            };
            let there = self.holdings.maps(shard, &sighting.what, owner.as_ref());
            self.check(shard, there);
        }
        let gone = matches!(sighting.what, Seen::Gone(_));
        let (Seen::Object(glimpse) | Seen::Gone(glimpse)) = sighting.what else {
            return;
        };
        for referrer in self.worker.references.referrers(kind, &glimpse.key) {
            self.wake(referrer);
        }
        let Some(owner) = owner_of::<R>(&glimpse) else {
            return;
        };
        let damaged = gone || glimpse.touched;
        if self.owned.contains(&kind) {
            // A finished object waits for nothing that it owns, but for what holds its files. After a start all of it is told,
            // which is no news.
            let matters = kind == Kind::ConfigMap && (damaged || !counts);
            if matters || !self.known.is_settled(&owner) {
                self.wake(owner);
            }
        } else if self.minded.contains(&kind) && damaged {
            self.worker.reconciler.disturbed(&owner);
            self.wake(owner);
        }
    }

    fn finished(&mut self, done: Result<Done, tokio::task::JoinError>) {
        // A panic is caught inside the task, and nothing aborts one before the drain.
        let Ok(Done { key, connection, end }) = done else {
            return;
        };
        self.queue.done(&key);
        if let Some(connection) = connection {
            let parked = matches!(end, End::Parked).then(|| key.clone());
            self.place_free(connection, parked);
        }
        let env = &self.worker.env;
        let conflicts = match &end {
            End::Failed(error) if error.is_conflict() => {
                let count = self.conflicts.entry(key.clone()).or_default();
                *count += 1;
                *count
            }
            _ => {
                self.conflicts.remove(&key);
                0
            }
        };
        let backoff = |at_least: Duration| env.backoffs.fail(R::Kind::KIND, &key).max(at_least);
        let pause = match &end {
            End::Requeue(Requeue::OnChange) | End::Invalid | End::Gone | End::Parked => None,
            End::Requeue(Requeue::After(pause)) => Some(*pause),
            End::Requeue(Requeue::Settled(settled)) => settled.until.map(marks::left_until),
            End::Requeue(Requeue::Backoff { at_least }) => Some(backoff(at_least.unwrap_or_default())),
            End::Failed(error) if error.is_conflict() => {
                Some(CONFLICT_PAUSE * 2_u32.pow((conflicts - 1).min(CONFLICT_DOUBLINGS)))
            }
            End::Failed(_) | End::TimedOut | End::Panicked => Some(backoff(Duration::ZERO)),
        };
        match &end {
            End::Failed(error) if error.is_conflict() => {
                tracing::debug!(kind = %R::Kind::KIND, object = %key, "{error}; trying again");
            }
            // The fence has said so already, and the process is about to end.
            End::Failed(error) if error.is_fenced() => {
                tracing::debug!(kind = %R::Kind::KIND, object = %key, "{error}");
            }
            End::Failed(error) => {
                tracing::warn!(kind = %R::Kind::KIND, object = %key, retry_in = ?pause, "reconcile failed: {error}");
            }
            End::TimedOut => {
                tracing::error!(kind = %R::Kind::KIND, object = %key, limit = ?R::TIME_LIMIT, "reconcile took too long");
            }
            End::Panicked => {
                tracing::error!(kind = %R::Kind::KIND, object = %key, "reconcile panicked: please report this defect");
            }
            End::Requeue(Requeue::Backoff { .. }) | End::Parked => {}
            End::Requeue(_) | End::Invalid | End::Gone => env.backoffs.reset(R::Kind::KIND, &key),
        }
        if let Some(at) = pause.and_then(|pause| Instant::now().checked_add(pause))
            && self.known.contains(&key)
        {
            self.queue.push(key, at);
        }
    }

    /// A reconcile through `connection` has ended: the next that waits for a place begins. `parked` is one that found none.
    fn place_free(&mut self, connection: ObjectKey, parked: Option<ObjectKey>) {
        let waiting = self.parked.entry(connection.clone()).or_default();
        let found_none = parked.is_some();
        waiting.extend(parked);
        // Who holds a place wakes the next when it ends; where nobody does any more, that was missed.
        let next = if found_none && self.worker.shares.is_used(&connection) {
            None
        } else {
            waiting.pop_front()
        };
        if waiting.is_empty() {
            self.parked.remove(&connection);
        }
        if let Some(next) = next.filter(|next| self.known.contains(next)) {
            self.queue.push(next, Instant::now());
        }
    }

    async fn drain(mut self, grace: Duration) {
        let in_flight = self.running.len();
        if in_flight == 0 {
            return;
        }
        tracing::info!(kind = %R::Kind::KIND, in_flight, "waiting for reconciles");
        let all = async { while self.running.join_next().await.is_some() {} };
        if timeout(grace, all).await.is_err() {
            tracing::warn!(kind = %R::Kind::KIND, left = self.running.len(), "leaving reconciles unfinished");
        }
    }
}

/// What a single reconcile needs.
pub struct Worker<R: Reconciler> {
    reconciler: R,
    pub(super) env: Env,
    references: ReferenceIndex,
    shares: Shares,
}

/// An object as it was read.
enum Read<K> {
    Good(K),
    Bad {
        meta: Box<PartialObjectMeta<K>>,
        why: String,
    },
    Gone,
}

impl<R: Reconciler> Worker<R> {
    async fn reconcile(self: Arc<Self>, key: ObjectKey) -> Done {
        let started = Instant::now();
        let mut connection = None;
        let work = AssertUnwindSafe(self.work(&key, &mut connection)).catch_unwind();
        let end = match timeout(R::TIME_LIMIT, work).await {
            Ok(Ok(end)) => end,
            Ok(Err(_)) => End::Panicked,
            Err(_) => End::TimedOut,
        };
        let result = match &end {
            End::Requeue(Requeue::Backoff { .. }) => ReconcileResult::Waiting,
            End::Requeue(_) => ReconcileResult::Ok,
            End::Failed(error) if error.is_conflict() => ReconcileResult::Conflict,
            End::Failed(error) if error.is_fenced() => ReconcileResult::Fenced,
            End::Failed(_) => ReconcileResult::Error,
            End::TimedOut => ReconcileResult::TimedOut,
            End::Panicked => ReconcileResult::Panic,
            End::Invalid => ReconcileResult::Invalid,
            End::Gone => ReconcileResult::Gone,
            End::Parked => return Done { key, connection, end },
        };
        self.env
            .metrics
            .reconciled(R::Kind::KIND, result, started.elapsed());
        Done { key, connection, end }
    }

    async fn work(&self, key: &ObjectKey, connection: &mut Option<ObjectKey>) -> End {
        let object = match self.read(key).await {
            Ok(Read::Good(object)) => object,
            Ok(Read::Gone) => {
                self.forget(key);
                return End::Gone;
            }
            Ok(Read::Bad { meta, why }) => {
                self.references.forget(key);
                return match self.report_invalid(&meta, &why).await {
                    Ok(()) => End::Invalid,
                    Err(error) => End::Failed(error),
                };
            }
            Err(error) => return End::Failed(error),
        };
        // It was labelled out of our shard after the watch told of it: somebody else's now.
        if !self.env.shard.has(object.meta().labels.as_ref()) {
            self.forget(key);
            return End::Gone;
        }
        let object = match marks::take_off_stale(&self.env.client, key, object).await {
            Ok(object) => object,
            Err(error) => return End::Failed(error),
        };
        // Before the reconcile reads what is referred to: a change after that read then finds its way here.
        let references = self.reconciler.references(&object);
        *connection = references
            .iter()
            .find(|reference| reference.kind == Kind::TenantConnection)
            .map(|reference| ObjectKey::new(key.namespace.clone(), reference.name.clone()));
        self.references.set(key, references);
        let share = share(
            self.env.concurrency,
            self.references.targets(Kind::TenantConnection),
        );
        let place = connection.as_ref().map(|to| self.shares.enter(to, share));
        if matches!(place, Some(None)) {
            return End::Parked;
        }
        let object = Arc::new(object);
        match self.reconciler.reconcile(Arc::clone(&object)).await {
            Ok(requeue) => {
                if let Requeue::Settled(settled) = requeue {
                    marks::put_on(&self.env.client, key, object.as_ref(), settled).await;
                }
                End::Requeue(requeue)
            }
            Err(error) => {
                self.tell(object.as_ref(), &error).await;
                End::Failed(error)
            }
        }
    }

    /// Tells people why nothing goes on, where it is for them to mend: the status may be the very thing that is refused.
    async fn tell(&self, object: &R::Kind, error: &ReconcileError) {
        // Who lets go of an object has said so already.
        let told = object.meta().deletion_timestamp.is_some() && error.refusal().is_some();
        if let Some(news) = error.news().filter(|_| !told) {
            self.env
                .announcer
                .warning(object, Reason::StorageUnavailable, news)
                .await;
        }
    }

    async fn read(&self, key: &ObjectKey) -> Result<Read<R::Kind>, ReconcileError> {
        let url = R::Kind::url_path(&(), Some(&key.namespace));
        let request = kube::core::Request::new(url)
            .get(&key.name, &kube::api::GetParams::default())
            .map_err(|e| ReconcileError::Other(format!("read {} {key}: {e}", R::Kind::KIND)))?;
        let text = match timeout(READ_LIMIT, self.env.client.request_text(request)).await {
            Ok(Ok(text)) => text,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(Read::Gone),
            Ok(Err(error)) => {
                return Err(ReconcileError::api(format!("read {} {key}", R::Kind::KIND))(
                    error,
                ));
            }
            Err(_) => {
                return Err(ReconcileError::Other(format!(
                    "read {} {key}: the API server did not answer within {READ_LIMIT:?}",
                    R::Kind::KIND
                )));
            }
        };
        parse(&text).map_err(|why| ReconcileError::Other(format!("read {} {key}: {why}", R::Kind::KIND)))
    }

    fn forget(&self, key: &ObjectKey) {
        self.references.forget(key);
        self.env.backoffs.reset(R::Kind::KIND, key);
        self.reconciler.gone(key);
    }
}

/// The object of the controller's kind that owns what was seen.
fn owner_of<R: Reconciler>(glimpse: &Glimpse) -> Option<ObjectKey> {
    let (kind, name) = glimpse.owner.as_ref()?;
    (kind == R::Kind::KIND.as_str()).then(|| ObjectKey::new(&*glimpse.key.namespace, name))
}

fn parse<K: Watched>(text: &str) -> Result<Read<K>, String> {
    match serde_json::from_str::<K>(text) {
        Ok(object) => Ok(Read::Good(object)),
        Err(why) => {
            let meta =
                serde_json::from_str(text).map_err(|e| format!("not even its metadata parses: {e}"))?;
            Ok(Read::Bad {
                meta: Box::new(meta),
                why: why.to_string(),
            })
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
