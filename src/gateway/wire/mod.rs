//! The pure half of the client: what an answer means. Status, headers and body in, a typed value or a
//! [`GatewayError`](super::GatewayError) out. No I/O, no clock, no async: so every recorded answer of a real system
//! can be pushed through exactly the code that runs in production.

pub mod answer;
pub mod artifact;
pub mod jenkins;
pub mod json;
pub mod oauth;
pub mod pipeline;
pub mod project;
pub mod refusal;
pub mod row;
pub mod run;
pub mod stage;
