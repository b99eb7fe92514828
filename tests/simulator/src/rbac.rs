//! Who may do what: ks-apiserver reads resource, verb and scope off the path (contract §4.0) and asks its roles.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::reply::Reply;

/// One rule of a role; `*` matches everything, `*/sub` every resource with that subresource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// API groups.
    pub groups: Vec<String>,
    /// Resources, with subresource where there is one (`pipelines/runs`, `jenkins/{project}`).
    pub resources: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
}

impl Rule {
    /// A rule of string slices.
    pub fn new(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Self {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Self {
            groups: own(groups),
            resources: own(resources),
            verbs: own(verbs),
        }
    }

    fn matches(&self, info: &RequestInfo) -> bool {
        let any = |list: &[String], value: &str| list.iter().any(|x| x == "*" || x == value);
        let full = info.full_resource();
        any(&self.groups, &info.group)
            && any(&self.verbs, info.verb)
            && self.resources.iter().any(|rule| {
                rule == "*"
                    || *rule == full
                    || (!info.subresource.is_empty()
                        && (rule.strip_prefix("*/") == Some(&info.subresource)
                            || rule.strip_suffix("/*") == Some(&info.resource)))
            })
    }
}

/// A role. Real roles only allow; `denied` is a convenience of the simulator to say "this role, but without …".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// What it allows.
    pub rules: Vec<Rule>,
    /// What it does not allow after all.
    #[serde(default)]
    pub denied: Vec<Rule>,
}

const DEVOPS: &str = "devops.kubesphere.io";
const GITOPS: &str = "gitops.kubesphere.io";

impl Role {
    /// The project role of the recordings: reads everything, does everything in DevOps and `GitOps`.
    pub fn tenant() -> Self {
        Self {
            rules: vec![
                Rule::new(&["*"], &["*"], &["get", "list", "watch"]),
                Rule::new(&[DEVOPS, GITOPS], &["*"], &["*"]),
            ],
            denied: Vec::new(),
        }
    }

    /// Reads everything.
    pub fn viewer() -> Self {
        Self {
            rules: vec![Rule::new(&["*"], &["*"], &["get", "list", "watch"])],
            denied: Vec::new(),
        }
    }

    /// The workspace role of the recordings: sees and creates DevOps projects.
    pub fn workspace_member() -> Self {
        Self {
            rules: vec![Rule::new(&[DEVOPS], &["namespaces"], &["get", "list", "create"])],
            denied: Vec::new(),
        }
    }

    /// A tenant whose role does not know `pipelineruns` beyond reading: `/apis` create, change, delete are 403.
    pub fn tenant_without_pipelineruns() -> Self {
        Self::tenant().without(
            &["pipelineruns"],
            &["create", "update", "patch", "delete", "deletecollection"],
        )
    }

    /// A tenant that may not watch.
    pub fn tenant_without_watch() -> Self {
        Self::tenant().without(&["*"], &["watch"])
    }

    /// A tenant without the raw Jenkins proxy (resource `jenkins/{project}`), the stock case (contract §4.0).
    pub fn tenant_without_jenkins_proxy() -> Self {
        Self::tenant().without(&["jenkins/*"], &["*"])
    }

    /// This role without these verbs on these resources, in all groups.
    #[must_use]
    pub fn without(mut self, resources: &[&str], verbs: &[&str]) -> Self {
        self.denied.push(Rule::new(&["*"], resources, verbs));
        self
    }

    pub(crate) fn allows(&self, info: &RequestInfo) -> bool {
        self.rules.iter().any(|r| r.matches(info)) && !self.denied.iter().any(|r| r.matches(info))
    }
}

/// What ks-apiserver makes of a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    pub(crate) is_resource: bool,
    pub(crate) verb: &'static str,
    pub(crate) group: String,
    pub(crate) workspace: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) name: String,
}

impl RequestInfo {
    /// Reads a path (decoded, cluster prefix removed).
    pub(crate) fn parse(method: &str, segments: &[&str], watch: bool) -> Self {
        let mut info = Self {
            verb: verb(method),
            ..Self::default()
        };
        let mut parts = match segments {
            ["kapis" | "apis", group, _, rest @ ..] if !rest.is_empty() => {
                (*group).clone_into(&mut info.group);
                rest
            }
            ["api", _, rest @ ..] if !rest.is_empty() => rest,
            _ => {
                info.verb = "";
                return info;
            }
        };
        info.is_resource = true;
        if let ["workspaces", workspace, rest @ ..] = parts {
            info.workspace = Some((*workspace).to_owned());
            if !rest.is_empty() {
                parts = rest;
            }
        }
        if let ["namespaces", namespace, rest @ ..] = parts {
            info.namespace = Some((*namespace).to_owned());
            if !rest.is_empty() && *rest != ["status"] && *rest != ["finalize"] {
                parts = rest;
            }
        }
        let at = |i: usize| parts.get(i).map(|&s| s.to_owned()).unwrap_or_default();
        info.resource = at(0);
        info.name = at(1);
        info.subresource = at(2);
        if info.name.is_empty() {
            info.verb = match info.verb {
                "get" if watch => "watch",
                "get" => "list",
                "delete" => "deletecollection",
                other => other,
            };
        } else if info.verb == "get" && watch && info.subresource.is_empty() {
            info.verb = "watch";
        }
        info
    }

    /// `resource` or `resource/subresource`.
    pub(crate) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The 403 of ks-apiserver for this request.
    pub(crate) fn forbidden(&self, user: &str, method: &str, path: &str) -> Reply {
        let (message, details) = if self.is_resource {
            let plural = if self.group.is_empty() {
                self.resource.clone()
            } else {
                format!("{}.{}", self.resource, self.group)
            };
            let subject = if self.name.is_empty() {
                plural
            } else {
                format!("{plural} \"{}\"", self.name)
            };
            let scope = match &self.namespace {
                Some(ns) => format!("in the namespace \"{ns}\""),
                None => "at the cluster scope".to_owned(),
            };
            let message = format!(
                "{subject} is forbidden: User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" {scope}",
                self.verb,
                self.full_resource(),
                self.group,
            );
            let mut details = json!({"kind": self.resource});
            for (key, value) in [("name", &self.name), ("group", &self.group)] {
                if !value.is_empty() {
                    details[key] = Value::from(value.as_str());
                }
            }
            (message, details)
        } else {
            (
                format!("forbidden: User \"{user}\" cannot {method} path \"{path}\""),
                json!({}),
            )
        };
        Reply::status(403, "Forbidden", &message, Some(details)).header("x-content-type-options", "nosniff")
    }
}

fn verb(method: &str) -> &'static str {
    match method {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, path: &str) -> RequestInfo {
        let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
        RequestInfo::parse(method, &segments, false)
    }

    #[test]
    fn paths_become_resources_as_recorded() {
        let cases = [
            (
                "GET",
                "/kapis/devops.kubesphere.io/v1alpha3/namespaces/d/pipelines",
                "list",
                "pipelines",
                "",
            ),
            (
                "POST",
                "/kapis/devops.kubesphere.io/v1alpha3/namespaces/d/pipelines/p/pipelineruns",
                "create",
                "pipelines/pipelineruns",
                "p",
            ),
            (
                "GET",
                "/kapis/devops.kubesphere.io/v1alpha2/namespaces/d/pipelines/p/runs",
                "get",
                "pipelines/runs",
                "p",
            ),
            (
                "POST",
                "/kapis/devops.kubesphere.io/v1alpha2/namespaces/d/pipelines/p/runs/1/stop",
                "create",
                "pipelines/runs",
                "p",
            ),
            (
                "GET",
                "/kapis/devops.kubesphere.io/v1alpha2/namespaces/d/jenkins/job/d/job/p/api/json",
                "get",
                "jenkins/d",
                "job",
            ),
            (
                "GET",
                "/kapis/devops.kubesphere.io/v1alpha3/workspaces/w/namespaces",
                "list",
                "namespaces",
                "",
            ),
            (
                "GET",
                "/kapis/devops.kubesphere.io/v1alpha3/workspaces/w/workspacemembers/m/namespaces",
                "get",
                "workspacemembers/namespaces",
                "m",
            ),
            ("GET", "/api/v1/namespaces/d", "get", "namespaces", "d"),
            (
                "DELETE",
                "/apis/devops.kubesphere.io/v1alpha3/namespaces/d/pipelineruns/r",
                "delete",
                "pipelineruns",
                "r",
            ),
        ];
        for (method, path, verb, resource, name) in cases {
            let info = parse(method, path);
            assert_eq!(
                (info.verb, info.full_resource().as_str(), info.name.as_str()),
                (verb, resource, name),
                "{method} {path}"
            );
        }
    }

    #[test]
    fn a_rule_on_a_resource_does_not_cover_its_subresources() {
        let role = Role {
            rules: vec![Rule::new(&["*"], &["pipelines"], &["get"])],
            denied: Vec::new(),
        };
        assert!(role.allows(&parse("GET", "/kapis/g/v1/namespaces/d/pipelines/p")));
        assert!(!role.allows(&parse("GET", "/kapis/g/v1/namespaces/d/pipelines/p/runs")));
        let role = Role {
            rules: vec![Rule::new(&["*"], &["*/runs"], &["get"])],
            denied: Vec::new(),
        };
        assert!(role.allows(&parse("GET", "/kapis/g/v1/namespaces/d/pipelines/p/runs")));
    }

    #[test]
    fn the_jenkins_proxy_can_be_taken_away() {
        let proxy = parse(
            "GET",
            "/kapis/devops.kubesphere.io/v1alpha2/namespaces/d/jenkins/job/d/x",
        );
        assert!(Role::tenant().allows(&proxy));
        assert!(!Role::tenant_without_jenkins_proxy().allows(&proxy));
    }
}
