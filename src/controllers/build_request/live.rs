//! The edges of a reconcile in the operator: a real gateway, a real API server, the clock.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::sync::OnceCell;

use super::{
    BuildRequests,
    act::Actor,
    cycle::Edges,
    decide::{
        Decision, Note, Situation, Step,
        after::ActOutcome,
        begin::{Preflight, Turn},
        collect::Collected,
        find::Found,
        follow::Followed,
        next_step,
    },
    is_finished,
    observe::Observer,
    turns::{Turns, Wish},
};
use crate::{
    api::build_request::{BuildRequest, BuildRequestStatus, CurrentRun, RunState},
    controllers::{Connected, Tunables, status},
    crash_points::Write,
    runtime::{ObjectKey, ReconcileError},
    trouble::Trouble,
};

/// The edges of one step.
pub(super) struct Live<'a> {
    reconciler: &'a BuildRequests,
    /// The gateway to ask, or what stands in the way: looked up once in a step.
    connection: OnceCell<Result<Connected, Trouble>>,
}

impl<'l> Live<'l> {
    pub(super) fn new(reconciler: &'l BuildRequests) -> Self {
        Self {
            reconciler,
            connection: OnceCell::new(),
        }
    }

    pub(super) fn observer<'a>(&'a self, object: &'a Arc<BuildRequest>) -> Observer<'a> {
        let BuildRequests {
            ctx,
            scope,
            turns,
            secrets,
            begun,
            observers,
            ..
        } = self.reconciler;
        Observer {
            ctx,
            turns,
            secrets,
            scope,
            object,
            begun,
            observers,
            connection: &self.connection,
        }
    }
}

impl Edges for Live<'_> {
    type Error = ReconcileError;

    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn tunables(&self) -> &Tunables {
        &self.reconciler.ctx.tunables
    }

    fn turns(&self) -> Arc<Turns> {
        Arc::clone(&self.reconciler.turns)
    }

    fn ring(&self, keys: Vec<ObjectKey>) {
        self.reconciler.ring(keys);
    }

    async fn poll(&self, object: &Arc<BuildRequest>, step: &Step) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(5);
        match step {
            Step::Begin { .. } | Step::Find | Step::Follow => self
                .observer(object)
                .connected()
                .await
                .map_or(DEFAULT, |connected| connected.spec.poll_interval.get()),
            _ => DEFAULT,
        }
    }

    async fn still(&self, object: &Arc<BuildRequest>) -> Option<Turn> {
        let observer = self.observer(object);
        let connected = observer.connected().await.ok()?;
        let limit = connected.spec.limits.concurrent_runs;
        let wish = Wish::of(object);
        self.reconciler.turns.still(&wish, &observer.connection(), limit)
    }

    async fn begin(&self, object: &Arc<BuildRequest>, attempt: u32) -> Result<Preflight, Trouble> {
        self.observer(object).begin(attempt).await
    }

    async fn find(&self, object: &Arc<BuildRequest>, run: &CurrentRun) -> Result<Found, Trouble> {
        self.observer(object).find(run).await
    }

    async fn follow(
        &self,
        object: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        run: &CurrentRun,
    ) -> Result<Followed, Trouble> {
        self.observer(object).follow(situation, run).await
    }

    async fn collect(
        &self,
        object: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        run: &CurrentRun,
    ) -> Result<Collected, Trouble> {
        self.observer(object).collect(situation, run).await
    }

    async fn act(
        &self,
        object: &Arc<BuildRequest>,
        decision: &Decision,
        ready: Option<&Preflight>,
    ) -> ActOutcome {
        let actor = Actor {
            observer: &self.observer(object),
            logs: &self.reconciler.logs,
        };
        actor.carry_out(decision, ready).await
    }

    async fn write(
        &self,
        object: &Arc<BuildRequest>,
        status: BuildRequestStatus,
    ) -> Result<Arc<BuildRequest>, ReconcileError> {
        let before = object.status.clone().unwrap_or_default();
        let write = kind_of_write(&before, &status);
        let written = status::replace(&self.reconciler.ctx.client, object.as_ref(), write, |next| {
            next.status = Some(status.clone());
        })
        .await?;
        self.reconciler.count(&before, &written);
        if next_step(&written, self.now()) != Step::Follow {
            self.reconciler.observers.leave(&ObjectKey::of(&written));
        }
        if is_finished(&written) {
            self.reconciler.begun.forget(&ObjectKey::of(&written));
        }
        Ok(Arc::new(written))
    }

    async fn announce(&self, object: &Arc<BuildRequest>, notes: &[Note]) {
        self.reconciler.announce(object, notes).await;
    }
}

/// What a status writes down, seen against the one before.
fn kind_of_write(before: &BuildRequestStatus, status: &BuildRequestStatus) -> Write {
    let state = |status: &BuildRequestStatus| status.run.as_ref().map(|run| run.state);
    match (state(before), state(status)) {
        (Some(RunState::Sending), Some(RunState::Submitted | RunState::Started)) => Write::Record,
        (Some(RunState::Sending), Some(RunState::Sending)) => Write::Status,
        (_, Some(RunState::Sending)) => Write::Intent,
        _ => Write::Status,
    }
}
