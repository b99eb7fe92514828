//! What a volume says about whose files are on it: one manifest per owner, `.tenantry/OWNER.json` in the volume's root.
//!
//! It is written last, whole, when every file of the revision is in its place; until then the one of the revision before
//! stays. Removing files goes by it: what it names, and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufReader, BufWriter, ErrorKind, Read as _, Write as _},
};

use cap_std::fs::File;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    bounded::{self, Bounded},
    outcome::Failure,
    path::{RelativePath, STATE, SubPath},
    plan::Owner,
    volume::{Folder, Found, Stamp, Volume},
};
use crate::sinks::hex;

/// The format.
const VERSION: u32 = 1;
/// Bytes of a manifest that are read: twice what the most files of usual names take.
const MAX_BYTES: u64 = 128 << 20;
/// Bytes read at a time.
const BUFFER: usize = 64 * 1024;

/// Whose files are on the volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "ReadManifest")]
pub struct Manifest {
    version: u32,
    /// The owner.
    pub owner: Owner,
    /// Which revision of which selection, and where.
    #[serde(flatten)]
    pub key: Key,
    /// The files of the revision; paths are relative to the sub-path.
    pub files: Vec<Kept>,
    /// Files of earlier revisions that are still here; paths are relative to the volume's root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Kept>,
    /// Directories that were made for these files, relative to the volume's root.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub directories: BTreeSet<String>,
}

/// Which revision of which selection, and where: the same key means the same files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Where on the volume.
    pub sub_path: SubPath,
    /// The run.
    pub revision: String,
    /// The selection.
    pub selection_digest: String,
    /// The gateway: another one may have a run of the same name and number.
    #[serde(default)]
    pub endpoint: String,
}

/// A whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", from = "ReadKept")]
pub struct Kept {
    /// Where.
    pub path: RelativePath,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// As it was when it was written.
    #[serde(flatten)]
    pub stamp: Stamp,
}

/// A manifest as it is read: field by field, since whatever else somebody wrote into one that is flattened would be kept
/// until the end of it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadManifest {
    version: u32,
    owner: Owner,
    sub_path: SubPath,
    revision: String,
    selection_digest: String,
    #[serde(default)]
    endpoint: String,
    #[serde(deserialize_with = "bounded::list")]
    files: Vec<Kept>,
    #[serde(default, deserialize_with = "bounded::list")]
    earlier: Vec<Kept>,
    #[serde(default, deserialize_with = "bounded::list")]
    directories: BTreeSet<String>,
}

/// A whole file, likewise.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReadKept {
    path: RelativePath,
    size: u64,
    sha256: String,
    inode: u64,
    modified: Timestamp,
}

impl From<ReadManifest> for Manifest {
    fn from(read: ReadManifest) -> Self {
        let ReadManifest {
            version,
            owner,
            sub_path,
            revision,
            selection_digest,
            endpoint,
            files,
            earlier,
            directories,
        } = read;
        Self {
            version,
            owner,
            key: Key {
                sub_path,
                revision,
                selection_digest,
                endpoint,
            },
            files,
            earlier,
            directories,
        }
    }
}

impl From<ReadKept> for Kept {
    fn from(read: ReadKept) -> Self {
        let ReadKept {
            path,
            size,
            sha256,
            inode,
            modified,
        } = read;
        Self {
            path,
            size,
            sha256,
            stamp: Stamp { inode, modified },
        }
    }
}

impl Manifest {
    /// The files of a revision.
    pub fn new(owner: Owner, key: Key) -> Self {
        Self {
            version: VERSION,
            owner,
            key,
            files: Vec::new(),
            earlier: Vec::new(),
            directories: BTreeSet::new(),
        }
    }

    /// Reads the manifest of `owner`. One that cannot be understood is as good as none: then nothing is removed.
    pub fn read(state: &Folder, owner: &Owner) -> Result<Option<Self>, Failure> {
        read(state, &file_name(owner))
    }

    /// Writes it, whole or not at all.
    pub fn write(&self, state: &Folder) -> Result<(), Failure> {
        let name = file_name(&self.owner);
        let part = format!("{name}.part");
        state.remove(&part)?;
        let file = state.write(&part)?;
        let mut writer = BufWriter::new(&file);
        serde_json::to_writer_pretty(&mut writer, self)
            .map_err(std::io::Error::from)
            .and_then(|()| writer.write_all(b"\n"))
            .and_then(|()| writer.flush())
            .and_then(|()| file.sync_all())
            .map_err(|why| state.failed("write", &name, &why))?;
        state.move_file(&part, state, &name)?;
        state.sync()
    }

    /// Where it is, relative to the volume's root.
    pub fn path(owner: &Owner) -> String {
        format!("{STATE}/{}", file_name(owner))
    }

    /// All files of this owner, by their path from the volume's root, which is theirs in here too.
    pub fn owned(self) -> BTreeMap<RelativePath, Kept> {
        let at = self.key.sub_path;
        let files = self.files.into_iter().filter_map(|kept| {
            Some(Kept {
                path: at.join(kept.path.as_str()).ok()?,
                ..kept
            })
        });
        let all = self.earlier.into_iter().chain(files);
        all.map(|kept| (kept.path.clone(), kept)).collect()
    }

    /// Calls `seen` with all files that other owners have a manifest of; their paths are from the volume's root.
    pub fn of_others(
        state: &Folder,
        owner: &Owner,
        mut seen: impl FnMut(&Kept) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mine = file_name(owner);
        for name in state.names()? {
            if !name.ends_with(".json") || name == mine {
                continue;
            }
            let Some(other) = read(state, &name)? else {
                continue;
            };
            for kept in other.owned().values() {
                seen(kept)?;
            }
        }
        Ok(())
    }
}

impl Kept {
    /// Whether it is still what was written at `path`, from the volume's root. Where it looks different, its bytes decide.
    pub fn is_at(&self, volume: &Volume, path: &RelativePath) -> Result<bool, Failure> {
        let (parent, name) = path.split();
        let Some(folder) = volume.folder(parent)? else {
            return Ok(false);
        };
        match folder.look(name)? {
            Found::File { size, .. } if size != self.size => Ok(false),
            Found::File { stamp, .. } if stamp == self.stamp => Ok(true),
            Found::File { .. } => match folder.read(name)? {
                Some(file) => digest(&file)
                    .map(|digest| digest == self.sha256)
                    .map_err(|why| folder.failed("read", name, &why)),
                None => Ok(false),
            },
            Found::Nothing | Found::Directory | Found::Symlink | Found::Special => Ok(false),
        }
    }
}

/// SHA-256 of a file from where it stands, hexadecimal.
fn digest(mut file: &File) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}

fn read(state: &Folder, name: &str) -> Result<Option<Manifest>, Failure> {
    let Some(file) = state.read(name)? else {
        return Ok(None);
    };
    let bounded = BufReader::new(Bounded::new(file, MAX_BYTES));
    match serde_json::from_reader::<_, Manifest>(bounded) {
        Ok(manifest) if manifest.version == VERSION => Ok(Some(manifest)),
        Ok(manifest) => {
            tracing::warn!(
                name,
                version = manifest.version,
                "a manifest of another version is left alone"
            );
            Ok(None)
        }
        Err(why)
            if why
                .io_error_kind()
                .is_some_and(|kind| kind != ErrorKind::InvalidData) =>
        {
            Err(state.failed("read", name, &why.into()))
        }
        Err(why) => {
            tracing::warn!(name, %why, "a manifest that cannot be understood is left alone");
            Ok(None)
        }
    }
}

fn file_name(owner: &Owner) -> String {
    format!("{}.json", owner.as_str())
}
