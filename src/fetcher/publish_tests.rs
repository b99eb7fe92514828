//! Random trees: whatever is on the volume and whatever a run has, only what is ours appears and disappears.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::{
    fetcher::{
        path::SubPath,
        plan::{Owner, Target},
        volume::Stamp,
    },
    sinks::hex,
};

/// What a run has, and where and how it is stored.
#[derive(Clone, Debug)]
struct Revision {
    sub_path: String,
    paths: Vec<String>,
    prune: bool,
    owner: bool,
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(name(), 1..4).prop_map(|parts| parts.join("/"))
}

fn revision() -> impl Strategy<Value = Revision> {
    let sub_path = prop::sample::select(vec!["", "a", "a/b"]).prop_map(str::to_owned);
    let paths = prop::collection::vec(path(), 1..6);
    (sub_path, paths, any::<bool>(), any::<bool>()).prop_map(|(sub_path, paths, prune, owner)| Revision {
        sub_path,
        paths,
        prune,
        owner,
    })
}

/// What others put on the volume.
#[derive(Clone, Debug)]
enum Planted {
    File(String),
    Directory(String),
    Outward(String),
    Inward(String),
}

fn planted() -> impl Strategy<Value = Planted> {
    prop_oneof![
        path().prop_map(Planted::File),
        path().prop_map(Planted::Directory),
        path().prop_map(Planted::Outward),
        path().prop_map(Planted::Inward),
    ]
}

fn plant(root: &Path, outside: &Path, planted: &Planted) {
    let (Planted::File(path) | Planted::Directory(path) | Planted::Outward(path) | Planted::Inward(path)) =
        planted;
    let place = root.join(path);
    // What does not go together does not come about. No parent may be a link, so that all stays in here.
    let mut parent = root.to_path_buf();
    for part in Path::new(path).parent().into_iter().flatten() {
        parent.push(part);
        if parent.is_symlink() {
            return;
        }
        let _ = fs::create_dir(&parent);
    }
    let _ = match planted {
        Planted::File(_) if !place.is_symlink() => fs::write(&place, "theirs"),
        Planted::File(_) => Ok(()),
        Planted::Directory(_) => fs::create_dir(&place),
        Planted::Outward(_) => symlink(outside, &place),
        Planted::Inward(_) => symlink("c", &place),
    };
}

/// Every plain file below, with its text, and every link; links are not followed.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            let key = path.strip_prefix(root).unwrap().to_path_buf();
            if key.starts_with(".tenantry") {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() {
                all.insert(key, "link".into());
            } else {
                all.insert(key, fs::read_to_string(path).unwrap());
            }
        }
    }
    all
}

fn stage(desk: &Desk, path: &RelativePath, text: &str) -> Kept {
    let mut file = desk.staging.write(&staged_name(path)).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Kept {
        path: path.clone(),
        size: text.len() as u64,
        sha256: hex(&Sha256::digest(text)),
        stamp: Stamp::of(&file).unwrap(),
    }
}

/// As a pod does it, once everything is there.
fn bring(root: &Path, number: usize, revision: &Revision) -> Result<Vec<(PathBuf, String)>, Failure> {
    let target = Target {
        mount_path: root.to_str().unwrap().into(),
        sub_path: SubPath::new(&revision.sub_path).unwrap(),
    };
    let owner = Owner::new(if revision.owner { "one" } else { "two" }).unwrap();
    let desk = Desk::open(&target, &owner)?;
    let key = Key {
        sub_path: target.sub_path,
        revision: number.to_string(),
        selection_digest: String::new(),
        endpoint: String::new(),
    };
    let mut past = desk.past(&key)?;
    let mut paths: Vec<_> = revision
        .paths
        .iter()
        .map(|path| RelativePath::new(path).unwrap())
        .collect();
    paths.sort();
    paths.dedup();
    let all = paths.clone();
    paths.retain(|path| {
        !path
            .parents()
            .any(|parent| all.iter().any(|other| other.as_str() == parent))
    });
    let text = |path: &RelativePath| format!("{} of {number} of {}", path.as_str(), owner.as_str());
    let files: Vec<_> = paths.iter().map(|path| stage(&desk, path, &text(path))).collect();
    past.whole = files
        .iter()
        .map(|kept| (kept.path.clone(), kept.clone()))
        .collect();
    let journal = Journal::begin(&desk.state, &desk.owner, &past)?;
    let result = publish(&desk, journal, &key, files, revision.prune);
    if result.is_err() {
        desk.discard()?;
    }
    let at = Path::new(&revision.sub_path);
    result.map(|_| {
        paths
            .iter()
            .map(|path| (at.join(path.as_str()), text(path)))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn only_what_is_ours_appears_and_disappears(
        planted in prop::collection::vec(planted(), 0..6),
        revisions in prop::collection::vec((revision(), prop::collection::vec(planted(), 0..2)), 1..6),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (root, outside) = (folder.path().join("volume"), folder.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("a"), "theirs").unwrap();
        for planted in &planted {
            plant(&root, &outside, planted);
        }
        for (number, (revision, more)) in revisions.iter().enumerate() {
            let before = tree(&root);
            let brought = bring(&root, number, revision);
            let after = tree(&root);
            let me = if revision.owner { "of one" } else { "of two" };
            for (path, text) in &before {
                let replaced = after.get(path) != Some(text);
                let mine = text.ends_with(me);
                // Replaced by a file of this revision, which is what was asked for.
                let by_mine = text != "link" && after.get(path).is_some_and(|new| new.ends_with(&format!("of {number} {me}")));
                prop_assert!(!replaced || mine || by_mine, "{path:?} was {text:?} and is {:?}", after.get(path));
            }
            for (path, text) in &after {
                let known = before.get(path) == Some(text) || text.ends_with(&format!("of {number} {me}"));
                prop_assert!(known, "{path:?} came from nowhere: {text:?}");
            }
            if let Ok(brought) = brought {
                for (path, text) in &brought {
                    prop_assert_eq!(after.get(path), Some(text));
                }
                if revision.prune {
                    let mine = after.values().filter(|text| text.ends_with(me)).count();
                    prop_assert_eq!(mine, brought.len(), "what is of earlier revisions went: {:?}", after);
                }
            }
            prop_assert_eq!(tree(&outside), BTreeMap::from([(PathBuf::from("a"), "theirs".to_owned())]));
            for planted in more {
                plant(&root, &outside, planted);
            }
        }
    }
}
