//! What is on its way: which files are whole, and how far the others are. Lines of JSON, only ever appended to, beside the
//! manifest. A pod that was killed at any moment leaves one from which the next goes on.
//!
//! A line is written after what it tells is safe on the disk, never before; but for [`Record::Publishing`] and
//! [`Record::Made`], which announce.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
};

use cap_std::fs::File;
use serde::{Deserialize, Serialize};

use super::{
    bounded::{Bounded, MAX_FILES},
    manifest::{Kept, Key},
    outcome::Failure,
    path::RelativePath,
    plan::Owner,
    volume::Folder,
};

/// Bytes of a journal that are read. It tells of [`MAX_FILES`] files and directories at most: the API allows half as many
/// files.
const MAX_BYTES: u64 = 64 << 20;

/// A line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Record {
    /// The first line: what this is about, and since which start of the machine.
    Begin {
        /// What.
        #[serde(flatten)]
        key: Key,
        /// Tells one start of one machine from any other.
        boot: String,
    },
    /// A file is whole and safe in the staging directory; its path is relative to the sub-path.
    Whole(Kept),
    /// So many bytes of a file are safe.
    Partial {
        /// Which, relative to the sub-path.
        path: RelativePath,
        /// How many.
        safe: u64,
    },
    /// All files are whole; from here on they are moved to their places.
    Publishing,
    /// A directory is about to be made, relative to the volume's root.
    Made(String),
}

/// What a journal tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// What it is about.
    pub key: Key,
    /// Since which start of the machine.
    pub boot: String,
    /// The whole files, relative to the sub-path.
    pub whole: BTreeMap<RelativePath, Kept>,
    /// How many bytes of others are safe.
    pub safe: BTreeMap<RelativePath, u64>,
    /// Whether files may be in their places already.
    pub publishing: bool,
    /// Directories that were made, or were about to be.
    pub made: BTreeSet<String>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    name: String,
}

impl Past {
    /// Nothing yet.
    pub fn new(key: Key) -> Self {
        Self {
            key,
            boot: boot(),
            ..Self::default()
        }
    }

    /// Reads the journal of `owner`. A last line that was cut tells nothing.
    pub fn read(state: &Folder, owner: &Owner) -> Result<Option<Self>, Failure> {
        Self::read_file(state, &file_name(owner))
    }

    /// Calls `seen` with every journal of another owner.
    pub fn of_others(
        state: &Folder,
        owner: &Owner,
        mut seen: impl FnMut(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mine = file_name(owner);
        for name in state.names()? {
            if name.ends_with(SUFFIX)
                && name != mine
                && let Some(past) = Self::read_file(state, &name)?
            {
                seen(&past)?;
            }
        }
        Ok(())
    }

    fn read_file(state: &Folder, name: &str) -> Result<Option<Self>, Failure> {
        let Some(file) = state.read(name)? else {
            return Ok(None);
        };
        let mut past = None;
        for line in BufReader::new(Bounded::new(file, MAX_BYTES)).lines() {
            let line = match line {
                Ok(line) => line,
                // What follows a line of garbage was not written by us.
                Err(why) if why.kind() == std::io::ErrorKind::InvalidData => {
                    tracing::warn!(name, %why, "the rest of a journal is left alone");
                    break;
                }
                Err(why) => return Err(state.failed("read", name, &why)),
            };
            let Ok(record) = serde_json::from_str(&line) else {
                break;
            };
            if past
                .as_ref()
                .is_some_and(|past: &Self| past.entries() >= MAX_FILES)
            {
                tracing::warn!(
                    name,
                    "the rest of a journal is left alone: no fetch has as many files"
                );
                break;
            }
            match (record, &mut past) {
                (Record::Begin { key, boot }, None) => {
                    past = Some(Self {
                        key,
                        boot,
                        ..Self::default()
                    });
                }
                (record, Some(past)) => past.take(record),
                (_, None) => break,
            }
        }
        Ok(past)
    }

    fn entries(&self) -> usize {
        self.whole.len() + self.safe.len() + self.made.len()
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Begin { .. } => {}
            Record::Whole(kept) => {
                self.safe.remove(&kept.path);
                self.whole.insert(kept.path.clone(), kept);
            }
            Record::Partial { path, safe } => {
                self.safe.insert(path, safe);
            }
            Record::Publishing => self.publishing = true,
            Record::Made(path) => {
                self.made.insert(path);
            }
        }
    }

    /// Whether the machine was started anew since, or is another one: then only what is known to be safe is.
    pub fn is_of_another_boot(&self) -> bool {
        self.boot.is_empty() || self.boot != boot()
    }
}

impl Journal {
    /// Writes a journal that tells `past`, in the place of any other, and leaves it open for more.
    pub fn begin(state: &Folder, owner: &Owner, past: &Past) -> Result<Self, Failure> {
        let name = file_name(owner);
        let part = format!("{name}.part");
        state.remove(&part)?;
        let mut journal = Self {
            file: state.write(&part)?,
            name: name.clone(),
        };
        let mut records = vec![Record::Begin {
            key: past.key.clone(),
            boot: past.boot.clone(),
        }];
        records.extend(past.whole.values().cloned().map(Record::Whole));
        records.extend(past.safe.iter().map(|(path, safe)| Record::Partial {
            path: path.clone(),
            safe: *safe,
        }));
        records.extend(past.publishing.then_some(Record::Publishing));
        records.extend(past.made.iter().cloned().map(Record::Made));
        journal.note(&records)?;
        journal.sync()?;
        state.move_file(&part, state, &name)?;
        state.sync()?;
        Ok(journal)
    }

    /// Appends lines. They outlive us at once, and the machine only after [`sync`](Self::sync).
    pub fn note(&mut self, records: &[Record]) -> Result<(), Failure> {
        let mut text = Vec::new();
        for record in records {
            // Plain data always serialises.
            text.extend(serde_json::to_vec(record).unwrap_or_default());
            text.push(b'\n');
        }
        self.file.write_all(&text).map_err(|why| self.failed(&why))
    }

    /// Makes sure that what was appended stays.
    pub fn sync(&self) -> Result<(), Failure> {
        self.file.sync_data().map_err(|why| self.failed(&why))
    }

    /// It is done with.
    pub fn remove(state: &Folder, owner: &Owner) -> Result<(), Failure> {
        state.remove(&file_name(owner))
    }

    fn failed(&self, why: &std::io::Error) -> Failure {
        super::volume::failed("write", &format!("the journal {}", self.name), why)
    }
}

const SUFFIX: &str = ".journal";

fn file_name(owner: &Owner) -> String {
    format!("{}{SUFFIX}", owner.as_str())
}

/// Tells one start of one machine from any other; empty where it cannot be told.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
