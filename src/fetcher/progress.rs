//! How far it is: counted by those who do it, told on standard output by one task.

use std::{
    io::{Write as _, stdout},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::outcome::{self, Line};

/// How often progress is told, at most.
const INTERVAL: Duration = Duration::from_secs(2);

/// How far it is.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    total_files: AtomicU64,
    bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// What there is to do.
    pub fn expect(&self, files: u64, bytes: u64) {
        self.total_files.store(files, Ordering::Relaxed);
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// One more file is whole.
    pub fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// More bytes are here.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes were thrown away.
    pub fn take_bytes(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn now(&self) -> outcome::Progress {
        outcome::Progress {
            files: self.files.load(Ordering::Relaxed),
            total_files: self.total_files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }

    /// Tells it now and then, where it changed.
    pub async fn tell(&self) {
        let mut told = outcome::Progress::default();
        loop {
            tokio::time::sleep(INTERVAL).await;
            let now = self.now();
            if now != told {
                say(&Line::Progress(now));
                told = now;
            }
        }
    }
}

/// Writes a line to standard output. Nobody may be listening, which is no reason to stop.
pub fn say(line: &Line) {
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        let mut out = stdout().lock();
        let _ = out.write_all(&text).and_then(|()| out.flush());
    }
}
