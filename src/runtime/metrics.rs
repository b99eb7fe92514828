//! What is counted.

/// What is counted.
#[derive(Debug, Default)]
pub struct Metrics {}
