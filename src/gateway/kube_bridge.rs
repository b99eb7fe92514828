//! kube_bridge
