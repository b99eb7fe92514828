//! What must come of an answer by its status and shape alone: true of any recording of such a system, with other names
//! and numbers too. Written from contract §1.1, §2, §4.0, §5.1 and findings B, H, I, O; deliberately not in the client's
//! own terms of routes and parsers.

use std::fmt;

use serde_json::Value;
use tenantry_test_support::recorded::{Exchange, Response};

/// What a rule says.
pub enum Rule {
    /// A value: of one of these kinds.
    Value(&'static [&'static str]),
    /// An error of one of these kinds.
    Error(&'static [&'static str]),
    /// No news yet, which is not an error.
    NoStagesYet,
}

impl Rule {
    /// Whether what the client made of it (as `facts::describe` says it) is what the rule says.
    pub fn admits(&self, got: &str) -> bool {
        match self {
            Self::Value(kinds) => kinds.iter().any(|kind| got.starts_with(&format!("{kind} "))),
            Self::Error(kinds) => kinds
                .iter()
                .any(|kind| got.starts_with(&format!("error kind={kind};"))),
            Self::NoStagesYet => got == "stages stages=none",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(kinds) => write!(f, "a value: {}", kinds.join(" or ")),
            Self::Error(kinds) => write!(f, "an error: {}", kinds.join(" or ")),
            Self::NoStagesYet => f.write_str("no stages yet"),
        }
    }
}

/// The rule for an exchange; None where nothing came.
pub fn expected(exchange: &Exchange) -> Option<Rule> {
    let response = exchange.response.as_ref()?;
    let (path, query) = exchange.path.split_once('?').unwrap_or((&exchange.path, ""));
    Some(if response.status == 500 {
        internal(path, response)
    } else if response.status >= 300 {
        refusal(exchange, path, response)
    } else if path.contains("/apis/") && query.split('&').any(|p| p.starts_with("watch=")) {
        Rule::Value(&["watch"])
    } else {
        success(
            path,
            response,
            kinds(exchange.method.as_str(), path).unwrap_or(&["other"]),
        )
    })
}

fn success(path: &str, response: &Response, kinds: &'static [&'static str]) -> Rule {
    // The proxy says 200 with nothing in it when Jenkins is down (finding H).
    if path.contains("/jenkins/") && !response.headers.contains_key("x-jenkins") {
        return Rule::Error(&["JenkinsUnavailable"]);
    }
    Rule::Value(kinds)
}

fn refusal(exchange: &Exchange, path: &str, response: &Response) -> Rule {
    let text = String::from_utf8_lossy(&response.body);
    let wrapped = text.starts_with("{\"ErrStatus\"") || field(response, "ErrStatus").is_some();
    Rule::Error(match response.status {
        _ if response.headers.contains_key("x-jenkins") => match response.status {
            404 => &["NotFound"],
            416 => &["BadRequestForm"],
            _ => &["JenkinsUnavailable"],
        },
        300..=399 => &["RedirectRefused"],
        400 | 401 if path.ends_with("/oauth/token") => &["CredentialsRefused"],
        429 if path.ends_with("/oauth/token") => &["LockedOut"],
        400 if wrapped => &["UnknownCluster"],
        400 if text.contains("Unable to unmarshal content of type") => &["BadRequestForm"],
        400 if exchange.method == "DELETE" => &["Conflict"],
        400 if exchange.method == "GET" => &["RemoteFailure", "Rejected"],
        400 | 422 => &["Rejected"],
        401 => &["TokenRejected"],
        403 => &["Forbidden"],
        404 if text.starts_with("404") => &["RouteMissing"],
        404 => &["NotFound"],
        405 | 406 | 415 => &["BadRequestForm"],
        409 => &["Conflict"],
        429 => &["Throttled"],
        502..=504 | 511 => &["BackendUnavailable"],
        _ => &["RemoteFailure"],
    })
}

/// ks-devops turns whatever went wrong into a 500; the body tells what it was (contract §5.1, findings H, I).
fn internal(path: &str, response: &Response) -> Rule {
    let text = String::from_utf8_lossy(&response.body);
    if path.ends_with("/nodedetails") && text.trim() == "unexpected end of JSON input" {
        return Rule::NoStagesYet;
    }
    let behind_jenkins = path.contains("/v1alpha2/") || path.ends_with("/artifacts/download");
    let jenkins_code = response
        .json
        .as_ref()
        .and_then(|j| j.get("errors").and(j.get("code")?.as_u64()));
    Rule::Error(match jenkins_code {
        Some(404) => &["NotFound"],
        Some(400) => &["Rejected"],
        Some(_) => &["JenkinsUnavailable"],
        None if text.contains("status code is 404") => &["NotFound"],
        None if text.contains("invalid URL escape") => &["BadRequestForm"],
        None if text.contains("not found run ID") => &["NotYet"],
        None if behind_jenkins && !text.starts_with("Internal server error") => &["JenkinsUnavailable"],
        None => &["RemoteFailure", "JenkinsUnavailable"],
    })
}

fn field<'a>(response: &'a Response, key: &str) -> Option<&'a Value> {
    response.json.as_ref()?.get(key)
}

/// The kinds of value a route gives.
fn kinds(method: &str, path: &str) -> Option<&'static [&'static str]> {
    let path = path.trim_matches('/');
    let parts: Vec<&str> = path.split('/').collect();
    let parts = if parts[0] == "clusters" {
        &parts[2..]
    } else {
        &parts[..]
    };
    let (first, last) = (*parts.first()?, *parts.last()?);
    let has = |word: &str| parts.contains(&word);
    let one_of = |word: &str| parts.len() >= 2 && parts[parts.len() - 2] == word;
    let runs = has("pipelineruns") && has("devops.kubesphere.io") && has("namespaces");
    Some(match (method, first) {
        ("POST", "oauth") if last == "token" => &["tokens"],
        ("GET", "oauth") if last == "userinfo" => &["user"],
        ("GET", "kapis") if parts[1] == "tenant.kubesphere.io" && parts[2] == "v1beta1" => {
            match parts.len() {
                4 if last == "workspaces" => &["workspaces"],
                5 if one_of("workspaces") => &["workspace"],
                _ => return None,
            }
        }
        ("GET", "api") if parts.len() == 4 && one_of("namespaces") => &["namespace"],
        ("GET", "api") if parts.len() == 5 && last == "events" => &["events"],
        ("POST", "apis") if runs && last == "pipelineruns" => &["run"],
        ("GET", "apis") if runs && last == "pipelineruns" => &["runs"],
        ("GET", "apis") if runs && one_of("pipelineruns") => &["run"],
        ("DELETE", "apis" | "kapis") if runs && one_of("pipelineruns") => &["deleted"],
        ("GET", "kapis") if has("jenkins") => match last {
            "progressiveText" | "consoleText" => &["bytes"],
            _ if has("artifact") => &["bytes"],
            _ => return None,
        },
        (_, "kapis")
            if parts[1] != "devops.kubesphere.io" || has("credentials") || has("gitrepositories") =>
        {
            return None;
        }
        (_, "kapis") if parts[2] == "v1alpha3" => v1alpha3(method, parts, last)?,
        (_, "kapis") if parts[2] == "v1alpha2" => v1alpha2(method, parts, last)?,
        _ => return None,
    })
}

fn v1alpha3(method: &str, parts: &[&str], last: &str) -> Option<&'static [&'static str]> {
    Some(match (method, parts.len(), parts[3], last) {
        ("GET", 6, "workspaces", "namespaces") => &["projects"],
        ("GET", 6, "namespaces", "pipelines") => &["pipelines"],
        ("GET", 7, "namespaces", _) if parts[5] == "pipelines" => &["pipeline"],
        ("GET", 7, "namespaces", _) if parts[5] == "pipelineruns" => &["run"],
        ("GET", 8, "namespaces", "branches") => &["branches"],
        ("GET", 8, "namespaces", "pipelineruns") => &["runs"],
        ("POST", 8, "namespaces", "pipelineruns") => &["run"],
        ("GET", 8, "namespaces", "nodedetails") => &["stages"],
        ("GET", 9, "namespaces", "download") => &["bytes"],
        ("GET", 9, "namespaces", _) if parts[7] == "branches" => &["branch"],
        _ => return None,
    })
}

fn v1alpha2(method: &str, parts: &[&str], last: &str) -> Option<&'static [&'static str]> {
    let ([_, _, _, "namespaces", _, "pipelines", _, "runs", runs @ ..]
    | [
        _,
        _,
        _,
        "namespaces",
        _,
        "pipelines",
        _,
        "branches",
        _,
        "runs",
        runs @ ..,
    ]) = parts
    else {
        return None;
    };
    Some(match (method, runs.len(), last) {
        ("GET", 1, _) | ("POST", 2, "stop") => &["build"],
        ("GET", 2 | 6, "log") => &["bytes"],
        ("GET", 2, "nodes") => &["stages"],
        ("GET", 4, "steps") => &["steps"],
        ("GET", 2, "artifacts") => &["artifacts"],
        _ => return None,
    })
}
