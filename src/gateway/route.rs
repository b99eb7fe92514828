//! Requests as values: which route, how its path and query are written. Every path in the client is built here or with
//! [`segment`], so the encoding rules of contract §2, §4.5 and §6.4 have one home.

use http::{HeaderMap, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    error::Subject,
    names::{ProjectName, RunRef},
    purpose::Purpose,
    telemetry::RouteClass,
};

/// Base of the v1alpha3 routes.
pub(crate) const V3: &str = "/kapis/devops.kubesphere.io/v1alpha3";
/// Base of the Jenkins-backed routes.
pub(crate) const V2: &str = "/kapis/devops.kubesphere.io/v1alpha2";
/// The run objects' group and version under `/apis`.
pub(crate) const APIS: &str = "/apis/devops.kubesphere.io/v1alpha3";

/// How long an exchange may take; see [`TimeLimits`](super::TimeLimits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The whole exchange.
    Json,
    /// Headers, then each piece of the body.
    Log,
    /// Headers, then each piece of the body.
    Artifact,
    /// Headers as JSON, then each piece of the body.
    Watch,
}

/// A request, without credentials.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) subject: Subject,
    pub(crate) method: Method,
    /// Encoded, from `/` on, without the endpoint's own prefix.
    pub(crate) path: String,
    /// Encoded, without the question mark.
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<bytes::Bytes>,
    pub(crate) limit: Limit,
    pub(crate) purpose: Purpose,
}

impl Request {
    /// A read. `what` names the object for messages.
    pub(crate) fn get(route: RouteClass, path: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            subject: Subject {
                route,
                what: what.into(),
                write: false,
            },
            method: Method::GET,
            path: path.into(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: None,
            limit: Limit::Json,
            purpose: Purpose::default(),
        }
    }

    /// A write with a JSON body; the body is never absent (finding F-C).
    pub(crate) fn post(
        route: RouteClass,
        path: impl Into<String>,
        what: impl Into<String>,
        body: &Value,
    ) -> Self {
        let mut request = Self::get(route, path, what);
        request.method = Method::POST;
        request.subject.write = true;
        request.body = Some(body.to_string().into());
        request
            .headers
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    /// A deletion, with options where the route takes them.
    pub(crate) fn delete(path: impl Into<String>, what: impl Into<String>, body: Option<&Value>) -> Self {
        let mut request = Self::post(RouteClass::RunDelete, path, what, &Value::Null);
        request.method = Method::DELETE;
        request.body = body.map(|b| b.to_string().into());
        request
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, key: &str, value: impl AsRef<str>) -> Self {
        if !self.query.is_empty() {
            self.query.push('&');
        }
        self.query.push_str(key);
        self.query.push('=');
        self.query.push_str(&segment(value.as_ref()));
        self
    }

    /// Sets the time limit.
    pub(crate) fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// One path segment or query value, percent-encoded once. An encoded branch comes out as `feature%252Fx`, which is what
/// survives the gateway's hops (finding F-F).
pub(crate) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// A relative path, each segment encoded once.
fn segments(path: &str) -> String {
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// `filename` of the v1alpha3 download: ks-devops decodes it twice and pastes it into a Jenkins URL, which decodes it
/// once more (finding F-I). The query encoding that [`Request::query`] adds is the third.
pub(crate) fn download_name(path: &str) -> String {
    segment(&segments(path))
}

/// v1alpha2 path of a build.
pub(crate) fn run_path(project: &ProjectName, run: &RunRef) -> String {
    let pipeline = format!("{V2}/namespaces/{project}/pipelines/{}", segment(&run.pipeline));
    match &run.branch {
        Some(branch) => format!("{pipeline}/branches/{}/runs/{}", segment(branch.as_str()), run.id),
        None => format!("{pipeline}/runs/{}", run.id),
    }
}

/// Raw Jenkins proxy path of a build. The proxy has admin rights everywhere (finding F-A7): the folder is always the
/// project's own, and a job name cannot add segments.
pub(crate) fn proxy_path(project: &ProjectName, run: &RunRef) -> String {
    let job = format!(
        "{V2}/namespaces/{project}/jenkins/job/{project}/job/{}",
        segment(&run.pipeline)
    );
    match &run.branch {
        Some(branch) => format!("{job}/job/{}/{}", segment(branch.as_str()), run.id),
        None => format!("{job}/{}", run.id),
    }
}

/// Raw Jenkins proxy path of an archived file. None for a path that is none: one with empty, `.` or `..` segments.
pub(crate) fn proxy_artifact_path(project: &ProjectName, run: &RunRef, path: &str) -> Option<String> {
    let clean = !path.split('/').any(|s| matches!(s, "" | "." | ".."));
    clean.then(|| format!("{}/artifact/{}", proxy_path(project, run), segments(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::names::{EncodedBranch, GitBranch, RunId};

    fn run(branch: Option<&str>) -> (ProjectName, RunRef) {
        let branch = branch.map(|b| EncodedBranch::from_git(&GitBranch::new(b)));
        let run = RunRef {
            pipeline: "multi".into(),
            branch,
            id: RunId::new("1").unwrap(),
        };
        (ProjectName::new("demo2snmj").unwrap(), run)
    }

    #[test]
    fn a_slash_branch_is_written_as_the_real_system_was_seen_to_take_it() {
        let (project, run) = run(Some("feature/x"));
        let base = "/kapis/devops.kubesphere.io/v1alpha2/namespaces/demo2snmj";
        assert_eq!(
            run_path(&project, &run),
            format!("{base}/pipelines/multi/branches/feature%252Fx/runs/1")
        );
        assert_eq!(
            proxy_path(&project, &run),
            format!("{base}/jenkins/job/demo2snmj/job/multi/job/feature%252Fx/1")
        );
        let trigger =
            Request::get(RouteClass::RunTrigger, "/", "x").query("branch", run.branch.unwrap().as_str());
        assert_eq!(trigger.query, "branch=feature%252Fx");
    }

    #[test]
    fn file_names_are_encoded_once_for_the_proxy_and_three_times_for_the_download() {
        let (project, run) = run(None);
        for (path, proxied, downloaded) in [
            ("app.jar", "app.jar", "app.jar"),
            ("a+b%20c.txt", "a%2Bb%2520c.txt", "a%25252Bb%25252520c.txt"),
            (
                "dir/junit report.xml",
                "dir/junit%20report.xml",
                "dir%252Fjunit%252520report.xml",
            ),
            (
                "résumé.txt",
                "r%C3%A9sum%C3%A9.txt",
                "r%2525C3%2525A9sum%2525C3%2525A9.txt",
            ),
            (
                "q?#;&.txt",
                "q%3F%23%3B%26.txt",
                "q%25253F%252523%25253B%252526.txt",
            ),
        ] {
            let got = proxy_artifact_path(&project, &run, path).unwrap();
            assert!(
                got.ends_with(&format!("/job/multi/1/artifact/{proxied}")),
                "{got}"
            );
            let query = Request::get(RouteClass::Download, "/", "x")
                .query("filename", download_name(path))
                .query;
            assert_eq!(query, format!("filename={downloaded}"), "{path}");
        }
    }

    #[test]
    fn a_file_path_can_not_climb_out_of_its_build() {
        let (project, run) = run(None);
        for bad in ["", "..", "../x", "a/../../x", "a//b", "/etc/passwd", "a/.", "./a"] {
            assert_eq!(proxy_artifact_path(&project, &run, bad), None, "{bad:?}");
        }
    }
}
