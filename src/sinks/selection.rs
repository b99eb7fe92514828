//! Which of a run's files are wanted. Pure; decided from the list alone, before a byte is fetched.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{
    api::{
        artifact_fetch::{Digest, FileSelection},
        conditions::Reason,
    },
    trouble::Trouble,
};

/// How many names a message lists.
const SHOWN: usize = 8;

/// A file that a run has, as the remote lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteFile {
    /// Path relative to the archive's root. It comes from the build: not to be trusted before [`Selection::pick`].
    pub path: String,
    /// Bytes, as the remote tells.
    pub size: u64,
}

/// Which files are wanted and what must hold of them.
#[derive(Clone, Debug)]
pub struct Selection {
    include: GlobSet,
    exclude: GlobSet,
    /// The globs as they were written, for messages.
    wanted: String,
    verify: BTreeMap<String, String>,
    max_bytes: u64,
    max_files: u64,
    /// What else may help where they are too large.
    larger: &'static str,
}

impl Selection {
    /// Reads what was asked for. `capacity` is what the destination can hold.
    pub fn compile(files: &FileSelection, capacity: u64) -> Result<Self, Trouble> {
        // A new field has to be decided on here.
        let FileSelection {
            include,
            exclude,
            destination: _,
            verify,
            max_bytes,
            max_files,
            prune: _,
            parallel: _,
        } = files;
        let asked = max_bytes.map_or(capacity, |max| u64::try_from(max).unwrap_or_default());
        let max_bytes = asked.min(capacity);
        let max_files = u64::try_from(*max_files).unwrap_or_default();
        let selection = Self::new(include, exclude, verify, max_bytes, max_files)?;
        Ok(Self {
            larger: "raise maxBytes as far as a ConfigMap holds",
            ..selection
        })
    }

    /// The same from its parts, for a destination that has no limit of its own.
    pub fn new(
        include: &[String],
        exclude: &[String],
        verify: &[Digest],
        max_bytes: u64,
        max_files: u64,
    ) -> Result<Self, Trouble> {
        let left_out = if exclude.is_empty() {
            String::new()
        } else {
            format!(", exclude {}", quoted(exclude))
        };
        Ok(Self {
            include: globs("include", include)?,
            exclude: globs("exclude", exclude)?,
            wanted: format!("include {}{left_out}", quoted(include)),
            verify: verify
                .iter()
                .map(|v| (v.path.clone(), v.sha256.clone()))
                .collect(),
            max_bytes,
            max_files,
            larger: "raise maxBytes",
        })
    }

    /// Bytes that all files together may have.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// The digest that a file must have.
    pub fn digest_of(&self, path: &str) -> Option<&str> {
        self.verify.get(path).map(String::as_str)
    }

    /// The wanted ones of `listed`, each once, by path; or why they cannot be had. `run` is for messages.
    pub fn pick(&self, run: &str, listed: &[RemoteFile]) -> Result<Vec<RemoteFile>, Trouble> {
        let mut picked: BTreeMap<&str, &RemoteFile> = BTreeMap::new();
        for file in listed {
            if self.include.is_match(&file.path) && !self.exclude.is_match(&file.path) {
                picked.insert(&file.path, file);
            }
        }
        if picked.is_empty() {
            return Err(self.no_match(run, listed));
        }
        if let Some(path) = picked.keys().find(|path| !is_inside(path)) {
            return Err(Trouble::user(
                Reason::UnexpectedAnswer,
                format!(
                    "run {run} lists a file {path:?} outside its own archive: it is not fetched; leave it out with exclude"
                ),
            ));
        }
        self.check_verify(run, &picked, listed)?;
        if picked.len() as u64 > self.max_files {
            return Err(Trouble::user(
                Reason::TooManyFiles,
                format!(
                    "{} files of run {run} match ({}), maxFiles is {}: match fewer, or raise it",
                    picked.len(),
                    self.wanted,
                    self.max_files
                ),
            ));
        }
        let total = picked
            .values()
            .fold(0_u64, |sum, file| sum.saturating_add(file.size));
        if total > self.max_bytes {
            let files: Vec<&RemoteFile> = picked.into_values().collect();
            return Err(self.too_large(run, total, &files));
        }
        Ok(picked.into_values().cloned().collect())
    }

    fn check_verify(
        &self,
        run: &str,
        picked: &BTreeMap<&str, &RemoteFile>,
        listed: &[RemoteFile],
    ) -> Result<(), Trouble> {
        let Some(missing) = self
            .verify
            .keys()
            .find(|path| !picked.contains_key(path.as_str()))
        else {
            return Ok(());
        };
        let why = if listed.iter().any(|file| file.path == *missing) {
            format!("it is there, but {} leaves it out", self.wanted)
        } else {
            format!("the run has {}", names(listed.iter()))
        };
        Err(Trouble::user(
            Reason::VerifyPathMissing,
            format!("verify names {missing:?}, which is not among the files of run {run}: {why}"),
        ))
    }

    fn no_match(&self, run: &str, listed: &[RemoteFile]) -> Trouble {
        let message = if listed.is_empty() {
            format!("run {run} has archived no files: does its pipeline archiveArtifacts?")
        } else {
            let directory = self.directory_hint(listed);
            format!(
                "no file of run {run} matches ({}): it has {}{directory}",
                self.wanted,
                names(listed.iter())
            )
        };
        Trouble::user(Reason::NoMatch, message)
    }

    /// People write `out` and mean all that is in it.
    fn directory_hint(&self, listed: &[RemoteFile]) -> String {
        let directories: BTreeSet<&str> = listed
            .iter()
            .flat_map(|file| file.path.match_indices('/').map(|(at, _)| &file.path[..at]))
            .collect();
        directories
            .iter()
            .find(|directory| self.include.is_match(directory))
            .map(|directory| format!("; for all that is in a directory write {directory}/**"))
            .unwrap_or_default()
    }

    fn too_large(&self, run: &str, total: u64, files: &[&RemoteFile]) -> Trouble {
        let mut largest = files.to_vec();
        largest.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
        let shown: Vec<String> = largest
            .iter()
            .take(SHOWN.min(3))
            .map(|file| format!("{} ({} bytes)", shown(&file.path), file.size))
            .collect();
        Trouble::user(
            Reason::ArtifactsTooLarge,
            format!(
                "{} files of run {run} have {total} bytes together, {} fit: match fewer, or {}; the largest: {}",
                files.len(),
                self.max_bytes,
                self.larger,
                shown.join(", ")
            ),
        )
    }
}

/// A relative path of plain segments. The remote pastes it into a URL of Jenkins without resolving `..` (finding F-I).
fn is_inside(path: &str) -> bool {
    path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        && !path.contains(|c: char| c.is_control() || c == '\\')
}

fn globs(field: &str, globs: &[String]) -> Result<GlobSet, Trouble> {
    let invalid = |glob: &str, why: &dyn std::fmt::Display| {
        Trouble::user(
            Reason::InvalidSpec,
            format!("{field}: {glob:?} is no glob: {why}; write it like 'out/**/*.{{tar,zip}}'"),
        )
    };
    let mut set = GlobSetBuilder::new();
    for glob in globs {
        let built = GlobBuilder::new(glob).literal_separator(true).build();
        set.add(built.map_err(|error| invalid(glob, error.kind()))?);
    }
    set.build()
        .map_err(|error| invalid(error.glob().unwrap_or_default(), error.kind()))
}

fn quoted(globs: &[String]) -> String {
    let quoted: Vec<String> = globs.iter().map(|glob| shown(glob)).collect();
    listing(&quoted, globs.len())
}

fn names<'a>(files: impl ExactSizeIterator<Item = &'a RemoteFile>) -> String {
    let count = files.len();
    let shown: Vec<String> = files.take(SHOWN).map(|file| shown(&file.path)).collect();
    let noun = if count == 1 { "file" } else { "files" };
    format!("{count} {noun}: {}", listing(&shown, count))
}

fn listing(shown: &[String], count: usize) -> String {
    let more = count - shown.len().min(SHOWN);
    let rest = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{}{rest}", shown[..shown.len().min(SHOWN)].join(", "))
}

fn shown(path: &str) -> String {
    let path: String = path
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    crate::api::conditions::bounded(&path, 120)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selection(spec: Value) -> Selection {
        let files: FileSelection = serde_json::from_value(spec).expect("a selection");
        Selection::compile(&files, 900 * 1024).expect("globs")
    }

    fn file(path: &str, size: u64) -> RemoteFile {
        RemoteFile {
            path: path.into(),
            size,
        }
    }

    fn listed() -> Vec<RemoteFile> {
        [
            "app.jar",
            "out/app.tar",
            "out/sub/app.tar",
            "out/report.xml",
            ".hidden",
            "a b+c%.txt",
            "é/ü.txt",
        ]
        .map(|path| file(path, 10))
        .into()
    }

    fn picked(spec: Value) -> Vec<String> {
        let files = selection(spec).pick("shop/hello#7", &listed()).expect("files");
        files.into_iter().map(|file| file.path).collect()
    }

    fn refused(spec: Value, listed: &[RemoteFile]) -> Trouble {
        let trouble = selection(spec)
            .pick("shop/hello#7", listed)
            .expect_err("a refusal");
        assert!(trouble.is_stalled(), "{trouble}");
        trouble
    }

    #[test]
    fn globs_pick_by_path() {
        for (include, exclude, paths) in [
            (json!(["**"]), json!([]), None),
            (
                json!(["*"]),
                json!([]),
                Some(vec![".hidden", "a b+c%.txt", "app.jar"]),
            ),
            (
                json!(["out/*"]),
                json!([]),
                Some(vec!["out/app.tar", "out/report.xml"]),
            ),
            (
                json!(["out/**"]),
                json!(["**/*.xml"]),
                Some(vec!["out/app.tar", "out/sub/app.tar"]),
            ),
            (json!(["**/app.*"]), json!(["out/**"]), Some(vec!["app.jar"])),
            (
                json!(["**/*.{jar,xml}"]),
                json!([]),
                Some(vec!["app.jar", "out/report.xml"]),
            ),
            (
                json!(["é/*.txt", "a?b+c%.txt"]),
                json!([]),
                Some(vec!["a b+c%.txt", "é/ü.txt"]),
            ),
            (json!(["[a-b]pp.jar"]), json!([]), Some(vec!["app.jar"])),
        ] {
            let got = picked(json!({"include": include, "exclude": exclude}));
            match paths {
                Some(paths) => assert_eq!(got, paths, "{include} {exclude}"),
                None => assert_eq!(got.len(), listed().len()),
            }
        }
    }

    #[test]
    fn a_file_that_is_listed_twice_is_picked_once() {
        let twice = [file("a", 1), file("a", 1)];
        assert_eq!(selection(json!({})).pick("r", &twice).unwrap().len(), 1);
    }

    #[test]
    fn a_glob_that_does_not_parse_is_named() {
        for bad in ["out/[", "{a", "a[z-a]"] {
            let files: FileSelection =
                serde_json::from_value(json!({"include": ["**"], "exclude": [bad]})).unwrap();
            let trouble = Selection::compile(&files, 1).expect_err(bad);
            assert_eq!(trouble.reason, Reason::InvalidSpec);
            assert!(
                trouble.message.starts_with("exclude: ") && trouble.message.contains(bad),
                "{trouble}"
            );
        }
    }

    #[test]
    fn nothing_matching_says_what_there_is() {
        let trouble = refused(json!({"include": ["*.zip"]}), &listed());
        assert_eq!(trouble.reason, Reason::NoMatch);
        assert!(
            trouble.message.contains("*.zip") && trouble.message.contains("out/sub/app.tar"),
            "{trouble}"
        );
        let directory = refused(json!({"include": ["out"]}), &listed());
        assert!(directory.message.ends_with("write out/**"), "{directory}");
        let empty = refused(json!({}), &[]);
        assert_eq!(empty.reason, Reason::NoMatch);
        assert!(empty.message.contains("has archived no files"), "{empty}");
        let many: Vec<_> = (0..130).map(|n| file(&format!("f{n}"), 1)).collect();
        let trouble = refused(json!({"include": ["x"]}), &many);
        assert!(
            trouble.message.contains("130 files") && trouble.message.contains("and 122 more"),
            "{trouble}"
        );
    }

    #[test]
    fn bounds_hold_before_anything_is_fetched() {
        let files = [file("a", 600), file("b", 400), file("c", 1)];
        let trouble = refused(json!({"maxFiles": 2}), &files);
        assert_eq!(trouble.reason, Reason::TooManyFiles);
        let trouble = refused(json!({"maxBytes": 1000}), &files);
        assert_eq!(trouble.reason, Reason::ArtifactsTooLarge);
        assert!(
            trouble.message.contains("1001 bytes together, 1000 fit")
                && trouble.message.contains("a (600 bytes), b"),
            "{trouble}"
        );
        assert!(
            selection(json!({"maxBytes": 1001, "maxFiles": 3}))
                .pick("r", &files)
                .is_ok()
        );
        // More than the destination holds, whatever the spec says.
        let trouble = refused(json!({"maxBytes": 1_u64 << 40}), &[file("big", 900 * 1024 + 1)]);
        assert_eq!(trouble.reason, Reason::ArtifactsTooLarge);
    }

    #[test]
    fn a_path_to_verify_must_be_picked() {
        let digest = "0".repeat(64);
        let verify = |path: &str, include: &str| json!({"include": [include], "verify": [{"path": path, "sha256": digest}]});
        let trouble = refused(verify("gone", "**"), &listed());
        assert_eq!(trouble.reason, Reason::VerifyPathMissing);
        assert!(trouble.message.contains("app.jar"), "{trouble}");
        let trouble = refused(verify("app.jar", "out/**"), &listed());
        assert!(trouble.message.contains("leaves it out"), "{trouble}");
        let selection = selection(verify("app.jar", "**"));
        assert!(selection.pick("r", &listed()).is_ok());
        assert_eq!(selection.digest_of("app.jar"), Some(digest.as_str()));
    }

    #[test]
    fn a_path_that_leaves_the_archive_is_not_fetched() {
        for path in ["../x", "a/../../x", "/etc/passwd", "a//b", "a\nb", "a\\b", "."] {
            let trouble = refused(json!({}), &[file(path, 1)]);
            assert_eq!(trouble.reason, Reason::UnexpectedAnswer, "{path:?}");
            assert!(!trouble.message.contains('\n'));
        }
        // A wanted one beside it can be had.
        let files = [file("../x", 1), file("ok", 1)];
        assert!(selection(json!({"include": ["ok"]})).pick("r", &files).is_ok());
    }
}
