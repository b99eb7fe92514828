//! Named points before and after every write of a build's life, here and on the remote, at which a test may let the
//! process die.
//!
//! Lives here: the closed list of writes, and [`around`], which stands around each of them where it is made. May be used
//! from: whoever writes. Never comes in: anything that the operator needs.
//!
//! Without the cargo feature `crash-points` nothing happens here and nothing of it is in the binary. With it, the variable
//! `TENANTRY_CRASH_POINTS` may name a folder: each point that is reached is a line in the file `reached` there
//! (`create.before:1`: the point, and the how manieth time it is since the file was removed), and the process kills itself, without
//! unwinding or flushing anything, at the point that the file `armed` names. That file is `struck` from then on, so that
//! the next process lives.

macro_rules! writes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A write of a build's life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Write {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Write {
            /// All of them, in the order of a build's life.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in files and tables.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

writes! {
    /// Here: our finalizer is set.
    FinalizerSet = "finalizer-set",
    /// Here: the status that says what is going to be sent.
    Intent = "intent",
    /// Remote: the run is created through `/apis`, under its chosen name.
    Create = "create",
    /// Remote: the run is posted through kapis.
    Post = "post",
    /// Here: the status that says that the run arrived, and which it is.
    Record = "record",
    /// Here: any other status of a BuildRequest.
    Status = "status",
    /// Here: the log, or a part of it.
    Log = "log",
    /// Here: a part of an earlier log that the present one does not need is removed.
    LogRemoval = "log-removal",
    /// Here: the owned ArtifactFetch is made or changed.
    Artifacts = "artifacts",
    /// Here: fetched files.
    Files = "files",
    /// Here: files that were stored under another name before are removed.
    FilesRemoval = "files-removal",
    /// Here: the status of an ArtifactFetch.
    FetchStatus = "fetch-status",
    /// Here: a Job that brings a log or files to a volume.
    Job = "job",
    /// Here: such a Job is removed.
    JobRemoval = "job-removal",
    /// Remote: the build is stopped.
    Stop = "stop",
    /// Remote: the run object is deleted.
    Delete = "delete",
    /// Here: a finished object is marked as such.
    Settled = "settled",
    /// Here: that mark is taken away, since there is something to do again.
    Unsettled = "unsettled",
    /// Here: our finalizer is taken away.
    FinalizerGone = "finalizer-gone",
    /// Here: the BuildRequest is deleted when its time is over.
    Expiry = "expiry",
    /// Here: an Event.
    Event = "event",
    /// Here: the status of a TenantConnection.
    ConnectionStatus = "connection-status",
}

/// Awaits the write `call` between its two points.
#[cfg(not(feature = "crash-points"))]
pub async fn around<T>(_: Write, call: impl Future<Output = T>) -> T {
    call.await
}

/// Awaits the write `call` between its two points.
#[cfg(feature = "crash-points")]
pub async fn around<T>(write: Write, call: impl Future<Output = T>) -> T {
    armed::reached(write, "before");
    let done = call.await;
    armed::reached(write, "after");
    done
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::{
        env, fs,
        io::Write as _,
        path::{Path, PathBuf},
        sync::{Mutex, OnceLock, PoisonError},
    };

    use rustix::process::{Signal, getpid, kill_process};

    use super::Write;

    fn folder() -> Option<&'static Path> {
        static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
        FOLDER
            .get_or_init(|| env::var_os("TENANTRY_CRASH_POINTS").map(PathBuf::from))
            .as_deref()
    }

    /// Takes note of a point, and dies there where that is asked for.
    pub(super) fn reached(write: Write, side: &str) {
        // One point after the other, so that each has its number.
        static ONE: Mutex<()> = Mutex::new(());
        let Some(folder) = folder() else { return };
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = note(folder, write, side) {
            tracing::error!("crash point {}.{side}: {error}", write.name());
        }
    }

    fn note(folder: &Path, write: Write, side: &str) -> std::io::Result<()> {
        let reached = folder.join("reached");
        let before = fs::read_to_string(&reached).unwrap_or_default();
        let point = format!("{}.{side}", write.name());
        let of_this = |line: &&str| line.split_once(':').is_some_and(|(name, _)| name == point);
        let hit = before.lines().filter(of_this).count() + 1;
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&reached)?;
        writeln!(file, "{point}:{hit}")?;
        let armed = folder.join("armed");
        let strikes =
            fs::read_to_string(&armed).is_ok_and(|wanted| wanted.trim() == format!("{point}:{hit}"));
        if strikes {
            fs::rename(&armed, folder.join("struck"))?;
            // SIGKILL: nothing runs after it in this process, and nobody else is asked.
            kill_process(getpid(), Signal::KILL)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_write_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Write::ALL.iter().map(|write| write.name()).collect();
        assert_eq!(names.len(), Write::ALL.len());
    }
}
