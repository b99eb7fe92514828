//! The operator where it belongs: in a pod, from its image, installed by its chart, on a node of the test cluster.
//!
//! Needs root and what `tests/cluster/node-deps.sh` installs, so nothing here runs by itself: `make e2e` does. One test
//! at a time, since an operator in cluster mode looks after the namespaces of all.

#[path = "../common/mod.rs"]
mod common;
#[path = "../chart/helm.rs"]
#[allow(dead_code)] // the chart's suite uses all of it
mod helm;
mod installed;
mod node;
mod upgrade;
mod volumes;
