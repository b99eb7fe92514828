//! Fetch pods that are killed or evicted: the next one goes on where they were.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{EvictParams, ListParams},
};
use serde_json::{Value, json};
use tenantry::api::{
    ArtifactFetch,
    conditions::{ConditionType::Reconciling, find},
};
use tenantry_simulator::world::BuildScript;
use tenantry_test_support::{Seen, wait_for};

use crate::{
    bench::{Bench, LONG, digest, everything_to, numbered},
    node::Reach,
};

/// Bytes of the file that takes a while.
const BIG: usize = 48_000_000;
/// What the pods of build `b`'s files have on the volume.
const STATE: &str = ".tenantry/artifactfetch.b-artifacts";

/// A build `b` whose files take about half a minute to `all` on the volume.
async fn being_fetched(small: &[(String, String)], values: &[&str]) -> Bench {
    let bench = Bench::with(
        Reach::Namespace,
        BuildScript {
            files: small.to_vec(),
            artifacts: format!("out/big.bin:{BIG}"),
            // Slow enough to be caught at it: per second, at ten times the real pace.
            artifact_bps: 200_000,
            ..BuildScript::default()
        },
        values,
    )
    .await;
    let spec = json!({"artifacts": everything_to("all")});
    bench.installed.stage.build("b", spec).await;
    bench
}

/// The files that the journal on the volume calls whole, and how often each was asked for.
fn whole(bench: &Bench) -> BTreeMap<String, usize> {
    let text = fs::read_to_string(bench.place(&format!("{STATE}.journal")));
    text.unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some(line.get("whole")?["path"].as_str()?.to_owned()))
        .map(|path| (path.clone(), bench.asked(&path)))
        .collect()
}

/// Bytes of what is not in its place yet.
fn staged(bench: &Bench) -> u64 {
    let files = fs::read_dir(bench.place(&format!("{STATE}.d")))
        .into_iter()
        .flatten();
    files
        .filter_map(|file| file.ok()?.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}

/// No file that was whole was asked for again.
#[track_caller]
fn none_of(bench: &Bench, finished: &BTreeMap<String, usize>) {
    for (path, count) in finished {
        assert_eq!(
            bench.asked(path),
            *count,
            "{path} was whole, and was fetched again"
        );
    }
}

/// Waits until a pod is in the middle of it: so many files whole, so many bytes there.
async fn until_under_way(bench: &Bench, files: usize, bytes: u64) -> Pod {
    let pods: Api<Pod> = bench.installed.stage.api();
    let what = format!("a pod with {files} whole files and {bytes} bytes");
    wait_for(&what, LONG, async || {
        let ours = ListParams::default().labels("batch.kubernetes.io/job-name");
        let mut running = pods.list(&ours).await?.items;
        running.retain(|pod| pod.metadata.deletion_timestamp.is_none() && phase(pod) == "Running");
        let (whole, there) = (whole(bench).len(), staged(bench));
        Ok(match running.pop() {
            Some(pod) if whole >= files && there >= bytes => Seen::Done(pod),
            pod => {
                let name = pod.map(|pod| pod.name_any());
                Seen::NotYet(format!("{whole} files, {there} bytes, pod {name:?}"))
            }
        })
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"))
}

/// Waits until a pod does not run any more.
async fn until_over(bench: &Bench, pod: &Pod) {
    let pods: Api<Pod> = bench.installed.stage.api();
    let name = pod.name_any();
    wait_for(&format!("pod {name} to end"), LONG, async || {
        let left = pods.get_opt(&name).await?;
        let running = left.as_ref().is_some_and(|pod| phase(pod) == "Running");
        Ok(Seen::when(!running, || "it runs".to_owned()))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
}

fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Kills the process in the pod's container, as the kernel does when memory is short.
fn kill(pod: &Pod) {
    let uid = pod.metadata.uid.as_deref().expect("a UID");
    let is_of_pod = |process: &Path| {
        let text = |file| fs::read_to_string(process.join(file)).unwrap_or_default();
        text("cgroup").contains(uid) && text("cmdline").split('\0').any(|word| word == "fetch")
    };
    let processes = fs::read_dir("/proc").expect("/proc");
    let found: Vec<PathBuf> = processes
        .map(|entry| entry.expect("an entry").path())
        .filter(|process| is_of_pod(process))
        .collect();
    let [process] = found.as_slice() else {
        panic!("processes of pod {uid}: {found:?}")
    };
    let id = process.file_name().expect("a number");
    let status = Command::new("kill").arg("-KILL").arg(id).status();
    assert!(status.expect("kill runs").success());
}

/// All is there, and right.
async fn ends_well(bench: Bench, small: &[(String, String)]) {
    let built = bench.until_ready("b").await;
    bench.holds("all", small);
    let local = digest(&bench.place("all/out/big.bin"));
    assert_eq!(local, bench.remote_digest(&built, "out/big.bin").await);
    bench.installed.uninstall().await;
}

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn a_fetch_pod_killed_three_times_fetches_no_finished_file_twice() {
    let small = numbered(300);
    let bench = being_fetched(&small, &[]).await;
    let pods: Api<Pod> = bench.installed.stage.api();
    let mut finished = BTreeMap::new();
    for (files, bytes) in [(20, 6_000_000), (60, 14_000_000), (120, 22_000_000)] {
        let pod = until_under_way(&bench, files, bytes).await;
        kill(&pod);
        until_over(&bench, &pod).await;
        let dead = pods.get(&pod.name_any()).await.expect("the pod");
        let ended = dead
            .status
            .and_then(|s| s.container_statuses?.pop()?.state?.terminated);
        assert_eq!(ended.map(|ended| ended.exit_code), Some(137));
        none_of(&bench, &finished);
        finished = whole(&bench);
        assert!(finished.len() >= files);
    }
    wait_for("the files", LONG, async || {
        let fetch: ArtifactFetch = bench.installed.stage.api().get("b-artifacts").await?;
        let done = fetch.status.is_some_and(|status| status.file_count.is_some());
        Ok(Seen::when(done, || format!("{} bytes", staged(&bench))))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    none_of(&bench, &finished);
    // Each of the four pods went on with the large file where the last one was.
    let ledger = bench.installed.stage.simulator.ledger().requests("v2.proxy");
    let of_big = ledger.iter().filter(|request| request.path.ends_with("big.bin"));
    let sent: Vec<_> = of_big.map(|request| request.bytes_out).collect();
    assert_eq!(sent.len(), 4, "{sent:?}");
    assert!(sent.iter().sum::<u64>() < BIG as u64 * 5 / 4, "{sent:?}");
    ends_well(bench, &small).await;
}

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn a_fetch_pod_that_is_evicted_says_so_and_the_next_one_goes_on() {
    let small = numbered(300);
    let container = "fetcher.podTemplate.spec.containers[0]";
    let name = format!("{container}.name=fetch");
    let limit = format!("{container}.resources.limits.ephemeral-storage=16Mi");
    let bench = being_fetched(&small, &[&name, &limit]).await;
    let stage = &bench.installed.stage;
    // By its API, as `kubectl drain` does.
    let pods: Api<Pod> = stage.api();
    let pod = until_under_way(&bench, 20, 4_000_000).await;
    pods.evict(&pod.name_any(), &EvictParams::default())
        .await
        .expect("evicted");
    until_over(&bench, &pod).await;
    let finished = whole(&bench);

    // By the kubelet: something fills the room that the pod's limit leaves it on the node.
    let pod = until_under_way(&bench, 60, 8_000_000).await;
    none_of(&bench, &finished);
    let (name, uid) = (pod.name_any(), pod.metadata.uid.clone().expect("a UID"));
    let cluster = stage.cluster.kubeconfig().parent().expect("a folder");
    let logs = cluster.join(format!("node/pod-logs/{}_{name}_{uid}/fetch", &*stage.namespace));
    fs::write(logs.join("0.log.filler"), vec![0; 64 << 20]).expect("a filler");
    let fetches: Api<ArtifactFetch> = stage.api();
    wait_for("the eviction to be told", LONG, async || {
        let status = fetches.get("b-artifacts").await?.status.unwrap_or_default();
        let told = find(&status.conditions, Reconciling)
            .filter(|c| c.reason == "PodEvicted" && c.message.contains("ephemeral"));
        Ok(Seen::when(told.is_some(), || format!("{:?}", status.conditions)))
    })
    .await
    .unwrap_or_else(|e| panic!("{e:#}"));
    let finished = whole(&bench);
    until_under_way(&bench, finished.len(), 8_000_000).await;
    none_of(&bench, &finished);
    ends_well(bench, &small).await;
}
