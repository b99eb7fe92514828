//! Failures in a row, per object.

/// Failures in a row, per object.
#[derive(Debug, Default)]
pub struct Backoffs {}
