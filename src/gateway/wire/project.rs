//! Workspaces, DevOps projects, and the namespace behind a project (contract §3).
use serde::Deserialize;

use super::json::{Envelope, Metadata};
use crate::gateway::{ProjectName, RouteClass, names::BadName};

/// A workspace the caller is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workspace {
    /// Its name.
    pub name: String,
}

/// A DevOps project as the project list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// The full name, which is also the namespace: short name plus 5 characters.
    pub name: ProjectName,
    /// The name a person gave it (`generateName`); the full name where there is none.
    pub short_name: String,
    /// The workspace it belongs to, by its label.
    pub workspace: Option<String>,
    /// Object UID.
    pub uid: String,
    /// It is on its way out.
    pub deleting: bool,
}
