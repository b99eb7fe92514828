//! The kinds of objects there are.

/// A kind of object.
#[allow(clippy::struct_field_names, reason = "the names are Kubernetes'")]
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    /// Status can be written only through the subresource.
    pub(crate) status_subresource: bool,
}

const fn devops(plural: &'static str, kind: &'static str, status_subresource: bool) -> Kind {
    Kind {
        group: "devops.kubesphere.io",
        version: "v1alpha3",
        plural,
        kind,
        namespaced: true,
        status_subresource,
    }
}

const fn core(plural: &'static str, kind: &'static str, namespaced: bool) -> Kind {
    Kind {
        group: "",
        version: "v1",
        plural,
        kind,
        namespaced,
        status_subresource: false,
    }
}

pub(crate) static RUNS: Kind = devops("pipelineruns", "PipelineRun", true);
pub(crate) static PIPELINES: Kind = devops("pipelines", "Pipeline", false);
pub(crate) static GIT_REPOSITORIES: Kind = devops("gitrepositories", "GitRepository", false);
pub(crate) static PROJECTS: Kind = Kind {
    namespaced: false,
    ..devops("devopsprojects", "DevOpsProject", false)
};
pub(crate) static APPLICATIONS: Kind = Kind {
    group: "gitops.kubesphere.io",
    version: "v1alpha1",
    ..devops("applications", "Application", true)
};
pub(crate) static NAMESPACES: Kind = core("namespaces", "Namespace", false);
pub(crate) static EVENTS: Kind = core("events", "Event", true);
pub(crate) static CONFIG_MAPS: Kind = core("configmaps", "ConfigMap", true);
pub(crate) static SECRETS: Kind = core("secrets", "Secret", true);

/// All kinds that can be asked for.
pub(crate) static KINDS: [&Kind; 9] = [
    &RUNS,
    &PIPELINES,
    &GIT_REPOSITORIES,
    &PROJECTS,
    &APPLICATIONS,
    &NAMESPACES,
    &EVENTS,
    &CONFIG_MAPS,
    &SECRETS,
];

impl Kind {
    pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Self> {
        KINDS
            .into_iter()
            .find(|k| k.group == group && k.version == version && k.plural == plural)
    }

    /// `group/version`, or `version` for the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `plural.group`, as errors name it.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub(crate) fn is_custom(&self) -> bool {
        !self.group.is_empty()
    }
}
