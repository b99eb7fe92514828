//! Which run is meant: coordinates, the latest success, a BuildRequest and its reruns.

use super::*;
use crate::common::{build_request, parameters};
use tenantry_simulator::world::Project;

#[tokio::test]
async fn a_run_is_found_by_name_by_number_and_as_the_latest_success() {
    let stage = stage(Role::tenant()).await;
    let files = |n: &str| format!("only-{n}.txt:{n}");
    let mut names = Vec::new();
    for (n, result) in [("1", "SUCCESS"), ("2", "SUCCESS"), ("3", "FAILURE")] {
        let number = stage
            .built_by_others("build", None, &[("ARTIFACTS", &files(n))], result)
            .await;
        assert_eq!(number.to_string(), n);
        names.push(stage.run_name("build", number).await);
    }
    let rows = [
        ("by-name", json!({"name": names[0]}), "1"),
        ("by-id", json!({"id": "3"}), "3"),
        ("latest", json!({"latestSuccess": true}), "2"),
        ("by-full-name", json!({"project": PROJECT, "id": "1"}), "1"),
    ];
    for (name, which, _) in &rows {
        stage.fetch(name, json!({"source": run("build", which)})).await;
    }
    for (name, _, number) in &rows {
        let status = stage.fetched(name).await;
        assert_eq!(
            status.revision,
            Some(format!("{PROJECT}/build#{number}")),
            "{name}"
        );
        assert_eq!(status.files[0].path, format!("only-{number}.txt"), "{name}");
    }

    // A newer success is taken when a look is asked for; what was fetched already is not fetched again.
    stage
        .built_by_others("build", None, &[("ARTIFACTS", &files("4"))], "SUCCESS")
        .await;
    let before = stage.file_requests();
    stage.look_again("latest", "one").await;
    stage.look_again("by-name", "one").await;
    let status = stage.fetched("latest").await;
    assert_eq!(status.revision, Some(format!("{PROJECT}/build#4")));
    assert_eq!(
        stage.content("latest").await.into_keys().collect::<Vec<_>>(),
        ["only-4.txt"]
    );
    assert_eq!(stage.file_requests(), (before.0 + 1, before.1 + 1));
}

#[tokio::test]
async fn a_run_of_a_branch_with_a_slash_is_found() {
    let stage = stage(Role::tenant()).await;
    let branch = Some("feature/login");
    let number = stage.built_by_others("web", branch, &[], "SUCCESS").await;
    let name = stage.run_name("web", number).await;
    let rows = [
        (
            "by-id",
            json!({"branch": "feature/login", "id": number.to_string()}),
        ),
        ("by-name", json!({"name": name})),
        (
            "latest",
            json!({"branch": "feature/login", "latestSuccess": true}),
        ),
    ];
    let listed = |stage: &Stage| stage.simulator.ledger().requests("v2.run.artifacts");
    for (row, which) in rows {
        stage.fetch(row, json!({"source": run("web", &which)})).await;
        // The pipeline archives nothing: that this is known means that the right run was asked.
        let message = stage.refused(row, "NoMatch").await;
        assert!(
            message.contains(&format!("{PROJECT}/web/feature/login#{number}")),
            "{message}"
        );
    }
    assert!(
        listed(&stage)
            .iter()
            .all(|r| r.path.contains("feature%252Flogin") && r.status == 200)
    );
    assert_eq!(listed(&stage).len(), 3);
}

#[tokio::test]
async fn what_cannot_be_found_is_said_with_what_to_do() {
    let stage = stage(Role::tenant()).await;
    let control = stage.simulator.control();
    for name in ["twinsaaaaa", "twinsbbbbb"] {
        let project = Project::new("acme", "twins")
            .named(name)
            .owned_by(USER)
            .member(USER, Role::tenant());
        control.add_project(&project);
    }
    let number = stage.built_by_others("build", None, &[], "SUCCESS").await;
    let of_build = stage.run_name("build", number).await;
    let rows = [
        (
            "project",
            "build",
            json!({"project": "nowhere", "id": "1"}),
            "ProjectNotFound",
            "nowhere",
        ),
        (
            "ambiguous",
            "build",
            json!({"project": "twins", "id": "1"}),
            "ProjectAmbiguous",
            "twinsaaaaa, twinsbbbbb",
        ),
        (
            "pipeline",
            "nothing",
            json!({"id": "1"}),
            "PipelineNotFound",
            "build",
        ),
        ("no-branch", "web", json!({"id": "1"}), "BranchRequired", "web"),
        (
            "branch",
            "web",
            json!({"branch": "gone", "id": "1"}),
            "BranchNotFound",
            "feature/login",
        ),
        (
            "not-multi",
            "build",
            json!({"branch": "main", "id": "1"}),
            "BranchNotSupported",
            "main",
        ),
        ("id", "build", json!({"id": "99"}), "RunNotFound", "#99"),
        (
            "name",
            "build",
            json!({"name": "no-such-run"}),
            "RunNotFound",
            "no-such-run",
        ),
        (
            "other-pipeline",
            "web",
            json!({"name": of_build}),
            "RunNotFound",
            "\"build\"",
        ),
        (
            "no-success",
            "files",
            json!({"latestSuccess": true}),
            "RunNotFound",
            "no run that succeeded",
        ),
        (
            "connection",
            "build",
            json!({"connectionRef": {"name": "none"}, "id": "1"}),
            "ConnectionNotFound",
            "none",
        ),
    ];
    for (name, pipeline, which, _, _) in &rows {
        stage.fetch(name, json!({"source": run(pipeline, which)})).await;
    }
    for (name, _, _, reason, says) in &rows {
        let message = stage.refused(name, reason).await;
        assert!(message.contains(says), "{name}: {message}");
    }
    // What was missing may come.
    stage.built_by_others("files", None, &[], "SUCCESS").await;
    stage.fetched("no-success").await;
}

#[tokio::test]
async fn a_run_that_goes_on_is_waited_for() {
    let stage = stage(Role::tenant()).await;
    let control = stage.simulator.control();
    let given = [("DURATION", "3600"), ("ARTIFACTS", "a.txt:3")];
    let number = control.start_build(PROJECT, "build", None, &given).unwrap();
    let name = stage.run_name("build", number).await;
    stage
        .fetch(
            "by-id",
            json!({"source": run("build", &json!({"id": number.to_string()}))}),
        )
        .await;
    stage
        .fetch("by-name", json!({"source": run("build", &json!({"name": name}))}))
        .await;
    for fetch in ["by-id", "by-name"] {
        let waits = |o: &ArtifactFetch| {
            seen(o, ConditionType::Reconciling).is_some_and(|(_, reason, _)| reason == "WaitingForRun")
        };
        let object = stage.until_it("waiting", fetch, waits).await;
        assert_eq!(seen(&object, ConditionType::Ready).unwrap().0, "False");
    }
    control
        .finish_build(PROJECT, "build", None, number, "SUCCESS")
        .unwrap();
    for fetch in ["by-id", "by-name"] {
        assert_eq!(stage.fetched(fetch).await.file_count, Some(1));
    }
}

#[tokio::test]
async fn the_reruns_of_a_build_request_are_followed() {
    let stage = stage(Role::tenant()).await;
    let source = json!({"buildRequestRef": {"name": "b"}});
    stage.fetch("pruned", json!({"source": source})).await;
    stage
        .fetch("kept", json!({"source": source, "prune": false}))
        .await;
    let message = stage.refused("pruned", "SourceNotFound").await;
    assert!(message.contains("\"b\""), "{message}");

    let with = |file: &str| json!({"parameters": parameters(&[("DURATION", "1"), ("ARTIFACTS", file)])});
    stage.build("b", with("one.txt:5,both.txt:1")).await;
    let at = |fetch: &'static str, number: &'static str| {
        let stage = &stage;
        async move {
            let revision = format!("{PROJECT}/build#{number}");
            let is = move |o: &ArtifactFetch| {
                o.status.as_ref().and_then(|s| s.revision.as_ref()) == Some(&revision)
                    && seen(o, ConditionType::Ready).is_some_and(|(status, ..)| status == "True")
            };
            stage.until_it("the files of the run", fetch, is).await;
            stage.content(fetch).await.into_keys().collect::<Vec<_>>()
        }
    };
    assert_eq!(at("pruned", "1").await, ["both.txt", "one.txt"]);
    assert_eq!(at("kept", "1").await, ["both.txt", "one.txt"]);
    stage
        .apply::<tenantry::api::BuildRequest>(build_request("b", with("two.txt:5,both.txt:2")))
        .await;
    assert_eq!(at("pruned", "2").await, ["both.txt", "two.txt"]);
    assert_eq!(at("kept", "2").await, ["both.txt", "one.txt", "two.txt"]);
    assert_eq!(stage.content("kept").await["both.txt"].len(), 2);

    // A run without files does not take away those of the one before.
    stage
        .apply::<tenantry::api::BuildRequest>(build_request("b", with("")))
        .await;
    stage.refused("pruned", "NoMatch").await;
    let object = stage.api::<ArtifactFetch>().get("pruned").await.unwrap();
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.revision, Some(format!("{PROJECT}/build#2")));
    assert_eq!(status.last_attempted_revision, Some(format!("{PROJECT}/build#3")));
    assert_eq!(seen(&object, ConditionType::ArtifactsStored).unwrap().0, "True");

    // Without pruning what was kept goes as soon as pruning is wanted.
    stage
        .apply::<tenantry::api::BuildRequest>(build_request("b", with("four.txt:4")))
        .await;
    assert_eq!(
        at("kept", "4").await,
        ["both.txt", "four.txt", "one.txt", "two.txt"]
    );
    stage.change("kept", json!({"spec": {"prune": true}})).await;
    stage.fetched("kept").await;
    assert_eq!(at("kept", "4").await, ["four.txt"]);
}

#[tokio::test]
async fn a_build_whose_run_object_is_gone_needs_the_raw_proxy() {
    for (role, allowed) in [
        (Role::tenant(), true),
        (Role::tenant_without_jenkins_proxy(), false),
    ] {
        let stage = stage(role).await;
        // The event of a build whose run object is gone before it comes makes another run object of it (finding A2).
        stage.simulator.control().jenkins_events(false, false).unwrap();
        stage
            .build("b", json!({"pipeline": "files", "parameters": null}))
            .await;
        let object = stage.until_ready("b").await;
        let run_of_b = object.status.unwrap().run.unwrap();
        let (name, id) = (run_of_b.name.unwrap(), run_of_b.id.unwrap());
        stage.simulator.control().drop_run(PROJECT, &name).unwrap();
        // The one knows the name that is no longer there, the other finds none.
        stage
            .fetch("of-b", json!({"source": {"buildRequestRef": {"name": "b"}}}))
            .await;
        stage
            .fetch("by-id", json!({"source": run("files", &json!({"id": id}))}))
            .await;
        for fetch in ["of-b", "by-id"] {
            if allowed {
                let files = stage.fetched(fetch).await.file_count;
                assert_eq!(files, i64::try_from(FILES.len()).ok(), "{fetch}");
            } else {
                let message = stage.refused(fetch, "AccessDenied").await;
                assert!(
                    message.contains("get jenkins") && message.contains(PROJECT),
                    "{fetch}: {message}"
                );
            }
        }
    }
}
