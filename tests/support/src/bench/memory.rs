//! The memory of a process, from `/proc`, and of its control group.
//!
//! The resident set (`VmRSS`, at its peak `VmHWM`) is what a process itself takes: its own pages and those of its program.
//! A control group counts the page cache of the files that were read or written in it too, which the kernel takes back
//! when it needs room.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a process is looked at. Its peaks are kept by the kernel, so that only the last moment can be missed.
const INTERVAL: Duration = Duration::from_millis(3);

/// What a process took at most, as far as it was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Life {
    /// From its start to its end, seconds; exact to 20 ms.
    pub seconds: f64,
    /// Resident set at its peak (`VmHWM`), KiB.
    pub resident_kib: u64,
    /// The part of the resident set that belongs to no file (`RssAnon`), KiB: the most that was seen.
    pub anonymous_kib: u64,
    /// The control group of its container at its peak, with page cache, KiB. 0 where there is none.
    pub group_kib: u64,
}

/// KiB as MiB.
#[allow(clippy::cast_precision_loss)] // no machine has 2^52 KiB
pub fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// A line of `/proc/PID/status` in KiB, like `VmRSS`; `None` where the process is gone or has ended.
pub fn status_kib(pid: u32, name: &str) -> Option<u64> {
    kib_of(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

fn kib_of(status: &str, name: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

/// A process that is watched.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
    start: f64,
    group: Option<PathBuf>,
    life: Life,
}

/// Watches a process until it has ended, and says what it took. Blocks.
pub fn watch(pid: u32) -> Life {
    Watch::begin(pid).to_the_end()
}

impl Watch {
    /// Looks at a process for the first time.
    pub fn begin(pid: u32) -> Self {
        let mut watch = Self {
            pid,
            start: start(pid).unwrap_or_else(uptime),
            group: peak_file(pid),
            life: Life::default(),
        };
        watch.look();
        watch
    }

    /// Goes on until the process has ended, and says what it took. Blocks.
    pub fn to_the_end(mut self) -> Life {
        while self.look() {
            std::thread::sleep(INTERVAL);
        }
        self.life.seconds = (uptime() - self.start).max(0.0);
        self.life
    }

    /// Whether the process is still there.
    fn look(&mut self) -> bool {
        // One that has ended and was not waited for has a status without memory.
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let Some(resident) = kib_of(&status, "VmHWM") else {
            return false;
        };
        let anonymous = kib_of(&status, "RssAnon").unwrap_or_default();
        let group = self.group.as_deref().map_or(0, group_kib);
        let life = &mut self.life;
        life.resident_kib = life.resident_kib.max(resident);
        life.anonymous_kib = life.anonymous_kib.max(anonymous);
        life.group_kib = life.group_kib.max(group);
        true
    }
}

/// Seconds since the machine's start.
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = text.split(' ').next();
    first.and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

/// When a process was started, in the same seconds. The kernel counts them for programs in hundredths.
fn start(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let ticks: f64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    Some(ticks / 100.0)
}

/// The peak of the control group that a process is in, KiB; 0 where it cannot be told.
pub fn group_peak_kib(pid: u32) -> u64 {
    peak_file(pid).as_deref().map_or(0, group_kib)
}

fn group_kib(file: &Path) -> u64 {
    let bytes = fs::read_to_string(file).unwrap_or_default();
    bytes.trim().parse::<u64>().unwrap_or_default() / 1024
}

/// The file that tells the peak of a process' control group, of version 1 or 2.
fn peak_file(pid: u32) -> Option<PathBuf> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let (hierarchy, path) = group_of(line)?;
        let path = path.trim_start_matches('/');
        let file = match hierarchy {
            Hierarchy::Memory => Path::new("/sys/fs/cgroup/memory")
                .join(path)
                .join("memory.max_usage_in_bytes"),
            Hierarchy::Unified => Path::new("/sys/fs/cgroup").join(path).join("memory.peak"),
        };
        file.exists().then_some(file)
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Hierarchy {
    Memory,
    Unified,
}

fn group_of(line: &str) -> Option<(Hierarchy, &str)> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    if controllers.is_empty() {
        Some((Hierarchy::Unified, path))
    } else if controllers.split(',').any(|name| name == "memory") {
        Some((Hierarchy::Memory, path))
    } else {
        None
    }
}

/// Processes of this name whose control group has `mark` in its path, like the UID of a pod.
pub fn in_group(name: &str, mark: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("comm").trim() == name && read("cgroup").contains(mark)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_status_is_found_by_its_whole_name() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nRssAnon:\t 12 kB\nThreads:\t3\n";
        assert_eq!(kib_of(status, "VmHWM"), Some(2048));
        assert_eq!(kib_of(status, "RssAnon"), Some(12));
        assert_eq!(kib_of(status, "Rss"), None);
        assert_eq!(kib_of(status, "VmRSS"), None);
    }

    #[test]
    fn the_memory_hierarchy_is_told_from_the_others() {
        assert_eq!(
            group_of("4:memory:/kubepods/a"),
            Some((Hierarchy::Memory, "/kubepods/a"))
        );
        assert_eq!(
            group_of("0::/kubepods/a:b"),
            Some((Hierarchy::Unified, "/kubepods/a:b"))
        );
        assert_eq!(group_of("3:cpu,cpuacct:/a"), None);
    }

    #[test]
    fn a_process_is_watched_to_its_end() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read line"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        let begun = Watch::begin(pid);
        let watching = std::thread::spawn(move || begun.to_the_end());
        assert!(status_kib(pid, "VmRSS").is_some_and(|kib| kib > 0));
        drop(child.stdin.take());
        let life = watching.join().unwrap();
        child.wait().unwrap();
        assert!(life.resident_kib > 0, "{life:?}");
        assert!((0.0..600.0).contains(&life.seconds), "{life:?}");
        assert!(status_kib(pid, "VmRSS").is_none());
    }
}
