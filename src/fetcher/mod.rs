//! What runs inside the fetch Job's pod: `tenantry fetch` brings a run's files, or its log, onto a mounted volume.
//!
//! The pod has no Kubernetes credentials. Everything it is told is a [`Plan`](plan::Plan); everything it tells is an
//! [`Outcome`](outcome::Outcome). `controllers` makes the one and reads the other, and knows nothing else of this folder.
//! What may come in: `gateway` (to fetch), `sinks` (which files, which text). What must never: the Kubernetes API.
//!
//! The way: [`run`] (the process) → [`connect`] (to the gateway) → [`artifacts`] or [`log`] → [`start`] (look before
//! leaping) → [`transfers`] → [`staging`] (bytes to the disk, with a [`journal`]) → [`publish`] (into their places, with a
//! [`manifest`]). [`path`] is what may be a path on a
//! volume, [`volume`] the only door to it, [`bounded`] how much is read back from it, [`desk`] one owner's part of it.
//! [`remote`] is shared with the controller.
//!
//! What holds at every moment, whenever the pod dies:
//! - Nothing of a revision is visible before all of it is on the volume and has the digests that `verify` asks for. A
//!   failure leaves the revision before, and its manifest, as they were.
//! - What the journal calls whole is safe on the disk: it is not fetched again, and its digest holds.
//! - Only files that a manifest of ours names, and that are as we wrote them, are ever removed.

pub mod artifacts;
pub mod bounded;
pub mod connect;
pub mod desk;
pub mod journal;
pub mod log;
pub mod manifest;
pub mod outcome;
pub mod path;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod remote;
pub mod run;
pub mod staging;
pub mod start;
pub mod transfers;
pub mod volume;
