use super::*;

#[test]
fn routes_are_told_apart_with_and_without_a_cluster_prefix() {
    use RouteClass as R;
    let d = "/kapis/devops.kubesphere.io";
    for (method, path, want) in [
        ("POST", "/oauth/token".to_owned(), Some(R::Token)),
        (
            "GET",
            format!("{d}/v1alpha3/workspaces/acme/namespaces?page=1"),
            Some(R::Projects),
        ),
        (
            "GET",
            format!("/clusters/host{d}/v1alpha3/namespaces/x/pipelines/y"),
            Some(R::Pipelines),
        ),
        ("POST", format!("{d}/v1alpha3/namespaces/x/pipelines"), None),
        (
            "POST",
            format!("/clusters/m{d}/v1alpha2/namespaces/x/pipelines/y/scan"),
            None,
        ),
        (
            "POST",
            "/apis/devops.kubesphere.io/v1alpha3/namespaces/x/pipelineruns".into(),
            Some(R::RunCreate),
        ),
        (
            "GET",
            format!("{d}/v1alpha2/namespaces/x/pipelines/y/branches/b/runs/1/log?start=0"),
            Some(R::Log),
        ),
        (
            "GET",
            format!("{d}/v1alpha2/namespaces/x/jenkins/job/x/job/y/1/artifact/a/b"),
            Some(R::DownloadProxy),
        ),
        ("GET", "/version".into(), None),
    ] {
        assert_eq!(classify(&method.parse().unwrap(), &path), want, "{method} {path}");
    }
}

#[test]
fn a_proxy_answer_without_jenkins_in_it_is_not_an_empty_file() {
    let path = "/kapis/devops.kubesphere.io/v1alpha2/namespaces/x/jenkins/job/x/job/y/1/artifact/a";
    let error = read(&Method::GET, path, 200, &HeaderMap::new(), b"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JenkinsUnavailable);
    let headers = [(X_JENKINS.parse().unwrap(), "2.479.3".parse().unwrap())]
        .into_iter()
        .collect();
    assert!(matches!(
        read(&Method::GET, path, 200, &headers, b""),
        Ok(Answer::Bytes(0))
    ));
}

#[test]
fn a_watch_is_read_line_by_line_and_says_why_it_ended() {
    let path = "/clusters/m/apis/devops.kubesphere.io/v1alpha3/namespaces/x/pipelineruns?watch=true";
    let run = r#"{"metadata":{"name":"a","uid":"u"},"spec":{}}"#;
    let body = format!(
        "{{\"type\":\"ADDED\",\"object\":{run}}}\n{{\"type\":\"DELETED\",\"object\":{run}}}\n\
         {{\"type\":\"BOOKMARK\",\"object\":{{\"metadata\":{{\"resourceVersion\":\"7\"}}}}}}\n\
         {{\"type\":\"ERROR\",\"object\":{{\"kind\":\"Status\",\"code\":410}}}}\n"
    );
    let Ok(Answer::Watch(lines)) = read(&Method::GET, path, 200, &HeaderMap::new(), body.as_bytes()) else {
        panic!("no watch")
    };
    assert!(matches!(
        lines.as_slice(),
        [
            WatchLine::Changed(_),
            WatchLine::Deleted(_),
            WatchLine::Bookmark(_),
            WatchLine::Error(410)
        ]
    ));
    let cut = &body.as_bytes()[..body.len() - 5];
    assert_eq!(
        read(&Method::GET, path, 200, &HeaderMap::new(), cut)
            .unwrap_err()
            .kind(),
        ErrorKind::Garbled
    );
}

#[test]
fn an_empty_proxy_answer_is_trusted_on_no_route_and_a_null_list_holds_nothing() {
    let base = "/kapis/devops.kubesphere.io";
    let path = format!("{base}/v1alpha2/namespaces/x/jenkins/job/x/job/y/1/api/json");
    let error = read(&Method::GET, &path, 200, &HeaderMap::new(), b"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JenkinsUnavailable);
    for path in [
        format!("{base}/v1alpha3/namespaces/x/pipelines/y/pipelineruns"),
        "/apis/devops.kubesphere.io/v1alpha3/namespaces/x/pipelineruns".into(),
    ] {
        let got = read(&Method::GET, &path, 200, &HeaderMap::new(), b"null").unwrap();
        assert!(
            matches!(&got, Answer::Runs(page) if page.items.is_empty()),
            "{got:?}"
        );
    }
}
