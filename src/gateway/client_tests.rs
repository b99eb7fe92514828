//! Session, transport and redirects against a little server: what is sent, how often, and what is never sent.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::json;

use super::*;
use crate::gateway::{
    Class, ErrorClass, Parameter,
    config::TimeLimits,
    telemetry::{CallObserver, CallOutcome, Grant, LoginOutcome},
    testing::{Seen, Server, answer, config, raw, token, unauthorized},
};

const TOKEN: &str = "/oauth/token";
const PROJECTS: &str = "/kapis/devops.kubesphere.io/v1alpha3/workspaces/acme/namespaces";

fn empty_list() -> axum::response::Response {
    answer(200, &[("content-type", "application/json")], "null")
}

fn project(gateway: &Gateway) -> ProjectScope {
    gateway.scope(None).project(&ProjectName::new("demo").unwrap())
}

#[tokio::test]
async fn fifty_callers_at_once_make_one_login() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        _ if seen.authorization.as_deref() == Some("Bearer token-1") => empty_list(),
        _ => unauthorized(),
    })
    .await;
    let scope = server.gateway().scope(None);
    let calls = (0..50).map(|_| scope.projects("acme"));
    for result in futures::future::join_all(calls).await {
        assert_eq!(result.unwrap(), vec![]);
    }
    assert_eq!(server.count(TOKEN), 1);
    assert_eq!(server.count(PROJECTS), 50);
    let login = server.seen().into_iter().find(|s| s.target == TOKEN).unwrap();
    assert_eq!(login.authorization, None, "no bearer to the token route");
    for part in [
        "grant_type=password",
        "username=alice",
        "password=pa55word",
        "client_id=kubesphere",
        "client_secret=kubesphere",
    ] {
        assert!(
            login.body.split('&').any(|p| p == part),
            "{part} is not in {}",
            login.body
        );
    }
}

#[tokio::test]
async fn a_flushed_token_is_replaced_once_and_a_write_is_sent_again() {
    let logins = Arc::new(AtomicU32::new(0));
    let server =
        Server::start(
            move |seen: &Seen| match (seen.target.as_str(), seen.authorization.as_deref()) {
                (TOKEN, _) => token(logins.fetch_add(1, Ordering::SeqCst) + 1),
                (_, Some("Bearer token-2")) => answer(
                    200,
                    &[],
                    json!({"metadata": {"name": "p-1", "uid": "u"}, "spec": {}}).to_string(),
                ),
                _ => unauthorized(),
            },
        )
        .await;
    let gateway = server.gateway();
    let run = project(&gateway).post_run("p", None, &[]).await.unwrap();
    assert_eq!(run.name, "p-1");
    let posts: Vec<_> = server.seen().into_iter().filter(|s| s.target != TOKEN).collect();
    assert_eq!(posts.len(), 2);
    assert!(
        posts
            .iter()
            .all(|p| p.method == "POST" && p.body == r#"{"parameters":[]}"#)
    );
    assert_eq!(server.count(TOKEN), 2);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_for_many_callers_and_named_as_what_it_is() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        TOKEN => answer(
            400,
            &[],
            r#"{"error":"invalid_grant","error_description":"Invalid username or password: pa55word"}"#,
        ),
        _ => empty_list(),
    })
    .await;
    let gateway = server.gateway();
    let scope = gateway.scope(None);
    for _ in 0..2 {
        let calls = (0..20).map(|_| scope.projects("acme"));
        for result in futures::future::join_all(calls).await {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::CredentialsRefused);
            assert_eq!(error.class(), ErrorClass::Denied);
            let text = format!("{error} {error:?}");
            assert!(
                text.contains("Invalid username") && !text.contains("pa55word"),
                "{text}"
            );
        }
    }
    assert_eq!(server.seen().len(), 1, "one login, and nothing without a token");
}

#[tokio::test]
async fn a_lockout_is_remembered_with_its_time() {
    let server = Server::start(|_: &Seen| {
        answer(
            429,
            &[],
            r#"{"error":"invalid_grant","error_description":"Rate limit exceeded."}"#,
        )
    })
    .await;
    let gateway = server.gateway();
    for n in 0..5 {
        let error = gateway.session().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (ErrorKind::LockedOut, ErrorClass::Throttled)
        );
        if n > 0 {
            let left = error.retry_after().expect("the rest of the window");
            assert!(
                left <= Duration::from_secs(600) && left > Duration::from_secs(300),
                "{left:?}"
            );
        }
    }
    assert_eq!(server.count(TOKEN), 1);
}

#[tokio::test]
async fn a_fixed_token_is_used_as_it_is_and_not_replaced() {
    let server = Server::start(|_: &Seen| unauthorized()).await;
    let gateway = Gateway::new(config(&server.url, Credentials::Token("fixed".into()))).unwrap();
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.ambiguous()),
        (ErrorKind::TokenRejected, false)
    );
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].authorization.as_deref(), Some("Bearer fixed"));
    assert_eq!(seen[0].accept.as_deref(), Some("*/*"));
}

#[tokio::test]
async fn a_redirect_off_the_origin_is_refused_and_the_token_stays_home() {
    let elsewhere = Server::start(|_: &Seen| empty_list()).await;
    let target = elsewhere.url.join("/collect?x=1").unwrap().to_string();
    let home = Server::start(move |seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        _ => answer(302, &[("location", &target)], ""),
    })
    .await;
    let gateway = home.gateway();
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::RedirectRefused, ErrorClass::User)
    );
    let text = error.to_string();
    assert!(
        text.contains(elsewhere.url.as_str()) && text.contains("set the endpoint"),
        "{text}"
    );
    let error = project(&gateway).post_run("p", None, &[]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.ambiguous()),
        (ErrorKind::RedirectRefused, false)
    );
    assert_eq!(elsewhere.seen().len(), 0, "{:?}", elsewhere.seen());
}

#[tokio::test]
async fn a_redirect_on_the_origin_is_followed_for_reads_only() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        "/moved" if seen.authorization.as_deref() == Some("Bearer token-1") => empty_list(),
        _ => answer(307, &[("location", "/moved")], ""),
    })
    .await;
    let gateway = server.gateway();
    assert_eq!(gateway.scope(None).projects("acme").await.unwrap(), vec![]);
    let error = project(&gateway).post_run("p", None, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RedirectRefused);
    assert_eq!(server.count("/moved"), 1);
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let server = Server::start(|_: &Seen| answer(302, &[("location", "/again")], "")).await;
    let gateway = Gateway::new(config(&server.url, Credentials::Token("t".into()))).unwrap();
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RedirectRefused);
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_broken_connection_is_tried_again_for_a_read_and_is_ambiguous_for_a_write() {
    let fine = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnull".to_vec();
    let (url, connections) = raw(vec![Vec::new(), fine]).await;
    let gateway = Gateway::new(config(&url, Credentials::Token("t".into()))).unwrap();
    assert_eq!(gateway.scope(None).projects("acme").await.unwrap(), vec![]);
    assert_eq!(connections.load(Ordering::SeqCst), 2);

    let (url, connections) = raw(vec![Vec::new()]).await;
    let gateway = Gateway::new(config(&url, Credentials::Token("t".into()))).unwrap();
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    assert_eq!(
        (error.class(), error.ambiguous()),
        (ErrorClass::Unavailable, false)
    );
    assert_eq!(
        connections.load(Ordering::SeqCst),
        2,
        "a read is tried twice, no more"
    );
    let error = project(&gateway).post_run("p", None, &[]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.ambiguous()),
        (ErrorKind::ConnectionLost, true)
    );
    assert_eq!(connections.load(Ordering::SeqCst), 3, "a write is sent once");
}

#[tokio::test]
async fn a_write_that_found_no_one_did_not_happen() {
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = url::Url::parse(&format!("http://{gone}")).unwrap();
    let gateway = Gateway::new(config(&url, Credentials::Token("t".into()))).unwrap();
    let error = project(&gateway).post_run("p", None, &[]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.ambiguous()),
        (ErrorKind::ConnectFailed, false)
    );
}

#[tokio::test]
async fn a_cut_body_is_an_error_and_after_a_write_an_ambiguous_one() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{\"metadata\":".to_vec();
    let (url, _) = raw(vec![cut]).await;
    let gateway = Gateway::new(config(&url, Credentials::Token("t".into()))).unwrap();
    let secret = Parameter {
        name: "TOKEN".into(),
        value: "s3cret".into(),
    };
    let error = project(&gateway)
        .post_run("p", None, &[secret])
        .await
        .unwrap_err();
    assert_eq!(
        (error.class(), error.ambiguous()),
        (ErrorClass::Unavailable, true)
    );
    assert!(!format!("{error:?}").contains("s3cret"));
}

#[tokio::test]
async fn no_answer_in_time_is_told_as_that() {
    let server = Server::start(|_: &Seen| {
        answer(
            200,
            &[],
            axum::body::Body::from_stream(futures::stream::pending::<Result<String, std::io::Error>>()),
        )
    })
    .await;
    let mut config = config(&server.url, Credentials::Token("t".into()));
    config.times = TimeLimits {
        json: Duration::from_millis(200),
        ..TimeLimits::default()
    };
    let gateway = Gateway::new(config).unwrap();
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    assert_eq!((error.kind(), error.ambiguous()), (ErrorKind::TimedOut, false));
    let error = project(&gateway).post_run("p", None, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.ambiguous()), (ErrorKind::TimedOut, true));
}

#[tokio::test]
async fn bodies_are_bounded() {
    let endless = || {
        let piece = std::iter::repeat_with(|| Ok::<_, std::io::Error>(" ".repeat(64 << 10)));
        axum::body::Body::from_stream(futures::stream::iter(piece))
    };
    let server = Server::start(move |seen: &Seen| match seen.method.as_str() {
        "GET" => answer(200, &[], endless()),
        _ => answer(500, &[], endless()),
    })
    .await;
    let gateway = Gateway::new(config(&server.url, Credentials::Token("t".into()))).unwrap();
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    let error = project(&gateway).post_run("p", None, &[]).await.unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::RemoteFailure,
        "an error is known by its status, however long it is"
    );
}

#[tokio::test]
async fn a_gateway_that_echoes_the_token_does_not_bring_it_into_messages() {
    let server = Server::start(|seen: &Seen| {
        answer(
            500,
            &[],
            format!("you sent {}", seen.authorization.clone().unwrap_or_default()),
        )
    })
    .await;
    let gateway = Gateway::new(config(&server.url, Credentials::Token("canary-token".into()))).unwrap();
    let error = gateway.scope(None).projects("acme").await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("[redacted]") && !text.contains("canary"), "{text}");
    let printed = format!(
        "{:?}",
        config(&server.url, Credentials::password("alice", "canary-password"))
    );
    assert!(!printed.contains("canary"), "{printed}");
}

#[tokio::test]
async fn the_cluster_and_the_endpoints_own_prefix_stand_before_every_path() {
    let server = Server::start(|_: &Seen| empty_list()).await;
    let endpoint = server.url.join("/ks/").unwrap();
    let gateway = Gateway::new(config(&endpoint, Credentials::Token("t".into()))).unwrap();
    gateway.scope(Some("member-1")).projects("acme").await.unwrap();
    gateway.scope(Some("")).projects("a/../b").await.unwrap();
    let paths: Vec<_> = server.seen().into_iter().map(|s| s.target).collect();
    assert_eq!(
        paths,
        [
            format!("/ks/clusters/member-1{PROJECTS}"),
            "/ks/kapis/devops.kubesphere.io/v1alpha3/workspaces/a%2F..%2Fb/namespaces".to_owned()
        ]
    );
}

#[tokio::test]
async fn a_dot_segment_never_leaves_the_client() {
    let server = Server::start(|_: &Seen| empty_list()).await;
    let gateway = Gateway::new(config(&server.url, Credentials::Token("t".into()))).unwrap();
    for name in ["..", "."] {
        let error = project(&gateway).pipeline(name).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Rejected, "{name}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn the_users_name_is_the_tokens_subject_else_what_userinfo_says() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        _ => answer(200, &[], r#"{"sub":"alice","url":"Alice in full"}"#),
    })
    .await;
    let gateway = server.gateway();
    assert_eq!(gateway.user_name().await.unwrap(), "alice");
    assert_eq!(gateway.user_name().await.unwrap(), "alice");
    assert_eq!(server.count("/oauth/userinfo"), 1);
    let jwt = "e30.eyJzdWIiOiJrdWJlc3BoZXJlOnNlcnZpY2VhY2NvdW50OmE6YiJ9.s";
    let gateway = Gateway::new(config(&server.url, Credentials::Token(jwt.into()))).unwrap();
    assert_eq!(
        gateway.user_name().await.unwrap(),
        "kubesphere:serviceaccount:a:b"
    );
    assert_eq!(server.count("/oauth/userinfo"), 1);
}

#[derive(Default)]
struct Meter(Mutex<Vec<String>>);

impl CallObserver for Meter {
    fn call(&self, route: RouteClass, outcome: CallOutcome, _: Duration) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{} {}", route.label(), outcome.label()));
    }
    fn waited(&self, _: Class, _: Duration) {}
    fn held_back(&self, _: bool) {}
    fn login(&self, grant: Grant, outcome: LoginOutcome) {
        self.0
            .lock()
            .unwrap()
            .push(format!("login {} {}", grant.label(), outcome.label()));
    }
    fn token(&self, expires_at: Option<Timestamp>) {
        self.0
            .lock()
            .unwrap()
            .push(format!("token ends={}", expires_at.is_some()));
    }
}

#[tokio::test]
async fn calls_logins_and_tokens_are_metered() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        _ => answer(404, &[], "pipelines \"x\" not found\n"),
    })
    .await;
    let meter = Arc::new(Meter::default());
    let mut config = config(&server.url, Credentials::password("alice", "pw"));
    config.observer = meter.clone();
    let gateway = Gateway::new(config).unwrap();
    project(&gateway).pipeline("x").await.unwrap_err();
    let metered = meter.0.lock().unwrap().clone();
    assert_eq!(
        metered,
        [
            "token ok",
            "login password ok",
            "token ends=true",
            "pipelines not_found"
        ]
    );
}

#[tokio::test]
async fn a_call_is_metered_as_callers_see_it() {
    let gone = r#"{"message": "Run 1 not found", "code": 404, "errors": []}"#;
    let down = "Get \"http://jenkins/\": dial tcp 10.0.0.1:80: connect: connection refused";
    let server = Server::start(move |seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        t if t.contains("/runs/1/log") => answer(500, &[], gone),
        t if t.contains("/runs/2/log") => answer(500, &[], down),
        t if t.ends_with("/nodedetails") => answer(500, &[], "unexpected end of JSON input\n"),
        t if t.contains("/jenkins/job/") => answer(200, &[], ""),
        _ => answer(404, &[], "404: Page Not Found\n"),
    })
    .await;
    let meter = Arc::new(Meter::default());
    let mut config = config(&server.url, Credentials::Token("t".into()));
    config.observer = meter.clone();
    let project = project(&Gateway::new(config).unwrap());
    meter.0.lock().unwrap().clear();
    let build = |id: &str| crate::gateway::RunRef {
        pipeline: "p".into(),
        branch: None,
        id: crate::gateway::RunId::new(id).unwrap(),
    };
    let start = crate::gateway::LogCursor::default();
    for id in ["1", "2"] {
        project.log(&build(id), &start, 100).await.unwrap_err();
    }
    assert_eq!(project.stages("r").await.unwrap(), None);
    project.pipelines().await.unwrap_err();
    let metered = meter.0.lock().unwrap().clone();
    assert_eq!(
        metered,
        [
            // 200 and nothing of Jenkins in it.
            "log_proxy jenkins_unavailable",
            "log not_found",
            "log_proxy jenkins_unavailable",
            "log jenkins_unavailable",
            "stages not_yet",
            "pipelines route_missing",
        ]
    );
}

#[tokio::test]
async fn a_401_of_jenkins_itself_is_no_reason_to_log_in_again() {
    let server = Server::start(|seen: &Seen| match seen.target.as_str() {
        TOKEN => token(1),
        t if t.contains("/jenkins/job/") => {
            answer(401, &[("x-jenkins", "2.479.3")], "Invalid password/token")
        }
        _ => answer(404, &[], "404: Page Not Found\n"),
    })
    .await;
    let project = project(&server.gateway());
    let build = crate::gateway::testing::build();
    for _ in 0..3 {
        let error = project
            .open_live_log(&build, &crate::gateway::LogCursor::default())
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), ErrorKind::JenkinsUnavailable, "{error}");
    }
    assert_eq!(server.count(TOKEN), 1, "one login, and the token is kept");
}
