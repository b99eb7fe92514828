//! Files and logs on a volume, brought there by real pods.

use std::{collections::BTreeMap, fs};

use kube::api::Api;
use serde_json::{Value, json};
use tenantry::api::{
    ArtifactFetch,
    artifact_fetch::Progress,
    conditions::{ConditionType, is_true},
};
use tenantry_simulator::world::BuildScript;
use tenantry_test_support::{Seen, wait_for};

use crate::{
    bench::{Bench, LONG, digest, everything_to, numbered},
    node::Reach,
};

const GIB: u64 = 1 << 30;

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn a_gibibyte_and_two_thousand_small_files_land_on_a_volume() {
    let small = numbered(2000);
    let bench = Bench::new(
        Reach::Cluster,
        BuildScript {
            files: small.clone(),
            artifacts: format!("out/big.bin:{GIB}"),
            // So slow that its progress can be seen, also on a quick machine.
            artifact_bps: 9_000_000,
            ..BuildScript::default()
        },
    )
    .await;
    let stage = &bench.installed.stage;
    stage
        .build("b", json!({"artifacts": everything_to("shop/latest")}))
        .await;
    let told = progress_of(&stage.api(), "b-artifacts").await;
    let built = bench.until_ready("b").await;

    let fetch: ArtifactFetch = stage.api().get("b-artifacts").await.expect("the ArtifactFetch");
    let status = fetch.status.expect("a status");
    assert_eq!(status.file_count, Some(2001));
    let bytes = GIB + small.iter().map(|(_, text)| text.len() as u64).sum::<u64>();
    grows_to(&told, 2001, i64::try_from(bytes).expect("a size"));
    bench.holds("shop/latest", &small);
    let big = bench.place("shop/latest/out/big.bin");
    assert_eq!(big.metadata().expect("the file").len(), GIB);
    let local = digest(&big);
    assert_eq!(local, bench.remote_digest(&built, "out/big.bin").await);
    let manifest = fs::read(bench.place(".tenantry/artifactfetch.b-artifacts.json")).expect("the manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    let told: BTreeMap<&str, &str> = manifest["files"]
        .as_array()
        .expect("files")
        .iter()
        .map(|f| {
            (
                f["path"].as_str().expect("a path"),
                f["sha256"].as_str().expect("a digest"),
            )
        })
        .collect();
    assert_eq!(told.len(), 2001);
    assert_eq!(told["out/big.bin"], local);
    // Once by the pod; the big one once more by this test.
    assert_eq!(bench.asked("small/0042.txt"), 1);
    assert_eq!(bench.asked("big.bin"), 2);
    bench.installed.uninstall().await;
}

/// All that the status tells of how far a fetch is, until it is `Ready`.
async fn progress_of(api: &Api<ArtifactFetch>, name: &str) -> Vec<Progress> {
    let mut told: Vec<Progress> = Vec::new();
    wait_for(&format!("ArtifactFetch {name}: Ready"), LONG, async || {
        let status = api
            .get_opt(name)
            .await?
            .and_then(|fetch| fetch.status)
            .unwrap_or_default();
        if let Some(now) = status.progress
            && told.last() != Some(&now)
        {
            told.push(now);
        }
        let ready = is_true(&status.conditions, ConditionType::Ready);
        Ok(Seen::when(ready, || format!("{:?} {told:?}", status.conditions)))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    told
}

/// It was seen under way, grew, was never above what there is, and ended with all of it.
fn grows_to(told: &[Progress], files: i64, bytes: i64) {
    let known: Vec<_> = told.iter().filter(|now| now.total_files > 0).collect();
    let under_way = known
        .iter()
        .filter(|now| 0 < now.bytes && now.bytes < bytes)
        .count();
    assert!(under_way >= 3, "seen {under_way} times under way: {told:?}");
    for now in &known {
        assert_eq!((now.total_files, now.total_bytes), (files, bytes), "{told:?}");
        assert!(now.files <= files && now.bytes <= bytes, "{told:?}");
        assert_eq!(
            now.percent,
            Some(format!("{}%", now.bytes * 100 / bytes)),
            "{told:?}"
        );
    }
    let grows = known.is_sorted_by(|a, b| a.files <= b.files && a.bytes <= b.bytes);
    assert!(grows, "{told:?}");
    let last = told.last().expect("progress");
    assert_eq!(
        (last.files, last.bytes, last.percent.as_deref()),
        (files, bytes, Some("100%"))
    );
}

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn a_log_of_200_mb_lands_whole_on_a_volume() {
    let bench = Bench::new(
        Reach::Namespace,
        BuildScript {
            log_bytes: 200_000_000,
            ..BuildScript::default()
        },
    )
    .await;
    let stage = &bench.installed.stage;
    let logs = json!({"destination": {"volume": {"claimName": "data", "subPath": "logs"}}});
    stage.build("b", json!({"logs": logs})).await;
    let built = bench.until_ready("b").await;
    let log = built.status.and_then(|s| s.log).expect("a log");
    assert!(log.complete && log.config_maps.is_empty(), "{log:?}");
    assert_eq!(log.bytes, 200_000_000);
    let place = bench.place(&log.volume.expect("a place").path);
    assert_eq!(place.metadata().expect("the file").len(), 200_000_000);
    assert_eq!(log.sha256, Some(digest(&place)));
    // Its lines are numbered: none is missing and none comes twice.
    let text = fs::read_to_string(&place).expect("text");
    let (first, last) = (text.lines().next(), text.lines().last());
    let lines: std::collections::HashSet<&str> = text.lines().collect();
    assert_eq!(lines.len(), text.lines().count(), "{first:?} … {last:?}");
    assert!(
        last.is_some_and(|line| line.starts_with("Finished: ")),
        "{last:?}"
    );
    bench.installed.uninstall().await;
}
