//! Reading back what lies on a volume that others may write to. Whatever they planted there takes no more memory than the
//! largest fetch of our own: lines, lists and directories have the limits that ours have.

use std::{
    fmt,
    io::{self, ErrorKind, Read},
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};

/// Files of a list: as many as the longest list of a remote that is taken.
pub const MAX_FILES: usize = 200_000;
/// Bytes of a line. Ours have a path of 1024 bytes, or a sub-path and the name of a run.
const MAX_LINE: usize = 16 << 10;

/// Passes on what `inner` reads, up to a line that is too long or too many bytes in all: these end in an error of kind
/// `InvalidData`, as if they were no text.
#[derive(Debug)]
pub struct Bounded<R> {
    inner: R,
    line: usize,
    left: u64,
}

impl<R: Read> Bounded<R> {
    /// At most `bytes` of `inner`.
    pub fn new(inner: R, bytes: u64) -> Self {
        Self {
            inner,
            line: 0,
            left: bytes,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let bad = |why| Err(io::Error::new(ErrorKind::InvalidData, why));
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return bad("it is longer than any of tenantry's own"),
        }
        let mut parts = buffer[..count].split(|byte| *byte == b'\n');
        self.line += parts.next().map_or(0, <[u8]>::len);
        let mut longest = self.line;
        for part in parts {
            self.line = part.len();
            longest = longest.max(self.line);
        }
        if longest > MAX_LINE {
            return bad("a line of it is longer than any of tenantry's own");
        }
        Ok(count)
    }
}

/// A list of at most [`MAX_FILES`].
pub fn list<'de, D, C>(from: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    C: Default + IntoIterator<Item: Deserialize<'de>> + Extend<C::Item>,
{
    from.deserialize_seq(List(PhantomData))
}

struct List<C>(PhantomData<C>);

impl<'de, C> Visitor<'de> for List<C>
where
    C: Default + IntoIterator<Item: Deserialize<'de>> + Extend<C::Item>,
{
    type Value = C;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX_FILES}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<C, A::Error> {
        let mut all = C::default();
        let mut count = 0;
        while let Some(item) = items.next_element()? {
            count += 1;
            if count > MAX_FILES {
                return Err(A::Error::custom(format_args!("it lists more than {MAX_FILES}")));
            }
            all.extend([item]);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};

    use super::*;

    fn lines(text: &str, bytes: u64) -> (Vec<String>, bool) {
        let mut whole = Vec::new();
        for line in BufReader::with_capacity(100, Bounded::new(text.as_bytes(), bytes)).lines() {
            match line {
                Ok(line) => whole.push(line),
                Err(why) => {
                    assert_eq!(why.kind(), ErrorKind::InvalidData);
                    return (whole, false);
                }
            }
        }
        (whole, true)
    }

    #[test]
    fn lines_of_ours_are_read_and_all_before_one_that_is_too_long() {
        let (fits, long) = ("x".repeat(MAX_LINE), "x".repeat(MAX_LINE + 1));
        let all = format!("a\n{fits}\nb\n{fits}");
        let (read, whole) = lines(&all, u64::MAX);
        assert_eq!((read.len(), whole), (4, true));
        let (read, whole) = lines(&format!("a\n{fits}\nb\n{long}\nc\n"), u64::MAX);
        assert_eq!((read, whole), (vec!["a".to_owned(), fits, "b".to_owned()], false));
    }

    #[test]
    fn no_more_bytes_are_read_than_allowed() {
        let text = "a\n".repeat(500);
        assert_eq!(lines(&text, 1000), (vec!["a".to_owned(); 500], true));
        let (read, whole) = lines(&text, 999);
        assert!(!whole && read.len() < 500, "{} lines", read.len());
    }

    #[test]
    fn a_list_has_no_more_entries_than_a_fetch() {
        #[derive(Deserialize)]
        struct Has {
            #[serde(deserialize_with = "list")]
            list: Vec<u8>,
        }
        for (count, fits) in [(MAX_FILES, true), (MAX_FILES + 1, false)] {
            let text = format!(r#"{{"list":[{}1]}}"#, "1,".repeat(count - 1));
            let read = serde_json::from_str::<Has>(&text).map(|has| has.list.len());
            assert_eq!(read.ok(), fits.then_some(count));
        }
    }
}
