//! Fixtures for tenantry's suites: a real Kubernetes API server ([`TestCluster`]), the operator as a process of its own
//! ([`Operator`]), a proxy that spoils what is said between the two ([`FaultProxy`]) and waiting for a state instead of sleeping ([`wait_for`]).
//!
//! Lives here: what every suite needs and none is about. May be called from: tests only, of any crate of the workspace.
//! Never comes in: knowledge of tenantry's kinds or of KubeSphere (the simulator is a crate of its own), assertions of one
//! suite, a sleep that hopes.
#![forbid(unsafe_code)]

pub mod bench;
mod cluster;
pub mod fault_proxy;
mod namespace;
mod operator;
pub mod page;
mod probe;
mod process;
pub mod recorded;
mod wait;

pub use cluster::{ClusterOptions, TestCluster};
pub use fault_proxy::{ApiAction, ApiFault, FaultProxy, Select};
pub use namespace::Namespace;
pub use operator::{Operator, OperatorBuilder};
pub use probe::{Answer, http_get};
pub use wait::{PATIENCE, Seen, wait_condition, wait_for};
