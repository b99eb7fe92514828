//! A simulated KubeSphere: the gateway (ks-apiserver), ks-devops with its controller, and Jenkins, in one process on
//! loopback, answering to the byte shape of the real system.
//!
//! What lives here: everything a program sees that talks to the gateway as a tenant, every fault of it as a knob, and
//! an honest ledger of what was asked and what it caused. Tests start one with [`Simulator::start`]; people run the
//! binary `ks-simulator`. What must never come in: anything of the program under test. The simulator knows the remote
//! system only, from its contract and from recordings.
//!
//! ```text
//! request ─ server ─ gateway: faults → authentication → cluster → roles ─┬─ oauth, tenant, clusters
//!                                                                        ├─ v3, v2, gitops (ks-devops)
//!                                                                        └─ apis        (kube-apiserver)
//!                             store (objects) ◀── controller ──▶ jenkins (builds)
//! ```

mod apis;
mod call;
mod clock;
mod clusters;
mod config;
mod control;
mod controller;
mod faults;
mod gateway;
mod gitops;
mod jenkins;
mod ledger;
mod listener;
mod oauth;
mod query;
mod random_faults;
mod rbac;
mod reply;
mod route;
mod server;
mod state;
mod store;
mod tenant;
mod v2;
mod v3;
pub mod world;

pub use config::{AuthConfig, Config, Quirks, Timings};
pub use control::{BuildSummary, Control, ControlError};
pub use faults::{Cut, Fault, FaultAction};
pub use gitops::controller::ArgoSetup;
pub use jenkins::{JenkinsFault, JenkinsOutage};
pub use ledger::{ActionRecord, BuildRecord, Ledger, LedgerSnapshot, LoginRecord, RequestRecord};
pub use random_faults::{FaultKind, RandomFaults};
pub use rbac::{Role, Rule};
pub use server::Simulator;
pub use state::ClusterHealth;
pub use world::World;
