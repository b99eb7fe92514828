//! The operator where it belongs: in a pod, from its image, installed by its chart, on a node of the test cluster.
//!
//! Needs root and what `tests/cluster/node-deps.sh` installs, so nothing here runs by itself: `make e2e` does. An operator
//! in cluster mode looks after the namespaces of all, so its test runs alone; those that look after their own namespace run
//! side by side. Whichever it is, the API server's audit log must show at its end that nothing was refused.

mod bench;
mod claims;
#[path = "../common/mod.rs"]
mod common;
#[path = "../chart/helm.rs"]
#[allow(dead_code)] // the chart's suite uses all of it
mod helm;
mod installed;
mod killed;
mod node;
mod upgrade;
mod volumes;
