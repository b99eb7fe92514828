//! Claims and volumes that something is wrong with: each is said in a reason that a person can act on, by what a real
//! node and its controllers say, and once it is mended the files come.

use std::{
    fs::{self, File},
    io::Write as _,
};

use serde_json::{Value, json};
use tenantry::api::{
    ArtifactFetch,
    conditions::{ConditionType::Stalled, find},
};
use tenantry_simulator::world::BuildScript;
use tenantry_test_support::{Seen, wait_for};

use crate::{
    bench::{Bench, LONG, Memory, numbered},
    node::Reach,
};

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn what_is_wrong_with_a_claim_is_said_and_the_files_come_once_it_is_mended() {
    let small = numbered(300);
    let bench = Bench::new(
        Reach::Namespace,
        BuildScript {
            duration: 1.0,
            files: small.clone(),
            artifacts: "out/big.bin:8000000,out/tiny.txt:100".into(),
            // Slow enough for its volume to fill up meanwhile.
            artifact_bps: 50_000,
            ..BuildScript::default()
        },
    )
    .await;
    bench.installed.stage.build("b", json!({})).await;
    bench.until_ready("b").await;
    tokio::join!(
        missing(&bench),
        unbound(&bench),
        read_only(&bench),
        full(&bench, &small)
    );
    bench.installed.uninstall().await;
}

/// Wants files of build `b` in the claim of the same name.
async fn fetch(bench: &Bench, name: &str, include: Value) {
    let object = json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": name},
        "spec": {
            "source": {"buildRequestRef": {"name": "b"}}, "include": include, "maxFiles": 1000,
            "destination": {"volume": {"claimName": name}},
        },
    });
    bench.installed.stage.apply::<ArtifactFetch>(object).await;
}

fn tiny() -> Value {
    json!(["out/tiny.txt"])
}

/// Waits until it is `Stalled` for this reason; its words must hold `words`.
async fn until_stalled(bench: &Bench, name: &str, reason: &str, words: &[&str]) {
    let api = bench.installed.stage.api::<ArtifactFetch>();
    let message = wait_for(
        &format!("ArtifactFetch {name}: Stalled {reason}"),
        LONG,
        async || {
            let status = api.get(name).await?.status.unwrap_or_default();
            let stalled =
                find(&status.conditions, Stalled).filter(|c| c.status == "True" && c.reason == reason);
            Ok(match stalled {
                Some(stalled) => Seen::Done(stalled.message.clone()),
                None => Seen::NotYet(format!("{:?}", status.conditions)),
            })
        },
    )
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

async fn until_ready(bench: &Bench, name: &str) {
    let api = bench.installed.stage.api::<ArtifactFetch>();
    tenantry_test_support::wait_for(&format!("ArtifactFetch {name}: Ready"), LONG, async || {
        let status = api.get(name).await?.status.unwrap_or_default();
        let ready = status
            .conditions
            .iter()
            .any(|c| c.type_ == "Ready" && c.status == "True");
        Ok(Seen::when(ready, || format!("{:?}", status.conditions)))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}

async fn missing(bench: &Bench) {
    fetch(bench, "missing", tiny()).await;
    until_stalled(bench, "missing", "ClaimNotFound", &["\"missing\"", "create it"]).await;
    let memory = Memory::mounted(bench, "size=1m");
    bench.volume("missing", "", memory.folder()).await;
    bench.claim("missing", "").await;
    until_ready(bench, "missing").await;
    assert!(memory.place("out/tiny.txt").is_file());
}

async fn unbound(bench: &Bench) {
    bench.claim("unbound", "by-hand").await;
    fetch(bench, "unbound", tiny()).await;
    let words = [
        "\"unbound\"",
        "storage class \"by-hand\"",
        "unbound immediate PersistentVolumeClaims",
    ];
    until_stalled(bench, "unbound", "ClaimNotBound", &words).await;
    let memory = Memory::mounted(bench, "size=1m");
    bench.volume("unbound", "by-hand", memory.folder()).await;
    until_ready(bench, "unbound").await;
    assert!(memory.place("out/tiny.txt").is_file());
}

async fn read_only(bench: &Bench) {
    let memory = Memory::mounted(bench, "size=1m,ro");
    bench.volume("sealed", "", memory.folder()).await;
    bench.claim("sealed", "").await;
    fetch(bench, "sealed", tiny()).await;
    until_stalled(bench, "sealed", "VolumeReadOnly", &["read-only"]).await;
    memory.remount("rw");
    until_ready(bench, "sealed").await;
    assert!(memory.place("out/tiny.txt").is_file());
}

/// It fills up while files are on their way: what was fetched by then gives its room back, and all of it comes once there is
/// room again.
async fn full(bench: &Bench, small: &[(String, String)]) {
    let memory = Memory::mounted(bench, "size=16m");
    bench.volume("full", "", memory.folder()).await;
    bench.claim("full", "").await;
    fetch(bench, "full", json!(["small/**", "out/big.bin"])).await;
    let journal = memory.place(".tenantry/artifactfetch.full.journal");
    let whole = || -> Vec<String> {
        fs::read_to_string(&journal)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| Some(line.get("whole")?["path"].as_str()?.to_owned()))
            .collect()
    };
    wait_for("some files to be there", LONG, async || {
        let there = whole().len();
        Ok(Seen::when(there >= 50, || format!("{there} files")))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    let filler = memory.place("filler");
    let mut file = File::create(&filler).expect("a filler");
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    until_stalled(bench, "full", "VolumeFull", &["make it larger"]).await;
    // Others on the volume may want the room.
    assert_eq!(whole(), Vec::<String>::new());
    let staged = fs::read_dir(memory.place(".tenantry/artifactfetch.full.d")).map_or(0, Iterator::count);
    assert_eq!(staged, 0, "files in part are left on a full volume");
    fs::remove_file(&filler).expect("removed");
    until_ready(bench, "full").await;
    for (path, text) in small {
        let got = fs::read_to_string(memory.place(path)).expect("the file");
        assert!(got == *text, "{path}: {got:?}");
    }
    assert_eq!(
        memory.place("out/big.bin").metadata().expect("the file").len(),
        8_000_000
    );
}
