//! The process around the controllers: flags, telemetry, health, metrics, shutdown, backoff. Knows how to run things,
//! not what they decide.

pub mod backoff;
pub mod metrics;
