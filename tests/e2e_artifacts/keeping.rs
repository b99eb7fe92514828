//! What is stored stays stored: edits by hand, restarts, sources that go; and what costs nothing.

use super::*;
use crate::common::parameters;
use kube::{ResourceExt as _, api::DeleteParams};
use tenantry::api::BuildRequest;
use tenantry_simulator::{Fault, FaultAction};

/// Which version of an ArtifactFetch is stored, once it is marked as finished.
async fn version(stage: &Stage, name: &str) -> Option<String> {
    let mut version = None;
    wait_for(
        &format!("{name} to be marked as finished"),
        PATIENCE,
        async || {
            let fetch = stage.api::<ArtifactFetch>().get(name).await?;
            let marked = fetch.labels().contains_key(tenantry::api::SETTLED);
            version = fetch.metadata.resource_version;
            Ok(Seen::when(marked, || format!("{:?}", fetch.metadata.labels)))
        },
    )
    .await
    .unwrap_or_else(|error| panic!("{error:#}"));
    version
}

#[tokio::test]
async fn what_is_deleted_or_edited_by_hand_comes_back() {
    let stage = stage(Role::tenant()).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    stage
        .fetch(
            "all",
            json!({"source": run("files", &json!({"id": number.to_string()}))}),
        )
        .await;
    stage.fetched("all").await;
    let before = stage.content("all").await;
    let maps = stage.api::<ConfigMap>();
    for edit in [
        None,
        Some(json!({"data": {"out.app.txt": "tampered"}})),
        Some(json!({"data": {"out.app.txt": null}})),
        Some(json!({"binaryData": null})),
    ] {
        match &edit {
            None => maps.delete("all", &DeleteParams::default()).await.map(|_| ()),
            Some(edit) => maps
                .patch("all", &PatchParams::default(), &Patch::Merge(edit))
                .await
                .map(|_| ()),
        }
        .unwrap_or_else(|error| panic!("{edit:?}: {error}"));
        wait_for(
            &format!("the files to come back after {edit:?}"),
            PATIENCE,
            async || {
                if !stage.has_config_map("all").await {
                    return Ok(Seen::NotYet("no ConfigMap".into()));
                }
                let now = stage.content("all").await;
                Ok(Seen::when(now == before, || format!("{:?}", now.keys())))
            },
        )
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
        stage.fetched("all").await;
    }
}

#[tokio::test]
async fn a_finished_object_costs_no_remote_call() {
    let mut stage = stage(Role::tenant()).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    let given = parameters(&[("DURATION", "1"), ("ARTIFACTS", "a.txt:5")]);
    stage
        .build("b", json!({"parameters": given, "artifacts": {"include": ["*"]}}))
        .await;
    stage.until_ready("b").await;
    for (name, which) in [
        ("by-id", json!({"id": number.to_string()})),
        ("latest", json!({"latestSuccess": true})),
    ] {
        stage.fetch(name, json!({"source": run("files", &which)})).await;
        stage.fetched(name).await;
    }
    let before = [
        version(&stage, "by-id").await,
        version(&stage, "latest").await,
        version(&stage, "b-artifacts").await,
    ];
    let requests = |stage: &Stage| {
        let ledger = stage.simulator.ledger().snapshot();
        let of_runs = ledger.requests.iter().filter(|r| {
            r.class.starts_with("v2.") || r.class.starts_with("v3.run") || r.class.starts_with("v3.pipeline")
        });
        of_runs.count()
    };
    let asked = requests(&stage);
    stage.restart_operator().await;
    stage.while_nothing_happens().await;
    assert_eq!(requests(&stage), asked);
    let after = [
        version(&stage, "by-id").await,
        version(&stage, "latest").await,
        version(&stage, "b-artifacts").await,
    ];
    assert_eq!(before, after, "no status was written");
}

#[tokio::test]
async fn what_is_deleted_while_no_operator_runs_comes_back() {
    let mut stage = stage(Role::tenant()).await;
    let given = parameters(&[("DURATION", "1"), ("ARTIFACTS", "a.txt:5")]);
    for name in ["b", "whole"] {
        stage
            .build(
                name,
                json!({"parameters": given, "artifacts": {"include": ["*"]}}),
            )
            .await;
    }
    for name in ["b", "whole"] {
        stage.until_ready(name).await;
        stage.until_settled(name).await;
        version(&stage, &format!("{name}-artifacts")).await;
    }
    let before = version(&stage, "whole-artifacts").await;
    stage.kill_operator();
    for map in ["b-artifacts", "b-log"] {
        let gone = stage
            .api::<ConfigMap>()
            .delete(map, &DeleteParams::default())
            .await;
        gone.unwrap_or_else(|error| panic!("{map}: {error}"));
    }
    let built = stage.built("build");
    stage.restart_operator().await;
    for map in ["b-artifacts", "b-log"] {
        wait_for(&format!("{map} to come back"), PATIENCE, async || {
            let there = stage.has_config_map(map).await;
            Ok(Seen::when(there, || "it is not there".into()))
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}"));
    }
    stage.while_nothing_happens().await;
    assert_eq!(stage.built("build"), built);
    assert_eq!(
        before,
        version(&stage, "whole-artifacts").await,
        "of the others nothing is touched"
    );
}

#[tokio::test]
async fn an_operator_that_dies_while_it_fetches_leaves_a_whole_copy_in_the_end() {
    let mut stage = stage(Role::tenant()).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    let control = stage.simulator.control();
    control.fault(Fault::always("v2.proxy", FaultAction::hang()).after(4));
    stage
        .fetch(
            "all",
            json!({"source": run("files", &json!({"id": number.to_string()}))}),
        )
        .await;
    wait_for("the fifth download to hang", PATIENCE, async || {
        let (_, downloads) = stage.file_requests();
        Ok(Seen::when(downloads >= 5, || format!("{downloads} downloads")))
    })
    .await
    .unwrap();
    stage.kill_operator();
    assert!(!stage.has_config_map("all").await, "half a copy");
    control.clear_faults();
    stage.restart_operator().await;
    stage.fetched("all").await;
    assert_eq!(stage.content("all").await.len(), FILES.len());
}

#[tokio::test]
async fn files_outlive_the_build_request_that_they_are_from() {
    let mut stage = stage(Role::tenant()).await;
    let given = parameters(&[("DURATION", "1"), ("ARTIFACTS", "a.txt:5")]);
    stage.build("b", json!({"parameters": given})).await;
    stage
        .fetch("files", json!({"source": {"buildRequestRef": {"name": "b"}}}))
        .await;
    let status = stage.fetched("files").await;
    stage
        .api::<BuildRequest>()
        .delete("b", &DeleteParams::default())
        .await
        .unwrap();
    wait_for("the BuildRequest to go", PATIENCE, async || {
        let there = stage.api::<BuildRequest>().get_opt("b").await?.is_some();
        Ok(Seen::when(!there, || "it is there".into()))
    })
    .await
    .unwrap();
    stage.look_again("files", "one").await;
    stage.restart_operator().await;
    stage.look_again("files", "two").await;
    let after = stage.fetched("files").await;
    assert_eq!((after.revision, after.files), (status.revision, status.files));

    // Nobody is there to fetch them from again.
    stage
        .api::<ConfigMap>()
        .delete("files", &DeleteParams::default())
        .await
        .unwrap();
    stage.refused("files", "SourceNotFound").await;
}

#[tokio::test]
async fn a_suspended_object_waits_and_goes_on() {
    let stage = stage(Role::tenant()).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    let source = run("files", &json!({"id": number.to_string()}));
    stage
        .fetch("all", json!({"source": source, "suspend": true}))
        .await;
    let is_held = |o: &ArtifactFetch| {
        seen(o, ConditionType::Ready)
            .is_some_and(|(status, reason, _)| (status.as_str(), reason.as_str()) == ("False", "Suspended"))
    };
    let object = stage.until_it("Suspended", "all", is_held).await;
    assert_eq!(seen(&object, ConditionType::Reconciling), None);
    stage.look_again("all", "one").await;
    assert_eq!(stage.file_requests(), (0, 0));
    stage.change("all", json!({"spec": {"suspend": false}})).await;
    stage.fetched("all").await;

    // What is here stays ready, but what goes does not come back while suspended.
    stage.change("all", json!({"spec": {"suspend": true}})).await;
    stage.fetched("all").await;
    stage
        .api::<ConfigMap>()
        .delete("all", &DeleteParams::default())
        .await
        .unwrap();
    stage.until_it("Suspended", "all", is_held).await;
    assert!(!stage.has_config_map("all").await);
    stage.change("all", json!({"spec": {"suspend": false}})).await;
    stage.fetched("all").await;
}
