//! The controller of TenantConnection: logs in, looks around, and says in status who we are and what we may see.
//!
//! `observe` asks the gateway (reads only: nothing is ever tried on a tenant's project for the sake of a status),
//! `decide` is pure, `report` writes. There is no `act`: a connection changes nothing on the remote.

mod decide;
mod observe;
mod report;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};

use super::{Context, connections};
use crate::{
    api::TenantConnection,
    runtime::{Host, ObjectKey, ReconcileError, Reconciler, Reference, Requeue},
};

/// Starts the controller on `host`.
pub fn start(ctx: &Arc<Context>, host: &mut Host) {
    let ctx = Arc::clone(ctx);
    host.control(|bell| {
        ctx.connections.tell(bell);
        TenantConnections { ctx }
    })
    .wakes_on::<Secret>()
    .wakes_on::<ConfigMap>()
    .start();
}

struct TenantConnections {
    ctx: Arc<Context>,
}

impl Reconciler for TenantConnections {
    type Kind = TenantConnection;

    async fn reconcile(&self, object: Arc<TenantConnection>) -> Result<Requeue, ReconcileError> {
        let observation = observe::observe(&self.ctx, &object).await;
        let now = Time(Timestamp::now());
        let decision = decide::decide(&object, observation, &self.ctx.tunables, &now);
        report::report(&self.ctx, &object, &decision).await?;
        Ok(decision.requeue)
    }

    fn references(&self, object: &TenantConnection) -> BTreeSet<Reference> {
        connections::references(&object.spec)
            .into_iter()
            .map(|(kind, name)| Reference { kind, name })
            .collect()
    }

    fn gone(&self, key: &ObjectKey) {
        self.ctx.connections.forget(key);
    }
}
