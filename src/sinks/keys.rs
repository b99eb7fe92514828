//! Under which key of a ConfigMap a file goes. Pure.
//!
//! Keys know letters, digits, `-`, `_` and `.` only, so `out/app.tar` becomes `out.app.tar`. Where that would be
//! ambiguous (another character was replaced, the path is too long, two paths would get one key) the key ends in a piece
//! of the path's digest; a path that is a legal key itself always keeps it. The order of the paths does not matter.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::hex;
use crate::{api::conditions::Reason, trouble::Trouble};

/// Longest key that the API server takes.
const MAX_KEY: usize = 253;
/// Hexadecimal digits of the path's digest.
const SUFFIX: usize = 10;

/// A key for each path.
pub fn keys<'a>(paths: impl IntoIterator<Item = &'a str>) -> Result<BTreeMap<&'a str, String>, Trouble> {
    let mut by_candidate: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for path in paths {
        by_candidate.entry(candidate(path)).or_default().push(path);
    }
    let mut keys = BTreeMap::new();
    for (candidate, paths) in &by_candidate {
        for path in paths {
            let clear = *path == candidate || (paths.len() == 1 && is_readable(path));
            let key = if clear && is_key(candidate) {
                candidate.clone()
            } else {
                suffixed(candidate, path)
            };
            keys.insert(*path, key);
        }
    }
    check(keys)
}

/// Every character that is not allowed replaced: `/` by a dot, others by `_`.
fn candidate(path: &str) -> String {
    path.chars()
        .map(|c| match c {
            '/' => '.',
            c if is_allowed(c) => c,
            _ => '_',
        })
        .collect()
}

/// Whether only `/` has to be replaced.
fn is_readable(path: &str) -> bool {
    path.chars().all(|c| c == '/' || is_allowed(c))
}

const fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// What the API server takes as a key.
fn is_key(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len())
        && text.chars().all(is_allowed)
        && text != "."
        && !text.starts_with("..")
}

/// The candidate, cut where it is too long, and a piece of the path's digest.
fn suffixed(candidate: &str, path: &str) -> String {
    let digest = hex(&Sha256::digest(path));
    let stem = candidate.trim_start_matches('.');
    // Candidates are ASCII.
    let stem = &stem[..stem.len().min(MAX_KEY - SUFFIX - 1)];
    format!("{stem}-{}", &digest[..SUFFIX])
}

/// Two files must never end up under one key, not even where somebody made up a name that looks like a suffixed one.
fn check(keys: BTreeMap<&str, String>) -> Result<BTreeMap<&str, String>, Trouble> {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (path, key) in &keys {
        if let Some(other) = seen.insert(key, path) {
            return Err(Trouble::user(
                Reason::InvalidSpec,
                format!(
                    "{other:?} and {path:?} would both get the key {key}: leave one of them out with exclude"
                ),
            ));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn keys_of(paths: &[&str]) -> Vec<String> {
        let keys = keys(paths.iter().copied()).expect("keys");
        paths.iter().map(|path| keys[path].clone()).collect()
    }

    #[test]
    fn keys_are_readable() {
        for (path, key) in [
            ("app.jar", "app.jar"),
            ("out/app.tar", "out.app.tar"),
            (".env", ".env"),
            ("a/.hidden", "a..hidden"),
            ("UPPER-lower_0.txt", "UPPER-lower_0.txt"),
        ] {
            assert_eq!(keys_of(&[path]), [key]);
        }
    }

    #[test]
    fn what_had_to_be_replaced_is_told_apart() {
        let paths = ["a b.txt", "a+b.txt", "a%b.txt", "é.txt", "ü.txt", "a_b.txt"];
        let keys = keys_of(&paths);
        assert_eq!(keys[5], "a_b.txt");
        for key in &keys[..3] {
            assert!(key.starts_with("a_b.txt-"), "{key}");
        }
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), paths.len());
    }

    #[test]
    fn of_two_that_collide_the_legal_one_keeps_its_name() {
        let keys = keys_of(&["out/app.tar", "out.app.tar"]);
        assert_eq!(keys[1], "out.app.tar");
        assert!(keys[0].starts_with("out.app.tar-"), "{}", keys[0]);
        let both = keys_of(&["a/b.c", "a.b/c"]);
        assert!(
            both.iter().all(|key| key.starts_with("a.b.c-")) && both[0] != both[1],
            "{both:?}"
        );
    }

    #[test]
    fn what_the_api_server_refuses_is_never_a_key() {
        let long = "x/".repeat(400);
        for path in [".", "..", "..a", "../..", &long, "é", "/"] {
            let key = &keys_of(&[path])[0];
            assert!(is_key(key), "{path:?} got {key:?}");
        }
    }

    #[test]
    fn two_files_under_one_key_are_refused() {
        let forged = keys_of(&["a b"])[0].clone();
        let trouble = keys(["a b", forged.as_str()]).expect_err("a refusal");
        assert!(trouble.message.contains("\"a b\""), "{trouble}");
    }

    proptest! {
        #[test]
        fn every_file_has_its_own_legal_key_whatever_the_order(paths in prop::collection::btree_set("[ab./+ é]{1,6}", 1..40)) {
            let paths: Vec<String> = paths.into_iter().collect();
            let forward = keys(paths.iter().map(String::as_str)).unwrap();
            let backward = keys(paths.iter().rev().map(String::as_str)).unwrap();
            prop_assert_eq!(&forward, &backward);
            prop_assert_eq!(forward.values().collect::<BTreeSet<_>>().len(), paths.len());
            for key in forward.values() {
                prop_assert!(is_key(key), "{key:?}");
            }
        }
    }
}
