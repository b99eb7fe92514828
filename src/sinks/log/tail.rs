//! The last lines of a log, made fit for a status that people read in a terminal.

use crate::api::conditions::bounded;

/// Bytes of one line that are kept.
pub const MAX_LINE: usize = 4 * 1024;
/// Bytes of all lines together.
pub const MAX_LINES: usize = 16 * 1024;

/// The last `count` lines of `text` without terminal control, within [`MAX_LINE`] and [`MAX_LINES`]. Empty lines at the
/// end are not counted and not kept.
pub fn last_lines(text: &str, count: usize) -> String {
    let mut lines = Vec::new();
    let mut room = MAX_LINES;
    for raw in text.trim_end().rsplit('\n').take(count) {
        let line = bounded(&plain(raw), MAX_LINE);
        let Some(left) = room.checked_sub(line.len() + 1) else {
            break;
        };
        room = left;
        lines.push(line);
    }
    lines.reverse();
    lines.join("\n")
}

/// What a terminal would show of a line at its end: no escape sequences, no control characters, and of what was
/// overwritten after a CR only the last.
pub fn plain(line: &str) -> String {
    let shown = strip_escapes(line);
    let last = shown
        .trim_end_matches('\r')
        .rsplit('\r')
        .next()
        .unwrap_or_default();
    last.chars().filter(|c| *c == '\t' || !c.is_control()).collect()
}

/// Removes ANSI escape sequences (CSI, OSC and the short ones) and Jenkins' hidden console notes.
fn strip_escapes(line: &str) -> String {
    /// How Jenkins begins and ends an encoded note in a stored log.
    const NOTE: (&str, &str) = ("\u{1b}[8mha:", "\u{1b}[0m");
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with(NOTE.0) {
            rest = rest.find(NOTE.1).map_or("", |end| &rest[end + NOTE.1.len()..]);
            continue;
        }
        let mut chars = rest.char_indices().skip(1);
        rest = match chars.next() {
            Some((_, '[')) => after(rest, chars.find(|(_, c)| ('@'..='~').contains(c))),
            Some((_, ']')) => match chars.find(|(_, c)| matches!(c, '\u{7}' | '\u{1b}')) {
                Some((i, '\u{1b}')) => rest[i + 1..].strip_prefix('\\').unwrap_or(&rest[i..]),
                found => after(rest, found),
            },
            found => after(rest, found),
        };
    }
    out.push_str(rest);
    out
}

/// What follows the character found in `text`; nothing where none was found.
fn after(text: &str, found: Option<(usize, char)>) -> &str {
    found.map_or("", |(i, c)| &text[i + c.len_utf8()..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_shown_as_a_terminal_would() {
        for (raw, shown) in [
            ("plain\tline", "plain\tline"),
            ("\u{1b}[31;1mred\u{1b}[0m done", "red done"),
            ("\u{1b}]0;title\u{7}x\u{1b}]8;;http://a\u{1b}\\link", "xlink"),
            ("\u{1b}[8mha:AAAAbase64==\u{1b}[0m[Pipeline] sh", "[Pipeline] sh"),
            ("10%\r50%\r100%", "100%"),
            ("windows\r", "windows"),
            ("\u{1b}(Bx\u{1b}7y", "Bxy"),
            ("cut \u{1b}[3", "cut "),
            ("bell\u{7} nul\0", "bell nul"),
            ("é\u{1b}[mü", "éü"),
            ("\u{1b}", ""),
        ] {
            assert_eq!(plain(raw), shown, "{raw:?}");
        }
    }

    #[test]
    fn the_last_lines_are_counted_and_bounded() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a\nb\n\n\n", 2), "a\nb");
        assert_eq!(last_lines("a", 20), "a");
        assert_eq!(last_lines("a\nb", 0), "");
        assert_eq!(last_lines("", 3), "");
        let long = format!("{}\nend", "x".repeat(10_000));
        let shown = last_lines(&long, 2);
        assert!(
            shown.starts_with("xxx") && shown.ends_with("…\nend") && shown.len() <= MAX_LINE + 4,
            "{shown}"
        );
        let many = "y".repeat(2000) + "\n";
        assert_eq!(last_lines(&many.repeat(50), 50).lines().count(), MAX_LINES / 2001);
    }

    proptest! {
        #[test]
        fn nothing_but_text_comes_through(line in "[a\u{1b}\\[\\]m;0\u{7}\\\\\rhé]{0,40}") {
            let shown = plain(&line);
            prop_assert!(!shown.contains(|c: char| c.is_control()), "{shown:?}");
        }

        #[test]
        fn the_bounds_hold(text in any::<String>(), count in 0_usize..40) {
            let lines = last_lines(&text, count);
            prop_assert!(lines.len() <= MAX_LINES);
            prop_assert!(lines.lines().count() <= count);
        }
    }
}
