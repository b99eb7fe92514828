//! The Helm chart, and the kustomizations that are made from it: what they render, that a real API server takes it, and
//! that the operator can live with the rights it gets there. Helm is built by `hack/helm.sh` when it is missing.

#[path = "../common/mod.rs"]
mod common;
mod generated;
mod helm;
mod install;
#[path = "../e2e_volumes/kubelet.rs"]
#[allow(dead_code)] // the suite of volumes uses all of it
mod kubelet;
mod monitoring;
mod render;
mod replicas;
mod rights;
