//! tenantry: a Kubernetes operator that lets KubeSphere DevOps tenants declare builds.
//!
//! One direction, four steps: observe → decide → act → report. `api` and `gateway` do not know each other; only
//! `controllers` and `fetcher` know both. Effects live at the edges. See ARCHITECTURE.md.
#![forbid(unsafe_code)]

pub mod api;
pub mod controllers;
pub mod crash_points;
pub mod disguise;
pub mod fetcher;
pub mod gateway;
pub mod observer;
pub mod runtime;
pub mod sinks;
pub mod trouble;
