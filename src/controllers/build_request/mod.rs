//! The controller of BuildRequests.
//!
//! One reconcile: [`observe`] what the next step needs, [`decide`], write the status, [`act`], decide on what came of it,
//! write the status again. Steps that are known at once follow in the same reconcile. The way of one build through these
//! files is told in ARCHITECTURE.md.

pub mod act;
pub mod artifacts;
pub mod cleanup;
pub mod decide;
pub mod inputs;
pub mod local;
pub mod logs;
pub mod masking;
pub mod observe;
pub mod outcome;
pub mod parameters;
pub mod report;
pub mod turns;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, PersistentVolumeClaim, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::OnceCell;

use self::{
    act::Actor,
    cleanup::Cleanup,
    decide::{Act, Decision, Situation, Step, Wake, after, begin, collect, find, follow, hold, next_step},
    logs::LogReaders,
    masking::SecretValues,
    observe::Observer,
    turns::Turns,
};
use super::{Context, cluster, status};
use crate::{
    api::{
        ArtifactFetch, FINALIZER, TenantConnection,
        build_request::{BuildRequest, BuildRequestStatus, RunState},
        conditions::Reason,
    },
    runtime::{
        Bell, Host, ObjectKey, ReconcileError, Reconciler, Reference, Requeue, WatchScope, events::Severity,
        harness::let_go_refused,
    },
};
use crate::{
    crash_points::{Write, around},
    trouble::Trouble,
};

/// Steps in one reconcile. There is always an end; this is for defects.
const STEPS: usize = 12;

/// The controller of BuildRequests.
pub struct BuildRequests {
    ctx: Arc<Context>,
    scope: WatchScope,
    bell: Bell,
    turns: Turns,
    logs: LogReaders,
    secrets: SecretValues,
    /// Set when the turns of a former life were read from the statuses.
    loaded: OnceCell<()>,
}

/// Starts it.
pub fn start(ctx: &Arc<Context>, host: &mut Host) {
    let makes_jobs = ctx.fetcher.image.is_some();
    let ctx = Arc::clone(ctx);
    let scope = host.scope().clone();
    let setup = host
        .control(|bell| BuildRequests {
            ctx,
            scope,
            bell,
            turns: Turns::default(),
            logs: LogReaders::default(),
            secrets: SecretValues::default(),
            loaded: OnceCell::new(),
        })
        .wakes_on::<TenantConnection>()
        .wakes_on::<Secret>()
        .wakes_on::<ConfigMap>()
        .owns::<ArtifactFetch>();
    // Who makes no Jobs needs no right to watch them, nor the claims that they fill.
    let setup = if makes_jobs {
        setup.owns::<Job>().wakes_on::<PersistentVolumeClaim>()
    } else {
        setup
    };
    setup.start();
}

impl Reconciler for BuildRequests {
    type Kind = BuildRequest;

    async fn reconcile(&self, object: Arc<BuildRequest>) -> Result<Requeue, ReconcileError> {
        self.loaded.get_or_try_init(|| self.load()).await?;
        if object.metadata.deletion_timestamp.is_some() {
            return self.clean_up(&object).await;
        }
        let mut object = self.finalizer(object).await?;
        for _ in 0..STEPS {
            let (next, wake) = self.step(&object).await?;
            object = next;
            if wake != Wake::Now {
                return Ok(requeue(wake));
            }
        }
        Ok(Requeue::After(Duration::from_secs(1)))
    }

    fn references(&self, object: &BuildRequest) -> BTreeSet<Reference> {
        let mut references = BTreeSet::new();
        if is_finished(object) {
            return references;
        }
        references.insert(Reference::to::<TenantConnection>(
            &object.spec.connection_ref.name,
        ));
        let volume = object.spec.logs.destination.volume.as_ref();
        references.extend(volume.map(|volume| Reference::to::<PersistentVolumeClaim>(&volume.claim_name)));
        for from in object
            .spec
            .parameters
            .iter()
            .filter_map(|p| p.value_from.as_ref())
        {
            references.extend(
                from.secret_key_ref
                    .as_ref()
                    .map(|r| Reference::to::<Secret>(&r.name)),
            );
            references.extend(
                from.config_map_key_ref
                    .as_ref()
                    .map(|r| Reference::to::<ConfigMap>(&r.name)),
            );
        }
        references
    }

    fn gone(&self, key: &ObjectKey) {
        self.logs.forget(key);
        self.secrets.forget(key);
        self.ctx.metrics.build_gone(key);
        self.ring(self.turns.forget(key));
    }
}

/// Whether nothing that the object refers to matters any more.
fn is_finished(object: &BuildRequest) -> bool {
    matches!(next_step(object, Timestamp::now()), Step::Rest { .. })
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

fn requeue(wake: Wake) -> Requeue {
    match wake {
        Wake::Now => Requeue::After(Duration::ZERO),
        Wake::After(pause) => Requeue::After(pause),
        Wake::Backoff => Requeue::Backoff { at_least: None },
        Wake::OnChange => Requeue::OnChange,
    }
}

impl BuildRequests {
    /// Reads whose turn it is from the statuses, before anything is started in this life.
    async fn load(&self) -> Result<(), ReconcileError> {
        let all = local::all_build_requests(&self.ctx.client, &self.scope)
            .await
            .map_err(|trouble| ReconcileError::Other(trouble.message))?;
        let now = Timestamp::now();
        for object in all {
            let run = turns::contender(&object, now);
            let _ = self
                .turns
                .note(&ObjectKey::of(&object), &connection_of(&object), run);
        }
        Ok(())
    }

    fn ring(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        for key in keys {
            self.bell.ring(key);
        }
    }

    /// One step: observe, decide, write, act, decide, write.
    async fn step(&self, object: &Arc<BuildRequest>) -> Result<(Arc<BuildRequest>, Wake), ReconcileError> {
        let ctx = self.ctx.as_ref();
        let key = ObjectKey::of(object.as_ref());
        let now = Timestamp::now();
        let step = next_step(object, now);
        let observer = Observer {
            ctx,
            turns: &self.turns,
            secrets: &self.secrets,
            scope: &self.scope,
            object,
            connection: OnceCell::new(),
        };
        let situation = Situation {
            object,
            now,
            tunables: &ctx.tunables,
            poll: self.poll(&observer, &step).await,
        };
        self.note_turn(object);

        let mut ready = None;
        let run = object.status.as_ref().and_then(|s| s.run.as_ref());
        let decision = match (step, run) {
            (Step::Begin { attempt }, _) => {
                let seen = observer.begin(attempt).await;
                let decision = begin::decide(&situation, attempt, &seen);
                if seen.is_err() {
                    // Who cannot start does not stand in the way of others.
                    self.ring(self.turns.forget(&key));
                }
                ready = seen.ok();
                decision
            }
            (Step::Find, Some(run)) => find::decide(&situation, &observer.find(run).await),
            (Step::Follow, Some(run)) => follow::decide(&situation, &observer.follow(&situation, run).await),
            (Step::Collect, Some(run)) => match observer.collect(&situation, run).await {
                Ok(seen) => collect::decide(&situation, &seen),
                Err(trouble) => decide::hindered(&situation, &trouble),
            },
            (Step::WaitToRetry { at, attempt }, _) => hold::wait_to_retry(&situation, at, attempt),
            (Step::Suspended, _) => self.held(&key, hold::suspended(&situation)),
            (Step::CancelledEarly, _) => self.held(&key, hold::cancelled_early(&situation)),
            (Step::Rest { expires_in }, _) => hold::rest(&situation, expires_in),
            (Step::Find | Step::Follow | Step::Collect, None) => hold::rest(&situation, None),
        };

        let object = self.write(object, &situation, &decision).await?;
        if decision.act == Act::Nothing {
            return Ok((object, decision.wake));
        }
        let observer = Observer {
            object: &object,
            ..observer
        };
        let actor = Actor {
            observer: &observer,
            logs: &self.logs,
        };
        let came = actor.carry_out(&decision, ready.as_ref()).await;
        let situation = Situation {
            object: &object,
            now: Timestamp::now(),
            ..situation
        };
        let then = after::decide(&situation, &decision, &came);
        let object = self.write(&object, &situation, &then).await?;
        Ok((object, then.wake))
    }

    fn held(&self, key: &ObjectKey, decision: Decision) -> Decision {
        self.ring(self.turns.forget(key));
        decision
    }

    /// How often the connection wants a run to be looked at.
    async fn poll(&self, observer: &Observer<'_>, step: &Step) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(5);
        match step {
            Step::Begin { .. } | Step::Find | Step::Follow => observer
                .connected()
                .await
                .map_or(DEFAULT, |connected| connected.spec.poll_interval.get()),
            _ => DEFAULT,
        }
    }

    fn note_turn(&self, object: &BuildRequest) {
        let run = turns::contender(object, Timestamp::now());
        let woken = self
            .turns
            .note(&ObjectKey::of(object), &connection_of(object), run);
        self.ring(woken);
    }

    /// Writes the status where it differs, under the version that was read: whoever was overtaken begins anew.
    async fn write(
        &self,
        object: &Arc<BuildRequest>,
        situation: &Situation<'_>,
        decision: &Decision,
    ) -> Result<Arc<BuildRequest>, ReconcileError> {
        let status = report::status(situation, decision);
        let before = object.status.clone().unwrap_or_default();
        if object.status.as_ref() == Some(&status) {
            self.announce(object, &decision.notes).await;
            return Ok(Arc::clone(object));
        }
        let notes = report::notes(&before, &status, decision);
        let written = status::replace(
            &self.ctx.client,
            object.as_ref(),
            kind_of_write(&before, &status),
            |next| {
                next.status = Some(status);
            },
        )
        .await?;
        self.note_turn(&written);
        self.count(&before, &written);
        self.announce(object, &notes).await;
        Ok(Arc::new(written))
    }

    fn count(&self, before: &BuildRequestStatus, written: &BuildRequest) {
        let Some(status) = &written.status else { return };
        if let Some(phase) = status.phase {
            self.ctx.metrics.build_phase(&ObjectKey::of(written), phase);
        }
        let ended = |s: &BuildRequestStatus| {
            s.run
                .as_ref()
                .filter(|run| run.state == RunState::Ended)
                .map(|run| run.token.clone())
        };
        if let (Some(run), true) = (
            &status.run,
            ended(status).is_some() && ended(before) != ended(status),
        ) && let Some(outcome) = run.outcome
        {
            self.ctx.metrics.build_ended(outcome);
        }
        if status.run.as_ref().is_some_and(|run| run.attempt > 1)
            && status.run.as_ref().map(|r| &r.token) != before.run.as_ref().map(|r| &r.token)
        {
            self.ctx.metrics.build_retried();
        }
    }

    async fn announce(&self, object: &BuildRequest, notes: &[decide::Note]) {
        use kube::Resource as _;
        for note in notes {
            let severity = Severity::warning_if(note.warning);
            self.ctx
                .announcer
                .say(severity, &object.object_ref(&()), note.reason, &note.message)
                .await;
        }
    }

    /// Adds or removes our finalizer, as the deletion policy asks for.
    async fn finalizer(&self, object: Arc<BuildRequest>) -> Result<Arc<BuildRequest>, ReconcileError> {
        let has = object.finalizers().iter().any(|f| f == FINALIZER);
        if has == cleanup::needs_finalizer(&object) {
            return Ok(object);
        }
        self.set_finalizer(&object, !has).await.map(Arc::new)
    }

    async fn set_finalizer(
        &self,
        object: &BuildRequest,
        wanted: bool,
    ) -> Result<BuildRequest, ReconcileError> {
        let mut finalizers: Vec<_> = object
            .finalizers()
            .iter()
            .filter(|f| *f != FINALIZER)
            .cloned()
            .collect();
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({"metadata": {
            "resourceVersion": object.metadata.resource_version, "finalizers": finalizers,
        }});
        let api: Api<BuildRequest> =
            Api::namespaced(self.ctx.client.clone(), &object.namespace().unwrap_or_default());
        let what = format!("set the finalizer of BuildRequest {}", ObjectKey::of(object));
        let write = if wanted {
            Write::FinalizerSet
        } else {
            Write::FinalizerGone
        };
        cluster::write(
            what,
            around(
                write,
                api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)),
            ),
        )
        .await
    }

    /// The object is being deleted.
    async fn clean_up(&self, object: &Arc<BuildRequest>) -> Result<Requeue, ReconcileError> {
        if !object.finalizers().iter().any(|f| f == FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let cleanup = cleanup::decide(object, Timestamp::now(), &self.ctx.tunables);
        let observer = Observer {
            ctx: &self.ctx,
            turns: &self.turns,
            secrets: &self.secrets,
            scope: &self.scope,
            object,
            connection: OnceCell::new(),
        };
        if let Some(run) = object.status.as_ref().and_then(|s| s.run.as_ref()) {
            match cleanup::carry_out(&observer, cleanup, run).await {
                Ok(true) => {}
                Ok(false) => return Ok(Requeue::After(Duration::from_secs(1))),
                Err(trouble) => {
                    tracing::info!(object = %ObjectKey::of(object.as_ref()), "clean-up on the remote: {trouble}");
                    return Ok(retry_clean_up(&trouble, &self.ctx.tunables.cleanup_deadline));
                }
            }
            if cleanup == Cleanup::GiveUp {
                let message = format!(
                    "the run {} could not be cleaned up on the remote within the deadline: look after it there",
                    decide::title(run)
                );
                self.ctx
                    .announcer
                    .warning(object.as_ref(), cleanup::GIVEN_UP, message)
                    .await;
            }
        }
        if let Err(error) = self.set_finalizer(object, false).await {
            if let Some(words) = error.refusal() {
                self.ctx
                    .announcer
                    .warning(object.as_ref(), Reason::InvalidSpec, let_go_refused(words))
                    .await;
            }
            return Err(error);
        }
        self.gone(&ObjectKey::of(object.as_ref()));
        Ok(Requeue::OnChange)
    }
}

/// Soon again, but not later than the deadline.
fn retry_clean_up(trouble: &Trouble, deadline: &Duration) -> Requeue {
    let soon = (*deadline / 10).clamp(Duration::from_millis(200), Duration::from_secs(10));
    tracing::debug!("clean-up again in {soon:?}: {trouble}");
    Requeue::After(soon)
}

fn connection_of(object: &BuildRequest) -> ObjectKey {
    ObjectKey::new(
        object.namespace().unwrap_or_default(),
        &object.spec.connection_ref.name,
    )
}
