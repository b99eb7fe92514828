//! OBSERVE: what the gateway says.

use crate::{
    api::{
        TenantConnection,
        conditions::Reason,
        tenant_connection::{Capabilities, Capability, ProjectName},
    },
    controllers::{Connected, Context},
    gateway::{self, Class, ErrorKind, GatewayError, Known, Purpose, SessionInfo},
    runtime::ObjectKey,
    trouble::Trouble,
};

/// What the gateway says.
#[derive(Debug, PartialEq)]
pub enum Observation {
    /// It was not asked.
    Suspended,
    /// Something stands in the way.
    Hindered {
        /// Who we are logged in as, where we got as far as that.
        session: Option<SessionInfo>,
        /// What stands in the way.
        trouble: Trouble,
    },
    /// All is well.
    Reached {
        /// Who we are logged in as.
        session: SessionInfo,
        /// The projects we may see, all of them, in no order.
        projects: Vec<ProjectName>,
        /// What is known about our rights.
        capabilities: Capabilities,
    },
}

/// Asks the gateway of `object`.
pub async fn observe(ctx: &Context, object: &TenantConnection) -> Observation {
    let key = ObjectKey::of(object);
    if object.spec.suspend {
        return Observation::Suspended;
    }
    let connected = match ctx.connections.get(&key.namespace, &key.name).await {
        Ok(connected) => connected.on_behalf_of(purpose(object)),
        Err(trouble) => {
            return Observation::Hindered {
                session: None,
                trouble,
            };
        }
    };
    let session = match connected.gateway.session().await {
        Ok(session) => session,
        Err(error) => {
            return Observation::Hindered {
                session: None,
                trouble: error.into(),
            };
        }
    };
    match projects(&connected, &session.user).await {
        Ok(projects) => Observation::Reached {
            session,
            projects,
            capabilities: capabilities(connected.gateway.capabilities()),
        },
        Err(trouble) => Observation::Hindered {
            session: Some(session),
            trouble,
        },
    }
}

/// A person waits for the first look; later ones only keep the status up to date.
fn purpose(object: &TenantConnection) -> Purpose {
    let seen = object
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    let class = if seen == object.metadata.generation {
        Class::Background
    } else {
        Class::Interactive
    };
    Purpose::new(ObjectKey::of(object), class)
}

async fn projects(connected: &Connected, user: &str) -> Result<Vec<ProjectName>, Trouble> {
    let workspace = &connected.spec.workspace;
    let scope = connected.scope(None);
    let listed = scope.projects(workspace).await;
    let unsure = match &listed {
        Ok(projects) => projects.is_empty(),
        Err(error) => matches!(error.kind(), ErrorKind::Forbidden | ErrorKind::NotFound),
    };
    // An empty list and a refusal are also what a workspace gets that does not exist. Roles of workspaces are kept on
    // the host, so it is asked there.
    if unsure {
        let there = connected.gateway.scope(None).workspace(workspace).await;
        if let Some(trouble) =
            workspace_trouble(workspace, user, listed.as_ref().err(), there.as_ref().map(|_| ()))
        {
            return Err(trouble);
        }
    }
    let listed = listed?;
    Ok(listed
        .into_iter()
        .map(|project| ProjectName {
            short_name: Some(project.short_name).filter(|short| short != project.name.as_str()),
            name: project.name.into(),
        })
        .collect())
}

/// What is wrong with the workspace, judged from the refused list, if it was refused, and the answer for the workspace
/// itself. That it may be read proves nothing about membership (finding B, 0208).
fn workspace_trouble(
    workspace: &str,
    user: &str,
    list_error: Option<&GatewayError>,
    there: Result<(), &GatewayError>,
) -> Option<Trouble> {
    if there.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Some(Trouble::user(
            Reason::WorkspaceNotFound,
            format!("the gateway knows no workspace {workspace:?}: correct spec.workspace"),
        ));
    }
    list_error.map(|error| {
        Trouble::user(
            Reason::WorkspaceNotFound,
            format!(
                "user {user} may not list the DevOps projects of workspace {workspace:?} ({error}): have the user \
                 invited to the workspace, or correct spec.workspace"
            ),
        )
    })
}

fn capabilities(known: gateway::Capabilities) -> Capabilities {
    let gateway::Capabilities {
        create_runs,
        watch_runs,
        jenkins_proxy,
    } = known;
    let one = |known| match known {
        Known::Yes { .. } => Capability::Yes,
        Known::No { .. } => Capability::No,
        Known::Unknown => Capability::Unknown,
    };
    Capabilities {
        create_runs: one(create_runs),
        watch_runs: one(watch_runs),
        jenkins_proxy: one(jenkins_proxy),
    }
}
