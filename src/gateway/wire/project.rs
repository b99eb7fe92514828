//! Workspaces, DevOps projects, and the namespace behind a project (contract §3).

use serde::Deserialize;

use super::{
    json::{Envelope, Metadata, read},
    refusal::Reply,
};
use crate::gateway::{error::Result, names::ProjectName};

/// Label that binds a namespace or project to its workspace.
pub(crate) const WORKSPACE: &str = "kubesphere.io/workspace";

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

/// What the Namespace object behind a project says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceView {
    /// The workspace label's value.
    pub workspace: Option<String>,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    status: Option<ProjectStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ProjectStatus {
    admin_namespace: Option<String>,
}

/// Reads a workspace list.
pub fn workspaces(reply: &Reply<'_>) -> Result<Vec<Workspace>> {
    reply.accept()?;
    let list: Option<Envelope<Object>> = read(reply)?;
    Ok(items(list)
        .map(|o| Workspace {
            name: o.metadata.name,
        })
        .collect())
}

/// Reads one workspace.
pub fn workspace(reply: &Reply<'_>) -> Result<Workspace> {
    reply.accept()?;
    let object: Object = read(reply)?;
    Ok(Workspace {
        name: object.metadata.name,
    })
}

/// Reads a project list, in all three empty shapes (contract §3.3). A project whose name could not be a namespace is
/// left out: nothing could be asked about it.
pub fn projects(reply: &Reply<'_>) -> Result<Vec<Project>> {
    reply.accept()?;
    let list: Option<Envelope<Object>> = read(reply)?;
    Ok(items(list).filter_map(project_of).collect())
}

/// Reads the Namespace object of a project.
pub fn namespace(reply: &Reply<'_>) -> Result<NamespaceView> {
    reply.accept()?;
    let mut object: Object = read(reply)?;
    Ok(NamespaceView {
        workspace: object.metadata.labels.remove(WORKSPACE),
    })
}

fn items<T>(list: Option<Envelope<T>>) -> impl Iterator<Item = T> {
    list.into_iter().flat_map(|l| l.items)
}

fn project_of(object: Object) -> Option<Project> {
    let mut meta = object.metadata;
    let namespace = object
        .status
        .and_then(|s| s.admin_namespace)
        .filter(|n| !n.is_empty());
    let name = ProjectName::new(namespace.unwrap_or(meta.name)).ok()?;
    Some(Project {
        short_name: if meta.generate_name.is_empty() {
            name.to_string()
        } else {
            meta.generate_name
        },
        workspace: meta.labels.remove(WORKSPACE),
        uid: meta.uid,
        deleting: meta.deletion_timestamp.is_some(),
        name,
    })
}
