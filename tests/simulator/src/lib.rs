//! The KubeSphere simulator.
