//! Secret values out of a text: each occurrence becomes [`MASK`], wherever the text is cut into pieces.

use std::{collections::HashMap, fmt, sync::Arc};

use aho_corasick::{
    Anchored,
    automaton::{Automaton, StateID},
    nfa::contiguous::NFA,
};

use crate::{api::conditions::Reason, disguise, trouble::Trouble};

/// What stands for a secret value.
pub const MASK: &str = "****";
/// Shorter values are not masked, in characters: hiding every `1` or `no` would hide nothing and wreck every log.
pub const MIN_MASKED: usize = 4;

/// The values that a text must not show. Cannot be printed; cheap to clone.
///
/// Of each value these are masked: the whole without white space around it, each of its lines likewise, and both in every
/// disguise that [`disguise`] knows, because pipelines print what they are given as JSON, in URLs, in traces of the shell and
/// in headers. What is shorter than [`MIN_MASKED`] is not.
#[derive(Clone, Default)]
pub struct Masks(Option<Arc<Patterns>>);

struct Patterns {
    automaton: NFA,
    start: StateID,
    /// How much of some value has been read in a state of the automaton: that much may still become an occurrence.
    depths: HashMap<StateID, usize>,
}

/// Whether a value is too short to be masked.
pub fn is_too_short(value: &str) -> bool {
    let value = value.trim();
    !value.is_empty() && value.chars().count() < MIN_MASKED
}

/// What is looked for because of one value.
fn forms(value: &str) -> impl Iterator<Item = String> {
    let whole = value.replace("\r\n", "\n");
    let lines: Vec<String> = whole.lines().map(|line| line.trim().to_owned()).collect();
    let plain = [whole.trim().to_owned()].into_iter().chain(lines);
    plain
        .flat_map(|form| {
            let disguised = form.chars().count() >= MIN_MASKED;
            if disguised { disguise::forms(&form) } else { vec![] }
        })
        .filter(|form| form.chars().count() >= MIN_MASKED)
}

impl Masks {
    /// Masks of these values.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, Trouble> {
        let mut patterns: Vec<String> = values.into_iter().flat_map(forms).collect();
        patterns.sort_unstable();
        patterns.dedup();
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        Patterns::new(&patterns)
            .map(|patterns| Self(Some(Arc::new(patterns))))
            .ok_or_else(|| {
                Trouble::user(
                    Reason::InvalidSpec,
                    "the values that parameters take from Secrets are too long to be kept out of the log: give the pipeline \
                     a Jenkins credential instead",
                )
            })
    }

    /// Whether there is nothing to mask.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A text that is there as a whole, masked.
    pub fn apply(&self, text: &str) -> String {
        let mut masker = Masker::new(self.clone());
        let mut out = Vec::with_capacity(text.len());
        masker.push(text.as_bytes(), &mut |piece| out.extend_from_slice(piece));
        masker.finish(&mut |piece| out.extend_from_slice(piece));
        String::from_utf8_lossy(&out).into_owned()
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "Masks(none)"
        } else {
            "Masks(…)"
        })
    }
}

impl Patterns {
    fn new(patterns: &[String]) -> Option<Self> {
        let automaton = NFA::builder().build(patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut depths = HashMap::new();
        for pattern in patterns {
            let mut state = start;
            for (read, byte) in pattern.bytes().enumerate() {
                state = automaton.next_state(Anchored::No, state, byte);
                depths.insert(state, read + 1);
            }
        }
        Some(Self {
            automaton,
            start,
            depths,
        })
    }

    /// Length of the longest value that ends in this state.
    fn longest_match(&self, state: StateID) -> usize {
        if !self.automaton.is_match(state) {
            return 0;
        }
        (0..self.automaton.match_len(state))
            .map(|i| self.automaton.pattern_len(self.automaton.match_pattern(state, i)))
            .max()
            .unwrap_or(0)
    }
}

/// Masks a text that comes in pieces. What may be the beginning of a value is held back until it is decided, no more.
///
/// Values may overlap or contain one another: whatever belongs to an occurrence of any of them is hidden, and
/// occurrences that overlap become one mask.
#[derive(Clone)]
pub struct Masker {
    masks: Masks,
    state: Option<StateID>,
    /// Text that is not handed on yet; it begins where a value, or an occurrence that may grow, begins.
    held: Vec<u8>,
    /// Bytes of `held` that belong to one occurrence, from its beginning on; those before the first are plain.
    hidden: Vec<(usize, usize)>,
}

impl Masker {
    /// One that knows these values.
    pub fn new(masks: Masks) -> Self {
        Self {
            state: masks.0.as_ref().map(|patterns| patterns.start),
            masks,
            held: Vec::new(),
            hidden: Vec::new(),
        }
    }

    /// Takes the next text and hands on what is decided.
    pub fn push(&mut self, text: &[u8], emit: &mut impl FnMut(&[u8])) {
        let (Some(patterns), Some(mut state)) = (self.masks.0.clone(), self.state) else {
            emit(text);
            return;
        };
        let before = self.held.len();
        self.held.extend_from_slice(text);
        for (i, byte) in text.iter().enumerate() {
            state = patterns.automaton.next_state(Anchored::No, state, *byte);
            let length = patterns.longest_match(state);
            if length > 0 {
                self.hide(before + i + 1 - length, before + i + 1);
            }
        }
        self.state = Some(state);
        let open = patterns.depths.get(&state).copied().unwrap_or(0);
        self.release(self.held.len() - open, emit);
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self, emit: &mut impl FnMut(&[u8])) {
        self.release(self.held.len(), emit);
        self.state = self.masks.0.as_ref().map(|patterns| patterns.start);
    }

    /// Notes an occurrence. Those that it overlaps become one with it; those that it only touches stay their own.
    fn hide(&mut self, mut from: usize, to: usize) {
        while let Some(&(start, _)) = self.hidden.last().filter(|(_, end)| *end > from) {
            from = from.min(start);
            self.hidden.pop();
        }
        self.hidden.push((from, to));
    }

    /// Hands on all up to `decided`, and keeps an occurrence that reaches beyond it, because another may overlap it.
    fn release(&mut self, decided: usize, emit: &mut impl FnMut(&[u8])) {
        let mut at = 0;
        let mut kept = Vec::new();
        let mut end = decided;
        for (from, to) in std::mem::take(&mut self.hidden) {
            if to > decided {
                end = end.min(from);
                kept.push((from, to));
                continue;
            }
            if from > at {
                emit(&self.held[at..from]);
            }
            emit(MASK.as_bytes());
            at = to;
        }
        if end > at {
            emit(&self.held[at..end]);
            at = end;
        }
        // What is decided of an occurrence that is kept will never be shown, and no other can begin in it: only its end counts.
        // Without this, a value that overlaps itself would have a line of it held as a whole, however long.
        let gone = if kept.is_empty() { at } else { decided.max(at) };
        self.held.drain(..gone);
        let moved = |place: usize| place.saturating_sub(gone);
        self.hidden = kept
            .into_iter()
            .map(|(from, to)| (moved(from), moved(to)))
            .collect();
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masker({:?}, {} bytes held)", self.masks, self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masks(values: &[&str]) -> Masks {
        Masks::of(values.iter().copied()).expect("masks")
    }

    #[test]
    fn every_occurrence_of_every_value_is_masked() {
        for (values, text, masked) in [
            (
                &["hunter2"][..],
                "pw=hunter2, again hunter2!",
                "pw=****, again ****!",
            ),
            (&["hunter2"], "hunter2hunter2", "********"),
            (&["hunter2"], "hunter", "hunter"),
            // One in another, and one over the end of another: nothing of either is left.
            (&["abcd", "abcdef"], "xabcdefx abcdx", "x****x ****x"),
            (&["abcd", "cdef"], "abcdef abcd cdef", "**** **** ****"),
            (&["aaaa"], "aaaaaaa b", "**** b"),
            (&["bcde", "abcdefg"], "abcdef", "a****f"),
            (&["geheim-ä"], "das ist geheim-ä.", "das ist ****."),
            // White space around a value is not part of the secret.
            (&["  spaced value\n"], "[spaced value]", "[****]"),
            (&[], "anything", "anything"),
        ] {
            assert_eq!(masks(values).apply(text), masked, "{values:?} in {text:?}");
        }
    }

    #[test]
    fn each_line_of_a_value_is_masked() {
        let key = "-----BEGIN KEY-----\r\n  MIIEabc\n}\nqwerty==\n-----END KEY-----\n";
        assert_eq!(
            masks(&[key]).apply("got qwerty== and MIIEabc"),
            "got **** and ****"
        );
        assert_eq!(masks(&[key]).apply("a }"), "a }", "too short a line");
        assert_eq!(masks(&["two\nlines"]).apply("<two\nlines>"), "<****>");
    }

    #[test]
    fn a_value_inside_a_json_string_is_masked() {
        let value = "say \"hi\"\nor not";
        let printed = serde_json::json!({ "TEXT": value }).to_string();
        assert_eq!(masks(&[value]).apply(&printed), r#"{"TEXT":"****"}"#);
    }

    #[test]
    fn short_values_are_not_masked() {
        for (value, short) in [
            ("1", true),
            ("no\n", true),
            ("äöü", true),
            ("abcd", false),
            ("", false),
            ("  ", false),
        ] {
            assert_eq!(is_too_short(value), short, "{value:?}");
        }
        assert!(masks(&["no", "", "\n\n"]).is_empty());
        assert_eq!(masks(&["no", "abcd"]).apply("no abcd"), "no ****");
    }

    #[test]
    fn only_what_may_be_a_value_is_held_back() {
        let mut masker = Masker::new(masks(&["hunter2", &"x".repeat(5000)]));
        let mut out = Vec::new();
        masker.push(b"plain text and hun", &mut |p| out.extend_from_slice(p));
        assert_eq!(String::from_utf8_lossy(&out), "plain text and ");
        masker.push(b"ting", &mut |p| out.extend_from_slice(p));
        assert_eq!(String::from_utf8_lossy(&out), "plain text and hunting");
    }

    #[test]
    fn a_value_that_overlaps_itself_holds_back_no_more_than_its_length() {
        let mut masker = Masker::new(masks(&["aaaa", "abab"]));
        let mut out = Vec::new();
        for _ in 0..1000 {
            masker.push(b"aaaaaaaa", &mut |p| out.extend_from_slice(p));
            assert!(masker.held.len() <= 2 * 4 + 8, "{} bytes held", masker.held.len());
        }
        masker.push(b" b", &mut |p| out.extend_from_slice(p));
        masker.finish(&mut |p| out.extend_from_slice(p));
        assert_eq!(String::from_utf8_lossy(&out), "**** b");
    }

    #[test]
    fn a_value_in_disguise_is_masked() {
        let masks = masks(&["it's s3cret/4711"]);
        for (text, masked) in [
            ("GET /x?key=it%27s%20s3cret%2F4711&y=1", "GET /x?key=****&y=1"),
            ("curl -d key=it%27s+s3cret%2F4711", "curl -d key=****"),
            (r"+ login 'it'\''s s3cret/4711'", "+ login '****'"),
        ] {
            assert_eq!(masks.apply(text), masked, "{text}");
        }
        // `robo:it's s3cret/4711`, as an Authorization header has it: but for the characters that it shares with `robo:`.
        let header = masks.apply("Authorization: Basic cm9ibzppdCdzIHMzY3JldC80NzEx");
        assert!(
            header.starts_with("Authorization: Basic cm9ibzp") && header.ends_with("****"),
            "{header}"
        );
    }

    #[test]
    fn masks_do_not_show_what_they_hide() {
        let masks = masks(&["hunter2"]);
        let masker = Masker::new(masks.clone());
        assert!(!format!("{masks:?} {masker:?}").contains("hunter"));
    }

    fn values() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop_oneof!["[ab]{4,7}", "[abé]{4,6}", "[ab\n]{4,12}"], 1..5)
    }

    /// What must come out, worked out the slow way: all positions that belong to an occurrence of a form.
    fn slowly(values: &[String], text: &str) -> String {
        let forms: Vec<String> = values.iter().flat_map(|v| forms(v)).collect();
        let mut found: Vec<(usize, usize)> = (0..text.len())
            .flat_map(|at| forms.iter().map(move |form| (at, form)))
            .filter(|(at, form)| text.as_bytes()[*at..].starts_with(form.as_bytes()))
            .map(|(at, form)| (at, at + form.len()))
            .collect();
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for (from, to) in found {
            match merged.last_mut().filter(|(_, end)| from < *end) {
                Some((_, end)) => *end = (*end).max(to),
                None => merged.push((from, to)),
            }
        }
        let mut out = String::new();
        let mut at = 0;
        for (from, to) in merged {
            out.push_str(&text[at..from]);
            out.push_str(MASK);
            at = to;
        }
        out + &text[at..]
    }

    proptest! {
        #[test]
        fn the_pieces_it_comes_in_do_not_matter_and_no_value_survives(
            values in values(),
            text in "[abé\n ]{0,120}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let masks = Masks::of(values.iter().map(String::as_str)).expect("masks");
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(text.len() + 1)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut masker = Masker::new(masks.clone());
            let mut out = Vec::new();
            for cut in cuts.windows(2) {
                masker.push(&text.as_bytes()[cut[0]..cut[1]], &mut |p| out.extend_from_slice(p));
            }
            masker.finish(&mut |p| out.extend_from_slice(p));
            let out = String::from_utf8(out).expect("whole characters");
            prop_assert_eq!(&out, &masks.apply(&text));
            prop_assert_eq!(&out, &slowly(&values, &text));
            for form in values.iter().flat_map(|v| forms(v)) {
                prop_assert!(!out.contains(&form), "{form:?} in {out:?}");
            }
        }
    }
}
