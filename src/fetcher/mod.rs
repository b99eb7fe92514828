//! What runs inside the fetch Job's pod: `tenantry fetch` brings a run's files, or its log, onto a mounted volume.
//!
//! The pod has no Kubernetes credentials. Everything it is told is a [`Plan`](plan::Plan); everything it tells is an
//! [`Outcome`](outcome::Outcome). `controllers` makes the one and reads the other, and knows nothing else of this folder.
//! What may come in: `gateway` (to fetch), `sinks` (which files, which text). What must never: the Kubernetes API.
//!
//! [`path`] is what may be a path on a volume.

pub mod outcome;
pub mod path;
pub mod plan;
