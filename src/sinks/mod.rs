//! Where bytes come to rest: logs and files in ConfigMaps.
//!
//! What lives here: the pure halves (which part of a log is kept: [`log`]; which files are taken: [`selection`]; under
//! which key a file goes: [`keys`]) and the writers to our own cluster ([`config_map`], [`files`]). What may call it:
//! `controllers` and `fetcher`. What must never come in: the gateway, reconciling, conditions; a sink is given bytes and an owner, and
//! says what stands in the way.

pub mod config_map;
#[cfg(test)]
mod fake_api;
pub mod files;
pub mod keys;
pub mod log;
pub mod selection;

pub use config_map::ConfigMaps;
pub use log::{LogAssembly, LogImage, StoredLog, store_log};

use std::fmt::Write as _;

/// Bytes as lower case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}
