//! The live state of an installation: what a [`World`] becomes once it runs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::clock::{self, Millis, Scale};
use crate::config::{AuthConfig, Config, Quirks, Timings};
use crate::controller::Controller;
use crate::faults::Faults;
use crate::gitops::Gitops;
use crate::jenkins::Jenkins;
use crate::ledger::Ledger;
use crate::oauth::Sessions;
use crate::random_faults::Dice;
use crate::rbac::{RequestInfo, Role, Rule};
use crate::store::{NAMESPACES, PIPELINES, PROJECTS, Store, Writer, label};
use crate::world::{BuildScript, PipelineKind, PipelineWorld, Project, Workspace, World};

/// How a cluster answers through `/clusters/{name}` (finding F-O1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterHealth {
    /// As it should be.
    #[default]
    Healthy,
    /// No condition, or Ready False or Unknown: 503 `ErrStatus`.
    NotReady,
    /// The host's kubeconfig is refused by the member: 503 `ErrStatus` of another text.
    CredentialsRefused,
    /// The member's kube-apiserver is down: 502 `ErrStatus`.
    KubeApiserverDown,
    /// The member's ks-apiserver is down: 503 bare Status; 502 `ErrStatus` when connected directly.
    KsApiserverDown,
    /// The member's ks-apiserver does not know the host's signing key: 511.
    IdentityRejected,
    /// The member's ks-apiserver never answers.
    Hangs,
}

/// What is the same for all clusters and does not change.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) scale: Scale,
    pub(crate) timings: Timings,
    pub(crate) quirks: Quirks,
    pub(crate) ledger: Ledger,
}

/// One cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) direct: bool,
    pub(crate) health: ClusterHealth,
    /// ks-devops' API server is gone: 502 on its routes.
    pub(crate) devops_down: bool,
    /// The extension's APIService is not Available: 503 on its routes.
    pub(crate) extension_unavailable: bool,
    pub(crate) store: Store,
    pub(crate) jenkins: Jenkins,
    pub(crate) controller: Controller,
    pub(crate) gitops: Gitops,
    /// Roles by namespace and user.
    pub(crate) members: BTreeMap<String, BTreeMap<String, Role>>,
    /// How builds of a pipeline go, where that was said.
    pub(crate) scripts: BTreeMap<(String, String), BuildScript>,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) context: Context,
    pub(crate) auth: AuthConfig,
    pub(crate) sessions: Sessions,
    pub(crate) workspaces: BTreeMap<String, (Workspace, String)>,
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) faults: Faults,
    pub(crate) dice: Dice,
}

impl State {
    pub(crate) fn new(config: &Config, ledger: Ledger) -> Self {
        let context = Context {
            scale: Scale(config.time_scale),
            timings: config.timings,
            quirks: config.quirks,
            ledger,
        };
        let world: &World = &config.world;
        let mut state = Self {
            auth: config.auth,
            sessions: Sessions::new(world),
            workspaces: BTreeMap::new(),
            clusters: Vec::new(),
            faults: Faults::default(),
            dice: Dice::default(),
            context,
        };
        for cluster in &world.clusters {
            state.add_cluster(&cluster.name, cluster.direct);
        }
        for workspace in &world.workspaces {
            state.add_workspace(workspace.clone());
        }
        for project in &world.projects {
            state.add_project(project);
        }
        let now = clock::now();
        for cluster in &mut state.clusters {
            cluster.jenkins.advance(now);
            crate::controller::pipelines::sync_all(cluster, now);
            cluster.store.take_touched();
        }
        state
    }

    pub(crate) fn add_cluster(&mut self, name: &str, direct: bool) {
        self.clusters.push(Cluster {
            name: name.to_owned(),
            uid: uuid::Uuid::new_v4().to_string(),
            direct,
            health: ClusterHealth::Healthy,
            devops_down: false,
            extension_unavailable: false,
            store: Store::default(),
            jenkins: Jenkins::new(self.context.scale),
            controller: Controller::default(),
            gitops: Gitops::default(),
            members: BTreeMap::new(),
            scripts: BTreeMap::new(),
        });
    }

    pub(crate) fn add_workspace(&mut self, workspace: Workspace) {
        let uid = uuid::Uuid::new_v4().to_string();
        self.workspaces.insert(workspace.name.clone(), (workspace, uid));
    }

    /// Adds a project with its pipelines; returns its full name.
    pub(crate) fn add_project(&mut self, project: &Project) -> String {
        let Some(cluster) = self.clusters.iter_mut().find(|c| c.name == project.cluster) else {
            return String::new();
        };
        let name = match &project.name {
            Some(name) => name.clone(),
            None => format!("{}{}", project.short_name, cluster.store.suffix()),
        };
        cluster.add_project(project, &name);
        for pipeline in &project.pipelines {
            cluster.add_pipeline(&name, pipeline);
        }
        name
    }

    pub(crate) fn cluster(&mut self, name: &str) -> Option<&mut Cluster> {
        // "host" always means the host, whatever it is called (contract §2).
        let wanted = if name == "host" {
            self.clusters.first()?.name.clone()
        } else {
            name.to_owned()
        };
        self.clusters.iter_mut().find(|c| c.name == wanted)
    }

    /// Whether the roles of this user let this request through. The cluster decides by its own bindings.
    pub(crate) fn may(&self, user: &str, cluster: &Cluster, info: &RequestInfo) -> bool {
        if self.sessions.is_admin(user) {
            return true;
        }
        if !info.is_resource || user == ANONYMOUS {
            return false;
        }
        let is_person = self.sessions.is_person(user);
        if is_person && authenticated_may(user, info) {
            return true;
        }
        if let Some(namespace) = &info.namespace {
            return cluster
                .namespace_role(namespace, user)
                .is_some_and(|role| role.allows(info))
                || self
                    .workspace_role_in(cluster, namespace, user)
                    .is_some_and(|role| role.allows(info));
        }
        info.workspace
            .as_ref()
            .and_then(|ws| self.workspaces.get(ws)?.0.members.get(user))
            .is_some_and(|role| role.allows(info))
    }

    /// Workspace roles do not reach into projects here, except that a project's creator keeps what the world gave.
    fn workspace_role_in(&self, cluster: &Cluster, namespace: &str, user: &str) -> Option<&Role> {
        let object = cluster.store.get(&NAMESPACES, "", namespace)?;
        let workspace = label(object, WORKSPACE_LABEL)?;
        let role = self.workspaces.get(workspace)?.0.members.get(user)?;
        // Only rules for everything are meant for what is inside the projects.
        role.rules
            .iter()
            .any(|r| r.resources.iter().any(|x| x == "*"))
            .then_some(role)
    }

    /// Moves everything on that moves by itself. Returns when that will be the case again.
    pub(crate) fn advance(&mut self, now: Millis) -> Option<Millis> {
        let context = self.context.clone();
        self.clusters
            .iter_mut()
            .filter_map(|cluster| crate::controller::step(cluster, &context, now))
            .min()
    }
}

/// What every person who logged in may read (contract §1.4).
fn authenticated_may(user: &str, info: &RequestInfo) -> bool {
    let reads = ["get", "list", "watch"];
    let common = Role {
        rules: vec![
            Rule::new(&["tenant.kubesphere.io"], &["*"], &reads),
            Rule::new(&["resources.kubesphere.io"], &["clusters"], &reads),
        ],
        denied: Vec::new(),
    };
    let myself = info.name == user && info.verb == "get";
    common.allows(info)
        || (myself && info.group == "iam.kubesphere.io" && info.resource == "users")
        || (myself && info.full_resource() == "workspacemembers/namespaces")
}

/// The user of a request without credentials.
pub(crate) const ANONYMOUS: &str = "system:anonymous";
/// Says which workspace a project or namespace belongs to.
pub(crate) const WORKSPACE_LABEL: &str = "kubesphere.io/workspace";
/// Says who made an object.
pub(crate) const CREATOR: &str = "kubesphere.io/creator";

impl Cluster {
    /// The role of a user in a namespace; none if the namespace does not exist or is cut off from its workspace.
    pub(crate) fn namespace_role(&self, namespace: &str, user: &str) -> Option<&Role> {
        let object = self.store.get(&NAMESPACES, "", namespace)?;
        label(object, WORKSPACE_LABEL)?;
        self.members.get(namespace)?.get(user)
    }

    pub(crate) fn add_project(&mut self, project: &Project, name: &str) {
        let creator = project.creator.as_deref().unwrap_or("admin");
        let mut object = json!({
            "metadata": {
                "name": name, "generateName": project.short_name,
                "annotations": {
                    CREATOR: creator,
                    "devopsproject.devops.kubesphere.io/syncstatus": "successful",
                    "devopsproject.devops.kubesphere.io/synctime": clock::go(clock::now()),
                },
                "finalizers": ["devopsproject.finalizers.kubesphere.io"],
            },
            "spec": {}, "status": {"adminNamespace": name},
        });
        if project.labelled {
            object["metadata"]["labels"] = json!({WORKSPACE_LABEL: project.workspace});
        }
        let Ok(stored) = self.store.create(&PROJECTS, object, "ds-controller", false) else {
            return;
        };
        self.add_namespace(
            &stored,
            name,
            project.namespace_labelled.then_some(project.workspace.as_str()),
        );
        self.members
            .entry(name.to_owned())
            .or_default()
            .extend(project.members.clone());
    }

    /// The namespace of a project.
    pub(crate) fn add_namespace(&mut self, project: &Value, name: &str, workspace: Option<&str>) {
        let mut labels = json!({
            "devops.kubesphere.io/managed": "true", "kubernetes.io/metadata.name": name,
            "kubesphere.io/devopsproject": name,
        });
        if let Some(workspace) = workspace {
            labels[WORKSPACE_LABEL] = Value::from(workspace);
        }
        let creator = project["metadata"]["annotations"][CREATOR].clone();
        let namespace = json!({
            "metadata": {
                "name": name, "labels": labels, "annotations": {CREATOR: creator},
                "ownerReferences": [{
                    "apiVersion": PROJECTS.api_version(), "kind": PROJECTS.kind, "name": name,
                    "uid": project["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
        });
        let _ = self.store.create(&NAMESPACES, namespace, "ds-controller", false);
    }

    /// Adds a pipeline as if a tenant had made it and the controller had synced it.
    pub(crate) fn add_pipeline(&mut self, project: &str, pipeline: &PipelineWorld) {
        self.scripts.insert(
            (project.to_owned(), pipeline.name.clone()),
            pipeline.script.clone(),
        );
        let creator = pipeline.creator.as_deref().unwrap_or("admin");
        let object = json!({
            "metadata": {
                "name": pipeline.name, "namespace": project, "annotations": {CREATOR: creator},
            },
            "spec": pipeline_spec(pipeline), "status": {},
        });
        if self
            .store
            .create(&PIPELINES, object, "ds-apiserver", false)
            .is_err()
        {
            return;
        }
        crate::controller::pipelines::make_job(self, project, &pipeline.name);
        if pipeline.kind == PipelineKind::MultiBranch {
            self.set_branches(project, &pipeline.name, pipeline.branches.clone());
        }
    }

    /// Makes Jenkins know exactly these branches.
    pub(crate) fn set_branches(
        &mut self,
        project: &str,
        pipeline: &str,
        branches: Vec<crate::world::Branch>,
    ) {
        crate::controller::pipelines::set_branches(self, project, pipeline, branches);
    }

    /// Changes an object in place, whoever else changed it meanwhile.
    pub(crate) fn edit(
        &mut self,
        kind: &'static crate::store::Kind,
        namespace: &str,
        name: &str,
        writer: Writer<'_>,
        change: impl FnOnce(&mut Value),
    ) -> Option<Value> {
        let mut object = self.store.get(kind, namespace, name)?.clone();
        change(&mut object);
        self.store.update(kind, object, writer).ok()
    }
}

fn pipeline_spec(pipeline: &PipelineWorld) -> Value {
    const JENKINSFILE: &str = "pipeline { agent any\n stages { stage('Checkout') { steps { echo 'a' } } \
        stage('Build') { steps { echo 'b' } } stage('Publish') { steps { echo 'c' } } } }\n";
    if pipeline.kind == PipelineKind::MultiBranch {
        return json!({
            "type": "multi-branch-pipeline",
            "multi_branch_pipeline": {
                "name": pipeline.name, "source_type": "git", "script_path": "Jenkinsfile",
                "git_source": {"url": "http://127.0.0.1:9/acme/app.git", "discover_branches": true},
            },
        });
    }
    let mut spec = json!({"name": pipeline.name, "jenkinsfile": JENKINSFILE});
    if !pipeline.parameters.is_empty() {
        spec["parameters"] = pipeline
            .parameters
            .iter()
            .map(|p| {
                let mut o = json!({"name": p.name, "type": p.kind});
                if let Some(default) = &p.default {
                    o["default_value"] = Value::from(default.as_str());
                }
                if !p.description.is_empty() {
                    o["description"] = Value::from(p.description.as_str());
                }
                o
            })
            .collect();
    }
    if pipeline.disable_concurrent {
        spec["disable_concurrent"] = Value::from(true);
    }
    if let Some(keep) = pipeline.keep_builds {
        spec["discarder"] = json!({"num_to_keep": keep.to_string()});
    }
    json!({"type": "pipeline", "pipeline": spec})
}
