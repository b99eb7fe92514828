//! Processes that a test starts: none outlives the test process, and each one's output can be shown.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
    process::{Child, Command},
    sync::{OnceLock, mpsc},
    thread,
};

use anyhow::{Context, Result, ensure};

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a program that the kernel kills when this test process ends, however it ends.
///
/// The kernel watches the *thread* that started a process, and a test's threads come and go with its runtime: so one
/// thread, which never ends, starts them all. `binary` is `testcluster`, which asks the kernel for it (`tied`) before it
/// becomes the program.
pub(crate) fn spawn_tied(
    binary: &Path,
    program: &Path,
    args: &[String],
    shape: impl FnOnce(&mut Command),
) -> Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // A caller that is gone dropped its end: then the child is dropped too, and its pipes with it.
                let _ = reply.send(command.spawn());
            }
        });
        jobs
    });
    let mut command = Command::new(binary);
    command
        .arg("tied")
        .arg(std::process::id().to_string())
        .arg(program)
        .args(args);
    shape(&mut command);
    let (reply, answer) = mpsc::channel();
    spawner
        .send((command, reply))
        .context("the thread that starts processes is gone")?;
    let child = answer
        .recv()
        .context("the thread that starts processes is gone")?;
    child.with_context(|| format!("start {}", program.display()))
}

/// Sends a signal by name ("TERM") to a child that has not been waited for, so that its id is still its own.
pub(crate) fn signal(child: &Child, name: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &child.id().to_string()])
        .status()
        .context("run sh to send a signal")?;
    ensure!(
        status.success(),
        "signal {name} to process {} failed: {status}",
        child.id()
    );
    Ok(())
}

/// The last `lines` lines of a file that may be long and still be written to.
pub(crate) fn tail(file: &mut File, lines: usize) -> std::io::Result<String> {
    const MOST: u64 = 256 * 1024;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<_> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn tail_is_the_last_lines() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(tail(&mut file, 2).unwrap(), "");
        for line in 0..100_000 {
            writeln!(file, "line {line}").unwrap();
        }
        assert_eq!(tail(&mut file, 2).unwrap(), "line 99998\nline 99999");
    }
}
