//! The volume: opened once, as a capability. Nothing here can reach a file outside of it, and no symlink in it is followed,
//! wherever it leads: whoever else writes to the claim cannot make us write, read or remove anything elsewhere.

use std::{
    fmt::Display,
    io::{self, ErrorKind},
};

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsSyncExt as _};
use cap_std::{
    ambient_authority,
    fs::{Dir, File, Metadata, OpenOptions},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    bounded::MAX_FILES,
    outcome::{Failure, FailureKind},
    path::RelativePath,
};

/// What a name takes in memory besides its bytes.
const NAME: usize = 64;
/// What all names of a directory of ours may take: staged files have names of 37 bytes, so it is enough for
/// [`MAX_FILES`] of them.
const MAX_NAMES: usize = MAX_FILES * 128;

/// The mounted volume.
#[derive(Debug)]
pub struct Volume {
    root: Dir,
}

/// A directory of the volume.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    /// As seen from the volume's root, for messages.
    name: String,
}

/// What tells a file that nobody touched from one that somebody did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stamp {
    /// Its number in the file system.
    pub inode: u64,
    /// When it was written last.
    pub modified: Timestamp,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A plain file.
    File {
        /// Bytes.
        size: u64,
        /// Its stamp.
        stamp: Stamp,
    },
    /// A directory.
    Directory,
    /// A symlink.
    Symlink,
    /// A device, a pipe, a socket.
    Special,
}

impl Volume {
    /// Opens what is mounted at `path`.
    pub fn open(path: &str) -> Result<Self, Failure> {
        if !path.starts_with('/') {
            return Err(Failure::new(
                FailureKind::InvalidPlan,
                format!("target.mountPath {path:?} is not absolute"),
            ));
        }
        match Dir::open_ambient_dir(path, ambient_authority()) {
            Ok(root) => Ok(Self { root }),
            Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Err(Failure::new(
                    FailureKind::VolumeMissing,
                    format!("no volume is mounted at {path}: {why}"),
                ))
            }
            Err(why) => Err(failed("open the volume", &path, &why)),
        }
    }

    /// The root.
    pub fn root(&self) -> Result<Folder, Failure> {
        let dir = self
            .root
            .try_clone()
            .map_err(|why| failed("open", &"the volume", &why))?;
        Ok(Folder {
            dir,
            name: String::new(),
        })
    }

    /// The directory `path`, where it exists.
    pub fn folder(&self, path: Option<&str>) -> Result<Option<Folder>, Failure> {
        let mut folder = self.root()?;
        for name in path.into_iter().flat_map(|path| path.split('/')) {
            match folder.enter(name)? {
                Some(inner) => folder = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(folder))
    }

    /// The directory `path`, made where it does not exist. `making` is told of each before it is made.
    pub fn make_folder(
        &self,
        path: Option<&str>,
        mut making: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Folder, Failure> {
        let mut folder = self.root()?;
        for name in path.into_iter().flat_map(|path| path.split('/')) {
            folder = if let Some(inner) = folder.enter(name)? {
                inner
            } else {
                making(&folder.inner(name))?;
                folder.make(name)?
            };
        }
        Ok(folder)
    }

    /// What is at `path`. A symlink or file on the way to it is an error.
    pub fn look(&self, path: &RelativePath) -> Result<Found, Failure> {
        let (parent, name) = path.split();
        match self.folder(parent)? {
            Some(folder) => folder.look(name),
            None => Ok(Found::Nothing),
        }
    }

    /// Bytes that can still be written, where the volume tells.
    pub fn free(&self) -> Option<u64> {
        let room = rustix::fs::fstatvfs(&self.root).ok()?;
        // Some remote file systems say that they have no size at all.
        (room.f_blocks > 0).then(|| room.f_bavail.saturating_mul(room.f_frsize))
    }

    /// Whether upper and lower case are the same here; `name` exists in the root.
    pub fn ignores_case(&self, name: &str) -> bool {
        let other = name.to_ascii_uppercase();
        other != name && self.root.symlink_metadata(other).is_ok()
    }
}

impl Folder {
    /// Another handle of it.
    pub fn try_clone(&self) -> Result<Self, Failure> {
        let dir = self
            .dir
            .try_clone()
            .map_err(|why| failed("open", &self.shown(), &why))?;
        Ok(Self {
            dir,
            name: self.name.clone(),
        })
    }

    /// What is under `name`.
    pub fn look(&self, name: &str) -> Result<Found, Failure> {
        match self.dir.symlink_metadata(name) {
            Ok(metadata) => Ok(found(&metadata)),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
            Err(why) => Err(self.failed("look at", name, &why)),
        }
    }

    /// The directory `name` in here, where it exists.
    pub fn enter(&self, name: &str) -> Result<Option<Self>, Failure> {
        match self.dir.open_dir_nofollow(name) {
            Ok(dir) => Ok(Some(Self {
                dir,
                name: self.inner(name),
            })),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => match self.look(name)? {
                Found::Directory | Found::Nothing => Err(self.failed("open", name, &why)),
                Found::Symlink => Err(refused(
                    &self.inner(name),
                    "is a symlink, which is never followed",
                )),
                Found::File { .. } | Found::Special => {
                    Err(refused(&self.inner(name), "is there already and is no directory"))
                }
            },
        }
    }

    fn make(&self, name: &str) -> Result<Self, Failure> {
        match self.dir.create_dir(name) {
            Err(why) if why.kind() != ErrorKind::AlreadyExists => {
                Err(self.failed("make the directory", name, &why))
            }
            _ => self.enter(name)?.ok_or_else(|| {
                let gone = io::Error::from(ErrorKind::NotFound);
                self.failed("make the directory", name, &gone)
            }),
        }
    }

    /// The directory `name` in here, made where it does not exist.
    pub fn make_or_enter(&self, name: &str) -> Result<Self, Failure> {
        match self.enter(name)? {
            Some(folder) => Ok(folder),
            None => self.make(name),
        }
    }

    /// Opens the plain file `name` for reading, where there is one.
    pub fn read(&self, name: &str) -> Result<Option<File>, Failure> {
        self.open_plain(name, OpenOptions::new().read(true))
    }

    /// Opens the plain file `name` for reading and writing, made where it does not exist.
    pub fn write(&self, name: &str) -> Result<File, Failure> {
        let opened = self.open_plain(name, OpenOptions::new().read(true).write(true).create(true))?;
        opened.ok_or_else(|| self.failed("write", name, &io::Error::from(ErrorKind::NotFound)))
    }

    fn open_plain(&self, name: &str, options: &mut OpenOptions) -> Result<Option<File>, Failure> {
        // Not blocking: what was planted under the name may be a pipe.
        let options = options.follow(FollowSymlinks::No).nonblock(true);
        let opened = self
            .dir
            .open_with(name, options)
            .and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, file)) if metadata.is_file() => Ok(Some(file)),
            Ok(_) => Err(refused(&self.inner(name), "is there already and is no file")),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
            Err(why) => match self.look(name)? {
                Found::Symlink => Err(refused(
                    &self.inner(name),
                    "is a symlink, which is never followed",
                )),
                Found::Directory | Found::Special => {
                    Err(refused(&self.inner(name), "is there already and is no file"))
                }
                Found::File { .. } | Found::Nothing => Err(self.failed("open", name, &why)),
            },
        }
    }

    /// Removes the file or symlink `name`; that there is none is as good.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        match self.dir.remove_file_or_symlink(name) {
            Err(why) if why.kind() != ErrorKind::NotFound => Err(self.failed("remove", name, &why)),
            _ => Ok(()),
        }
    }

    /// Removes the directory `name` where it is empty. Whether it is gone.
    pub fn remove_if_empty(&self, name: &str) -> Result<bool, Failure> {
        match self.dir.remove_dir(name) {
            Ok(()) => Ok(true),
            Err(why) => match why.kind() {
                ErrorKind::NotFound => Ok(true),
                ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory | ErrorKind::ResourceBusy => {
                    Ok(false)
                }
                // Some file systems say it so.
                ErrorKind::AlreadyExists => Ok(false),
                _ => Err(self.failed("remove the directory", name, &why)),
            },
        }
    }

    /// Moves the file `name` to `to` in `folder`, over a plain file that is there.
    pub fn move_file(&self, name: &str, folder: &Self, to: &str) -> Result<(), Failure> {
        self.dir
            .rename(name, &folder.dir, to)
            .map_err(|why| folder.failed("write", to, &why))
    }

    /// The names in here, of a directory that is ours alone. One with more than the largest fetch makes is refused, before
    /// they take the memory.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        let unread = |why: io::Error| failed("read the directory", &self.shown(), &why);
        let mut names = Vec::new();
        let mut room = MAX_NAMES;
        for entry in self.dir.entries().map_err(unread)? {
            // A name that is no UTF-8 is none of ours.
            if let Ok(name) = entry.map_err(unread)?.file_name().into_string() {
                room = room
                    .checked_sub(name.len() + NAME)
                    .ok_or_else(|| self.crowded())?;
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn crowded(&self) -> Failure {
        Failure::new(
            FailureKind::PathRefused,
            format!(
                "{} on the volume holds more names than any fetch makes: somebody else writes there; remove them, or use \
                 another claim",
                self.shown()
            ),
        )
    }

    /// Makes sure that what was made, moved and removed in here stays so.
    pub fn sync(&self) -> Result<(), Failure> {
        // The handle itself is for paths only.
        self.dir
            .open(".")
            .and_then(|file| match file.sync_all() {
                // Not every file system can; those that cannot have nothing to sync.
                Err(why) if matches!(why.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
                other => other,
            })
            .map_err(|why| failed("sync the directory", &self.shown(), &why))
    }

    /// A failure that is about `name` in here.
    pub fn failed(&self, verb: &str, name: &str, why: &io::Error) -> Failure {
        failed(verb, &self.inner(name), why)
    }

    fn inner(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.name)
        }
    }

    fn shown(&self) -> &str {
        if self.name.is_empty() {
            "the volume's root"
        } else {
            &self.name
        }
    }
}

impl Stamp {
    /// Of a file.
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(stamp(&file.metadata()?))
    }
}

fn found(metadata: &Metadata) -> Found {
    let kind = metadata.file_type();
    if kind.is_symlink() {
        Found::Symlink
    } else if kind.is_dir() {
        Found::Directory
    } else if kind.is_file() {
        Found::File {
            size: metadata.len(),
            stamp: stamp(metadata),
        }
    } else {
        Found::Special
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    use cap_std::fs::MetadataExt as _;
    let nanoseconds = i32::try_from(metadata.mtime_nsec()).unwrap_or_default();
    Stamp {
        inode: metadata.ino(),
        modified: Timestamp::new(metadata.mtime(), nanoseconds).unwrap_or_default(),
    }
}

/// A path that cannot be had here.
pub fn refused(path: &str, why: &str) -> Failure {
    Failure::new(
        FailureKind::PathRefused,
        format!(
            "{path:?} on the volume {why}: remove it there, leave it out with exclude, or choose another sub-path"
        ),
    )
}

/// What an I/O error on the volume means, in words that a person can act on.
pub fn failed(verb: &str, what: &dyn Display, why: &io::Error) -> Failure {
    let (kind, advice) = match why.kind() {
        ErrorKind::StorageFull => (
            FailureKind::DiskFull,
            "the volume is full: make it larger, or fetch fewer files",
        ),
        ErrorKind::QuotaExceeded => (
            FailureKind::QuotaExceeded,
            "the quota of the volume is used up: raise it, or fetch fewer files",
        ),
        ErrorKind::ReadOnlyFilesystem => (
            FailureKind::ReadOnly,
            "the volume is mounted read-only: use a claim that can be written",
        ),
        ErrorKind::PermissionDenied => (
            FailureKind::PermissionDenied,
            "the pod's user may not write there: set fsGroup in the pod template, or the permissions on the volume",
        ),
        ErrorKind::FileTooLarge => (
            FailureKind::TooLarge,
            "the volume's file system, or a limit of the pod, takes no file of this size",
        ),
        ErrorKind::InvalidFilename => (
            FailureKind::PathRefused,
            "the volume's file system does not take this name: leave it out with exclude",
        ),
        _ => (FailureKind::VolumeFailed, "it is tried again"),
    };
    Failure::new(kind, format!("cannot {verb} {what}: {why}: {advice}"))
}

#[cfg(test)]
#[path = "volume_tests.rs"]
mod tests;
