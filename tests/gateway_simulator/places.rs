//! Workspaces, projects and clusters.

use tenantry::gateway::{
    ErrorClass, ErrorKind, ProjectDiagnosis, ProjectName, ResolveError, resolve_project,
};
use tenantry_simulator::{ClusterHealth, World, world::Project};

use super::bench::{PROJECT, alice, finished, new_run, simulator};

#[tokio::test]
async fn a_project_is_found_by_either_name_and_an_ambiguous_one_is_named() {
    let sim = simulator(World::recorded()).await;
    let scope = alice(&sim).scope(None);
    assert_eq!(scope.workspaces().await.unwrap().len(), 2, "acme and empty");
    assert_eq!(scope.workspace("acme").await.unwrap().name, "acme");
    assert_eq!(
        scope.workspace("nope").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert!(scope.projects("empty").await.unwrap().is_empty(), "the body null");
    assert_eq!(
        scope.projects("other").await.unwrap_err().class(),
        ErrorClass::Denied
    );
    let projects = scope.projects("acme").await.unwrap();
    for name in ["demo", PROJECT] {
        assert_eq!(resolve_project(&projects, name).unwrap().name.as_str(), PROJECT);
    }
    let twin = sim
        .control()
        .add_project(&Project::new("acme", "demo").owned_by("alice"));
    let projects = scope.projects("acme").await.unwrap();
    let Err(ResolveError::Ambiguous { candidates, .. }) = resolve_project(&projects, "demo") else {
        panic!("resolved")
    };
    assert!(
        candidates.contains(&twin) && candidates.contains(&PROJECT.to_owned()),
        "{candidates:?}"
    );
}

#[tokio::test]
async fn a_project_that_no_list_shows_is_diagnosed() {
    let sim = simulator(World::recorded()).await;
    let scope = alice(&sim).scope(None);
    let hidden = sim
        .control()
        .add_project(&Project::new("acme", "hidden").owned_by("alice").unlabelled());
    assert!(
        scope
            .projects("acme")
            .await
            .unwrap()
            .iter()
            .all(|p| p.name.as_str() != hidden)
    );
    for (name, want) in [
        (hidden.as_str(), ProjectDiagnosis::NotListed),
        ("secretjwqhk", ProjectDiagnosis::NotReadable),
        ("nowhere", ProjectDiagnosis::NotReadable),
    ] {
        assert_eq!(
            scope.diagnose_project("acme", name).await.unwrap(),
            want,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_member_cluster_is_used_like_the_host_and_fails_in_its_own_ways() {
    let sim = simulator(World::recorded_with_member()).await;
    let gateway = alice(&sim);
    let scope = gateway.scope(Some("member-1"));
    let projects = scope.projects("acme").await.unwrap();
    assert_eq!(projects[0].name.as_str(), "eastrq64q");
    let project = scope.project(&projects[0].name);
    let pipeline = project.pipeline("hello").await.unwrap();
    project
        .create_run(&new_run("far", &pipeline, None))
        .await
        .unwrap();
    finished(&project, "far").await;
    assert_eq!(sim.ledger().builds_of("eastrq64q", "hello").len(), 1);
    let here = gateway
        .scope(None)
        .project(&ProjectName::new("eastrq64q").unwrap());
    assert_eq!(
        here.pipeline("hello").await.unwrap_err().class(),
        ErrorClass::Denied,
        "not on the host"
    );

    let error = gateway.scope(Some("west")).projects("acme").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.class()),
        (ErrorKind::UnknownCluster, ErrorClass::User)
    );
    let member = sim.control().on("member-1");
    // Whether a write may have got through: not if the dispatcher kept it, or the member's door did not open.
    for (health, ambiguous) in [
        (ClusterHealth::NotReady, false),
        (ClusterHealth::CredentialsRefused, false),
        (ClusterHealth::IdentityRejected, false),
        (ClusterHealth::KubeApiserverDown, true),
        (ClusterHealth::KsApiserverDown, true),
    ] {
        member.cluster_health(health).unwrap();
        let error = project.pipeline("hello").await.unwrap_err();
        assert_eq!(
            (error.kind(), error.class()),
            (ErrorKind::BackendUnavailable, ErrorClass::Unavailable),
            "{health:?}"
        );
        let error = project.post_run("hello", None, &[]).await.unwrap_err();
        assert_eq!(error.ambiguous(), ambiguous, "{health:?}");
    }
    assert_eq!(
        sim.ledger().logins("password", "ok"),
        1,
        "a 511 is not cured by logging in"
    );
}
