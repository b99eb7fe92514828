//! Artifact lists (contract §5.5).

use serde::Deserialize;

use super::{
    json::{null_is_default, read},
    refusal::Reply,
};
use crate::gateway::error::Result;

/// One archived file of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Path relative to the archive root; comes from the build, so it is not to be trusted as a local path.
    pub path: String,
    /// Size in bytes as Jenkins tells it.
    pub size: u64,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default, deserialize_with = "null_is_default")]
    path: String,
    // Omitted when zero.
    #[serde(default, deserialize_with = "null_is_default")]
    size: i64,
}

/// Reads one page of an artifact list.
pub fn artifacts(reply: &Reply<'_>) -> Result<Vec<Artifact>> {
    reply.accept()?;
    let items: Option<Vec<Item>> = read(reply)?;
    let file = |i: Item| Artifact {
        path: i.path,
        size: u64::try_from(i.size).unwrap_or(0),
    };
    Ok(items
        .into_iter()
        .flatten()
        .filter(|i| !i.path.is_empty())
        .map(file)
        .collect())
}
