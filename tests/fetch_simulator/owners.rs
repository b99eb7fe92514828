//! Whose files are whose: pruning, and several owners on one claim.

use std::fs;

use serde_json::{Value, json};
use tenantry::fetcher::outcome::Stored;
use tenantry_simulator::world::BuildScript;

use crate::bench::Stage;

fn files(paths: &[&str]) -> BuildScript {
    BuildScript {
        files: paths
            .iter()
            // The same bytes under the same name, in whichever directory: bytes alone do not tell whose they are.
            .map(|path| ((*path).into(), path.rsplit('/').next().unwrap_or_default().into()))
            .collect(),
        ..BuildScript::default()
    }
}

fn pruned(ended: &crate::bench::Ended) -> u64 {
    match ended.success().stored {
        Stored::Artifacts { pruned, .. } => pruned,
        other @ Stored::Log { .. } => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_new_revision_lacks_is_removed_and_nothing_else() {
    let stage = Stage::with(files(&["a", "old/b", "old/deep/c", "shared/d"])).await;
    stage.fetch(&json!({})).await.success();
    stage.write("mine.txt", "a person's");
    stage.write("shared/mine.txt", "a person's");
    // A person put something else where a file of ours was.
    fs::remove_file(stage.place("old/b")).unwrap();
    stage.write("old/b", "a person's");
    stage.build(files(&["a", "new/e"])).await;
    let ended = stage.fetch(&json!({})).await;
    assert_eq!(pruned(&ended), 2);
    assert_eq!(
        stage.visible(),
        ["a", "mine.txt", "new/e", "old/b", "shared/mine.txt"]
    );
    assert!(
        !stage.place("old/deep").exists(),
        "a directory that was made for it"
    );

    stage.build(files(&["f"])).await;
    assert_eq!(pruned(&stage.fetch(&json!({})).await), 2);
    assert_eq!(stage.visible(), ["f", "mine.txt", "old/b", "shared/mine.txt"]);
    assert!(!stage.place("new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_prune_earlier_files_stay_until_they_are_pruned() {
    let stage = Stage::with(files(&["a", "b"])).await;
    stage.fetch(&json!({})).await.success();
    stage.build(files(&["a", "c"])).await;
    assert_eq!(pruned(&stage.fetch(&json!({"prune": false})).await), 0);
    assert_eq!(stage.visible(), ["a", "b", "c"]);
    stage.build(files(&["a"])).await;
    assert_eq!(pruned(&stage.fetch(&json!({})).await), 2);
    assert_eq!(stage.visible(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_with_overlapping_sub_paths_leave_each_other_alone() {
    let stage = Stage::with(files(&["x", "latest/both", "latest/mine"])).await;
    let plan = |owner: &str, sub_path: &str| {
        let mut plan = stage.plan(&json!({}));
        plan["owner"] = Value::from(owner);
        plan["target"]["subPath"] = Value::from(sub_path);
        plan
    };
    stage
        .fetch_plan(&plan("artifactfetch.outer", "shop"))
        .await
        .success();
    stage.build(files(&["both", "theirs"])).await;
    stage
        .fetch_plan(&plan("artifactfetch.inner", "shop/latest"))
        .await
        .success();
    assert_eq!(stage.visible(), ["both", "mine", "theirs"]);
    stage.build(files(&["y"])).await;
    // The outer one loses its own, but not what the inner one has too, nor what is the inner one's alone.
    let ended = stage.fetch_plan(&plan("artifactfetch.outer", "shop")).await;
    assert_eq!(pruned(&ended), 2);
    assert_eq!(stage.visible(), ["both", "theirs"]);
    let ended = stage
        .fetch_plan(&plan("artifactfetch.inner", "shop/latest"))
        .await;
    assert_eq!(pruned(&ended), 2);
    assert_eq!(stage.visible(), ["y"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sub_path_takes_the_files_along() {
    let stage = Stage::with(files(&["a/b"])).await;
    stage.fetch(&json!({})).await.success();
    let mut plan = stage.plan(&json!({}));
    plan["target"]["subPath"] = json!("elsewhere");
    assert_eq!(pruned(&stage.fetch_plan(&plan).await), 1);
    assert!(!stage.volume.path().join("shop").exists());
    assert!(stage.volume.path().join("elsewhere/a/b").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_nobody_understands_costs_no_file() {
    let stage = Stage::with(files(&["a", "b"])).await;
    stage.fetch(&json!({})).await.success();
    let manifest = stage.volume.path().join(".tenantry/artifactfetch.files.json");
    fs::write(manifest, "{").unwrap();
    stage.build(files(&["a"])).await;
    assert_eq!(pruned(&stage.fetch(&json!({})).await), 0);
    assert_eq!(stage.visible(), ["a", "b"]);
}
