//! Paths on a volume: what may be one. Pure.
//!
//! Paths come from a build, so from strangers. A [`RelativePath`] has been checked and cannot leave the directory it is
//! joined to by its text; that no symlink leads it out is seen to by [`volume`](super::volume), which opens it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of one component: what common file systems take.
pub const MAX_COMPONENT: usize = 255;
/// Bytes of a whole path, as in the API.
pub const MAX_PATH: usize = 1024;
/// Components of a path.
pub const MAX_DEPTH: usize = 64;
/// The directory in the volume's root that is ours: manifests, journals, what is not whole yet.
pub const STATE: &str = ".tenantry";

/// A path that is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} {why}")]
pub struct BadPath {
    /// The path; shown with its odd characters escaped.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// A checked path of plain components, relative to wherever it is joined to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelativePath(Box<str>);

/// Where in a volume things go: a checked path, or the volume's root where it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubPath(Option<RelativePath>);

/// One checked component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(Box<str>);

impl RelativePath {
    /// Checks `path`.
    pub fn new(path: &str) -> Result<Self, BadPath> {
        match flaw(path) {
            None => Ok(Self(path.into())),
            Some(why) => Err(bad(path, why)),
        }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its components, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The directories above it, from the outermost one; the last component is left out.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// What it is in, where that is not the root, and its last component.
    pub fn split(&self) -> (Option<&str>, &str) {
        match self.0.rsplit_once('/') {
            Some((parent, name)) => (Some(parent), name),
            None => (None, &self.0),
        }
    }
}

impl SubPath {
    /// Checks `path`; the empty one is the root.
    pub fn new(path: &str) -> Result<Self, BadPath> {
        if path.is_empty() {
            return Ok(Self(None));
        }
        let path = RelativePath::new(path)?;
        if is_state(&path) {
            return Err(bad(path.as_str(), "is kept for tenantry's own files"));
        }
        Ok(Self(Some(path)))
    }

    /// The checked path; `None` is the root.
    pub fn path(&self) -> Option<&RelativePath> {
        self.0.as_ref()
    }

    /// `path` in here, seen from the volume's root.
    pub fn join(&self, path: &str) -> Result<RelativePath, BadPath> {
        // Checked alone too: joined, an absolute one would only have an empty component.
        let path = RelativePath::new(path)?;
        let joined = match &self.0 {
            Some(parent) => RelativePath::new(&format!("{parent}/{path}"))?,
            None => path,
        };
        if is_state(&joined) {
            return Err(bad(joined.as_str(), "is kept for tenantry's own files"));
        }
        Ok(joined)
    }
}

impl FileName {
    /// Checks `name`.
    pub fn new(name: &str) -> Result<Self, BadPath> {
        if name.contains('/') {
            return Err(bad(name, "is not the name of one file"));
        }
        RelativePath::new(name).map(|path| Self(path.0))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether it is in the directory that is ours. A volume may not tell upper case from lower.
fn is_state(path: &RelativePath) -> bool {
    path.components()
        .next()
        .is_some_and(|first| first.eq_ignore_ascii_case(STATE))
}

fn bad(path: &str, why: &'static str) -> BadPath {
    BadPath {
        path: crate::api::conditions::bounded(path, 120),
        why,
    }
}

fn flaw(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.starts_with('/') {
        return Some("is absolute");
    }
    if path.len() > MAX_PATH {
        return Some("is longer than 1024 bytes");
    }
    if path.split('/').count() > MAX_DEPTH {
        return Some("is deeper than 64 directories");
    }
    path.split('/').find_map(component_flaw)
}

fn component_flaw(component: &str) -> Option<&'static str> {
    match component {
        "" => Some("has an empty component"),
        "." | ".." => Some("has a '.' or '..' component"),
        long if long.len() > MAX_COMPONENT => Some("has a component of more than 255 bytes"),
        odd if odd.chars().any(is_odd) => {
            Some("has control, invisible or direction characters, or a backslash")
        }
        _ => None,
    }
}

/// Characters that make a name look like another one, or that tools stumble over.
fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\\'
            | '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

macro_rules! text_path {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = BadPath;
            fn try_from(text: String) -> Result<Self, BadPath> {
                Self::new(&text)
            }
        }
        impl From<$name> for String {
            fn from(path: $name) -> Self {
                path.to_string()
            }
        }
    )*};
}
text_path!(RelativePath, SubPath, FileName);

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SubPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("", RelativePath::as_str))
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_climb_out_or_deceive_is_refused() {
        let long = "x".repeat(256);
        let deep = vec!["d"; 65].join("/");
        let longer = vec!["x".repeat(200); 6].join("/");
        for path in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../x",
            "a/../x",
            "a/..",
            ".",
            "a/./b",
            "a//b",
            "a/",
            "a\\b",
            "a\nb",
            "a\0b",
            "\u{7f}",
            "a\u{202e}gnp.exe",
            "a\u{200b}",
            "\u{feff}a",
            "\u{e0041}",
            &long,
            &deep,
            &longer,
        ] {
            assert!(RelativePath::new(path).is_err(), "{path:?}");
            assert!(SubPath::default().join(path).is_err(), "{path:?}");
            assert!(SubPath::new("data").unwrap().join(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn what_people_name_their_files_is_taken() {
        for path in [
            "a",
            ".hidden",
            "..a",
            "a..",
            "out/app-1.0+b%20 (1).tar.gz",
            "é/ü.txt",
            "日本/語",
            "a:b*?",
            "~",
            "-rf",
        ] {
            assert_eq!(RelativePath::new(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn our_own_directory_is_not_for_files() {
        for path in [".tenantry", ".tenantry/x.json", ".Tenantry/x"] {
            assert!(SubPath::new(path).is_err(), "{path}");
            assert!(SubPath::default().join(path).is_err(), "{path}");
        }
        assert!(SubPath::new("data").unwrap().join(".tenantry/x").is_ok());
        assert!(SubPath::default().join(".tenantry2").is_ok());
    }

    #[test]
    fn a_file_name_is_one_component() {
        assert!(FileName::new("a/b").is_err() && FileName::new("..").is_err());
        assert_eq!(FileName::new("build.log").unwrap().as_str(), "build.log");
    }

    #[test]
    fn parents_go_from_the_outermost() {
        let path = RelativePath::new("a/b/c").unwrap();
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(path.split(), (Some("a/b"), "c"));
    }

    #[test]
    fn a_refused_path_is_shown_printable() {
        let error = RelativePath::new("a\u{202e}\u{1b}[31m").unwrap_err().to_string();
        assert!(
            !error.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn a_checked_path_stays_inside_by_its_text(sub in "[a./\\\\]{0,6}", path in "[a./\\\\\u{0}é]{0,12}") {
            let Ok(sub) = SubPath::new(&sub) else { return Ok(()) };
            let Ok(joined) = sub.join(&path) else { return Ok(()) };
            let mut depth = 0_i32;
            for part in std::path::Path::new(joined.as_str()).components() {
                prop_assert!(matches!(part, std::path::Component::Normal(_)));
                depth += 1;
            }
            prop_assert!(depth > 0);
            if let Some(parent) = sub.path() {
                let inside = format!("{parent}/");
                prop_assert!(joined.as_str().starts_with(&inside));
            }
        }
    }
}
