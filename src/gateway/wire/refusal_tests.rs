//! One table over everything that is known to say no, and every class it ends in.

use std::collections::BTreeSet;

use super::*;
use crate::gateway::error::ErrorClass;
use ErrorKind as K;
use RouteClass as R;

const GET: bool = false;
const WRITE: bool = true;

struct Case {
    name: &'static str,
    route: R,
    write: bool,
    status: u16,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    kind: K,
    ambiguous: bool,
    says: &'static str,
}

const JENKINS: &[(&str, &str)] = &[("x-jenkins", "2.479.3")];

#[rustfmt::skip]
const TABLE: &[Case] = &[
    // bare Status of the gateway
    Case { name: "401", route: R::Pipelines, write: GET, status: 401, headers: &[], kind: K::TokenRejected, ambiguous: false, says: "token not found in cache",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"token not found in cache","reason":"Unauthorized","code":401}"# },
    Case { name: "403", route: R::RunTrigger, write: WRITE, status: 403, headers: &[], kind: K::Forbidden, ambiguous: false, says: "is forbidden",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pipelines.devops.kubesphere.io \"x\" is forbidden: User \"bob\"","reason":"Forbidden","code":403}"# },
    Case { name: "511", route: R::RunTrigger, write: WRITE, status: 511, headers: &[], kind: K::BackendUnavailable, ambiguous: false, says: "system issue",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"The request could not be authenticated due to a system issue.","reason":"Network Authentication Required","code":511}"# },
    Case { name: "member ks-apiserver down", route: R::Pipelines, write: GET, status: 503, headers: &[], kind: K::BackendUnavailable, ambiguous: false, says: "error trying to reach service",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"error trying to reach service: dial tcp: refused","reason":"ServiceUnavailable","code":503}"# },
    Case { name: "/apis 409", route: R::RunCreate, write: WRITE, status: 409, headers: &[], kind: K::Conflict, ambiguous: false, says: "already exists",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pipelineruns \"a\" already exists","reason":"AlreadyExists","code":409}"# },
    Case { name: "/apis 422", route: R::RunCreate, write: WRITE, status: 422, headers: &[], kind: K::Rejected, ambiguous: false, says: "is invalid",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"PipelineRun \"a\" is invalid","reason":"Invalid","code":422}"# },
    Case { name: "/apis 404", route: R::Kubernetes, write: GET, status: 404, headers: &[], kind: K::NotFound, ambiguous: false, says: "not found",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pipelineruns.devops.kubesphere.io \"a\" not found","reason":"NotFound","code":404}"# },
    Case { name: "/apis without the CRD", route: R::Kubernetes, write: GET, status: 404, headers: &[], kind: K::RouteMissing, ambiguous: false, says: "404 page not found",
        body: "404 page not found\n" },
    // wrapped Status of the dispatcher
    Case { name: "unknown cluster", route: R::Projects, write: GET, status: 400, headers: &[], kind: K::UnknownCluster, ambiguous: false, says: "cluster west not exists",
        body: r#"{"ErrStatus":{"metadata":{},"status":"Failure","message":"cluster west not exists","reason":"BadRequest","code":400}}"# },
    Case { name: "cluster not ready", route: R::Projects, write: GET, status: 503, headers: &[], kind: K::BackendUnavailable, ambiguous: false, says: "is not ready",
        body: r#"{"ErrStatus":{"metadata":{},"status":"Failure","message":"cluster west is not ready","reason":"ServiceUnavailable","code":503}}"# },
    Case { name: "cluster not ready, POST", route: R::RunTrigger, write: WRITE, status: 503, headers: &[], kind: K::BackendUnavailable, ambiguous: false, says: "is not ready",
        body: r#"{"ErrStatus":{"metadata":{},"status":"Failure","message":"cluster west is not ready","reason":"ServiceUnavailable","code":503}}"# },
    Case { name: "member unreachable, POST", route: R::RunTrigger, write: WRITE, status: 503, headers: &[], kind: K::BackendUnavailable, ambiguous: true, says: "error trying to reach service",
        body: r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"error trying to reach service: dial tcp: refused","reason":"ServiceUnavailable","code":503}"# },
    Case { name: "backend down, POST", route: R::RunTrigger, write: WRITE, status: 502, headers: &[], kind: K::BackendUnavailable, ambiguous: true, says: "Error while proxying request",
        body: r#"{"ErrStatus":{"metadata":{},"message":"Error while proxying request: dial tcp 10.0.0.9:9090: connect: connection refused","reason":"Bad Gateway","code":502}}"# },
    // OAuth
    Case { name: "wrong password", route: R::Token, write: GET, status: 400, headers: &[], kind: K::CredentialsRefused, ambiguous: false, says: "Invalid username or password.",
        body: r#"{"error":"invalid_grant","error_description":"Invalid username or password."}"# },
    Case { name: "wrong client secret", route: R::Token, write: GET, status: 401, headers: &[], kind: K::CredentialsRefused, ambiguous: false, says: "Invalid client credential.",
        body: r#"{"error":"unauthorized_client","error_description":"Invalid client credential."}"# },
    Case { name: "locked out", route: R::Token, write: GET, status: 429, headers: &[], kind: K::LockedOut, ambiguous: false, says: "Rate limit exceeded.",
        body: r#"{"error":"invalid_grant","error_description":"Rate limit exceeded."}"# },
    Case { name: "OAuth failure", route: R::Token, write: GET, status: 500, headers: &[], kind: K::RemoteFailure, ambiguous: false, says: "An internal server error",
        body: r#"{"error":"server_error","error_description":"An internal server error occurred while processing the request."}"# },
    Case { name: "userinfo anonymous", route: R::UserInfo, write: GET, status: 401, headers: &[], kind: K::TokenRejected, ambiguous: false, says: "login_required",
        body: "\"login_required\"" },
    // one line of text from ks-devops v1alpha3
    Case { name: "no such pipeline", route: R::Pipelines, write: GET, status: 404, headers: &[], kind: K::NotFound, ambiguous: false, says: "not found",
        body: "pipelines.devops.kubesphere.io \"nope\" not found\n" },
    Case { name: "no such branch", route: R::Branches, write: GET, status: 404, headers: &[], kind: K::NotFound, ambiguous: false, says: "was not found",
        body: "Branch x was not found\n" },
    Case { name: "no such route", route: R::Pipelines, write: GET, status: 404, headers: &[], kind: K::RouteMissing, ambiguous: false, says: "404: Page Not Found",
        body: "404: Page Not Found" },
    Case { name: "an ingress answers", route: R::RunGet, write: GET, status: 404, headers: &[], kind: K::RouteMissing, ambiguous: false, says: "default backend",
        body: "default backend - 404" },
    Case { name: "a web server answers", route: R::RunGet, write: GET, status: 404, headers: &[], kind: K::RouteMissing, ambiguous: false, says: "Not Found",
        body: "<html><body><h1>404 Not Found</h1></body></html>" },
    Case { name: "branch missing", route: R::RunTrigger, write: WRITE, status: 400, headers: &[], kind: K::Rejected, ambiguous: false, says: "missing branch name",
        body: "missing branch name for running a multi-branch Pipeline\n" },
    Case { name: "pipeline GET 400", route: R::Pipelines, write: GET, status: 400, headers: &[], kind: K::RemoteFailure, ambiguous: false, says: "etcdserver",
        body: "etcdserver: leader changed\n" },
    Case { name: "no content type", route: R::RunTrigger, write: WRITE, status: 400, headers: &[], kind: K::BadRequestForm, ambiguous: false, says: "Unable to unmarshal",
        body: "[ServiceError:400] Unable to unmarshal content of type:\n" },
    Case { name: "delete while running", route: R::RunDelete, write: WRITE, status: 400, headers: &[], kind: K::Conflict, ambiguous: false, says: "cannot delete a running",
        body: "cannot delete a running PipelineRun, please stop it first, current status is Running\n" },
    Case { name: "stages not yet", route: R::Stages, write: GET, status: 500, headers: &[], kind: K::NotYet, ambiguous: false, says: "unexpected end",
        body: "unexpected end of JSON input\n" },
    Case { name: "download before an id", route: R::Download, write: GET, status: 500, headers: &[], kind: K::NotYet, ambiguous: false, says: "not found run ID",
        body: "unable to get PipelineRun nodes due to not found run ID\n" },
    Case { name: "no such artifact", route: R::Download, write: GET, status: 500, headers: &[], kind: K::NotFound, ambiguous: false, says: "404",
        body: "failed to get artifact. the HTTP status code is 404\n" },
    Case { name: "artifact, Jenkins ill", route: R::Download, write: GET, status: 500, headers: &[], kind: K::JenkinsUnavailable, ambiguous: false, says: "503",
        body: "failed to get artifact. the HTTP status code is 503\n" },
    Case { name: "artifact cut", route: R::Download, write: GET, status: 500, headers: &[], kind: K::JenkinsUnavailable, ambiguous: false, says: "1->2",
        body: "read tcp 1-&gt;2: read: connection reset by peer\n" },
    Case { name: "artifact too slow", route: R::Download, write: GET, status: 500, headers: &[], kind: K::JenkinsUnavailable, ambiguous: false, says: "deadline",
        body: "context deadline exceeded (Client.Timeout or context cancellation while reading body)\n" },
    Case { name: "panic", route: R::RunGet, write: GET, status: 500, headers: &[], kind: K::RemoteFailure, ambiguous: false, says: "Internal server error",
        body: "Internal server error" },
    Case { name: "trigger 500", route: R::RunTrigger, write: WRITE, status: 500, headers: &[], kind: K::RemoteFailure, ambiguous: true, says: "etcd",
        body: "etcdserver: request timed out\n" },
    // Jenkins inside a 500
    Case { name: "no such build", route: R::JenkinsRun, write: GET, status: 500, headers: &[], kind: K::NotFound, ambiguous: false, says: "not found",
        body: r#"{"message":"Run 99 in pipeline hello not found","code":404,"errors":[]}"# },
    Case { name: "stop unknown", route: R::Stop, write: WRITE, status: 500, headers: &[], kind: K::NotFound, ambiguous: false, says: "not found",
        body: r#"{"message":"Run 99 in pipeline hello not found","code":404,"errors":[]}"# },
    Case { name: "Jenkins 400", route: R::Stop, write: WRITE, status: 500, headers: &[], kind: K::Rejected, ambiguous: false, says: "No such parameter",
        body: r#"{"message":"No such parameter definition: NOPE","code":400,"errors":[]}"# },
    Case { name: "Jenkins 500 in JSON", route: R::Stop, write: WRITE, status: 500, headers: &[], kind: K::JenkinsUnavailable, ambiguous: true, says: "oops",
        body: r#"{"message":"oops","code":500,"errors":[]}"# },
    Case { name: "Jenkins starting", route: R::Log, write: GET, status: 500, headers: &[], kind: K::JenkinsUnavailable, ambiguous: false, says: "Please wait while Jenkins",
        body: "<html>Please wait while Jenkins is getting ready to work</html>" },
    Case { name: "Jenkins down", route: R::Log, write: GET, status: 500, headers: &[], kind: K::JenkinsUnavailable, ambiguous: false, says: "connection refused",
        body: "Get \"http://jenkins/blue\": dial tcp 10.1.2.3:80: connect: connection refused" },
    Case { name: "proxy 404", route: R::DownloadProxy, write: GET, status: 404, headers: JENKINS, kind: K::NotFound, ambiguous: false, says: "HTTP ERROR 404",
        body: "<html><head><title>Error 404</title></head><body><h2>HTTP ERROR 404 Not Found</h2></body></html>" },
    Case { name: "proxy 404 of someone else", route: R::DownloadProxy, write: GET, status: 404, headers: &[], kind: K::RouteMissing, ambiguous: false, says: "",
        body: "" },
    Case { name: "proxy 403 of Jenkins", route: R::DownloadProxy, write: GET, status: 403, headers: JENKINS, kind: K::JenkinsUnavailable, ambiguous: false, says: "No valid crumb",
        body: "<html>No valid crumb</html>" },
    Case { name: "proxy 500", route: R::DownloadProxy, write: GET, status: 500, headers: JENKINS, kind: K::JenkinsUnavailable, ambiguous: false, says: "Oops",
        body: "<html><body>Oops</body></html>" },
    Case { name: "proxy 503", route: R::LogProxy, write: GET, status: 503, headers: JENKINS, kind: K::JenkinsUnavailable, ambiguous: false, says: "",
        body: "" },
    // what belongs to no one
    Case { name: "406", route: R::Log, write: GET, status: 406, headers: &[], kind: K::BadRequestForm, ambiguous: false, says: "Not Acceptable",
        body: "406: Not Acceptable\n\nAvailable representations: text/plain; charset=utf-8" },
    Case { name: "405", route: R::Pipelines, write: GET, status: 405, headers: &[], kind: K::BadRequestForm, ambiguous: false, says: "405",
        body: "405: Method Not Allowed" },
    Case { name: "request 429", route: R::RunGet, write: GET, status: 429, headers: &[("retry-after", "7")], kind: K::Throttled, ambiguous: false, says: "slow",
        body: "slow down" },
    Case { name: "redirect", route: R::RunTrigger, write: WRITE, status: 302, headers: &[("location", "https://elsewhere.example/x?token=secret")], kind: K::RedirectRefused, ambiguous: false, says: "https://elsewhere.example/x",
        body: "" },
    Case { name: "gateway time-out page", route: R::RunTrigger, write: WRITE, status: 504, headers: &[], kind: K::BackendUnavailable, ambiguous: true, says: "Gateway Time-out",
        body: "<html><h1>504 Gateway Time-out</h1></html>" },
    Case { name: "507", route: R::RunTrigger, write: WRITE, status: 507, headers: &[], kind: K::RemoteFailure, ambiguous: true, says: "",
        body: "" },
];

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
        .collect()
}

#[test]
fn every_known_refusal_ends_in_the_right_kind() {
    for case in TABLE {
        let subject = Subject {
            route: case.route,
            what: "do it".into(),
            write: case.write,
        };
        let headers = headers(case.headers);
        let reply = Reply {
            subject: &subject,
            status: case.status,
            headers: &headers,
            body: case.body.as_bytes(),
            secrets: &[],
        };
        let error = reply.accept().expect_err(case.name);
        assert_eq!(error.kind(), case.kind, "{}: {error}", case.name);
        assert_eq!(error.ambiguous(), case.ambiguous, "{}: ambiguous", case.name);
        assert_eq!(error.status(), Some(case.status), "{}", case.name);
        let text = error.to_string();
        assert!(
            text.contains(case.says),
            "{}: {text:?} does not say {:?}",
            case.name,
            case.says
        );
        assert!(
            text.starts_with("do it: "),
            "{}: {text:?} does not say what was asked",
            case.name
        );
        assert!(!text.contains("secret"), "{}: {text:?}", case.name);
    }
    let classes: BTreeSet<_> = TABLE.iter().map(|c| c.kind.class()).collect();
    let all = [
        ErrorClass::User,
        ErrorClass::Denied,
        ErrorClass::Throttled,
        ErrorClass::Unavailable,
        ErrorClass::Gone,
        ErrorClass::Conflict,
        ErrorClass::Bug,
    ];
    assert_eq!(classes, BTreeSet::from(all), "a class has no case");
}

#[test]
fn no_status_and_no_body_makes_it_panic_or_turn_a_refusal_into_a_success() {
    for route in R::ALL {
        for status in (100..200).chain(300..=999) {
            for body in [
                "",
                "{}",
                "null",
                "[]",
                "{\"code\":404}",
                "\u{fffd}",
                "<",
                "{\"ErrStatus\":null}",
            ] {
                let subject = Subject {
                    route,
                    what: "x".into(),
                    write: true,
                };
                let headers = HeaderMap::new();
                let reply = Reply {
                    subject: &subject,
                    status,
                    headers: &headers,
                    body: body.as_bytes(),
                    secrets: &[],
                };
                assert!(reply.accept().is_err(), "{status} {body}");
            }
        }
    }
}

#[test]
fn retry_after_is_read_as_seconds_and_as_a_date() {
    let date = "Sun, 22 Nov 2026 12:30:10 GMT";
    for (pairs, want) in [
        (vec![("retry-after", "7")], Some(7)),
        (vec![("retry-after", " 7 ")], Some(7)),
        (vec![("retry-after", "999999999")], Some(86400)),
        (
            vec![("retry-after", "Sun, 22 Nov 2026 12:31:10 GMT"), ("date", date)],
            Some(60),
        ),
        (
            vec![("retry-after", "Sun, 22 Nov 2026 12:00:00 GMT"), ("date", date)],
            Some(0),
        ),
        (vec![("retry-after", "Sun, 22 Nov 2026 12:31:10 GMT")], None),
        (vec![("retry-after", "soon")], None),
        (vec![], None),
    ] {
        assert_eq!(
            retry_after(&headers(&pairs)),
            want.map(Duration::from_secs),
            "{pairs:?}"
        );
    }
}
