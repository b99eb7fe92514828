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
    let error = read(&Method::GET, path, 200, &HeaderMap::new(), b"")
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::JenkinsUnavailable);
    let headers = [(X_JENKINS.parse().unwrap(), "2.479.3".parse().unwrap())]
        .into_iter()
        .collect();
    assert!(matches!(
        read(&Method::GET, path, 200, &headers, b"").unwrap(),
        Ok(Answer::Bytes(0))
    ));
}
