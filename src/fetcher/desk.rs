//! The volume as one owner works on it: its own directories there, its lock, and what is left of earlier tries.

use std::fs::TryLockError;

use super::{
    journal::{Journal, Past},
    manifest::{Key, Manifest},
    outcome::{Failure, FailureKind},
    path::STATE,
    plan::{Owner, Target},
    staging::staged_name,
    volume::{Folder, Found, Volume},
};

/// The lock that is held while files appear and disappear, by whichever owner.
const PUBLISH_LOCK: &str = "lock";
/// How long another owner's publishing is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// The volume as one owner works on it.
#[derive(Debug)]
pub struct Desk {
    /// The volume.
    pub volume: Volume,
    /// `.tenantry` in its root.
    pub state: Folder,
    /// What is not in its place yet.
    pub staging: Folder,
    /// Whose it is.
    pub owner: Owner,
    _lock: Option<std::fs::File>,
}

impl Desk {
    /// Opens it. Only one pod of an owner works on a volume at a time.
    pub fn open(target: &Target, owner: &Owner) -> Result<Self, Failure> {
        let volume = Volume::open(&target.mount_path)?;
        let state = volume.root()?.make_or_enter(STATE)?;
        let lock = lock(&state, &format!("{}.lock", owner.as_str()))?.ok_or_else(|| {
            Failure::new(
                FailureKind::VolumeBusy,
                format!(
                    "another pod of {} is at work on the volume; it is tried again",
                    owner.as_str()
                ),
            )
        })?;
        let staging = state.make_or_enter(&staging_name(owner))?;
        Ok(Self {
            volume,
            state,
            staging,
            owner: owner.clone(),
            _lock: lock,
        })
    }

    /// What is known of earlier tries under the same `key`, with the staged files as they are now. What is left of another
    /// key is removed; where that was in the middle of publishing, what it published is put into the manifest.
    pub fn past(&self, key: &Key) -> Result<Past, Failure> {
        let past = match Past::read(&self.state, &self.owner)? {
            Some(past) if past.key == *key => Some(past),
            Some(past) => {
                self.give_up(past)?;
                None
            }
            None => None,
        };
        let Some(mut past) = past else {
            self.clear_staging()?;
            return Ok(Past::new(key.clone()));
        };
        let doubtful = past.is_of_another_boot();
        self.sort_out(&mut past, doubtful)?;
        if doubtful {
            past.boot = Past::new(key.clone()).boot;
        }
        Ok(past)
    }

    /// Brings journal and staged files into agreement.
    fn sort_out(&self, past: &mut Past, doubtful: bool) -> Result<(), Failure> {
        let whole: std::collections::HashMap<String, u64> = past
            .whole
            .values()
            .map(|kept| (staged_name(&kept.path), kept.size))
            .collect();
        let safe: std::collections::HashMap<String, u64> = past
            .safe
            .iter()
            .map(|(path, safe)| (staged_name(path), *safe))
            .collect();
        let mut broken = std::collections::HashSet::new();
        for name in self.staging.names()? {
            let size = match self.staging.look(&name)? {
                Found::File { size, .. } => size,
                Found::Nothing => continue,
                Found::Symlink => {
                    self.staging.remove(&name)?;
                    continue;
                }
                Found::Directory | Found::Special => continue,
            };
            if whole.get(&name).is_some_and(|wanted| *wanted != size) {
                broken.insert(name.clone());
                self.staging.remove(&name)?;
            } else if doubtful && !whole.contains_key(&name) {
                let safe = safe.get(&name).copied().unwrap_or_default().min(size);
                let file = self.staging.write(&name)?;
                file.set_len(safe)
                    .map_err(|why| self.staging.failed("cut", &name, &why))?;
            }
        }
        past.whole.retain(|path, _| !broken.contains(&staged_name(path)));
        Ok(())
    }

    /// Forgets a try that is not wanted any more.
    fn give_up(&self, past: Past) -> Result<(), Failure> {
        if past.publishing {
            let mut manifest = Manifest::read(&self.state, &self.owner)?
                .unwrap_or_else(|| Manifest::new(self.owner.clone(), Key::default()));
            let at = &past.key.sub_path;
            for kept in past.whole.into_values() {
                let Ok(place) = at.join(kept.path.as_str()) else {
                    continue;
                };
                if !kept.is_at(&self.volume, &place).unwrap_or(false) {
                    continue;
                }
                let within = &manifest.key.sub_path;
                let is_here = |path: &super::path::RelativePath| {
                    within.join(path.as_str()).is_ok_and(|path| path == place)
                };
                manifest.files.retain(|other| !is_here(&other.path));
                manifest.earlier.retain(|other| other.path != place);
                manifest
                    .earlier
                    .push(super::manifest::Kept { path: place, ..kept });
            }
            manifest.directories.extend(past.made);
            manifest.write(&self.state)?;
        }
        Journal::remove(&self.state, &self.owner)?;
        self.state.sync()
    }

    /// Removes what is staged, and the journal. Not while publishing.
    pub fn discard(&self) -> Result<(), Failure> {
        if Past::read(&self.state, &self.owner)?.is_some_and(|past| past.publishing) {
            return Ok(());
        }
        Journal::remove(&self.state, &self.owner)?;
        self.clear_staging()
    }

    /// Removes what is staged.
    pub fn clear_staging(&self) -> Result<(), Failure> {
        for name in self.staging.names()? {
            match self.staging.look(&name)? {
                Found::Directory => {
                    self.staging.remove_if_empty(&name)?;
                }
                _ => self.staging.remove(&name)?,
            }
        }
        Ok(())
    }

    /// It is done with: the staging directory goes.
    pub fn tidy(&self) -> Result<(), Failure> {
        self.clear_staging()?;
        self.state.remove_if_empty(&staging_name(&self.owner))?;
        Journal::remove(&self.state, &self.owner)?;
        self.state.sync()
    }

    /// Waits until no other owner makes files appear or disappear; they wait for us as long as this lives.
    pub fn publishing(&self) -> Result<Option<std::fs::File>, Failure> {
        let begun = std::time::Instant::now();
        loop {
            if let Some(lock) = lock(&self.state, PUBLISH_LOCK)? {
                return Ok(lock);
            }
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new(
                    FailureKind::VolumeBusy,
                    "another owner has been moving its files into place on this volume for a minute; it is tried again",
                ));
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

/// Takes a lock: `None` where another has it, `Some(None)` where this file system has no locks.
#[allow(clippy::option_option)]
fn lock(state: &Folder, name: &str) -> Result<Option<Option<std::fs::File>>, Failure> {
    let file = state.write(name)?.into_std();
    match file.try_lock() {
        Ok(()) => Ok(Some(Some(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(why)) => {
            tracing::warn!(name, %why, "this volume has no locks; make sure that one pod writes to it at a time");
            Ok(Some(None))
        }
    }
}

fn staging_name(owner: &Owner) -> String {
    format!("{}.d", owner.as_str())
}
