//! Looking at the volume before a byte is fetched: where each file goes, what is there already, whether the rest fits.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    desk::Desk,
    journal::Past,
    manifest::{Kept, Key, Manifest},
    outcome::{Failure, FailureKind},
    path::{BadPath, RelativePath, STATE, SubPath},
    publish::in_the_way,
    staging::staged_name,
    volume::{Found, refused},
};
use crate::sinks::selection::RemoteFile;

/// What there is to do.
pub struct Start {
    /// What is known of earlier tries.
    pub past: Past,
    /// Files that are whole already, staged or in their places.
    pub there: Vec<Kept>,
    /// The others.
    pub wanted: Vec<Wanted>,
    /// Bytes of all, as listed.
    pub total: u64,
}

/// A file that is to be fetched, and its listed size.
pub type Wanted = (RelativePath, u64);

impl Start {
    /// Looks at the volume before a byte is fetched.
    pub fn of(desk: &Desk, key: &Key, picked: Vec<RemoteFile>) -> Result<Self, Failure> {
        let places = places(&key.sub_path, &picked, desk.volume.ignores_case(STATE))?;
        let mut past = desk.past(key)?;
        let settled = Manifest::read(&desk.state, &desk.owner)?
            .filter(|manifest| manifest.key == *key)
            .map(|manifest| manifest.files)
            .unwrap_or_default();
        let mut settled: BTreeMap<RelativePath, Kept> = settled
            .into_iter()
            .map(|kept| (kept.path.clone(), kept))
            .collect();

        let (mut there, mut wanted) = (Vec::new(), Vec::new());
        let (mut total, mut missing) = (0_u64, 0_u64);
        for (file, (path, place)) in picked.iter().zip(places) {
            total = total.saturating_add(file.size);
            let staged = staged_name(&path);
            match past.whole.remove(&path) {
                Some(kept) if matches!(desk.staging.look(&staged)?, Found::File { .. }) => {
                    there.push(kept);
                    continue;
                }
                Some(kept) if past.publishing && kept.is_at(&desk.volume, &place)? => {
                    there.push(kept);
                    continue;
                }
                _ => {}
            }
            match desk.volume.look(&place)? {
                Found::Nothing => {}
                Found::File { .. } => {
                    if let Some(kept) = settled.remove(&path)
                        && kept.is_at(&desk.volume, &place)?
                    {
                        there.push(kept);
                        continue;
                    }
                }
                other => return Err(refused(place.as_str(), in_the_way(other))),
            }
            missing = missing.saturating_add(file.size);
            wanted.push((path, file.size));
        }
        past.whole = there
            .iter()
            .map(|kept| (kept.path.clone(), kept.clone()))
            .collect();
        check_room(desk, &wanted, missing)?;
        Ok(Self {
            past,
            there,
            wanted,
            total,
        })
    }
}

/// Whether what is missing fits, as far as the volume tells; what is here in part needs no more room.
fn check_room(desk: &Desk, wanted: &[Wanted], missing: u64) -> Result<(), Failure> {
    let Some(free) = desk.volume.free().filter(|free| *free < missing) else {
        return Ok(());
    };
    let mut begun = 0;
    for (path, _) in wanted {
        if let Found::File { size, .. } = desk.staging.look(&staged_name(path))? {
            begun += size;
        }
    }
    if free.saturating_add(begun) >= missing {
        return Ok(());
    }
    Err(Failure::new(
        FailureKind::DiskFull,
        format!(
            "{} files need {missing} bytes, the volume has {free} free: make it larger, or fetch fewer files. Files of the \
             revision before stay until all of the new one are there",
            wanted.len()
        ),
    ))
}

/// Where each file goes, checked; or which of them cannot be had.
fn places(
    at: &SubPath,
    picked: &[RemoteFile],
    ignores_case: bool,
) -> Result<Vec<(RelativePath, RelativePath)>, Failure> {
    let checked = |file: &RemoteFile| {
        let place = at.join(&file.path)?;
        Ok((RelativePath::new(&file.path)?, place))
    };
    let places: Vec<_> = picked
        .iter()
        .map(checked)
        .collect::<Result<_, BadPath>>()
        .map_err(|why| bad_path(&why))?;
    let names: BTreeSet<&str> = places.iter().map(|(path, _)| path.as_str()).collect();
    for (path, _) in &places {
        if let Some(parent) = path.parents().find(|parent| names.contains(parent)) {
            return Err(Failure::new(
                FailureKind::PathRefused,
                format!(
                    "the run has both a file {parent:?} and a file {:?} in it, which no volume can hold: leave one out with \
                     exclude",
                    path.as_str()
                ),
            ));
        }
    }
    if ignores_case {
        let mut lower: BTreeMap<String, &str> = BTreeMap::new();
        for (path, _) in &places {
            if let Some(other) = lower.insert(path.as_str().to_lowercase(), path.as_str()) {
                return Err(Failure::new(
                    FailureKind::PathRefused,
                    format!(
                        "{other:?} and {:?} are the same file on this volume, which does not tell upper from lower case: leave \
                         one out with exclude",
                        path.as_str()
                    ),
                ));
            }
        }
    }
    Ok(places)
}

/// A path that is refused.
pub fn bad_path(why: &BadPath) -> Failure {
    Failure::new(
        FailureKind::PathRefused,
        format!("a file of the run cannot be stored: its path {why}; leave it out with exclude"),
    )
}
