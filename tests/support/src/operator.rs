//! The program under test as a process: started, killed, started again, and its log at hand when a test fails.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::Write,
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::{
    Answer, PATIENCE, Seen,
    cluster::Access,
    http_get,
    process::{signal, spawn_tied, tail},
    wait_for,
};

/// How many lines of the log a failure shows.
const LOG_TAIL: usize = 60;

/// Variables of the test process that the operator may see. All others, proxies and kubeconfigs among them, it does not.
const INHERITED: [&str; 5] = [
    "PATH",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "LLVM_PROFILE_FILE",
    "LD_LIBRARY_PATH",
];

/// What to start, and how. From [`TestCluster::operator`](crate::TestCluster::operator).
#[derive(Debug)]
pub struct OperatorBuilder {
    access: Arc<Access>,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(OsString, OsString)>,
    addresses: Option<Addresses>,
}

/// Where the operator listens. It binds port 0, so that no port is taken from anybody, and writes this into the file
/// that `--address-file` names once it listens.
#[derive(Clone, Debug, Deserialize)]
struct Addresses {
    health: String,
    metrics: String,
}

impl OperatorBuilder {
    pub(crate) fn new(access: Arc<Access>, program: PathBuf) -> Self {
        Self {
            access,
            program,
            args: Vec::new(),
            env: Vec::new(),
            addresses: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(self, arg: impl Into<String>) -> Self {
        self.args([arg])
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment, which is otherwise nearly empty.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// For a program that does not know `--health-address`, `--metrics-address` and `--address-file`: the addresses
    /// it is known to listen on. These flags are then not given.
    #[must_use]
    pub fn addresses(mut self, health: impl Into<String>, metrics: impl Into<String>) -> Self {
        self.addresses = Some(Addresses {
            health: health.into(),
            metrics: metrics.into(),
        });
        self
    }

    /// Starts the process and waits until its `/readyz` answers 200.
    pub async fn start(self) -> Result<Operator> {
        let mut operator = self.start_unready().await?;
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// Starts the process and waits only until it listens: for tests of what happens before it is ready.
    pub async fn start_unready(self) -> Result<Operator> {
        let dir = TempDir::with_prefix("tenantry-operator-")?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(dir.path().join("log"))?;
        let addresses = self.addresses.clone().unwrap_or_else(|| Addresses {
            health: String::new(),
            metrics: String::new(),
        });
        let mut operator = Operator {
            how: self,
            dir,
            log,
            addresses,
            child: None,
            starts: 0,
        };
        operator.spawn().await?;
        Ok(operator)
    }
}

/// A running operator. Dropped, it is killed; when its test fails, the end of its log is printed.
#[derive(Debug)]
pub struct Operator {
    how: OperatorBuilder,
    dir: TempDir,
    log: File,
    addresses: Addresses,
    /// Absent after it was killed or has ended.
    child: Option<Child>,
    starts: u32,
}

impl Operator {
    /// The address of `/healthz` and `/readyz` ("127.0.0.1:…"); another one after each start.
    pub fn health(&self) -> &str {
        &self.addresses.health
    }

    /// The address of `/metrics`.
    pub fn metrics(&self) -> &str {
        &self.addresses.metrics
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What `/readyz` answers now.
    pub async fn readyz(&self) -> Result<Answer> {
        http_get(self.health(), "/readyz").await
    }

    /// All metrics, as text.
    pub async fn metrics_text(&self) -> Result<String> {
        let answer = http_get(self.metrics(), "/metrics").await?;
        ensure!(
            answer.status == 200,
            "GET /metrics answered {}: {}",
            answer.status,
            answer.body
        );
        Ok(answer.body)
    }

    /// All that it has printed, over all starts.
    pub fn logs(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("log"))?)
    }

    /// Ends it at once, as a node that loses power would.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks it to leave (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let child = self.child.as_ref().context("the operator does not run")?;
        signal(child, "TERM")?;
        self.wait_exited().await.context("after SIGTERM")
    }

    /// Stops it where it stands (SIGSTOP), as a machine does that swaps or is migrated.
    pub fn pause(&self) -> Result<()> {
        signal(self.child.as_ref().context("the operator does not run")?, "STOP")
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) -> Result<()> {
        signal(self.child.as_ref().context("the operator does not run")?, "CONT")
    }

    /// Waits until it ends by itself.
    pub async fn wait_exited(&mut self) -> Result<ExitStatus> {
        let waited = wait_for("the operator to end", PATIENCE, async || {
            Ok(self
                .exited()?
                .map_or_else(|| Seen::NotYet("it still runs".to_owned()), Seen::Done))
        })
        .await;
        waited.with_context(|| self.log_tail())
    }

    /// How it ended, when it has ended by itself or by a signal since the last look.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Kills it when it runs, starts it again with the same arguments, and waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.spawn().await?;
        self.wait_ready().await
    }

    /// Kills it when it runs and starts it again with the same arguments, without waiting for anything: for who wants to
    /// kill it on its way up. [`wait_ready`](Self::wait_ready) must not be called after it, [`restart`](Self::restart) may.
    pub fn relaunch(&mut self) -> Result<()> {
        self.kill9()?;
        self.launch().map(|_| ())
    }

    /// Waits until `/readyz` answers 200.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let address = self.addresses.health.clone();
        let waited = wait_for("the operator's /readyz to answer 200", PATIENCE, async || {
            if let Some(status) = self.exited()? {
                return Ok(Seen::Done(Err(status)));
            }
            let answer = http_get(&address, "/readyz").await?;
            Ok(if answer.status == 200 {
                Seen::Done(Ok(()))
            } else {
                Seen::NotYet(format!("{}: {}", answer.status, answer.body))
            })
        })
        .await;
        match waited.with_context(|| self.log_tail())? {
            Ok(()) => Ok(()),
            Err(status) => bail!(
                "the operator ended ({status}) before it was ready\n{}",
                self.log_tail()
            ),
        }
    }

    /// Starts the process. Returns where it is going to write its addresses.
    fn launch(&mut self) -> Result<PathBuf> {
        self.starts += 1;
        writeln!(self.log, "--- start {} ---", self.starts)?;
        let address_file = self.dir.path().join(format!("addresses-{}", self.starts));
        let mut args = self.how.args.clone();
        if self.how.addresses.is_none() {
            args.extend(
                [
                    "--health-address",
                    "127.0.0.1:0",
                    "--metrics-address",
                    "127.0.0.1:0",
                ]
                .map(Into::into),
            );
            args.extend(["--address-file".to_owned(), address_file.display().to_string()]);
        }
        let (stdout, stderr) = (self.log.try_clone()?, self.log.try_clone()?);
        let home = self.dir.path().to_owned();
        let how = &self.how;
        let child = spawn_tied(&how.access.binary, &how.program, &args, |command| {
            command.env_clear().env("HOME", home);
            command.envs(
                INHERITED
                    .iter()
                    .filter_map(|key| Some((key, std::env::var_os(key)?))),
            );
            command.envs(how.env.iter().map(|(key, value)| (key, value)));
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        })?;
        self.child = Some(child);
        Ok(address_file)
    }

    async fn spawn(&mut self) -> Result<()> {
        let address_file = self.launch()?;
        if self.how.addresses.is_some() {
            return Ok(());
        }
        let waited = wait_for("the operator to write its addresses", PATIENCE, async || {
            if let Some(status) = self.exited()? {
                return Ok(Seen::Done(Err(status)));
            }
            let text = std::fs::read(&address_file)?;
            // Read in the middle of being written it does not parse: the next look will.
            Ok(Seen::Done(Ok(serde_json::from_slice::<Addresses>(&text)?)))
        })
        .await;
        match waited.with_context(|| self.log_tail())? {
            Ok(addresses) => self.addresses = addresses,
            Err(status) => bail!(
                "the operator ended ({status}) before it listened\n{}",
                self.log_tail()
            ),
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let end = self.log.try_clone().and_then(|mut log| tail(&mut log, LOG_TAIL));
        format!(
            "the end of its log:\n{}",
            end.unwrap_or_else(|error| error.to_string())
        )
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Err(error) = self.kill9() {
            eprintln!("the operator could not be killed: {error}");
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log_tail());
        }
    }
}
