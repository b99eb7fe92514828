//! A log in ConfigMaps: one, or as many as it takes, in order.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::LogImage;
use crate::{
    api::conditions::Reason,
    sinks::{
        config_map::{CONTENT_DIGEST, ConfigMaps, Content, Mine, REVISION, Wanted},
        hex,
    },
    trouble::Trouble,
};

/// The key that holds the text.
pub const LOG_KEY: &str = "log";
/// Annotation: which part of the log it is, from 1.
pub const PART: &str = "tenantry.dev/part";
/// Bytes of text in one ConfigMap; the API server takes 1 MiB.
const PART_BYTES: usize = 896 * 1024;
/// Bytes of the same text as JSON, escaped; the API server takes requests of 3 MiB.
const PART_JSON: usize = 2560 * 1024;
/// As many as the status can name. 8 MiB of any sane log fit into ten.
const MAX_PARTS: usize = 32;

/// What came of storing a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLog {
    /// The ConfigMaps that hold it, in order.
    pub config_maps: Vec<String>,
    /// How many of them were written, because they differed.
    pub written: usize,
    /// How many of an earlier log were removed.
    pub removed: usize,
}

/// Stores a log under `name`, and `name-1`, `name-2` … where one ConfigMap does not hold it. Those that hold their part
/// already are left alone, those of the same owner that are not needed any more are removed.
pub async fn store_log(
    maps: &ConfigMaps,
    name: &str,
    revision: &str,
    image: &LogImage,
) -> Result<StoredLog, Trouble> {
    let parts = split(&image.text, PART_BYTES, PART_JSON);
    let names: Vec<String> = (0..parts.len()).map(|i| part_name(name, i)).collect();
    check(name, &names)?;

    let existing = maps.list(Content::Log).await?;
    let mut stored = StoredLog::default();
    for (i, (name, part)) in names.iter().zip(&parts).enumerate() {
        let wanted = part_object(name, i, revision, part);
        let known = match existing.iter().find(|mine| mine.name() == name) {
            Some(mine) if is_stored(mine, &wanted) => continue,
            Some(mine) => Some(mine.clone()),
            None => maps.look(name).await?,
        };
        maps.apply(wanted, Content::Log, known.as_ref()).await?;
        stored.written += 1;
    }
    for surplus in existing
        .iter()
        .filter(|mine| !names.iter().any(|n| n == mine.name()))
    {
        maps.remove(surplus, Content::Log).await?;
        stored.removed += 1;
    }
    stored.config_maps = names;
    Ok(stored)
}

/// Removes every ConfigMap with a log of this owner, whose log is elsewhere by now. Says how many there were.
pub async fn remove_log(maps: &ConfigMaps) -> Result<usize, Trouble> {
    let stale = maps.list(Content::Log).await?;
    for mine in &stale {
        maps.remove(mine, Content::Log).await?;
    }
    Ok(stale.len())
}

fn check(name: &str, names: &[String]) -> Result<(), Trouble> {
    if names.len() > MAX_PARTS {
        return Err(Trouble::user(
            Reason::LogUnavailable,
            format!(
                "the log takes {} ConfigMaps, more than {MAX_PARTS}: lower spec.logs.maxBytes",
                names.len()
            ),
        ));
    }
    if names.iter().any(|n| n.len() > 253) {
        return Err(Trouble::user(
            Reason::InvalidSpec,
            format!(
                "{name} is too long a name for the ConfigMaps of the log: name a shorter one in spec.logs.destination"
            ),
        ));
    }
    Ok(())
}

fn part_name(name: &str, index: usize) -> String {
    if index == 0 {
        name.into()
    } else {
        format!("{name}-{index}")
    }
}

fn part_object(name: &str, index: usize, revision: &str, text: &str) -> Wanted {
    Wanted {
        name: name.into(),
        revision: revision.into(),
        digest: hex(&Sha256::digest(text)),
        annotations: BTreeMap::from([(PART.into(), (index + 1).to_string())]),
        data: BTreeMap::from([(LOG_KEY.into(), text.into())]),
        ..Wanted::default()
    }
}

/// Whether the ConfigMap is as wanted, and nobody else changed the text.
fn is_stored(mine: &Mine, wanted: &Wanted) -> bool {
    mine.annotation(CONTENT_DIGEST) == Some(&wanted.digest)
        && mine.annotation(REVISION) == Some(&wanted.revision)
        && mine.untouched_keys() == [LOG_KEY]
}

/// Cuts `text` into parts of at most `bytes` bytes, and `json` bytes when escaped, at line ends where there are any in
/// the second half of a part. At least one part.
fn split(text: &str, bytes: usize, json: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (room, whole) = fitting(rest, bytes, json);
        if whole {
            parts.push(rest);
            return parts;
        }
        let line_end = rest[..room].rfind('\n').filter(|at| *at >= room / 2);
        let (part, after) = rest.split_at(line_end.map_or(room, |at| at + 1));
        parts.push(part);
        rest = after;
    }
}

/// How much of the beginning of `text` fits, and whether that is all of it.
fn fitting(text: &str, bytes: usize, json: usize) -> (usize, bool) {
    let mut escaped = 2;
    for (at, c) in text.char_indices() {
        escaped += match c {
            '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
            c if c < ' ' => 6,
            c => c.len_utf8(),
        };
        if at + c.len_utf8() > bytes || escaped > json {
            return (at, false);
        }
    }
    (text.len(), true)
}

#[cfg(test)]
#[path = "config_maps_tests.rs"]
mod against_a_server;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_end_at_line_ends_where_they_can() {
        assert_eq!(split("", 100, 1000), [""]);
        assert_eq!(split("aaa\nbbb\nccc", 8, 1000), ["aaa\nbbb\n", "ccc"]);
        assert_eq!(split("aaa\nbbb\nccc", 7, 1000), ["aaa\n", "bbb\nccc"]);
        assert_eq!(split("a\nbbbbbbbbbb", 6, 1000), ["a\nbbbb", "bbbbbb"]);
        assert_eq!(split("ääää", 5, 1000), ["ää", "ää"]);
        // Six bytes each when escaped.
        assert_eq!(split("\u{1b}\u{1b}\u{1b}", 100, 14), ["\u{1b}\u{1b}", "\u{1b}"]);
    }

    #[test]
    fn the_largest_log_fits() {
        let text =
            "[2026-11-22T12:00:00Z] \u{1b}[32mok\u{1b}[0m \"compiling\"\n".repeat(8 * 1024 * 1024 / 54);
        assert!(
            split(&text, PART_BYTES, PART_JSON).len() <= 12,
            "{}",
            split(&text, PART_BYTES, PART_JSON).len()
        );
    }

    #[test]
    fn names_are_in_order_and_checked() {
        assert_eq!(
            (part_name("x-log", 0), part_name("x-log", 11)),
            ("x-log".into(), "x-log-11".into())
        );
        assert!(check("n", &vec!["n".into(); MAX_PARTS + 1]).is_err());
        assert!(check("n", &["n".repeat(254)]).is_err());
        assert!(check("n", &["n".repeat(253)]).is_ok());
    }

    proptest! {
        #[test]
        fn the_parts_are_the_text_and_fit(text in "[a-z\u{1b}\"é😀\n]{0,300}", bytes in 8_usize..80, json in 20_usize..120) {
            let parts = split(&text, bytes, json);
            prop_assert_eq!(parts.concat(), text.clone());
            for part in &parts {
                prop_assert!(part.len() <= bytes);
                prop_assert!(serde_json::to_string(part).unwrap().len() <= json);
            }
        }
    }
}
