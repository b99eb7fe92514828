//! The controller of ArtifactFetches: the files of a run, brought home into a ConfigMap, or onto a volume by a Job.
//!
//! One reconcile: [`observe`] what is here, [`mod@decide`]; where coordinates name the run and it is not known to be stored,
//! ask the remote which run that is and decide again; [`act`] (fetch and store) or [`transfer`] (have a Job do it); [`report`]. [`target`] is the run once it
//! is known. A finished object costs no remote call: whether its ConfigMap is unchanged is seen from metadata alone.

pub mod act;
pub mod decide;
pub mod observe;
pub mod report;
pub mod target;
pub mod transfer;

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, PersistentVolumeClaim},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::Resource;

use self::{
    decide::{
        Decision, Seen, SourceSeen, StoredSeen, decide, holds_selection, holds_what_was_told,
        may_have_left_overs,
    },
    observe::Named,
    report::{Came, Held},
};
use super::{Context, status};
use crate::{
    api::{
        ArtifactFetch, ArtifactFetchStatus, BuildRequest, TenantConnection,
        conditions::{ConditionType, Reason, is_true},
    },
    runtime::{Host, ReconcileError, Reconciler, Reference, Requeue, events::Severity, settled::Settled},
};
use crate::{
    crash_points::Write,
    sinks::{ConfigMaps, files},
    trouble::Trouble,
};

/// The controller of ArtifactFetches.
pub struct ArtifactFetches {
    ctx: Arc<Context>,
}

/// Starts it.
pub fn start(ctx: &Arc<Context>, host: &mut Host) {
    let makes_jobs = ctx.fetcher.image.is_some();
    let ctx = Arc::clone(ctx);
    let setup = host
        .control(|_| ArtifactFetches { ctx })
        .wakes_on::<BuildRequest>()
        .wakes_on::<TenantConnection>()
        .owns::<ConfigMap>();
    // Who makes no Jobs needs no right to watch them, nor the claims that they fill.
    let setup = if makes_jobs {
        setup.owns::<Job>().wakes_on::<PersistentVolumeClaim>()
    } else {
        setup
    };
    setup.start();
}

impl Reconciler for ArtifactFetches {
    type Kind = ArtifactFetch;

    async fn reconcile(&self, object: Arc<ArtifactFetch>) -> Result<Requeue, ReconcileError> {
        let (held, came) = match observe::here(&self.ctx, &object).await {
            Ok(seen) => (held(&object, &seen.stored), self.proceed(&object, seen).await),
            Err(trouble) => (Held::default(), failed(trouble, None)),
        };
        let changed = report::status(&object, held, &came, &Time(Timestamp::now()));
        let status = changed.as_ref().or(object.status.as_ref());
        let maps = status.is_some_and(|status| status.config_map.is_some());
        if let Some(status) = changed {
            self.write(&object, &came, status).await?;
        }
        let next = report::requeue(&came, self.ctx.tunables.stalled_resync);
        Ok(if next == Requeue::OnChange && is_at_rest(&object, &came) {
            Requeue::Settled(Settled {
                until: None,
                holds: u32::from(maps),
            })
        } else {
            next
        })
    }

    fn references(&self, object: &ArtifactFetch) -> BTreeSet<Reference> {
        let source = &object.spec.source;
        let mut references = BTreeSet::new();
        if let Some(request) = &source.build_request_ref {
            references.insert(Reference::to::<BuildRequest>(&request.name));
        }
        let ready = object
            .status
            .as_ref()
            .is_some_and(|status| is_true(&status.conditions, ConditionType::Ready));
        if let Some(run) = source.run.as_ref().filter(|_| !ready) {
            references.insert(Reference::to::<TenantConnection>(&run.connection_ref.name));
        }
        let volume = object.spec.files.destination.volume.as_ref();
        if let Some(volume) = volume.filter(|_| !ready) {
            // It may be made after what names it.
            references.insert(Reference::to::<PersistentVolumeClaim>(&volume.claim_name));
        }
        references
    }
}

/// Whether nothing is left to do until the object itself changes. One that belongs to its source is told by that
/// when there is another run; of any other BuildRequest it has to keep an eye on.
fn is_at_rest(object: &ArtifactFetch, came: &Came) -> bool {
    let request = object.spec.source.build_request_ref.as_ref();
    let is_told = request.is_none_or(|request| {
        let mut owners = object.metadata.owner_references.iter().flatten();
        owners.any(|owner| {
            owner.controller == Some(true)
                && owner.kind == BuildRequest::kind(&())
                && owner.name == request.name
        })
    });
    is_told
        && matches!(
            came,
            Came::Stored | Came::Fetched(_) | Came::Unchanged | Came::Failed { .. }
        )
}

fn held(object: &ArtifactFetch, stored: &StoredSeen) -> Held {
    let told = holds_what_was_told(object, stored);
    Held {
        told,
        wanted: told && holds_selection(object, stored),
    }
}

fn failed(trouble: Trouble, revision: Option<String>) -> Came {
    Came::Failed {
        trouble,
        revision,
        job: None,
    }
}

impl ArtifactFetches {
    /// Decides and acts until there is something to report.
    async fn proceed(&self, object: &ArtifactFetch, mut seen: Seen) -> Came {
        let mut decision = decide(object, &seen);
        if decision == Decision::Resolve {
            match self.resolve(object).await {
                Ok(Named::Ended(target)) => {
                    seen.source = SourceSeen::Ended(target);
                    decision = decide(object, &seen);
                }
                Ok(Named::Active { message, look_in }) => {
                    return Came::Waiting {
                        message,
                        look_in: Some(look_in),
                    };
                }
                Err(trouble) => return failed(trouble, None),
            }
        }
        match decision {
            Decision::Suspend => match transfer::stop(&self.ctx, object, &seen.jobs).await {
                Ok(()) => Came::Suspended,
                Err(trouble) => failed(trouble, None),
            },
            Decision::Stored => match self.tidy(object, &seen).await {
                Ok(()) => Came::Stored,
                Err(trouble) => failed(trouble, None),
            },
            Decision::Wait(message) => Came::Waiting {
                message,
                look_in: None,
            },
            Decision::Stuck(trouble) => failed(trouble, None),
            Decision::Fetch(target) => {
                let fetched = match transfer::stop(&self.ctx, object, &seen.jobs).await {
                    Ok(()) => act::fetch(&self.ctx, object, &target).await,
                    Err(trouble) => Err(trouble),
                };
                match fetched {
                    Ok(fetched) => Came::Fetched(Box::new(fetched)),
                    Err(trouble) => failed(trouble, Some(target.revision)),
                }
            }
            Decision::Transfer(target) => {
                transfer::transfer(&self.ctx, object, target.as_deref(), &seen.jobs).await
            }
            // Once the run is known, there is nothing left to ask.
            Decision::Rest | Decision::Resolve => Came::Unchanged,
        }
    }

    /// Removes what is left over where the process ended between storing and removing.
    async fn tidy(&self, object: &ArtifactFetch, seen: &Seen) -> Result<(), Trouble> {
        if !may_have_left_overs(object) {
            return Ok(());
        }
        transfer::stop(&self.ctx, object, &seen.jobs).await?;
        let maps = ConfigMaps::of(self.ctx.client.clone(), object)?;
        files::remove_others(&maps, &observe::destination(object)).await
    }

    async fn resolve(&self, object: &ArtifactFetch) -> Result<Named, Trouble> {
        match &object.spec.source.run {
            Some(coordinates) => observe::on_remote(&self.ctx, object, coordinates).await,
            None => Err(Trouble::user(
                Reason::InvalidSpec,
                "spec.source is empty: set exactly one of source.buildRequestRef and source.run",
            )),
        }
    }

    /// Writes the status under the version that was read, and tells what is new in it.
    async fn write(
        &self,
        object: &ArtifactFetch,
        came: &Came,
        status: ArtifactFetchStatus,
    ) -> Result<(), ReconcileError> {
        let note = report::note(object, came, &status);
        status::replace(&self.ctx.client, object, Write::FetchStatus, |next| {
            next.status = Some(status.clone());
        })
        .await?;
        if let Some(note) = note {
            let severity = Severity::warning_if(note.warning);
            self.ctx
                .announcer
                .say(severity, &object.object_ref(&()), note.reason, &note.message)
                .await;
        }
        Ok(())
    }
}
