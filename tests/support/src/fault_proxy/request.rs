//! What a request asks the API server for, and a pattern that tells which requests are meant.

use std::{fmt, sync::Arc};

use http::Method;
use serde_json::Value;

/// What a request asks for, in the words of Kubernetes' RBAC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiRequest {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: &'static str,
    /// The resource (`buildrequests`); empty for what is none (`/version`).
    pub resource: String,
    /// The subresource (`status`); empty where there is none.
    pub subresource: String,
    /// The namespace; empty for what has none.
    pub namespace: String,
    /// The object's name; empty in a list, a watch or a create.
    pub name: String,
    /// Whether it is a watch that begins with a list of all there is.
    pub lists: bool,
}

impl ApiRequest {
    /// Reads what a request asks for.
    pub fn of(method: &Method, path: &str, query: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let rest = match parts.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => &[],
        };
        // `namespaces/{name}/status` is a part of the Namespace, not a resource in it.
        let (namespace, rest) = match rest {
            ["namespaces", _, "status" | "finalize"] => ("", rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            _ => ("", rest),
        };
        let part = |n: usize| rest.get(n).copied().unwrap_or_default().to_owned();
        let name = part(1);
        let watches = query
            .split('&')
            .any(|pair| matches!(pair, "watch=true" | "watch=1" | "watch"));
        let verb = match *method {
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE if name.is_empty() => "deletecollection",
            Method::DELETE => "delete",
            _ if watches => "watch",
            _ if name.is_empty() => "list",
            _ => "get",
        };
        Self {
            verb,
            resource: part(0),
            subresource: part(2),
            namespace: namespace.to_owned(),
            name,
            lists: verb == "watch" && query.split('&').any(|pair| pair == "sendInitialEvents=true"),
        }
    }
}

impl fmt::Display for ApiRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        write!(
            f,
            "{} {}{slash}{} {}/{}",
            self.verb, self.resource, self.subresource, self.namespace, self.name
        )
    }
}

type Test = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

/// Which requests are meant.
#[derive(Clone, Default)]
pub struct Select {
    verb: Option<String>,
    resource: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    lists: bool,
    body: Option<Test>,
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
        write!(
            f,
            "{} {}/{} {}/{}{}",
            text(&self.verb),
            text(&self.resource),
            text(&self.subresource),
            text(&self.namespace),
            text(&self.name),
            if self.body.is_some() {
                " with such a body"
            } else {
                ""
            }
        )
    }
}

impl Select {
    /// Verb and resource: `"update buildrequests/status"`, `"create configmaps"`, `"watch *"`, `"* buildrequests/*"`.
    /// Without `/…` the object itself is meant and no subresource of it; `*` alone is everything.
    pub fn of(text: &str) -> Self {
        let some = |part: &str| (part != "*").then(|| part.to_owned());
        let (verb, resource) = text.split_once(' ').unwrap_or((text, "*"));
        let (resource, subresource) = match resource.split_once('/') {
            Some((resource, subresource)) => (some(resource), some(subresource)),
            None if resource == "*" => (None, None),
            None => (some(resource), Some(String::new())),
        };
        Self {
            verb: some(verb),
            resource,
            subresource,
            ..Self::default()
        }
    }

    /// Only in this namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only of the object of this name. (A create has no name in its path: see [`with_body`](Self::with_body).)
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only a watch that begins with a list of all there is.
    #[must_use]
    pub fn that_lists(mut self) -> Self {
        self.lists = true;
        self
    }

    /// Only with a JSON body for which this holds: `|o| o["status"]["phase"] == "Collecting"`.
    #[must_use]
    pub fn with_body(mut self, holds: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        self.body = Some(Arc::new(holds));
        self
    }

    /// Whether a request is meant.
    pub fn fits(&self, request: &ApiRequest, body: &[u8]) -> bool {
        let fits = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|wanted| wanted == has);
        fits(&self.verb, request.verb)
            && fits(&self.resource, &request.resource)
            && fits(&self.subresource, &request.subresource)
            && fits(&self.namespace, &request.namespace)
            && fits(&self.name, &request.name)
            && (!self.lists || request.lists)
            && self
                .body
                .as_ref()
                .is_none_or(|holds| serde_json::from_slice(body).is_ok_and(|body| holds(&body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_rbac_reads_them() {
        let breqs = "/apis/tenantry.dev/v1alpha1/namespaces/team/buildrequests";
        let rows = [
            (Method::GET, breqs, "", "list buildrequests team/"),
            (
                Method::GET,
                breqs,
                "limit=1&watch=true",
                "watch buildrequests team/",
            ),
            (Method::POST, breqs, "", "create buildrequests team/"),
            (
                Method::PUT,
                &format!("{breqs}/a/status"),
                "",
                "update buildrequests/status team/a",
            ),
            (
                Method::PATCH,
                &format!("{breqs}/a"),
                "",
                "patch buildrequests team/a",
            ),
            (
                Method::DELETE,
                &format!("{breqs}/a"),
                "",
                "delete buildrequests team/a",
            ),
            (Method::DELETE, breqs, "", "deletecollection buildrequests team/"),
            (
                Method::GET,
                "/api/v1/namespaces/team/configmaps/a",
                "",
                "get configmaps team/a",
            ),
            (
                Method::GET,
                "/apis/tenantry.dev/v1alpha1/buildrequests",
                "watch=1",
                "watch buildrequests /",
            ),
            (Method::GET, "/api/v1/namespaces/team", "", "get namespaces /team"),
            (
                Method::PUT,
                "/api/v1/namespaces/team/finalize",
                "",
                "update namespaces/finalize /team",
            ),
            (Method::GET, "/version", "", "list  /"),
        ];
        for (method, path, query, expected) in rows {
            assert_eq!(
                ApiRequest::of(&method, path, query).to_string(),
                expected,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn a_pattern_means_what_it_says() {
        let request = ApiRequest::of(
            &Method::PUT,
            "/apis/g/v/namespaces/team/buildrequests/a/status",
            "",
        );
        let body = br#"{"status":{"phase":"Collecting"}}"#;
        let rows = [
            (Select::of("*"), true),
            (Select::of("update *"), true),
            (Select::of("patch *"), false),
            (Select::of("update buildrequests/status"), true),
            (Select::of("* buildrequests/*"), true),
            (Select::of("update buildrequests"), false),
            (Select::of("*").named("a").in_namespace("team"), true),
            (Select::of("*").named("b"), false),
            (Select::of("*").in_namespace("other"), false),
            (
                Select::of("*").with_body(|o| o["status"]["phase"] == "Collecting"),
                true,
            ),
            (
                Select::of("*").with_body(|o| o["status"]["phase"] == "Pending"),
                false,
            ),
        ];
        for (select, fits) in rows {
            assert_eq!(select.fits(&request, body), fits, "{select:?}");
        }
    }
}
