//! Which handler a path belongs to. The class of a route is its name in the ledger and in faults.

/// What a table says about a request.
pub(crate) enum Found<R> {
    Route(R, &'static str, Vec<String>),
    /// The path exists, with these methods.
    WrongMethod(String),
    None,
}

/// Matches segments against a pattern; `{}` takes one segment, `{*}` the rest.
fn matches(pattern: &str, segments: &[&str]) -> Option<Vec<String>> {
    let mut taken = Vec::new();
    let mut rest = segments;
    for part in pattern.split('/') {
        if part == "{*}" {
            taken.push(rest.join("/"));
            return Some(taken);
        }
        let (first, tail) = rest.split_first()?;
        if part == "{}" {
            taken.push((*first).to_owned());
        } else if part != *first {
            return None;
        }
        rest = tail;
    }
    rest.is_empty().then_some(taken)
}

macro_rules! routes {
    ($(#[$doc:meta])* $name:ident { $($id:ident $method:ident $pattern:literal $class:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($id),* }

        impl $name {
            const TABLE: &[(&'static str, &'static str, Self, &'static str)] =
                &[$((stringify!($method), $pattern, Self::$id, $class)),*];

            /// Finds the route of a request.
            pub(crate) fn find(method: &str, segments: &[&str]) -> Found<Self> {
                let mut allowed: Vec<&str> = Vec::new();
                for (m, pattern, route, class) in Self::TABLE {
                    if let Some(taken) = matches(pattern, segments) {
                        if *m == method {
                            return Found::Route(*route, class, taken);
                        }
                        allowed.push(m);
                    }
                }
                if allowed.is_empty() { Found::None } else { Found::WrongMethod(allowed.join(", ")) }
            }

            /// Every class of this table.
            #[cfg(test)]
            pub(crate) fn classes() -> impl Iterator<Item = &'static str> {
                Self::TABLE.iter().map(|(_, _, _, class)| *class)
            }
        }
    };
}

routes! {
    /// `/kapis/devops.kubesphere.io/v1alpha3`
    V3 {
        ProjectList GET "workspaces/{}/namespaces" "v3.projects.list",
        ProjectCreate POST "workspaces/{}/namespaces" "v3.projects.create",
        ProjectListOfMember GET "workspaces/{}/workspacemembers/{}/namespaces" "v3.projects.list",
        ProjectGet GET "workspaces/{}/namespaces/{}" "v3.project.get",
        ProjectUpdate PUT "workspaces/{}/namespaces/{}" "v3.project.update",
        ProjectDelete DELETE "workspaces/{}/namespaces/{}" "v3.project.delete",
        PipelineList GET "namespaces/{}/pipelines" "v3.pipelines.list",
        PipelineCreate POST "namespaces/{}/pipelines" "v3.pipelines.create",
        PipelineGet GET "namespaces/{}/pipelines/{}" "v3.pipeline.get",
        PipelineUpdate PUT "namespaces/{}/pipelines/{}" "v3.pipeline.update",
        PipelineDelete DELETE "namespaces/{}/pipelines/{}" "v3.pipeline.delete",
        Jenkinsfile PUT "namespaces/{}/pipelines/{}/jenkinsfile" "v3.pipeline.jenkinsfile",
        BranchList GET "namespaces/{}/pipelines/{}/branches" "v3.branches.list",
        BranchGet GET "namespaces/{}/pipelines/{}/branches/{}" "v3.branch.get",
        RunList GET "namespaces/{}/pipelines/{}/pipelineruns" "v3.runs.list",
        RunCreate POST "namespaces/{}/pipelines/{}/pipelineruns" "v3.runs.create",
        RunGet GET "namespaces/{}/pipelineruns/{}" "v3.run.get",
        RunDelete DELETE "namespaces/{}/pipelineruns/{}" "v3.run.delete",
        NodeDetails GET "namespaces/{}/pipelineruns/{}/nodedetails" "v3.run.nodedetails",
        ArtifactDownload GET "namespaces/{}/pipelineruns/{}/artifacts/download" "v3.run.artifact",
        CredentialList GET "namespaces/{}/credentials" "v3.credentials.list",
        CredentialCreate POST "namespaces/{}/credentials" "v3.credentials.create",
        CredentialGet GET "namespaces/{}/credentials/{}" "v3.credential.get",
        CredentialUpdate PUT "namespaces/{}/credentials/{}" "v3.credential.update",
        CredentialDelete DELETE "namespaces/{}/credentials/{}" "v3.credential.delete",
        RepositoryList GET "namespaces/{}/gitrepositories" "v3.gitrepositories.list",
        RepositoryCreate POST "namespaces/{}/gitrepositories" "v3.gitrepositories.create",
        RepositoryGet GET "namespaces/{}/gitrepositories/{}" "v3.gitrepository.get",
        RepositoryDelete DELETE "namespaces/{}/gitrepositories/{}" "v3.gitrepository.delete",
    }
}

routes! {
    /// `/kapis/devops.kubesphere.io/v1alpha2`; the branch form of a run route has two more captures in front of the
    /// run's.
    V2 {
        Search GET "search" "v2.search",
        Crumb GET "crumbissuer" "v2.crumb",
        CredentialUsage GET "namespaces/{}/credentials/{}/usage" "v2.credential.usage",
        PipelineGet GET "namespaces/{}/pipelines/{}" "v2.pipeline.get",
        RunList GET "namespaces/{}/pipelines/{}/runs" "v2.runs.list",
        RunCreate POST "namespaces/{}/pipelines/{}/runs" "v2.runs.create",
        BranchRunCreate POST "namespaces/{}/pipelines/{}/branches/{}/runs" "v2.runs.create",
        RunGet GET "namespaces/{}/pipelines/{}/runs/{}" "v2.run.get",
        BranchRunGet GET "namespaces/{}/pipelines/{}/branches/{}/runs/{}" "v2.run.get",
        Stop POST "namespaces/{}/pipelines/{}/runs/{}/stop" "v2.run.stop",
        BranchStop POST "namespaces/{}/pipelines/{}/branches/{}/runs/{}/stop" "v2.run.stop",
        Replay POST "namespaces/{}/pipelines/{}/runs/{}/replay" "v2.run.replay",
        BranchReplay POST "namespaces/{}/pipelines/{}/branches/{}/runs/{}/replay" "v2.run.replay",
        Artifacts GET "namespaces/{}/pipelines/{}/runs/{}/artifacts" "v2.run.artifacts",
        BranchArtifacts GET "namespaces/{}/pipelines/{}/branches/{}/runs/{}/artifacts" "v2.run.artifacts",
        Log GET "namespaces/{}/pipelines/{}/runs/{}/log" "v2.run.log",
        BranchLog GET "namespaces/{}/pipelines/{}/branches/{}/runs/{}/log" "v2.run.log",
        Nodes GET "namespaces/{}/pipelines/{}/runs/{}/nodes" "v2.run.nodes",
        BranchNodes GET "namespaces/{}/pipelines/{}/branches/{}/runs/{}/nodes" "v2.run.nodes",
        NodesDetail GET "namespaces/{}/pipelines/{}/runs/{}/nodesdetail" "v2.run.nodesdetail",
        BranchNodesDetail GET "namespaces/{}/pipelines/{}/branches/{}/runs/{}/nodesdetail" "v2.run.nodesdetail",
        Steps GET "namespaces/{}/pipelines/{}/runs/{}/nodes/{}/steps" "v2.run.steps",
        BranchSteps GET "namespaces/{}/pipelines/{}/branches/{}/runs/{}/nodes/{}/steps" "v2.run.steps",
        StepLog GET "namespaces/{}/pipelines/{}/runs/{}/nodes/{}/steps/{}/log" "v2.run.steplog",
        BranchStepLog GET "namespaces/{}/pipelines/{}/branches/{}/runs/{}/nodes/{}/steps/{}/log" "v2.run.steplog",
        Submit POST "namespaces/{}/pipelines/{}/runs/{}/nodes/{}/steps/{}" "v2.run.submit",
        BranchSubmit POST "namespaces/{}/pipelines/{}/branches/{}/runs/{}/nodes/{}/steps/{}" "v2.run.submit",
        BranchList GET "namespaces/{}/pipelines/{}/branches" "v2.branches.list",
        BranchGet GET "namespaces/{}/pipelines/{}/branches/{}" "v2.branch.get",
        Scan POST "namespaces/{}/pipelines/{}/scan" "v2.scan",
        ConsoleLog GET "namespaces/{}/pipelines/{}/consolelog" "v2.consolelog",
        ProxyGet GET "namespaces/{}/jenkins/{*}" "v2.proxy",
        ProxyPost POST "namespaces/{}/jenkins/{*}" "v2.proxy",
    }
}

routes! {
    /// `/kapis/gitops.kubesphere.io/v1alpha1`
    Gitops {
        List GET "namespaces/{}/applications" "gitops.applications.list",
        Create POST "namespaces/{}/applications" "gitops.applications.create",
        Get GET "namespaces/{}/applications/{}" "gitops.application.get",
        Update PUT "namespaces/{}/applications/{}" "gitops.application.update",
        Delete DELETE "namespaces/{}/applications/{}" "gitops.application.delete",
        Sync POST "namespaces/{}/applications/{}/sync" "gitops.application.sync",
        Summary GET "namespaces/{}/application-summary" "gitops.summary",
        Clusters GET "clusters" "gitops.clusters",
    }
}

routes! {
    /// Everything else that ks-apiserver answers itself.
    Own {
        Token POST "oauth/token" "oauth.token",
        UserInfo GET "oauth/userinfo" "oauth.userinfo",
        Logout GET "oauth/logout" "oauth.logout",
        WellKnown GET ".well-known/openid-configuration" "oauth.wellknown",
        Version GET "version" "version",
        Healthz GET "healthz" "healthz",
        KapisVersion GET "kapis/version" "version",
        User GET "kapis/iam.kubesphere.io/v1beta1/users/{}" "iam.user.get",
        WorkspaceList GET "kapis/tenant.kubesphere.io/v1beta1/workspaces" "tenant.workspaces.list",
        WorkspaceGet GET "kapis/tenant.kubesphere.io/v1beta1/workspaces/{}" "tenant.workspace.get",
        WorkspaceClusters GET "kapis/tenant.kubesphere.io/v1beta1/workspaces/{}/clusters" "tenant.clusters.list",
        TemplateList GET "kapis/tenant.kubesphere.io/v1beta1/workspacetemplates" "tenant.workspacetemplates.list",
        TemplateGet GET "kapis/tenant.kubesphere.io/v1beta1/workspacetemplates/{}" "tenant.workspacetemplate.get",
        OldWorkspaceGet GET "kapis/tenant.kubesphere.io/v1alpha3/workspaces/{}" "tenant.workspacetemplate.get",
        ClusterList GET "kapis/tenant.kubesphere.io/v1beta1/clusters" "tenant.clusters.list",
        ResourceClusters GET "kapis/resources.kubesphere.io/v1alpha3/clusters" "resources.clusters.list",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_name_with_a_decoded_slash_is_no_route() {
        let path = [
            "namespaces",
            "d",
            "pipelines",
            "p",
            "branches",
            "feature",
            "x",
            "runs",
            "1",
        ];
        assert!(matches!(V2::find("GET", &path), Found::None));
    }

    #[test]
    fn a_wrong_method_names_the_right_ones() {
        let Found::WrongMethod(allow) = V3::find("PATCH", &["namespaces", "d", "pipelines", "p"]) else {
            panic!("should be a wrong method")
        };
        assert_eq!(allow, "GET, PUT, DELETE");
    }

    #[test]
    fn the_readme_names_every_class() {
        let readme = include_str!("../README.md");
        for class in V3::classes()
            .chain(V2::classes())
            .chain(Gitops::classes())
            .chain(Own::classes())
        {
            assert!(
                readme.contains(&format!("`{class}`")),
                "README.md does not name {class}"
            );
        }
    }
}
