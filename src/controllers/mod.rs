//! The controllers, one folder a kind, each in four steps: observe (I/O) → decide (pure) → act (I/O) → report.
//!
//! Only here do the API types and the gateway meet. A `decide` has no I/O, no async and no clock of its own.
//! What several controllers share: the [`Context`], the Jobs that fill volumes ([`fetch_jobs`]), and [`refusal`]: what an error of the gateway means for an object.

pub mod artifact_fetch;
pub mod build_request;
pub mod cluster;
pub mod connections;
pub mod context;
pub mod fetch_jobs;
pub mod projects;
pub mod refusal;
pub mod status;
pub mod tenant_connection;

pub use connections::{Connected, Connections};
pub use context::{Context, Tunables};

use std::sync::Arc;

use crate::runtime::Host;

/// Starts all controllers on `host`.
pub fn start(ctx: &Arc<Context>, host: &mut Host) {
    let witness = Arc::clone(ctx);
    host.tell_first(Arc::new(move |kind, key| witness.connections.changed(kind, key)));
    tenant_connection::start(ctx, host);
    build_request::start(ctx, host);
    artifact_fetch::start(ctx, host);
}
