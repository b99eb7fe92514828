//! Pods that are killed, evicted or stopped: the next one goes on, and nothing is fetched twice.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tenantry::fetcher::outcome::{AGAIN, FailureKind, Stored};
use tenantry_simulator::{Role, world::BuildScript};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::bench::{Running, Stage, numbered};

const BIG: u64 = 16 << 20;

/// Many small files, and a big one that takes its time.
async fn slow(count: usize) -> Stage {
    Stage::with(BuildScript {
        files: numbered(count),
        artifacts: format!("big.bin:{BIG}"),
        // Per 64 KiB, at 20 times the real pace.
        artifact_bps: 400_000,
        ..BuildScript::default()
    })
    .await
}

/// Waits until so many files are whole and so much of the big one is there.
async fn until(stage: &Stage, running: &mut Running, files: usize, bytes: u64) {
    let what = format!("{files} files and {bytes} bytes");
    wait_for(&what, PATIENCE, async || {
        assert!(!running.is_over(), "it ended before it was killed");
        let (whole, staged) = (stage.whole().len(), stage.staged());
        Ok(Seen::when(whole >= files && staged >= bytes, || {
            format!("{whole} files, {staged} bytes")
        }))
    })
    .await
    .unwrap();
}

/// Nothing that was finished then was asked for again since.
fn check(stage: &Stage, finished: &BTreeMap<String, usize>) {
    for (path, count) in finished {
        assert_eq!(
            stage.asked(path),
            *count,
            "{path} was whole, and was fetched again"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_three_times_it_ends_with_the_right_bytes_and_no_finished_file_fetched_twice() {
    let stage = slow(200).await;
    let plan = stage.plan(&json!({}));
    // Each with how often it had been asked for: it may have been on its way when an earlier pod was killed.
    let mut finished: BTreeMap<String, usize> = BTreeMap::new();
    for (files, bytes) in [(20, 0), (60, BIG / 4), (100, BIG / 2)] {
        let mut running = stage.start(&plan);
        until(&stage, &mut running, files, bytes).await;
        running.kill();
        assert_eq!(stage.visible(), [""; 0], "nothing is visible before all is whole");
        assert!(!stage.has_manifest());
        check(&stage, &finished);
        let whole = stage.whole();
        assert!(
            finished.keys().all(|path| whole.contains(path)),
            "what was whole stays so"
        );
        finished = whole
            .into_iter()
            .map(|path| (path.clone(), stage.asked(&path)))
            .collect();
    }
    let success = stage.fetch_plan(&plan).await.success();
    assert_eq!((success.files, success.bytes > BIG), (201, true));
    let Stored::Artifacts { reused, .. } = success.stored else {
        panic!()
    };
    assert_eq!(reused, finished.len() as u64);
    check(&stage, &finished);
    let ledger = stage.simulator.ledger();
    let big: Vec<_> = ledger
        .requests("v2.proxy")
        .into_iter()
        .filter(|request| request.path.ends_with("big.bin"))
        .collect();
    let statuses: Vec<_> = big.iter().map(|request| request.status).collect();
    assert!(
        statuses.len() >= 3 && statuses[statuses.len() - 2..] == [206, 206],
        "it went on in the middle: {statuses:?}"
    );
    let sent: u64 = big.iter().map(|request| request.bytes_out).sum();
    assert!(sent < BIG * 3 / 2, "{sent} bytes were sent of a file of {BIG}");
    stage.holds(&numbered(200));
    stage.holds_noise("big.bin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_without_the_raw_proxy_finished_files_stay_finished_too() {
    let stage = Stage::with(BuildScript {
        files: numbered(80),
        ..BuildScript::default()
    })
    .await;
    stage.role(Role::tenant_without_jenkins_proxy());
    let slow = tenantry_simulator::FaultAction::delay(30);
    let fault = stage
        .simulator
        .control()
        .fault(tenantry_simulator::Fault::always("v3.run.artifact", slow));
    let plan = stage.plan(&json!({}));
    let mut running = stage.start(&plan);
    until(&stage, &mut running, 10, 0).await;
    running.kill();
    let whole = stage.whole().len();
    stage.simulator.control().remove_fault(fault);
    stage.simulator.ledger().clear();
    stage.fetch_plan(&plan).await.success();
    // Fewer where the last bytes of one had come, and only the journal did not know yet.
    let asked = stage.simulator.ledger().count("v3.run.artifact");
    assert!(
        asked <= 80 - whole,
        "{asked} of 80 files were asked for, {whole} were whole"
    );
    stage.holds(&numbered(80));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_another_gateway_is_gone_on_with() {
    let stage = slow(30).await;
    let mut plan = stage.plan(&json!({}));
    let mut running = stage.start(&plan);
    until(&stage, &mut running, 30, BIG / 8).await;
    running.kill();
    // The same run by its name and number, and it may be another one.
    let endpoint = plan["gateway"]["endpoint"].as_str().expect("a URL");
    plan["gateway"]["endpoint"] = endpoint.replace("127.0.0.1", "localhost").into();
    let Stored::Artifacts { reused, .. } = stage.fetch_plan(&plan).await.success().stored else {
        panic!()
    };
    assert_eq!(reused, 0);
    stage.holds(&numbered(30));
    stage.holds_noise("big.bin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_asked_to_stop_leaves_all_in_order() {
    let stage = slow(30).await;
    let plan = stage.plan(&json!({}));
    let mut running = stage.start(&plan);
    until(&stage, &mut running, 30, BIG / 8).await;
    running.terminate();
    let ended = running.end().await;
    assert_eq!(
        (ended.failure().kind, ended.code),
        (FailureKind::Interrupted, i32::from(AGAIN))
    );
    let journal = stage.volume.path().join(".tenantry/artifactfetch.files.journal");
    let text = std::fs::read_to_string(journal).unwrap();
    let safe = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| line.pointer("/partial/safe")?.as_u64())
        .next_back();
    assert_eq!(
        safe,
        Some(stage.staged()),
        "what there is of it is known to be safe"
    );
    stage.fetch_plan(&plan).await.success();
    stage.holds_noise("big.bin").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_revision_begins_anew_and_leaves_nothing_of_the_old_try() {
    let stage = slow(10).await;
    let mut running = stage.start(&stage.plan(&json!({})));
    until(&stage, &mut running, 10, BIG / 8).await;
    running.kill();
    stage
        .build(BuildScript {
            files: vec![("new.txt".into(), "new".into())],
            ..BuildScript::default()
        })
        .await;
    stage.fetch(&json!({})).await.success();
    assert_eq!(stage.visible(), ["new.txt"]);
    assert_eq!(
        stage.state_files(),
        ["artifactfetch.files.json", "artifactfetch.files.lock", "lock"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_of_the_machine_may_have_lost_is_fetched_again() {
    let stage = slow(5).await;
    let plan = stage.plan(&json!({}));
    let mut running = stage.start(&plan);
    until(&stage, &mut running, 5, BIG / 4).await;
    running.kill();
    // As if the machine had been started anew: what is not known to be safe may be anything.
    let journal = stage.volume.path().join(".tenantry/artifactfetch.files.journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()));
    std::fs::write(&journal, text.replace(boot.trim(), "another")).unwrap();
    let folder = stage.volume.path().join(".tenantry/artifactfetch.files.d");
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.metadata().unwrap().len() >= BIG / 4 {
            std::fs::write(entry.path(), vec![0; usize::try_from(BIG / 4).unwrap()]).unwrap();
        }
    }
    stage.fetch_plan(&plan).await.success();
    stage.holds_noise("big.bin").await;
    assert_eq!(stage.asked("f/0001.txt"), 1, "what is safe is not fetched again");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pods_of_one_owner_do_not_work_at_once() {
    let stage = slow(3).await;
    let plan = stage.plan(&json!({}));
    let mut running = stage.start(&plan);
    until(&stage, &mut running, 1, 0).await;
    let second = stage.fetch_plan(&plan).await;
    assert_eq!(
        (second.failure().kind, second.code),
        (FailureKind::VolumeBusy, i32::from(AGAIN))
    );
    running.end().await.success();
}
