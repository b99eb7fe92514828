//! The controller of BuildRequests.
//!
//! One reconcile: [`observe`] what the next step needs, [`decide`], write the status, [`act`], decide on what came of it,
//! write the status again. Steps that are known at once follow in the same reconcile. The way of one build through these
//! files is told in ARCHITECTURE.md.

pub mod act;
pub mod artifacts;
pub mod begun;
pub mod cleanup;
pub mod cycle;
pub mod decide;
pub mod inputs;
mod line;
mod live;
pub mod local;
pub mod logs;
pub mod masking;
mod mend;
#[cfg(test)]
mod model;
pub mod observe;
pub mod outcome;
pub mod parameters;
pub mod report;
pub mod turns;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
    begun::Begun,
    cleanup::Cleanup,
    decide::{Step, Wake, next_step},
    live::Live,
    logs::LogReaders,
    masking::SecretValues,
    turns::Turns,
};
use super::{Context, cluster};
use crate::{
    api::{
        ArtifactFetch, FINALIZER, TenantConnection,
        build_request::{BuildRequest, BuildRequestStatus, RunState},
        conditions::Reason,
    },
    observer::Observers,
    runtime::{
        Bell, Host, ObjectKey, ReconcileError, Reconciler, Reference, Requeue, WatchScope, events::Severity,
        harness::let_go_refused, settled::Settled,
    },
};
use crate::{crash_points::Write, trouble::Trouble};

/// The controller of BuildRequests.
pub struct BuildRequests {
    ctx: Arc<Context>,
    scope: WatchScope,
    bell: Bell,
    turns: Arc<Turns>,
    logs: LogReaders,
    secrets: SecretValues,
    begun: Begun,
    observers: Observers,
    /// Those of which somebody else changed or removed what they stored.
    disturbed: Mutex<HashSet<ObjectKey>>,
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
            observers: Observers::new(bell.clone(), ctx.metrics.clone(), ctx.tunables.observer_times()),
            ctx,
            scope,
            bell,
            turns: Arc::default(),
            logs: LogReaders::default(),
            secrets: SecretValues::default(),
            begun: Begun::default(),
            disturbed: Mutex::default(),
            loaded: OnceCell::new(),
        })
        .wakes_on::<TenantConnection>()
        .wakes_on::<Secret>()
        .minds::<ConfigMap>()
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
        let object = self.finalizer(object).await?;
        let (object, again) = self.mend_log(object).await?;
        let (object, wake) = cycle::run(|| Live::new(self), object).await?;
        let next = requeue(&object, wake);
        let rests = matches!(next, Requeue::OnChange | Requeue::Settled(_));
        Ok(if again && rests {
            Requeue::Backoff { at_least: None }
        } else {
            next
        })
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

    fn disturbed(&self, key: &ObjectKey) {
        self.disturbances().insert(key.clone());
    }

    fn gone(&self, key: &ObjectKey) {
        self.disturbances().remove(key);
        self.logs.forget(key);
        self.secrets.forget(key);
        self.begun.forget(key);
        self.observers.leave(key);
        self.ctx.metrics.build_gone(key);
        self.ring(self.turns.forget(key));
    }
}

/// Whether nothing that the object refers to matters any more.
fn is_finished(object: &BuildRequest) -> bool {
    matches!(next_step(object, Timestamp::now()), Step::Rest { .. })
}

fn requeue(object: &BuildRequest, wake: Wake) -> Requeue {
    match wake {
        Wake::Now => Requeue::After(Duration::ZERO),
        Wake::After(pause) => Requeue::After(pause),
        Wake::Backoff => Requeue::Backoff { at_least: None },
        Wake::OnChange => Requeue::OnChange,
        Wake::Settled(until) => {
            let log = object.status.as_ref().and_then(|status| status.log.as_ref());
            let maps = log
                .filter(|log| log.complete)
                .map_or(0, |log| log.config_maps.len());
            Requeue::Settled(Settled {
                until,
                holds: u32::try_from(maps).unwrap_or(u32::MAX),
            })
        }
    }
}

impl BuildRequests {
    /// Reads whose turn it is from the statuses, before anything is started in this life.
    async fn load(&self) -> Result<(), ReconcileError> {
        let all = local::unfinished_build_requests(&self.ctx.client, &self.scope, &self.ctx.shard)
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

    fn disturbances(&self) -> MutexGuard<'_, HashSet<ObjectKey>> {
        self.disturbed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        for key in keys {
            self.bell.ring(key);
        }
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
        let (name, key) = (object.name_any(), ObjectKey::of(object));
        let api: Api<BuildRequest> = Api::namespaced(self.ctx.client.clone(), &key.namespace);
        let send = |read: BuildRequest| {
            let patch = json!({"metadata": {
                "resourceVersion": read.metadata.resource_version, "finalizers": finalizers,
            }});
            let (api, name) = (api.clone(), name.clone());
            async move {
                let patch = Patch::Merge(&patch);
                api.patch(&name, &PatchParams::default(), &patch).await
            }
        };
        let write = if wanted {
            Write::FinalizerSet
        } else {
            Write::FinalizerGone
        };
        let what = format!("set the finalizer of BuildRequest {key}");
        cluster::overtake(&api, what, write, object, send).await
    }

    /// The object is being deleted.
    async fn clean_up(&self, object: &Arc<BuildRequest>) -> Result<Requeue, ReconcileError> {
        if !object.finalizers().iter().any(|f| f == FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        self.observers.leave(&ObjectKey::of(object.as_ref()));
        let now = Timestamp::now();
        let begun = self
            .begun
            .cleaning_up(&ObjectKey::of(object.as_ref()), object.uid(), now);
        let cleanup = cleanup::decide(object, begun, now, &self.ctx.tunables);
        let live = Live::new(self);
        let observer = live.observer(object);
        if let Some(run) = object.status.as_ref().and_then(|s| s.run.as_ref()) {
            match cleanup::carry_out(&observer, cleanup, begun, run).await {
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
