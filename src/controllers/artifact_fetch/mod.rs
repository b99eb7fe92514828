//! The controller of this kind.
