//! Archived files in one ConfigMap: text as `data`, everything else as `binaryData`.

use std::{
    collections::{BTreeMap, BTreeSet},
    string::FromUtf8Error,
};

use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::Resource;
use sha2::{Digest, Sha256};

use super::{
    config_map::{ConfigMaps, Content, Mine, Wanted},
    hex, keys,
};
use crate::{
    api::{artifact_fetch::FetchedFile, conditions::Reason},
    trouble::Trouble,
};

/// Bytes of all values together. The API server takes 1 MiB of them; the rest of the object needs room too.
pub const CAPACITY: u64 = 900 * 1024;
/// Bytes for the keys. Each is stored twice, as key and in the account of who wrote it; etcd takes 1.5 MiB in all.
const KEY_ROOM: usize = 320 * 1024;
/// Bytes of the annotation that tells which file is under which key, as far as it goes.
const MANIFEST_ROOM: usize = 64 * 1024;
/// Annotation: digest of run and selection that the files belong to.
pub const SELECTION: &str = "tenantry.dev/selection-sha256";
/// Annotation: how many keys we wrote.
const KEYS: &str = "tenantry.dev/keys";
/// Annotation: which file is under which key, where the key is not the path itself.
const MANIFEST: &str = "tenantry.dev/paths";

/// A file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedBytes {
    /// Its path in the archive.
    pub path: String,
    /// All of it.
    pub bytes: Vec<u8>,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Files ready to be written, and what is to be told of them.
#[derive(Clone, Debug, PartialEq)]
pub struct FilesObject {
    wanted: Wanted,
    /// What was fetched, by path.
    pub files: Vec<FetchedFile>,
}

/// What the files are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The run: `PROJECT/PIPELINE[/BRANCH]#ID`.
    pub revision: &'a str,
    /// Digest of run and selection.
    pub selection: &'a str,
}

/// Puts `fetched` into a ConfigMap `name`. Files of an earlier revision that are in `keep` stay beside them.
pub fn build(
    name: &str,
    origin: &Origin<'_>,
    fetched: Vec<FetchedBytes>,
    keep: Option<&ConfigMap>,
) -> Result<FilesObject, Trouble> {
    let mut wanted = Wanted {
        name: name.into(),
        revision: origin.revision.into(),
        ..Wanted::default()
    };
    let mut files = Vec::with_capacity(fetched.len());
    let keys: BTreeMap<String, String> = keys::keys(fetched.iter().map(|file| file.path.as_str()))?
        .into_iter()
        .map(|(path, key)| (path.to_owned(), key))
        .collect();
    for FetchedBytes { path, bytes, sha256 } in fetched {
        let key = keys[&path].clone();
        files.push(FetchedFile {
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            key: Some(key.clone()),
            path,
            sha256,
        });
        match text(bytes) {
            Ok(text) => {
                wanted.data.insert(key, text);
            }
            Err(bytes) => {
                wanted.binary_data.insert(key, ByteString(bytes));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let kept = keep.map_or(0, |map| take_over(&mut wanted, map));
    check_room(&wanted, kept)?;
    wanted.digest = digest(&wanted);
    wanted.annotations = BTreeMap::from([
        (SELECTION.into(), origin.selection.into()),
        (
            KEYS.into(),
            (wanted.data.len() + wanted.binary_data.len()).to_string(),
        ),
        (MANIFEST.into(), manifest(&files)),
    ]);
    Ok(FilesObject { wanted, files })
}

/// Writes the files, and removes what the same owner stored under another name before.
pub async fn store(maps: &ConfigMaps, object: &FilesObject) -> Result<(), Trouble> {
    let name = &object.wanted.name;
    let known = maps.look(name).await?;
    maps.apply(object.wanted.clone(), Content::Files, known.as_ref())
        .await?;
    remove_others(maps, name).await
}

/// Removes what the same owner stored under another name than `name`.
pub async fn remove_others(maps: &ConfigMaps, name: &str) -> Result<(), Trouble> {
    for other in maps.list(Content::Files).await? {
        if other.name() != name {
            maps.remove(&other, Content::Files).await?;
        }
    }
    Ok(())
}

/// Whether a ConfigMap holds the files of `selection`, all of them and unchanged; `files` is how many there are. Without
/// `prune` there may be more.
pub fn is_intact(mine: &Mine, selection: &str, files: usize, prune: bool) -> bool {
    let written = mine.annotation(KEYS).and_then(|keys| keys.parse::<usize>().ok());
    mine.annotation(SELECTION) == Some(selection)
        && written == Some(mine.untouched_keys().len())
        && written.is_some_and(|written| if prune { written == files } else { written >= files })
}

/// The bytes as text where they are text that people can read as such; JSON would blow up control characters sixfold.
fn text(bytes: Vec<u8>) -> Result<String, Vec<u8>> {
    let text = String::from_utf8(bytes).map_err(FromUtf8Error::into_bytes)?;
    let escapes = text
        .chars()
        .filter(|c| *c < ' ' && !matches!(c, '\n' | '\r' | '\t'))
        .count();
    if text.contains('\0') || escapes > text.len() / 8 {
        return Err(text.into_bytes());
    }
    Ok(text)
}

/// Takes over the keys of `map` that we wrote, nobody changed, and the new content does not have. How many bytes.
fn take_over(wanted: &mut Wanted, map: &ConfigMap) -> usize {
    let mine = Mine(map.meta().clone());
    let ours: BTreeSet<&str> = mine.untouched_keys().into_iter().collect();
    let new: BTreeSet<String> = wanted
        .data
        .keys()
        .chain(wanted.binary_data.keys())
        .cloned()
        .collect();
    let stays = |key: &String| ours.contains(key.as_str()) && !new.contains(key);
    let mut bytes = 0;
    for (key, value) in map.data.iter().flatten().filter(|(key, _)| stays(key)) {
        bytes += value.len();
        wanted.data.insert(key.clone(), value.clone());
    }
    for (key, value) in map.binary_data.iter().flatten().filter(|(key, _)| stays(key)) {
        bytes += value.0.len();
        wanted.binary_data.insert(key.clone(), value.clone());
    }
    bytes
}

fn check_room(wanted: &Wanted, kept: usize) -> Result<(), Trouble> {
    let keys = || wanted.data.keys().chain(wanted.binary_data.keys());
    let key_bytes: usize = keys().map(|key| key.len() + 16).sum();
    if key_bytes > KEY_ROOM {
        return Err(Trouble::user(
            Reason::TooManyFiles,
            format!(
                "the names of {} files do not fit into one ConfigMap: match fewer files",
                keys().count()
            ),
        ));
    }
    let values = wanted.data.values().map(String::len);
    let binary = wanted.binary_data.values().map(|value| value.0.len());
    let total: usize = values.chain(binary).sum();
    if total as u64 > CAPACITY {
        let of_these = if kept > 0 {
            format!(" ({kept} of them are files of earlier revisions, kept because prune is false)")
        } else {
            String::new()
        };
        return Err(Trouble::user(
            Reason::ArtifactsTooLarge,
            format!(
                "the files have {total} bytes together{of_these}, a ConfigMap holds {CAPACITY}: match fewer files"
            ),
        ));
    }
    Ok(())
}

/// SHA-256 over keys and values.
fn digest(wanted: &Wanted) -> String {
    let mut digest = Sha256::new();
    let text = wanted.data.iter().map(|(key, value)| (key, value.as_bytes()));
    let binary = wanted
        .binary_data
        .iter()
        .map(|(key, value)| (key, value.0.as_slice()));
    for (key, value) in text.chain(binary) {
        digest.update(format!("{key} {}\n", value.len()));
        digest.update(value);
    }
    hex(&digest.finalize())
}

/// JSON of key to path, where they differ, up to [`MANIFEST_ROOM`].
fn manifest(files: &[FetchedFile]) -> String {
    let mut shown = serde_json::Map::new();
    let mut room = MANIFEST_ROOM;
    let keys = files
        .iter()
        .filter_map(|file| Some((file.key.as_ref()?, &file.path)));
    for (key, path) in keys.filter(|(key, path)| key != path) {
        // Escapes take at most six bytes for one.
        let Some(left) = room.checked_sub(key.len() + 6 * path.len() + 8) else {
            break;
        };
        room = left;
        shown.insert(key.clone(), path.clone().into());
    }
    serde_json::Value::Object(shown).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        api::ArtifactFetch,
        sinks::fake_api::{FakeApi, NAMESPACE},
    };

    const ORIGIN: Origin<'_> = Origin {
        revision: "shopx7k2p/hello#7",
        selection: "abc",
    };

    fn file(path: &str, bytes: impl Into<Vec<u8>>) -> FetchedBytes {
        let bytes = bytes.into();
        FetchedBytes {
            path: path.into(),
            sha256: hex(&Sha256::digest(&bytes)),
            bytes,
        }
    }

    fn maps(api: &FakeApi) -> ConfigMaps {
        let owner: ArtifactFetch = serde_json::from_value(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch",
            "metadata": {"name": "files", "namespace": NAMESPACE, "uid": "uid-of-files"},
            "spec": {"source": {"buildRequestRef": {"name": "b"}}},
        }))
        .unwrap();
        ConfigMaps::of(api.client(), &owner).unwrap()
    }

    async fn stored(api: &FakeApi, name: &str, files: Vec<FetchedBytes>, prune: bool) -> Value {
        let maps = maps(api);
        let keep = if prune {
            None
        } else {
            maps.read(name).await.unwrap()
        };
        let object = build(name, &ORIGIN, files, keep.as_ref()).unwrap();
        store(&maps, &object).await.unwrap();
        api.get(name).unwrap()
    }

    #[tokio::test]
    async fn text_and_other_bytes_have_their_places() {
        let api = FakeApi::default();
        let files = vec![
            file("out/app.txt", "hällo\n"),
            file("empty", ""),
            file("app.jar", b"PK\x03\x04\xff\xfe".to_vec()),
            file("nul.txt", "a\0b"),
            file("escapes", "\u{1b}\u{1b}\u{1b}"),
        ];
        let map = stored(&api, "files", files, true).await;
        assert_eq!(map["data"], json!({"out.app.txt": "hällo\n", "empty": ""}));
        assert_eq!(
            map["binaryData"],
            json!({"app.jar": "UEsDBP/+", "nul.txt": "YQBi", "escapes": "Gxsb"})
        );
        let annotations = &map["metadata"]["annotations"];
        assert_eq!(annotations[MANIFEST], r#"{"out.app.txt":"out/app.txt"}"#);
        assert_eq!(annotations[KEYS], "5");
        assert_eq!(annotations[super::super::config_map::REVISION], ORIGIN.revision);
    }

    #[test]
    fn what_is_told_is_sorted_and_complete() {
        let object = build("files", &ORIGIN, vec![file("b/c", "xyz"), file("a", "")], None).unwrap();
        let told: Vec<_> = object
            .files
            .iter()
            .map(|f| (f.path.as_str(), f.key.as_deref().unwrap_or_default(), f.size))
            .collect();
        assert_eq!(told, [("a", "a", 0), ("b/c", "b.c", 3)]);
        assert_eq!(object.files[1].sha256, hex(&Sha256::digest("xyz")));
    }

    #[tokio::test]
    async fn pruning_removes_what_the_new_revision_lacks_and_not_pruning_keeps_it() {
        let api = FakeApi::default();
        stored(&api, "files", vec![file("old", "1"), file("both", "1")], true).await;
        let map = stored(
            &api,
            "files",
            vec![file("both", "2"), file("new", b"\xff".to_vec())],
            false,
        )
        .await;
        assert_eq!(map["data"], json!({"old": "1", "both": "2"}));
        assert_eq!(map["binaryData"], json!({"new": "/w=="}));
        let map = stored(&api, "files", vec![file("both", "3")], true).await;
        assert_eq!(
            (&map["data"], &map["binaryData"]),
            (&json!({"both": "3"}), &Value::Null)
        );
    }

    #[tokio::test]
    async fn a_file_that_turns_from_text_to_bytes_changes_its_place() {
        let api = FakeApi::default();
        stored(&api, "files", vec![file("a", "text")], true).await;
        let map = stored(&api, "files", vec![file("a", b"\xff".to_vec())], false).await;
        assert_eq!(
            (&map["data"], &map["binaryData"]),
            (&Value::Null, &json!({"a": "/w=="}))
        );
    }

    #[tokio::test]
    async fn a_new_name_leaves_nothing_behind() {
        let api = FakeApi::default();
        stored(&api, "files", vec![file("a", "1")], true).await;
        stored(&api, "renamed", vec![file("a", "1")], true).await;
        assert_eq!(api.names(), ["renamed"]);
    }

    #[tokio::test]
    async fn it_is_seen_whether_all_is_there() {
        let api = FakeApi::default();
        stored(&api, "files", vec![file("a", "1"), file("b", "2")], true).await;
        let maps = maps(&api);
        let mine = maps.look("files").await.unwrap().unwrap();
        assert!(is_intact(&mine, "abc", 2, true));
        assert!(!is_intact(&mine, "other", 2, true), "another selection");
        assert!(
            !is_intact(&mine, "abc", 1, true),
            "something that is to be pruned"
        );
        assert!(is_intact(&mine, "abc", 1, false));
        assert!(!is_intact(&mine, "abc", 3, false), "a file is missing");
        api.edit("files", "a", "tampered");
        let mine = maps.look("files").await.unwrap().unwrap();
        assert!(!is_intact(&mine, "abc", 2, true), "edited by hand");
    }

    #[test]
    fn the_bounds_of_the_api_server_hold() {
        let big = usize::try_from(CAPACITY).unwrap();
        assert!(build("files", &ORIGIN, vec![file("a", vec![0; big])], None).is_ok());
        let trouble = build(
            "files",
            &ORIGIN,
            vec![file("a", vec![0; big]), file("b", "x")],
            None,
        )
        .unwrap_err();
        assert_eq!(trouble.reason, Reason::ArtifactsTooLarge);

        let many = |n: usize| {
            (0..n)
                .map(|i| file(&format!("{}{i:05}", "x".repeat(200)), ""))
                .collect()
        };
        assert!(build("files", &ORIGIN, many(1000), None).is_ok());
        let trouble = build("files", &ORIGIN, many(2000), None).unwrap_err();
        assert_eq!(trouble.reason, Reason::TooManyFiles);
        let object = build(
            "files",
            &ORIGIN,
            (0..1000)
                .map(|i| file(&format!("{}/{i}", "\u{1}".repeat(200)), ""))
                .collect(),
            None,
        )
        .unwrap();
        let annotations: usize = object.wanted.annotations.values().map(String::len).sum();
        assert!(annotations < MANIFEST_ROOM + 1024, "{annotations}");
    }

    #[tokio::test]
    async fn what_is_kept_counts() {
        let api = FakeApi::default();
        stored(&api, "files", vec![file("old", vec![b'x'; 500_000])], true).await;
        let keep = maps(&api).read("files").await.unwrap();
        let trouble = build(
            "files",
            &ORIGIN,
            vec![file("new", vec![b'x'; 500_000])],
            keep.as_ref(),
        )
        .unwrap_err();
        assert!(
            trouble
                .message
                .contains("500000 of them are files of earlier revisions"),
            "{trouble}"
        );
    }
}
