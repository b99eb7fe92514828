//! The order on which everything rests: observe, decide, write, act, decide, write.
//!
//! What lives here: one step of a reconcile and the loop over steps that are known at once. It is the same for whoever
//! observes, writes and acts ([`Edges`]), so that the model-based test sends a made-up world through this very order. What
//! must never come in: I/O, a clock.

use std::{future::Future, sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    decide::{
        self, Act, Decision, Note, Situation, Step, Wake,
        after::{self, ActOutcome},
        begin::{self, Preflight, Turn},
        collect::{self, Collected},
        find::{self, Found},
        follow::{self, Followed},
        hold, next_step,
    },
    report,
    turns::{self, Turns},
};
use crate::{
    api::build_request::{BuildRequest, BuildRequestStatus, CurrentRun},
    controllers::Tunables,
    runtime::ObjectKey,
    trouble::Trouble,
};

/// Steps in one reconcile. There is always an end; this is for defects.
const STEPS: usize = 12;

/// Where a step meets the world: eyes, hands, pen and clock of one reconcile of one object.
pub trait Edges: Sync {
    /// Why a status could not be written.
    type Error: Send;

    /// The time.
    fn now(&self) -> Timestamp;

    /// How long to wait for what.
    fn tunables(&self) -> &Tunables;

    /// Whose turn it is.
    fn turns(&self) -> Arc<Turns>;

    /// Lets these objects be looked at soon.
    fn ring(&self, keys: Vec<ObjectKey>);

    /// How often the connection wants a run to be looked at.
    fn poll(&self, object: &Arc<BuildRequest>, step: &Step) -> impl Future<Output = Duration> + Send;

    /// What an object that stands in line still waits for; None where it does not, or its turn has come. Asks nobody.
    fn still(&self, object: &Arc<BuildRequest>) -> impl Future<Output = Option<Turn>> + Send;

    /// All that must be known before a run is sent.
    fn begin(
        &self,
        object: &Arc<BuildRequest>,
        attempt: u32,
    ) -> impl Future<Output = Result<Preflight, Trouble>> + Send;

    /// Whether a run that was being sent arrived.
    fn find(
        &self,
        object: &Arc<BuildRequest>,
        run: &CurrentRun,
    ) -> impl Future<Output = Result<Found, Trouble>> + Send;

    /// How a run on its way stands.
    fn follow(
        &self,
        object: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        run: &CurrentRun,
    ) -> impl Future<Output = Result<Followed, Trouble>> + Send;

    /// What is left to bring home of a run that is over.
    fn collect(
        &self,
        object: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        run: &CurrentRun,
    ) -> impl Future<Output = Result<Collected, Trouble>> + Send;

    /// Carries out what was decided. `object` holds the status that was written for it.
    fn act(
        &self,
        object: &Arc<BuildRequest>,
        decision: &Decision,
        ready: Option<&Preflight>,
    ) -> impl Future<Output = ActOutcome> + Send;

    /// Writes the status, under the version that was read: whoever was overtaken gets an error and begins anew.
    fn write(
        &self,
        object: &Arc<BuildRequest>,
        status: BuildRequestStatus,
    ) -> impl Future<Output = Result<Arc<BuildRequest>, Self::Error>> + Send;

    /// Tells people.
    fn announce(&self, object: &Arc<BuildRequest>, notes: &[Note]) -> impl Future<Output = ()> + Send;
}

/// Steps of one object, each with edges of its own, until the next one is not known at once. The object as it is stored
/// then, and when to look again.
pub async fn run<E: Edges>(
    edges: impl Fn() -> E,
    object: Arc<BuildRequest>,
) -> Result<(Arc<BuildRequest>, Wake), E::Error> {
    let mut object = object;
    for _ in 0..STEPS {
        let edges = edges();
        // A step is a large future; most of the time it waits.
        let (next, wake) = Box::pin(step(&edges, &object)).await?;
        object = next;
        if wake != Wake::Now {
            return Ok((object, wake));
        }
    }
    Ok((object, Wake::After(Duration::from_secs(1))))
}

/// One step: observe, decide, write, act, decide, write.
async fn step<E: Edges>(
    edges: &E,
    object: &Arc<BuildRequest>,
) -> Result<(Arc<BuildRequest>, Wake), E::Error> {
    let now = edges.now();
    let step = next_step(object, now);
    let situation = Situation {
        object,
        now,
        tunables: edges.tunables(),
        poll: edges.poll(object, &step).await,
    };
    note_turn(edges, object);
    if !matches!(step, Step::Begin { .. }) {
        // It may have stood in line for a run that is not wanted any more.
        edges.ring(edges.turns().quit(&ObjectKey::of(object.as_ref())));
    }

    let mut ready = None;
    let run = object.status.as_ref().and_then(|s| s.run.as_ref());
    let decision = match (step, run) {
        (Step::Begin { attempt }, _) => {
            // Who waits has asked before, and asks the gateway again when its turn has come.
            let turn = edges.still(object).await.unwrap_or(Turn::Ours);
            if let Some(decision) = begin::wait(&situation, &turn) {
                let object = record(edges, object, &situation, &decision).await?;
                return Ok((object, decision.wake));
            }
            let seen = edges.begin(object, attempt).await;
            let decision = begin::decide(&situation, attempt, &seen);
            if seen.is_err() {
                // Who cannot start does not stand in the way of others.
                leave_turn(edges, object);
            }
            ready = seen.ok();
            decision
        }
        (Step::Find, Some(run)) => find::decide(&situation, &edges.find(object, run).await),
        (Step::Follow, Some(run)) => follow::decide(&situation, &edges.follow(object, &situation, run).await),
        (Step::Collect, Some(run)) => match edges.collect(object, &situation, run).await {
            Ok(seen) => collect::decide(&situation, &seen),
            Err(trouble) => decide::hindered(&situation, &trouble),
        },
        (Step::WaitToRetry { at, attempt }, _) => hold::wait_to_retry(&situation, at, attempt),
        (Step::Suspended, _) => {
            leave_turn(edges, object);
            hold::suspended(&situation)
        }
        (Step::CancelledEarly, _) => {
            leave_turn(edges, object);
            hold::cancelled_early(&situation)
        }
        (Step::Rest { expires_in }, _) => hold::rest(&situation, expires_in),
        (Step::Find | Step::Follow | Step::Collect, None) => hold::rest(&situation, None),
    };

    let object = record(edges, object, &situation, &decision).await?;
    if decision.act == Act::Nothing {
        return Ok((object, decision.wake));
    }
    let came = edges.act(&object, &decision, ready.as_ref()).await;
    let situation = Situation {
        object: &object,
        now: edges.now(),
        ..situation
    };
    let then = after::decide(&situation, &decision, &came);
    let object = record(edges, &object, &situation, &then).await?;
    Ok((object, then.wake))
}

/// Writes the status where it differs, and tells what is new.
async fn record<E: Edges>(
    edges: &E,
    object: &Arc<BuildRequest>,
    situation: &Situation<'_>,
    decision: &Decision,
) -> Result<Arc<BuildRequest>, E::Error> {
    let status = report::status(situation, decision);
    if object.status.as_ref() == Some(&status) {
        edges.announce(object, &decision.notes).await;
        return Ok(Arc::clone(object));
    }
    let before = object.status.clone().unwrap_or_default();
    let notes = report::notes(&before, &status, decision);
    let written = edges.write(object, status).await?;
    note_turn(edges, &written);
    edges.announce(object, &notes).await;
    Ok(written)
}

fn note_turn<E: Edges>(edges: &E, object: &BuildRequest) {
    let run = turns::contender(object, edges.now());
    let key = ObjectKey::of(object);
    let woken = edges.turns().note(&key, &super::connection_of(object), run);
    edges.ring(woken);
}

fn leave_turn<E: Edges>(edges: &E, object: &BuildRequest) {
    edges.ring(edges.turns().forget(&ObjectKey::of(object)));
}
