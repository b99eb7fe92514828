//! The process around the controllers: flags, telemetry, health, metrics, shutdown, watches, queues and backoff.
//!
//! It knows how to run things, not what they decide; it may use `api` (the kinds and their names) and, in [`metrics`],
//! the labels of `gateway`. Only [`operator`] knows the controllers, because it starts them. No HTTP to KubeSphere here.
//!
//! # How a controller plugs in
//! A controller is one [`Reconciler`] and one `start` function:
//! ```ignore
//! pub fn start(ctx: &Arc<Context>, host: &mut Host) {
//!     let ctx = Arc::clone(ctx);
//!     host.control(|bell| BuildRequests { ctx, bell })   // `bell.ring(key)` asks for a reconcile of an object
//!         .wakes_on::<TenantConnection>()                // an object that lists it in `references` is woken
//!         .wakes_on::<Secret>()
//!         .wakes_on::<ConfigMap>()
//!         .owns::<ArtifactFetch>()                       // its controller owner is woken
//!         .start();
//! }
//! ```
//! What the [`harness`] does for it:
//! - It watches metadata only and keeps one number per object: a hash of generation, deletion, finalizers and our
//!   annotations. A write of status or labels therefore wakes nobody. The whole object is read live for each reconcile.
//! - An object that is finished ([`Requeue::Settled`]) gets a mark by which the next process knows so from its metadata, and
//!   does not read it ([`settled`]).
//! - An object that no longer parses gets a Warning Event and stops nothing else.
//! - One reconcile per object at a time, at most `--concurrency` per kind, each bounded in time; a panic is caught.
//! - [`Requeue`] says what comes next; failures in a row lead to exponential backoff per object, which a change of the
//!   object, or of what it refers to, ends.

pub mod answers;
pub mod backoff;
pub mod cli;
pub mod crds;
pub mod events;
pub mod glimpse;
pub mod harness;
pub mod health;
pub mod kind;
mod labels;
pub mod lease;
pub mod metrics;
pub mod observed;
pub mod operator;
pub mod queue;
pub mod reach;
pub mod reference;
pub mod references;
mod sessions;
pub mod settled;
pub mod shard;
pub mod shutdown;
pub mod telemetry;
pub mod vanished;
pub mod watches;

pub use harness::{Bell, Host, ReconcileError, Reconciler, Requeue};
pub use kind::{Kind, ObjectKey, Watched};
pub use references::Reference;
pub use shard::Shard;
pub use watches::WatchScope;
