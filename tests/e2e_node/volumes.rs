//! Files and logs on a volume, brought there by real pods.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, EvictParams, ListParams},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tenantry::{
    api::{ArtifactFetch, BuildRequest},
    gateway::{Credentials, Gateway, GatewayConfig, Limits, ProjectName, ProjectScope, RunId, RunRef},
};
use tenantry_simulator::world::BuildScript;
use tenantry_test_support::{Seen, wait_for};

use crate::{
    common::{PASSWORD, PROJECT, Setup, USER, condition},
    node::{Installed, node},
};

/// What takes a while also on a quick machine.
const LONG: Duration = Duration::from_secs(600);
const GIB: u64 = 1 << 30;

/// The operator in a pod, and a claim `data` that is bound to a folder of this machine.
struct Bench {
    installed: Installed,
    folder: TempDir,
}

impl Bench {
    async fn new(cluster: &'static tenantry_test_support::TestCluster, script: BuildScript) -> Self {
        let setup = Setup {
            cluster: Some(cluster),
            ..Setup::default()
        };
        // The node has no pod network; outside of this cluster the pods need no such thing.
        let values = ["fetcher.podTemplate.spec.hostNetwork=true".to_owned()];
        let installed = Installed::with(setup, &values).await;
        let stage = &installed.stage;
        let control = stage.simulator.control();
        control.set_script(PROJECT, "build", script).expect("a script");

        let folder = TempDir::with_prefix("tenantry-volume-").expect("a folder");
        // A hostPath volume belongs to root, and fsGroup does not reach it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("permissions");
        let name = format!("{}-data", &*stage.namespace);
        let room = json!({"storage": "4Gi"});
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
            "spec": {
                "capacity": room, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder.path()},
                "claimRef": {"namespace": &*stage.namespace, "name": "data"},
            },
        });
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data", "namespace": &*stage.namespace},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
                "resources": {"requests": room},
            },
        });
        let both = json!({"apiVersion": "v1", "kind": "List", "items": [volume, claim]});
        cluster
            .kubectl_with_input(["apply", "-f", "-"], &both.to_string())
            .await
            .expect("a claim");
        Self { installed, folder }
    }

    async fn until_ready(&self, name: &str) -> BuildRequest {
        let ready = |o: &BuildRequest| condition(o, "Ready").0 == "True";
        self.installed
            .stage
            .until_within(LONG, name, "Ready", ready)
            .await
    }

    fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn holds(&self, at: &str, files: &[(String, String)]) {
        for (path, text) in files {
            let place = self.place(at).join(path);
            let got = fs::read_to_string(&place).unwrap_or_else(|why| panic!("{}: {why}", place.display()));
            assert!(got == *text, "{path}: {got:?}");
        }
    }

    /// How often the gateway was asked for a file of this name.
    fn asked(&self, name: &str) -> usize {
        let requests = self.installed.stage.simulator.ledger().requests("v2.proxy");
        requests.iter().filter(|r| r.path.ends_with(name)).count()
    }

    /// The remote's project, for asking it what the truth is.
    fn remote(&self) -> ProjectScope {
        let endpoint = self.installed.stage.simulator.url().parse().expect("a URL");
        let mut config = GatewayConfig::new(endpoint, Credentials::password(USER, PASSWORD));
        config.limits = Limits {
            requests_per_second: 1000,
            burst: 1000,
        };
        let gateway = Gateway::new(config).expect("a gateway");
        gateway
            .scope(None)
            .project(&ProjectName::new(PROJECT).expect("a name"))
    }

    /// SHA-256 of what the remote has under this path.
    async fn remote_digest(&self, build: &BuildRequest, path: &str) -> String {
        let run = build.status.as_ref().and_then(|s| s.run.as_ref()).expect("a run");
        let reference = RunRef {
            pipeline: run.pipeline.clone(),
            branch: None,
            id: RunId::new(run.id.clone().expect("a number")).expect("a number"),
        };
        let mut pieces = self
            .remote()
            .download(&reference, run.name.as_deref(), path, 0)
            .await
            .expect("the file");
        let mut digest = Sha256::new();
        while let Some(piece) = pieces.next().await {
            digest.update(piece.expect("bytes"));
        }
        hex(&digest.finalize())
    }
}

/// A digest as it is written.
fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file.
fn digest(path: &Path) -> String {
    let mut file = fs::File::open(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).expect("bytes") {
            0 => return hex(&digest.finalize()),
            count => digest.update(&buffer[..count]),
        }
    }
}

/// Path and text of so many small files.
fn numbered(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| {
            (
                format!("small/{n:04}.txt"),
                format!("number {n}\n").repeat(1 + n % 9),
            )
        })
        .collect()
}

fn everything_to(sub_path: &str) -> Value {
    json!({
        "include": ["**"], "maxFiles": 5000,
        "destination": {"volume": {"claimName": "data", "subPath": sub_path}},
    })
}

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn a_gibibyte_and_two_thousand_small_files_land_on_a_volume() {
    let (cluster, _alone) = node().await;
    let small = numbered(2000);
    let bench = Bench::new(
        cluster,
        BuildScript {
            files: small.clone(),
            artifacts: format!("out/big.bin:{GIB}"),
            ..BuildScript::default()
        },
    )
    .await;
    let stage = &bench.installed.stage;
    stage
        .build("b", json!({"artifacts": everything_to("shop/latest")}))
        .await;
    let built = bench.until_ready("b").await;

    let fetch: ArtifactFetch = stage.api().get("b-artifacts").await.expect("the ArtifactFetch");
    let status = fetch.status.expect("a status");
    assert_eq!(status.file_count, Some(2001));
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

/// The pods of fetch Jobs that are neither over nor on their way out.
async fn fetching(pods: &Api<Pod>) -> Vec<Pod> {
    let ours = ListParams::default().labels("batch.kubernetes.io/job-name");
    let mut pods = pods.list(&ours).await.expect("pods").items;
    pods.retain(|pod| {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
    });
    pods
}

/// The files that the journal on the volume calls whole.
fn whole(bench: &Bench) -> Vec<String> {
    let text = fs::read_to_string(bench.place(".tenantry/artifactfetch.b-artifacts.journal"));
    text.unwrap_or_default()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| Some(line.get("whole")?["path"].as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn a_fetch_pod_killed_three_times_fetches_no_finished_file_twice() {
    let (cluster, _alone) = node().await;
    let small = numbered(300);
    let bench = Bench::new(
        cluster,
        BuildScript {
            files: small.clone(),
            artifacts: "out/big.bin:48000000".into(),
            // Slow enough to be caught at it: per second, at ten times the real pace.
            artifact_bps: 200_000,
            ..BuildScript::default()
        },
    )
    .await;
    let stage = &bench.installed.stage;
    let pods: Api<Pod> = stage.api();
    stage.build("b", json!({"artifacts": everything_to("all")})).await;

    let mut finished: BTreeMap<String, usize> = BTreeMap::new();
    for (round, least) in [20, 60, 120].into_iter().enumerate() {
        let pod = wait_for(&format!("a pod with {least} whole files"), LONG, async || {
            let whole = whole(&bench).len();
            let mut running = fetching(&pods).await;
            Ok(match running.pop() {
                Some(pod) if whole >= least => Seen::Done(pod),
                pod => Seen::NotYet(format!("{whole} files, pod {:?}", pod.map(|p| p.name_any()))),
            })
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}"));
        let name = pod.name_any();
        if round == 0 {
            pods.evict(&name, &EvictParams::default()).await.expect("evicted");
        } else {
            let now = DeleteParams::default().grace_period(0);
            pods.delete(&name, &now).await.expect("killed");
        }
        wait_for(&format!("pod {name} to end"), LONG, async || {
            let left = pods.get_opt(&name).await?;
            let running =
                left.as_ref().and_then(|p| p.status.as_ref()?.phase.clone()) == Some("Running".into());
            Ok(Seen::when(!running, || "it runs".to_owned()))
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}"));
        for (path, count) in &finished {
            assert_eq!(
                bench.asked(path),
                *count,
                "{path} was whole, and was fetched again"
            );
        }
        finished = whole(&bench)
            .into_iter()
            .map(|path| (path.clone(), bench.asked(&path)))
            .collect();
    }
    let built = bench.until_ready("b").await;
    for (path, count) in &finished {
        assert_eq!(
            bench.asked(path),
            *count,
            "{path} was whole, and was fetched again"
        );
    }
    bench.holds("all", &small);
    let local = digest(&bench.place("all/out/big.bin"));
    assert_eq!(local, bench.remote_digest(&built, "out/big.bin").await);
    bench.installed.uninstall().await;
}

#[tokio::test]
#[ignore = "needs a node: make e2e"]
async fn a_log_of_200_mb_lands_whole_on_a_volume() {
    let (cluster, _alone) = node().await;
    let bench = Bench::new(
        cluster,
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
