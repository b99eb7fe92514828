//! The operator is killed again and again while the remote misbehaves, and in the end the books are balanced: what was
//! asked for, what the operator says of it, and what Jenkins really built.
//!
//! In CI a short form of each; the long ones are `make chaos` and `make soak-model`.

#[path = "../common/mod.rs"]
mod common;

mod audit;
mod balance;
mod kills;
mod plan;
mod settings;
mod watched;
