//! Faults of the cluster that the operator lives on, each while builds are under way. Afterwards, always: each build ran
//! once, with the right outcome, its whole log and all its files, conditions that say so, and an operator that is ready.
//!
//! The operator is a process, API server and etcd are real; a proxy stands between the two where something has to be
//! spoiled. What each test shows is told in `docs/reliability.md`, "Faults of the cluster".

mod api_server;
#[path = "../common/mod.rs"]
mod common;
mod crds;
mod namespaces;
mod refusals;
mod secrets;
mod stage;
mod stored;
mod verdict;
mod watches;
mod webhook;
mod writers;
