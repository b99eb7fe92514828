//! Moving whole files into their places, and removing those of earlier revisions.
//!
//! Nothing of a revision is visible before all of it is here and has the digests it should have. From then on each file
//! appears by one rename. The manifest is written last: while it is that of the revision before, the journal says what is
//! going on, and the next try goes on with that.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::{
    desk::Desk,
    journal::{Journal, Past, Record},
    manifest::{Kept, Key, Manifest},
    outcome::{Failure, FailureKind},
    path::RelativePath,
    staging::staged_name,
    volume::{Folder, Found, refused},
};

/// Makes the `files` of a revision visible, and says how many earlier ones were removed.
pub fn publish(
    desk: &Desk,
    mut journal: Journal,
    key: &Key,
    files: Vec<Kept>,
    prune: bool,
) -> Result<u64, Failure> {
    let _lock = desk.publishing()?;
    journal.note(&[Record::Publishing])?;
    journal.sync()?;
    let old = Manifest::read(&desk.state, &desk.owner)?;
    let mut directories = old
        .as_ref()
        .map(|old| old.directories.clone())
        .unwrap_or_default();

    let places = put_in_place(desk, &mut journal, key, &files)?;
    // Also those that were made by a try that did not get to its end.
    if let Some(past) = Past::read(&desk.state, &desk.owner)? {
        directories.extend(past.made);
    }
    let mut earlier = old.map(Manifest::owned).unwrap_or_default();
    earlier.retain(|path, _| !places.contains(path));
    forget_those_of_others(desk, &mut earlier)?;
    let mut pruned = 0;
    if prune {
        pruned = remove(desk, &earlier)?;
        earlier.clear();
        remove_empty(desk, &mut directories)?;
    }

    let mut manifest = Manifest::new(desk.owner.clone(), key.clone());
    manifest.files = files;
    manifest.earlier = earlier.into_values().collect();
    manifest.directories = directories;
    manifest.write(&desk.state)?;
    desk.tidy()?;
    Ok(pruned)
}

/// Moves the files to their places. Returns all places, from the volume's root.
fn put_in_place(
    desk: &Desk,
    journal: &mut Journal,
    key: &Key,
    files: &[Kept],
) -> Result<HashSet<RelativePath>, Failure> {
    let mut places = HashSet::with_capacity(files.len());
    let mut inodes = HashSet::with_capacity(files.len());
    let mut touched: BTreeSet<String> = BTreeSet::new();
    let mut last: Option<(String, Folder)> = None;
    for kept in files {
        let place = place(key, &kept.path)?;
        let (parent, name) = place.split();
        let parent = parent.unwrap_or_default();
        let staged = staged_name(&kept.path);
        if matches!(desk.staging.look(&staged)?, Found::File { .. }) {
            if last.as_ref().is_none_or(|(path, _)| path != parent) {
                let made = desk
                    .volume
                    .make_folder((!parent.is_empty()).then_some(parent), |path| {
                        touched.insert(path.rsplit_once('/').map_or("", |(above, _)| above).to_owned());
                        journal.note(&[Record::Made(path.to_owned())])
                    })?;
                touched.insert(parent.to_owned());
                last = Some((parent.to_owned(), made));
            }
            if let Some((_, folder)) = &last {
                match folder.look(name)? {
                    Found::Nothing => {}
                    Found::File { stamp, .. } if inodes.contains(&stamp.inode) => {
                        return Err(refused(
                            place.as_str(),
                            "is the same file as another one of this run: the volume does not tell their names apart",
                        ));
                    }
                    Found::File { .. } => {}
                    other => return Err(refused(place.as_str(), in_the_way(other))),
                }
                desk.staging.move_file(&staged, folder, name)?;
            }
        }
        inodes.insert(kept.stamp.inode);
        places.insert(place);
    }
    for path in touched {
        if let Some(folder) = desk.volume.folder((!path.is_empty()).then_some(path.as_str()))? {
            folder.sync()?;
        }
    }
    Ok(places)
}

/// What stands where a file is to go.
pub fn in_the_way(found: Found) -> &'static str {
    match found {
        Found::Symlink => "is a symlink, which is neither followed nor replaced",
        Found::Directory => "is a directory, where a file is to go",
        Found::Special | Found::File { .. } | Found::Nothing => "is there already and is no plain file",
    }
}

/// Where a file goes, from the volume's root.
fn place(key: &Key, path: &RelativePath) -> Result<RelativePath, Failure> {
    key.sub_path
        .join(path.as_str())
        .map_err(|why| super::start::bad_path(&why))
}

/// What another owner wrote last, by its manifest or journal, stays, and is that owner's alone from now on. What it only
/// had once, and we wrote over, is ours.
fn forget_those_of_others(desk: &Desk, earlier: &mut BTreeMap<RelativePath, Kept>) -> Result<(), Failure> {
    if earlier.is_empty() {
        return Ok(());
    }
    let mut forget = |place: &RelativePath, theirs: &Kept| {
        if earlier.contains_key(place) && is_still(desk, place, theirs)? {
            earlier.remove(place);
        }
        Ok(())
    };
    Manifest::of_others(&desk.state, &desk.owner, |theirs| forget(&theirs.path, theirs))?;
    Past::of_others(&desk.state, &desk.owner, |past| {
        for theirs in past.whole.values() {
            if let Ok(place) = past.key.sub_path.join(theirs.path.as_str()) {
                forget(&place, theirs)?;
            }
        }
        Ok(())
    })
}

/// Whether what was written at a place is still there.
fn is_still(desk: &Desk, place: &RelativePath, kept: &Kept) -> Result<bool, Failure> {
    match kept.is_at(&desk.volume, place) {
        // Somebody put a symlink or a file where a directory was: what is behind it is not it.
        Err(failure) if failure.kind == FailureKind::PathRefused => Ok(false),
        other => other,
    }
}

/// Removes files that are still what was written. One that somebody replaced is somebody's, not ours.
fn remove(desk: &Desk, files: &BTreeMap<RelativePath, Kept>) -> Result<u64, Failure> {
    let mut removed = 0;
    for (path, kept) in files {
        let unchanged = is_still(desk, path, kept)?;
        let (parent, name) = path.split();
        match desk.volume.folder(parent) {
            Ok(Some(folder)) if unchanged => {
                folder.remove(name)?;
                removed += 1;
            }
            _ => tracing::info!(
                path = path.as_str(),
                "not removed: it is gone, or somebody changed it"
            ),
        }
    }
    Ok(removed)
}

/// Removes the directories that were made for files of earlier revisions and are empty by now, the innermost first.
fn remove_empty(desk: &Desk, directories: &mut BTreeSet<String>) -> Result<(), Failure> {
    let inner_first: Vec<String> = directories.iter().rev().cloned().collect();
    for path in inner_first {
        let Ok(checked) = RelativePath::new(&path) else {
            directories.remove(&path);
            continue;
        };
        let (parent, name) = checked.split();
        let gone = match desk.volume.folder(parent) {
            Ok(Some(folder)) => folder.remove_if_empty(name)?,
            Ok(None) => true,
            Err(failure) if failure.kind == FailureKind::PathRefused => true,
            Err(failure) => return Err(failure),
        };
        if gone {
            directories.remove(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
