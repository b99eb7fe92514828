//! A simulator with one finished run, a directory for a volume, and `tenantry fetch` as a child process.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::StreamExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tenantry::{
    fetcher::outcome::{Failure, Line, Outcome, Progress, Success, TERMINATION_MESSAGE},
    gateway::{Credentials, Gateway, GatewayConfig, Limits, ProjectName, RunId, RunRef},
};
use tenantry_simulator::{Config, Role, Simulator, World, world::BuildScript};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

/// The project of the recorded world, and alice's password in it.
pub(crate) const PROJECT: &str = "demo2snmj";
pub(crate) const PASSWORD: &str = "tenant-Passw0rd";
/// The pipeline whose runs are fetched.
pub(crate) const PIPELINE: &str = "hello";
/// Where in the volume the files go.
pub(crate) const SUB_PATH: &str = "shop/latest";

/// A finished run, a volume, and somebody to fetch the one onto the other.
pub(crate) struct Stage {
    pub(crate) simulator: Simulator,
    pub(crate) volume: TempDir,
    desk: TempDir,
    run: std::sync::Mutex<(u64, String)>,
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) termination: String,
    /// At the peak, without the pages of the program itself: those are many times as many where it is not optimised.
    pub(crate) peak_anonymous_kib: u64,
    /// At the peak, with them.
    pub(crate) peak_kib: u64,
}

/// A child that is at work.
pub(crate) struct Running {
    child: Child,
    termination: PathBuf,
    stdout: std::thread::JoinHandle<String>,
    stderr: std::thread::JoinHandle<String>,
}

/// Path and text of `count` small files.
pub(crate) fn numbered(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|n| format!("f/{n:04}.txt"))
        .map(|path| (path.clone(), text_of(&path)))
        .collect()
}

/// What is in a file of this name.
pub(crate) fn text_of(path: &str) -> String {
    format!("{path}\n").repeat(1 + path.len() % 7)
}

impl Stage {
    /// The run has these files.
    pub(crate) async fn with_files(files: &[(String, String)]) -> Self {
        Self::with(BuildScript {
            files: files.to_vec(),
            ..BuildScript::default()
        })
        .await
    }

    /// The run has these files of noise, `path:size,…`.
    pub(crate) async fn with_noise(artifacts: &str) -> Self {
        Self::with(BuildScript {
            artifacts: artifacts.into(),
            ..BuildScript::default()
        })
        .await
    }

    pub(crate) async fn with(script: BuildScript) -> Self {
        let config = Config::of(World::recorded()).with_time_scale(0.05);
        let simulator = Simulator::start(config).await.expect("the simulator starts");
        let desk = tempfile::tempdir().unwrap();
        for (name, content) in [("username", "alice"), ("password", PASSWORD)] {
            fs::write(desk.path().join(name), content).unwrap();
        }
        let stage = Self {
            simulator,
            volume: tempfile::tempdir().unwrap(),
            desk,
            run: std::sync::Mutex::default(),
        };
        stage.build(script).await;
        stage
    }

    /// Builds once more; that is the run from now on.
    pub(crate) async fn build(&self, script: BuildScript) {
        let control = self.simulator.control();
        control.set_script(PROJECT, PIPELINE, script).unwrap();
        let number = control.start_build(PROJECT, PIPELINE, None, &[]).unwrap();
        let id = number.to_string();
        let name = wait_for("the PipelineRun to end", PATIENCE, async || {
            let runs = control.runs(PROJECT);
            let found = runs.iter().find(|run| {
                run["metadata"]["labels"]["devops.kubesphere.io/pipeline"] == PIPELINE
                    && run["metadata"]["annotations"]["devops.kubesphere.io/jenkins-pipelinerun-id"] == id
                    && run.pointer("/status/completionTime").is_some()
            });
            Ok(found.map_or_else(
                || Seen::NotYet(format!("{} runs", runs.len())),
                |run| Seen::Done(run["metadata"]["name"].as_str().unwrap_or_default().to_owned()),
            ))
        })
        .await
        .expect("a PipelineRun");
        *self.run.lock().unwrap() = (number, name);
        self.simulator.ledger().clear();
    }

    /// Mounts one more file.
    pub(crate) fn secret(&self, name: &str, content: &str) {
        fs::write(self.desk.path().join(name), content).unwrap();
    }

    pub(crate) fn role(&self, role: Role) {
        self.simulator
            .control()
            .set_role(PROJECT, "alice", Some(role))
            .unwrap();
    }

    pub(crate) fn number(&self) -> u64 {
        self.run.lock().unwrap().0
    }

    pub(crate) fn revision(&self) -> String {
        format!("{PROJECT}/{PIPELINE}#{}", self.number())
    }

    /// A plan for the files of the run; `task` is laid over the usual one.
    pub(crate) fn plan(&self, task: &Value) -> Value {
        let mut artifacts = json!({
            "include": ["**"], "maxBytes": 1_u64 << 40, "maxFiles": 100_000, "prune": true,
            "selectionDigest": format!("{:x}", Sha256::digest(task.to_string()).iter().fold(0_u64, |all, b| {
                all.rotate_left(8) ^ u64::from(*b)
            })),
        });
        artifacts
            .as_object_mut()
            .unwrap()
            .extend(task.as_object().unwrap().clone());
        self.plan_of(&json!({"artifacts": artifacts}))
    }

    pub(crate) fn plan_of(&self, task: &Value) -> Value {
        json!({
            "owner": "artifactfetch.files", "revision": self.revision(),
            "gateway": {
                "endpoint": self.simulator.url(), "credentials": {"password": {"clientId": "kubesphere"}},
                "limits": {"requestsPerSecond": 5000, "burst": 5000},
            },
            "run": {"project": PROJECT, "pipeline": PIPELINE, "id": self.number().to_string(), "name": self.run.lock().unwrap().1},
            "task": task,
            "target": {"mountPath": self.volume.path(), "subPath": SUB_PATH},
        })
    }

    /// Fetches the files of the run to the end.
    pub(crate) async fn fetch(&self, task: &Value) -> Ended {
        self.fetch_plan(&self.plan(task)).await
    }

    pub(crate) async fn fetch_plan(&self, plan: &Value) -> Ended {
        self.start(plan).end().await
    }

    /// How `tenantry fetch` is called for a plan.
    pub(crate) fn command(&self, program: &Path, plan: &Value) -> Command {
        let mut command = Command::new(program);
        command
            .arg("fetch")
            .arg("--credentials")
            .arg(self.desk.path())
            .env_clear()
            .env("TENANTRY_FETCH_PLAN", plan.to_string());
        command
    }

    /// Starts a child.
    pub(crate) fn start(&self, plan: &Value) -> Running {
        let termination = self.desk.path().join("termination");
        let _ = fs::remove_file(&termination);
        let mut child = self
            .command(env!("CARGO_BIN_EXE_tenantry").as_ref(), plan)
            .arg("--termination-message")
            .arg(&termination)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tenantry fetch starts");
        let mut out = child.stdout.take().unwrap();
        let mut err = child.stderr.take().unwrap();
        let read = |mut from: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut text = String::new();
                let _ = from.read_to_string(&mut text);
                text
            })
        };
        let _ = (&mut out, &mut err);
        Running {
            child,
            termination,
            stdout: read(Box::new(out)),
            stderr: read(Box::new(err)),
        }
    }

    /// Where a file of the run belongs.
    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.volume.path().join(SUB_PATH).join(path)
    }

    /// Somebody else writes a file where those of the run are.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    /// Checks that these files, with these texts, are in their places.
    pub(crate) fn holds(&self, files: &[(String, String)]) {
        for (path, text) in files {
            let got = fs::read_to_string(self.place(path)).unwrap_or_else(|why| panic!("{path}: {why}"));
            assert!(got == *text, "{path}: {got:?}");
        }
    }

    /// Checks that a file has the bytes that the remote has.
    pub(crate) async fn holds_noise(&self, path: &str) {
        let mut remote = Sha256::new();
        let mut config = GatewayConfig::new(
            self.simulator.url().parse().unwrap(),
            Credentials::password("alice", PASSWORD),
        );
        config.limits = Limits {
            requests_per_second: 1000,
            burst: 1000,
            ..Limits::default()
        };
        self.simulator.control().clear_faults();
        let project = Gateway::new(config)
            .unwrap()
            .scope(None)
            .project(&ProjectName::new(PROJECT).unwrap());
        let (number, name) = self.run.lock().unwrap().clone();
        let run = RunRef {
            pipeline: PIPELINE.into(),
            branch: None,
            id: RunId::new(number.to_string()).unwrap(),
        };
        let mut pieces = project.download(&run, name.as_str(), path, 0).await.unwrap();
        while let Some(piece) = pieces.next().await {
            remote.update(piece.unwrap());
        }
        let mut local = Sha256::new();
        let mut file = fs::File::open(self.place(path)).unwrap();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                count => local.update(&buffer[..count]),
            }
        }
        assert!(local.finalize() == remote.finalize(), "{path} has other bytes");
    }

    /// The manifest.
    pub(crate) fn manifest(&self) -> Value {
        self.manifest_of("artifactfetch.files")
    }

    pub(crate) fn manifest_of(&self, owner: &str) -> Value {
        let path = self.volume.path().join(format!(".tenantry/{owner}.json"));
        serde_json::from_slice(&fs::read(path).expect("a manifest")).expect("JSON")
    }

    pub(crate) fn has_manifest(&self) -> bool {
        self.volume
            .path()
            .join(".tenantry/artifactfetch.files.json")
            .exists()
    }

    /// What is in the directory that is ours.
    pub(crate) fn state_files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.volume.path().join(".tenantry"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The files that the journal calls whole.
    pub(crate) fn whole(&self) -> Vec<String> {
        let path = self.volume.path().join(".tenantry/artifactfetch.files.journal");
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|line| Some(line.get("whole")?["path"].as_str()?.to_owned()))
            .collect()
    }

    /// Bytes that are staged and not whole yet, of the largest file.
    pub(crate) fn staged(&self) -> u64 {
        let folder = self.volume.path().join(".tenantry/artifactfetch.files.d");
        let sizes = fs::read_dir(folder).into_iter().flatten().flatten();
        sizes
            .filter_map(|entry| Some(entry.metadata().ok()?.len()))
            .max()
            .unwrap_or_default()
    }

    /// How often a file was asked for, on either rung.
    pub(crate) fn asked(&self, path: &str) -> usize {
        let ledger = self.simulator.ledger();
        let proxied = ledger.requests("v2.proxy");
        proxied
            .iter()
            .filter(|request| request.path.ends_with(path))
            .count()
    }

    /// All paths below the sub-path.
    pub(crate) fn visible(&self) -> Vec<String> {
        fn walk(folder: &std::path::Path, base: &std::path::Path, all: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), base, all);
                } else {
                    let path = entry.path();
                    all.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let base = self.volume.path().join(SUB_PATH);
        let mut all = Vec::new();
        walk(&base, &base, &mut all);
        all.sort();
        all
    }
}

impl Running {
    /// Kills it at once, as a node does that goes away.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, as the kubelet does.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end, and watches its memory meanwhile.
    pub(crate) async fn end(mut self) -> Ended {
        let (mut peak_anonymous_kib, mut peak_kib) = (0, 0);
        let begun = std::time::Instant::now();
        let status = loop {
            let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
            let kib = |name: &str| {
                let line = status
                    .lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default();
                let number = line.trim_matches([':', ' ', '\t']).split(' ').next();
                number.and_then(|kib| kib.parse().ok()).unwrap_or(0_u64)
            };
            peak_anonymous_kib = peak_anonymous_kib.max(kib("RssAnon"));
            peak_kib = peak_kib.max(kib("VmHWM"));
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < 4 * PATIENCE, "tenantry fetch does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Ended {
            code: status.code().unwrap_or(-1),
            stdout: self.stdout.join().unwrap(),
            stderr: self.stderr.join().unwrap(),
            termination: fs::read_to_string(&self.termination).unwrap_or_default(),
            peak_anonymous_kib,
            peak_kib,
        }
    }
}

impl Ended {
    fn lines(&self) -> Vec<Line> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The last line, which the termination message and the exit code agree with.
    pub(crate) fn outcome(&self) -> Outcome {
        let Some(Line::Result(outcome)) = self.lines().pop() else {
            panic!("no result: {self:?}")
        };
        assert_eq!(i32::from(outcome.exit_code()), self.code, "{self:?}");
        assert!(self.termination.len() <= TERMINATION_MESSAGE);
        assert_eq!(self.termination, outcome.compact());
        outcome
    }

    pub(crate) fn success(&self) -> Success {
        match self.outcome() {
            Outcome::Succeeded(success) => success,
            Outcome::Failed(failure) => panic!("{failure:?}\n{}", self.stderr),
        }
    }

    pub(crate) fn failure(&self) -> Failure {
        match self.outcome() {
            Outcome::Failed(failure) => failure,
            Outcome::Succeeded(success) => panic!("{success:?}"),
        }
    }

    /// Checks that it took no more memory than a fetch may at any size (design §7: 32 MiB), whatever the program's own
    /// pages are where it is not optimised.
    pub(crate) fn took_little_memory(&self) {
        println!(
            "at the peak {} KiB anonymous, {} KiB in all",
            self.peak_anonymous_kib, self.peak_kib
        );
        assert!(self.peak_anonymous_kib > 0, "it was not measured");
        assert!(
            self.peak_anonymous_kib <= 16 * 1024,
            "{} KiB anonymous",
            self.peak_anonymous_kib
        );
        if !cfg!(debug_assertions) {
            assert!(self.peak_kib <= 32 * 1024, "{} KiB in all", self.peak_kib);
        }
    }

    pub(crate) fn progress(&self) -> Vec<Progress> {
        let progress = |line| match line {
            Line::Progress(progress) => Some(progress),
            Line::Result(_) => None,
        };
        self.lines().into_iter().filter_map(progress).collect()
    }
}
