//! The Kubernetes that a suite runs on: etcd, API server and controller manager, started by `tests/cluster`.

use std::{
    collections::{BTreeMap, HashSet},
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempPath;

use crate::{Namespace, OperatorBuilder, PATIENCE, Seen, process::tail, wait_condition, wait_for};

/// Names a cluster to run the suites on instead of starting one. The user's own `KUBECONFIG` is never looked at.
const NAMED_CLUSTER: &str = "TENANTRY_TEST_KUBECONFIG";

/// What a test may want of a cluster of its own.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Where the API server writes its audit log, one JSON event a line.
    pub audit_log: Option<PathBuf>,
    /// An audit policy other than "the metadata of every request".
    pub audit_policy: Option<PathBuf>,
    /// More flags for kube-apiserver, such as `--v=4`.
    pub apiserver_flags: Vec<String>,
    /// With a node that runs pods, which needs root and what `tests/cluster/node-deps.sh` installs.
    pub node: bool,
}

/// How to reach a cluster as its administrator.
#[derive(Debug)]
pub(crate) struct Access {
    kubeconfig: PathBuf,
    /// The `testcluster` binary, which is kubectl among others.
    pub(crate) binary: PathBuf,
    /// Whether the cluster is somebody's, and has to be left as it was found.
    pub(crate) borrowed: bool,
    kubectl_cache: PathBuf,
}

impl Access {
    pub(crate) async fn client(&self) -> Result<Client> {
        let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// kubectl with this cluster's configuration and none of the user's.
    pub(crate) fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("kubectl")
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.kubectl_cache)
            .env("KUBERC", "off")
            .stdin(Stdio::null());
        command
    }
}

/// A real Kubernetes API server with its controllers, without nodes: pods are never scheduled.
///
/// It ends with the test process, however that ends. Nothing in it belongs to a tokio runtime, so tests that each have
/// their own can share it; [`client`](Self::client) makes a client for the runtime it is called on.
#[derive(Debug)]
pub struct TestCluster {
    access: Arc<Access>,
    /// Absent for a cluster named on purpose.
    process: Option<Arc<Process>>,
    /// Directories that [`apply_crds`](Self::apply_crds) has done. Held while it works, so that a second test waits.
    applied: tokio::sync::Mutex<HashSet<PathBuf>>,
}

/// A line that `testcluster up` prints.
#[derive(Clone, Debug, Deserialize)]
struct Report {
    kubeconfig: PathBuf,
    server: String,
    dir: PathBuf,
    #[serde(rename = "auditLog")]
    audit_log: Option<PathBuf>,
    pids: BTreeMap<String, u32>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    pipes: Mutex<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    /// The cluster lives until this closes. `None` only while it is being dropped.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: File,
    last: Report,
}

impl TestCluster {
    /// The cluster that all tests of this process share, started by the first that asks.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<TestCluster, String>> = OnceLock::new();
        let start = || {
            SHARED.get_or_init(|| {
                Self::start_blocking(&ClusterOptions::default()).map_err(|e| format!("{e:#}"))
            })
        };
        tokio::task::spawn_blocking(start)
            .await?
            .as_ref()
            .map_err(|error| anyhow!("no test cluster: {error}"))
    }

    /// A cluster of one's own, for tests that need options or stop the API server. It ends when the value is dropped.
    pub async fn start(options: ClusterOptions) -> Result<Self> {
        ensure!(
            named_cluster().is_none(),
            "this test needs a cluster of its own, and {NAMED_CLUSTER} names one that is shared: unset it, or skip the test"
        );
        tokio::task::spawn_blocking(move || Self::start_blocking(&options)).await?
    }

    fn start_blocking(options: &ClusterOptions) -> Result<Self> {
        let binary = ensure_binary()?;
        if let Some(kubeconfig) = named_cluster() {
            let kubectl_cache = std::env::temp_dir().join("tenantry-kubectl-cache");
            return Ok(Self::new(
                Access {
                    kubeconfig,
                    binary,
                    borrowed: true,
                    kubectl_cache,
                },
                None,
            ));
        }
        let process = Process::start(&binary, options)?;
        let report = process.pipes().last.clone();
        let kubectl_cache = report.dir.join("kubectl-cache");
        let access = Access {
            kubeconfig: report.kubeconfig,
            binary,
            borrowed: false,
            kubectl_cache,
        };
        Ok(Self::new(access, Some(process)))
    }

    fn new(access: Access, process: Option<Process>) -> Self {
        Self {
            access: Arc::new(access),
            process: process.map(Arc::new),
            applied: tokio::sync::Mutex::default(),
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.access.kubeconfig
    }

    /// A kubeconfig that speaks for a ServiceAccount, for a process that must live with its rights. The file goes when
    /// the value is dropped; the token in it is good for an hour.
    pub async fn kubeconfig_of(&self, namespace: &str, service_account: &str) -> Result<TempPath> {
        let token = self
            .kubectl([
                "create",
                "token",
                service_account,
                "-n",
                namespace,
                "--duration=1h",
            ])
            .await?;
        let mut config = Kubeconfig::read_from(&self.access.kubeconfig)?;
        for user in &mut config.auth_infos {
            // All of the administrator's ways to log in go: a certificate would win over the token.
            user.auth_info = Some(serde_json::from_value(json!({ "token": token.trim() }))?);
        }
        let mut file = tempfile::Builder::new()
            .prefix("tenantry-kubeconfig-")
            .tempfile()?;
        serde_json::to_writer(&mut file, &config)?;
        Ok(file.into_temp_path())
    }

    /// A client with the administrator's rights, for the runtime that calls.
    pub async fn client(&self) -> Result<Client> {
        self.access.client().await
    }

    /// Runs kubectl as administrator and returns what it printed.
    pub async fn kubectl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        run(self.access.kubectl(args), None).await
    }

    /// As [`kubectl`](Self::kubectl), with `input` on its stdin (`apply -f -`).
    pub async fn kubectl_with_input<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &str,
    ) -> Result<String> {
        run(self.access.kubectl(args), Some(input.to_owned())).await
    }

    /// Makes a namespace `prefix-…` that no other test has, with its ServiceAccount in place.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace> {
        Namespace::create(Arc::clone(&self.access), prefix).await
    }

    /// Applies the CustomResourceDefinitions in a directory and waits until the API server serves them. A second call
    /// for the same directory is free.
    pub async fn apply_crds(&self, dir: &Path) -> Result<()> {
        let mut applied = self.applied.lock().await;
        if applied.contains(dir) {
            return Ok(());
        }
        let files = dir.display().to_string();
        // Looked at before anything is applied: what is no definition would stay in a cluster that is not ours.
        let names = self
            .kubectl(["create", "--dry-run=client", "-o", "name", "-f", &files])
            .await?;
        let names = names
            .lines()
            .map(|line| {
                line.strip_prefix("customresourcedefinition.apiextensions.k8s.io/")
                    .with_context(|| {
                        format!("{files} holds something that is no CustomResourceDefinition: {line}")
                    })
            })
            .collect::<Result<Vec<_>>>()?;
        self.kubectl(["apply", "--server-side", "--force-conflicts", "-f", &files])
            .await?;
        let client = self.client().await?;
        let api = Api::<CustomResourceDefinition>::all(client.clone());
        for name in names {
            let crd = wait_condition(&api, name, "Established", "True").await?;
            for version in crd.spec.versions.iter().filter(|version| version.served) {
                let path = format!(
                    "/apis/{}/{}/{}",
                    crd.spec.group, version.name, crd.spec.names.plural
                );
                // Established is a promise: the route follows a moment later.
                wait_for(&format!("{path} to be served"), PATIENCE, async || {
                    let request = http::Request::get(format!("{path}?limit=1")).body(Vec::new())?;
                    client
                        .request_text(request)
                        .await
                        .map(|_| Seen::Done(()))
                        .map_err(Into::into)
                })
                .await?;
            }
        }
        applied.insert(dir.to_owned());
        Ok(())
    }

    /// An operator process that works on this cluster as its administrator.
    pub fn operator(&self, program: impl Into<PathBuf>) -> OperatorBuilder {
        OperatorBuilder::new(Arc::clone(&self.access), program.into())
            .env("KUBECONFIG", &self.access.kubeconfig)
    }

    /// Stops the API server; etcd and the controllers stay. Only in a cluster of one's own.
    pub async fn stop_apiserver(&self) -> Result<()> {
        self.command("stop apiserver").await
    }

    /// Starts the API server again, on the same port and with the same data, and waits until it is ready.
    pub async fn start_apiserver(&self) -> Result<()> {
        self.command("start apiserver").await
    }

    /// Stops and starts the API server.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.command("restart apiserver").await
    }

    /// The port of the API server on 127.0.0.1: for pods, whose network is the machine's. None in a cluster named on purpose.
    pub fn port(&self) -> Option<u16> {
        let server = self.process.as_ref()?.pipes().last.server.clone();
        server.rsplit(':').next()?.trim_end_matches('/').parse().ok()
    }

    /// Puts the images of an archive (of `docker save` or `buildah push docker-archive:`) into the node, and returns their
    /// names. Pods use them with `imagePullPolicy: Never`.
    pub async fn load_image(&self, archive: &Path) -> Result<Vec<String>> {
        let Some(process) = &self.process else {
            bail!("the cluster that {NAMED_CLUSTER} names is not ours to put images into");
        };
        let dir = process.pipes().last.dir.clone();
        let mut load = Command::new(&self.access.binary);
        load.args(["node", "load", "--dir"])
            .arg(dir)
            .arg(archive)
            .stdin(Stdio::null());
        let names = run(load, None).await?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The audit log of the API server, one JSON event a line: where one was asked for, or there is a node.
    pub fn audit_log(&self) -> Option<PathBuf> {
        self.process.as_ref()?.pipes().last.audit_log.clone()
    }

    /// The process ids of the cluster's parts by name (`kube-apiserver`); none for a cluster named on purpose.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        self.process
            .as_ref()
            .map(|process| process.pipes().last.pids.clone())
            .unwrap_or_default()
    }

    async fn command(&self, command: &'static str) -> Result<()> {
        let Some(process) = self.process.clone() else {
            bail!(
                "`{command}`: the API server of the cluster that {NAMED_CLUSTER} names is not ours to stop"
            );
        };
        // No deadline here: `up` answers, or ends, within its own.
        tokio::task::spawn_blocking(move || process.command(command)).await?
    }
}

/// The cluster named on purpose. An empty variable names none.
fn named_cluster() -> Option<PathBuf> {
    std::env::var_os(NAMED_CLUSTER)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

/// The path of `testcluster`, built when it is not there yet; progress goes to this process's stderr.
fn ensure_binary() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/ensure.sh");
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", script.display()))?;
    ensure!(
        output.status.success(),
        "{} failed ({}): see its messages above",
        script.display(),
        output.status
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim_end()))
}

async fn run(command: Command, input: Option<String>) -> Result<String> {
    tokio::task::spawn_blocking(move || run_blocking(command, input)).await?
}

fn run_blocking(mut command: Command, input: Option<String>) -> Result<String> {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start the program")?;
    let writer = child.stdin.take().zip(input).map(|(mut stdin, input)| {
        // Its own thread: both sides could wait for each other when the pipes are full.
        std::thread::spawn(move || stdin.write_all(input.as_bytes()))
    });
    let output = child.wait_with_output().context("wait for the program")?;
    if let Some(writer) = writer {
        // A kubectl that left early explains itself below.
        let _ = writer.join();
    }
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    ensure!(
        output.status.success(),
        "`{}` failed ({}): {}",
        args.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8(output.stdout)?)
}

impl Process {
    fn start(binary: &Path, options: &ClusterOptions) -> Result<Self> {
        let mut command = Command::new(binary);
        command.arg("up");
        if let Some(path) = &options.audit_log {
            command.arg("--audit-log").arg(path);
        }
        if let Some(path) = &options.audit_policy {
            command.arg("--audit-policy").arg(path);
        }
        if options.node {
            command.arg("--node");
        }
        for flag in &options.apiserver_flags {
            command.arg(format!("--apiserver-flag={flag}"));
        }
        let stderr = tempfile::tempfile()?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone()?)
            .spawn()
            .with_context(|| format!("start {} up", binary.display()))?;
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().context("the cluster has no stdout")?);
        let last = read_report(&mut stdout, &stderr)?;
        Ok(Self {
            child,
            pipes: Mutex::new(Pipes {
                stdin,
                stdout,
                stderr,
                last,
            }),
        })
    }

    fn pipes(&self) -> std::sync::MutexGuard<'_, Pipes> {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, command: &str) -> Result<()> {
        let mut pipes = self.pipes();
        let pipes = &mut *pipes;
        let stdin = pipes.stdin.as_mut().context("the cluster is being stopped")?;
        // When nobody reads, the reading below tells why.
        let _ = writeln!(stdin, "{command}");
        pipes.last = read_report(&mut pipes.stdout, &pipes.stderr)?;
        Ok(())
    }
}

fn read_report(stdout: &mut BufReader<ChildStdout>, stderr: &File) -> Result<Report> {
    let mut line = String::new();
    if stdout.read_line(&mut line)? == 0 {
        bail!("the test cluster ended: {}", tail(&mut stderr.try_clone()?, 60)?);
    }
    serde_json::from_str(&line).with_context(|| format!("the test cluster said {line:?}"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.pipes().stdin = None;
        let _ = self.child.wait();
    }
}
