//! The KubeSphere client: session, transport, projects, pipelines, runs, logs, artifacts, and one error taxonomy.
//!
//! What lives here: everything that knows HTTP, OAuth and the kapis contract. [`wire`] holds the pure half (bytes in,
//! typed values or a [`GatewayError`] out); the rest carries requests. What may call it: `controllers` and `sinks`.
//! What must never come in: CRD types of `crate::api`, reconciling, waiting policies of a build. The client answers one
//! question at a time and says truthfully what it does not know.
//!
//! The way in: [`Gateway::new`] → [`Gateway::scope`] (a cluster) → [`Scope::project`] (a DevOps project) → calls.

mod artifacts;
mod budget;
mod capabilities;
mod client;
mod config;
mod error;
mod exchange;
mod gate;
mod kube_bridge;
mod log;
mod names;
mod pipelines;
mod projects;
mod purpose;
mod route;
mod rows;
mod runs;
mod session;
mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
mod transfer;
mod transport;
pub mod wire;

pub use artifacts::Download;
pub use capabilities::{Capabilities, Capability, Known};
pub use client::{Gateway, ProjectScope, Scope, SessionInfo};
pub use config::{Credentials, GatewayConfig, Kubeconfig, Limits, SessionPolicy, TimeLimits, TlsOptions};
pub use error::{ErrorClass, ErrorKind, GatewayError, Result};
pub use gate::{OpenGate, WriteGate};
pub use kube_bridge::RunEvent;
pub use log::{LogChunk, LogCursor, LogEnd, LogRung, LogStream};
pub use names::{BadName, EncodedBranch, GitBranch, ProjectName, RunId, RunRef};
pub use projects::{ProjectDiagnosis, ResolveError, resolve_project};
pub use purpose::{Class, Purpose};
pub use rows::RowWatch;
pub use runs::{CreateOutcome, NewRun};
pub use telemetry::{CallObserver, CallOutcome, Grant, LoginOutcome, NoObserver, RouteClass};
pub use transfer::{Receiver, TransferError, transfer};
pub use wire::artifact::Artifact;
pub use wire::jenkins::{BuildOutcome, JenkinsResult, JenkinsRun, JenkinsState};
pub use wire::pipeline::{
    Branch, DeclaredParameter, ParameterKind, Pipeline, PipelineKind, declared_parameters,
};
pub use wire::project::{Project, Workspace};
pub use wire::row::{RowEvent, RowLine, Rows, RunRow};
pub use wire::run::{Page, Parameter, Run, RunPhase, RunProgress};
pub use wire::stage::{PausedInput, Stage, StageInput, Step, first_failed, paused_inputs};
