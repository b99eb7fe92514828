//! The process: from the command line to the exit code.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    artifacts, connect, log,
    outcome::{Failure, FailureKind, Line, Outcome},
    plan::{ENV, Plan, Task},
    progress::{Progress, say},
};
use crate::{
    runtime::{cli::FetchOptions, shutdown::Shutdown},
    sinks::log::Masks,
    trouble::{Remedy, Trouble},
};

/// Threads that carry the network; those that write to the volume come on top.
const THREADS: usize = 2;
/// Bytes of a thread's stack; buffers are on the heap.
const STACK: usize = 512 * 1024;
/// Where the kubelet looks for a termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Fetches, tells how it ended, and returns the exit code.
pub fn run(options: &FetchOptions) -> u8 {
    let outcome = work(options).unwrap_or_else(Outcome::Failed);
    match &outcome {
        Outcome::Succeeded(success) => {
            tracing::info!(
                revision = success.revision,
                files = success.files,
                bytes = success.bytes,
                "done"
            );
        }
        Outcome::Failed(failure) => tracing::error!(kind = ?failure.kind, "{failure}"),
    }
    let told = match &options.termination_message {
        Some(path) => fs::write(path, outcome.compact()),
        None => tell_kubelet(Path::new(TERMINATION_LOG), &outcome),
    };
    if let Err(why) = told {
        tracing::warn!("the termination message could not be written: {why}");
    }
    let code = outcome.exit_code();
    say(&Line::Result(outcome));
    code
}

/// Writes the termination message where somebody waits for one.
fn tell_kubelet(path: &Path, outcome: &Outcome) -> std::io::Result<()> {
    match fs::OpenOptions::new().write(true).truncate(true).open(path) {
        Ok(mut file) => file.write_all(outcome.compact().as_bytes()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(why),
    }
}

fn work(options: &FetchOptions) -> Result<Outcome, Failure> {
    let plan = plan(options.plan.as_ref(), std::env::var(ENV).ok())?;
    let gateway = connect::connect(&plan.gateway, &options.credentials)?;
    let masks = match &plan.task {
        Task::Log(task) => connect::masks(task.masks, &options.credentials)?,
        Task::Artifacts(_) => Masks::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .map_err(|why| {
            Failure::new(
                FailureKind::VolumeFailed,
                format!("the process cannot start: {why}"),
            )
        })?;
    runtime.block_on(async {
        let shutdown = Shutdown::new(Duration::from_secs(20));
        match shutdown.listen() {
            Ok(listening) => drop(tokio::spawn(listening)),
            Err(why) => tracing::warn!("SIGTERM will not be noticed: {why}"),
        }
        let progress = Arc::new(Progress::default());
        let telling = tokio::spawn({
            let progress = Arc::clone(&progress);
            async move { progress.tell().await }
        });
        let result = match &plan.task {
            Task::Artifacts(task) => artifacts::run(&plan, task, &gateway, &progress, &shutdown).await,
            Task::Log(task) => log::run(&plan, task, &gateway, masks, &progress, &shutdown).await,
        };
        // The result is the last line.
        telling.abort();
        let _ = telling.await;
        result
    })
}

fn plan(file: Option<&PathBuf>, env: Option<String>) -> Result<Plan, Failure> {
    let invalid = |why: String| Failure::new(FailureKind::InvalidPlan, why);
    let text = match (file, env) {
        (Some(path), _) => fs::read_to_string(path)
            .map_err(|why| invalid(format!("--plan {} cannot be read: {why}", path.display())))?,
        (None, Some(text)) => text,
        (None, None) => {
            return Err(invalid(format!(
                "there is no plan: give --plan FILE, or set {ENV}"
            )));
        }
    };
    Plan::parse(&text).map_err(|why| invalid(why.to_string()))
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self {
            kind: FailureKind::of(trouble.reason),
            message: trouble.message,
            retry_after_seconds: match trouble.remedy {
                Remedy::Time(after) => after.map(|after| after.as_secs()),
                Remedy::Gateway(wait) => Some(wait.as_secs()),
                Remedy::User => None,
            },
        }
    }
}
