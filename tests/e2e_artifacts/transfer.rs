//! The way of the bytes: every rung, every name, broken transfers.

use super::*;
use crate::common::parameters;
use tenantry_simulator::{Fault, FaultAction, JenkinsFault, JenkinsOutage};

/// All files of pipeline `files`, as they must come home.
async fn every_file_comes_home(role: Role) -> Stage {
    let stage = stage(role).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    stage
        .fetch(
            "all",
            json!({"source": run("files", &json!({"id": number.to_string()}))}),
        )
        .await;
    let status = stage.fetched("all").await;
    assert_eq!(status.revision, Some(format!("{PROJECT}/files#{number}")));
    assert_eq!(status.file_count, i64::try_from(FILES.len()).ok());

    let content = stage.content("all").await;
    assert_eq!(content.len(), FILES.len(), "{:?}", content.keys());
    for (path, text) in FILES {
        let file = status
            .files
            .iter()
            .find(|file| file.path == path)
            .unwrap_or_else(|| panic!("{path} is missing"));
        assert_eq!(
            content[file.key.as_deref().unwrap_or_default()],
            text.as_bytes(),
            "{path} under {}",
            file.key.as_deref().unwrap_or_default()
        );
        assert_eq!(
            (file.size, &file.sha256),
            (i64::try_from(text.len()).unwrap(), &sha256(text.as_bytes())),
            "{path}"
        );
    }
    let map: ConfigMap = stage.api().get("all").await.unwrap();
    let binary: Vec<_> = map.binary_data.unwrap_or_default().into_keys().collect();
    assert_eq!(binary, ["out.nul.bin"]);
    stage
}

#[tokio::test]
async fn every_file_comes_home_over_the_raw_proxy() {
    let stage = every_file_comes_home(Role::tenant()).await;
    assert_eq!(
        stage.file_requests(),
        (1, FILES.len()),
        "one list, each file once"
    );
    assert_eq!(stage.simulator.ledger().count("v3.run.artifact"), 0);
}

#[tokio::test]
async fn every_file_comes_home_without_the_raw_proxy() {
    let stage = every_file_comes_home(Role::tenant_without_jenkins_proxy()).await;
    let ledger = stage.simulator.ledger();
    assert_eq!(ledger.count("v3.run.artifact"), FILES.len());
    assert_eq!(ledger.count("v2.proxy"), 1, "a refusal is remembered");
}

#[tokio::test]
async fn a_list_of_more_than_a_hundred_files_is_whole() {
    let stage = stage(Role::tenant()).await;
    let number = stage
        .built_by_others("build", None, &[("ARTIFACTS", &many(130, 10))], "SUCCESS")
        .await;
    stage
        .fetch(
            "many",
            json!({"source": run("build", &json!({"id": number.to_string()}))}),
        )
        .await;
    let status = stage.fetched("many").await;
    assert_eq!(
        (status.file_count, status.total_bytes, status.files.len()),
        (Some(130), Some(1300), 100)
    );
    let content = stage.content("many").await;
    assert_eq!(content.len(), 130);
    assert!(content.values().all(|bytes| bytes.len() == 10));
}

#[tokio::test]
async fn a_build_request_brings_its_files_home() {
    let stage = stage(Role::tenant()).await;
    let artifacts = json!({"include": ["out/*.bin"], "exclude": ["**/f001.*"]});
    let given = parameters(&[("DURATION", "1"), ("ARTIFACTS", &(many(3, 100) + ",top.txt:5"))]);
    stage
        .build("b", json!({"parameters": given, "artifacts": artifacts}))
        .await;
    let object = stage.until_ready("b").await;
    let fetch = object
        .status
        .unwrap()
        .artifact_fetch_ref
        .expect("a reference")
        .name;
    let status = stage.fetched(&fetch).await;
    let paths: Vec<_> = status.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["out/f000.bin", "out/f002.bin"]);
    // It is told after it was written down.
    let events = tenantry_test_support::wait_for("an Event", tenantry_test_support::PATIENCE, async || {
        let events = stage.events(&fetch).await;
        Ok(if events.is_empty() {
            tenantry_test_support::Seen::NotYet("none".into())
        } else {
            tenantry_test_support::Seen::Done(events)
        })
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    let told = format!("ArtifactsStored: 2 files (200 bytes) of {PROJECT}/build#1 in ConfigMap {fetch}");
    assert_eq!(events, [told]);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    let stage = stage(Role::tenant()).await;
    let number = stage
        .built_by_others("build", None, &[("ARTIFACTS", "big.bin:300000")], "SUCCESS")
        .await;
    let cut = JenkinsOutage::new(JenkinsFault::Truncate(100_000))
        .on("artifact")
        .times(2);
    stage.simulator.control().jenkins_outage(cut).unwrap();
    let source = run("build", &json!({"id": number.to_string()}));
    stage.fetch("big", json!({"source": source})).await;
    let status = stage.fetched("big").await;
    assert_eq!(status.total_bytes, Some(300_000));
    let sent: u64 = stage
        .simulator
        .ledger()
        .requests("v2.proxy")
        .iter()
        .map(|r| r.bytes_out)
        .sum();
    assert_eq!(sent, 300_000, "no byte twice");

    // What came in three pieces is what comes in one.
    let digest = &status.files[0].sha256;
    let verify = json!([{"path": "big.bin", "sha256": digest}]);
    stage
        .fetch("again", json!({"source": source, "verify": verify}))
        .await;
    stage.fetched("again").await;
}

#[tokio::test]
async fn a_broken_transfer_without_the_raw_proxy_is_tried_again() {
    let stage = stage(Role::tenant_without_jenkins_proxy()).await;
    let number = stage
        .built_by_others(
            "build",
            None,
            &[("ARTIFACTS", "a.bin:5000,b.bin:5000")],
            "SUCCESS",
        )
        .await;
    let control = stage.simulator.control();
    // Once behind ks-devops (a 500), once before the gateway (a body cut off).
    control
        .jenkins_outage(
            JenkinsOutage::new(JenkinsFault::Truncate(100))
                .on("artifact")
                .times(1),
        )
        .unwrap();
    control.fault(Fault::once("v3.run.artifact", FaultAction::truncate(3000)).after(1));
    stage
        .fetch(
            "two",
            json!({"source": run("build", &json!({"id": number.to_string()}))}),
        )
        .await;
    let status = stage.fetched("two").await;
    assert_eq!((status.file_count, status.total_bytes), (Some(2), Some(10_000)));
    assert!(
        stage
            .content("two")
            .await
            .values()
            .all(|bytes| bytes.len() == 5000)
    );
}

#[tokio::test]
async fn while_jenkins_is_away_it_waits() {
    for role in [Role::tenant(), Role::tenant_without_jenkins_proxy()] {
        let stage = stage(role).await;
        let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
        let control = stage.simulator.control();
        control
            .jenkins_outage(JenkinsOutage::new(JenkinsFault::Down))
            .unwrap();
        stage
            .fetch(
                "all",
                json!({"source": run("files", &json!({"id": number.to_string()}))}),
            )
            .await;
        let waits = |o: &ArtifactFetch| {
            seen(o, ConditionType::Reconciling).is_some_and(|(_, reason, _)| reason == "RemoteUnavailable")
                && o.status
                    .as_ref()
                    .is_some_and(|status| status.failures.is_some_and(|n| n >= 2))
        };
        let object = stage.until_it("waiting for Jenkins", "all", waits).await;
        assert_eq!(seen(&object, ConditionType::Stalled), None);
        assert!(!stage.has_config_map("all").await);
        control.jenkins_up().unwrap();
        assert_eq!(stage.fetched("all").await.failures, None);
    }
}
