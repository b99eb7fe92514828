//! An operator on the node with volumes that are folders of this machine, or file systems of the node's own.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tenantry::{
    api::BuildRequest,
    gateway::{Credentials, Gateway, GatewayConfig, Limits, ProjectName, ProjectScope, RunId, RunRef},
};
use tenantry_simulator::world::BuildScript;
use tenantry_test_support::TestCluster;

use crate::{
    common::{PASSWORD, PROJECT, Setup, USER, condition},
    node::{Installed, Reach, Turn, node},
};

/// What takes a while also on a quick machine.
pub const LONG: Duration = Duration::from_secs(600);

/// The operator in a pod, and a claim `data` that is bound to a folder of this machine.
pub struct Bench {
    pub installed: Installed,
    folder: TempDir,
    // Dropped last: then nothing of this test is on the node any more.
    _turn: Turn,
}

impl Bench {
    pub async fn new(reach: Reach, script: BuildScript) -> Self {
        Self::with(reach, script, &[]).await
    }

    /// With these further values of the chart.
    pub async fn with(reach: Reach, script: BuildScript, values: &[&str]) -> Self {
        Self::on(node(reach).await, reach, script, values).await
    }

    /// On this cluster with a node.
    pub async fn on(
        (cluster, turn): (&'static TestCluster, Turn),
        reach: Reach,
        script: BuildScript,
        values: &[&str],
    ) -> Self {
        let setup = Setup {
            cluster: Some(cluster),
            ..Setup::default()
        };
        // The node has no pod network; outside of this cluster the pods need no such thing.
        let values = [&["fetcher.podTemplate.spec.hostNetwork=true"], values].concat();
        let values: Vec<_> = values.into_iter().map(str::to_owned).collect();
        let installed = Installed::with(setup, reach, &values).await;
        let control = installed.stage.simulator.control();
        control.set_script(PROJECT, "build", script).expect("a script");
        let folder = TempDir::with_prefix("tenantry-volume-").expect("a folder");
        let bench = Self {
            installed,
            folder,
            _turn: turn,
        };
        open_to_all(bench.folder.path());
        bench.claim("data", "").await;
        bench.volume("data", "", bench.folder.path()).await;
        bench
    }

    /// Makes a claim of a storage class that nothing serves.
    pub async fn claim(&self, name: &str, class: &str) {
        self.installed
            .stage
            .apply::<PersistentVolumeClaim>(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }))
            .await;
    }

    /// Makes the volume for a claim: a folder as the node sees it.
    pub async fn volume(&self, claim: &str, class: &str, folder: &Path) {
        let stage = &self.installed.stage;
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": format!("{}-{claim}", &*stage.namespace)},
            "spec": {
                "capacity": {"storage": "4Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
                "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": folder},
                "claimRef": {"namespace": &*stage.namespace, "name": claim},
            },
        });
        stage
            .cluster
            .kubectl_with_input(["apply", "-f", "-"], &volume.to_string())
            .await
            .expect("a volume");
    }

    pub async fn until_ready(&self, name: &str) -> BuildRequest {
        let ready = |o: &BuildRequest| condition(o, "Ready").0 == "True";
        self.installed
            .stage
            .until_within(LONG, name, "Ready", ready)
            .await
    }

    pub fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn holds(&self, at: &str, files: &[(String, String)]) {
        for (path, text) in files {
            let place = self.place(at).join(path);
            let got = fs::read_to_string(&place).unwrap_or_else(|why| panic!("{}: {why}", place.display()));
            assert!(got == *text, "{path}: {got:?}");
        }
    }

    /// How often the gateway was asked for a file of this name.
    pub fn asked(&self, name: &str) -> usize {
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
            ..Limits::default()
        };
        let gateway = Gateway::new(config).expect("a gateway");
        gateway
            .scope(None)
            .project(&ProjectName::new(PROJECT).expect("a name"))
    }

    /// SHA-256 of what the remote has under this path.
    pub async fn remote_digest(&self, build: &BuildRequest, path: &str) -> String {
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
pub fn digest(path: &Path) -> String {
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
pub fn numbered(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| {
            (
                format!("small/{n:04}.txt"),
                format!("number {n}\n").repeat(1 + n % 9),
            )
        })
        .collect()
}

pub fn everything_to(sub_path: &str) -> Value {
    json!({
        "include": ["**"], "maxFiles": 5000,
        "destination": {"volume": {"claimName": "data", "subPath": sub_path}},
    })
}

/// A file system in the node's own memory, which only the node sees, and which goes with it.
pub struct Memory {
    folder: TempDir,
    node: u32,
}

impl Memory {
    /// Mounts one with these options, such as `size=16m`.
    pub fn mounted(bench: &Bench, options: &str) -> Self {
        let memory = Self {
            folder: TempDir::with_prefix("tenantry-memory-").expect("a folder"),
            node: bench.installed.stage.cluster.pids()["node"],
        };
        memory.mount(&["-t", "tmpfs", "-o", &format!("mode=0777,{options}"), "tmpfs"]);
        memory
    }

    /// Changes its options.
    pub fn remount(&self, options: &str) {
        self.mount(&["-o", &format!("remount,{options}")]);
    }

    fn mount(&self, args: &[&str]) {
        let output = Command::new("nsenter")
            .args(["--target", &self.node.to_string(), "--mount", "mount"])
            .args(args)
            .arg(self.folder.path())
            .output()
            .expect("nsenter, of util-linux");
        assert!(output.status.success(), "{output:?}");
    }

    /// Where the node has it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where this process can look into it.
    pub fn place(&self, path: &str) -> PathBuf {
        let folder = self.folder.path().strip_prefix("/").expect("an absolute path");
        Path::new("/proc")
            .join(self.node.to_string())
            .join("root")
            .join(folder)
            .join(path)
    }
}

/// A hostPath volume belongs to root, and fsGroup does not reach it.
fn open_to_all(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("permissions");
}
