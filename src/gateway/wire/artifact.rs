//! Artifact lists (contract §5.5).

/// One archived file of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Path relative to the archive root; comes from the build, so it is not to be trusted as a local path.
    pub path: String,
    /// Size in bytes as Jenkins tells it.
    pub size: u64,
}
