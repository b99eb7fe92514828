//! From seeds to inputs: a plan of what is done to a seed, which proptest makes and shrinks.

use proptest::{prelude::*, sample::Index};

/// Longest input.
const MAX: usize = 512 << 10;

/// What is done to a seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    seed: Index,
    changes: Vec<Change>,
}

/// One change, at a place that is told as a part of the length.
#[derive(Clone, Debug)]
enum Change {
    /// Nothing follows.
    Cut(Index),
    /// A part is gone.
    Remove(Index, u16),
    /// A byte is another.
    Flip(Index, u8),
    /// A part comes again, so many times.
    Repeat(Index, u16, u8),
    /// A part of another seed.
    Splice(Index, Index, Index, u16),
    /// One of [`ODDITIES`].
    Insert(Index, Index),
    /// A number becomes one of [`NUMBERS`].
    Number(Index, Index),
    /// A JSON value becomes another one.
    Value(Index, Index),
    /// Deeper and deeper.
    Nest(Index, u16),
    /// Any bytes.
    Bytes(Index, Vec<u8>),
}

/// What parsers stumble over.
const ODDITIES: [&[u8]; 30] = [
    b"\0",
    b"\xff",
    b"\xf0\x9f",
    b"\xed\xa0\x80",
    b"\r\n",
    b"\r",
    b"\n\n",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\x1b[31m",
    b"\x1b[8mha:////4",
    b"\x1b]0;",
    b"\x1b[",
    b"../",
    b"/../../etc/passwd",
    b"..",
    b"%2e%2e%2f",
    b"%00",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"{\"",
    b"}",
    b"[",
    b",",
    b"hunter2",
    b"Finished: ",
    b" -- :",
    "\u{130}\u{df}\u{fb03}".as_bytes(),
];
/// Numbers at the edges of types, and beyond.
const NUMBERS: [&str; 14] = [
    "0",
    "-1",
    "255",
    "65536",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "1e308",
    "-0.0",
    "253402300800",
];
/// JSON values of every kind.
const VALUES: [&str; 9] = [
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "-1",
    "1e999",
    "[null]",
    "{\"a\":null}",
];

/// Any plan.
pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let at = any::<Index>;
    let change = prop_oneof![
        1 => at().prop_map(Change::Cut),
        2 => (at(), 1..400_u16).prop_map(|(a, n)| Change::Remove(a, n)),
        2 => (at(), any::<u8>()).prop_map(|(a, b)| Change::Flip(a, b)),
        1 => (at(), 1..2000_u16, 1..40_u8).prop_map(|(a, n, k)| Change::Repeat(a, n, k)),
        2 => (at(), at(), at(), 1..2000_u16).prop_map(|(a, s, b, n)| Change::Splice(a, s, b, n)),
        3 => (at(), at()).prop_map(|(a, i)| Change::Insert(a, i)),
        3 => (at(), at()).prop_map(|(a, i)| Change::Number(a, i)),
        3 => (at(), at()).prop_map(|(a, i)| Change::Value(a, i)),
        1 => (at(), 1..3000_u16).prop_map(|(a, n)| Change::Nest(a, n)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(a, b)| Change::Bytes(a, b)),
    ];
    (any::<Index>(), prop::collection::vec(change, 1..6)).prop_map(|(seed, changes)| Plan { seed, changes })
}

impl Plan {
    /// The input.
    pub(crate) fn apply(&self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.seed.get(seeds).clone();
        for change in &self.changes {
            change.apply(&mut bytes, seeds);
            bytes.truncate(MAX);
        }
        bytes
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let place = |at: &Index, bytes: &Vec<u8>| at.index(bytes.len() + 1);
        let put = |bytes: &mut Vec<u8>, from: usize, to: usize, with: &[u8]| {
            bytes.splice(from..to, with.iter().copied());
        };
        match self {
            Self::Cut(at) => {
                let at = place(at, bytes);
                bytes.truncate(at);
            }
            Self::Remove(at, count) => {
                let from = place(at, bytes);
                let to = bytes.len().min(from + usize::from(*count));
                put(bytes, from, to, b"");
            }
            Self::Flip(at, with) => {
                let at = place(at, bytes);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= with;
                }
            }
            Self::Repeat(at, count, times) => {
                let from = place(at, bytes);
                let to = bytes.len().min(from + usize::from(*count));
                let part = bytes[from..to].repeat(usize::from(*times));
                put(bytes, to, to, &part);
            }
            Self::Splice(at, other, from, count) => {
                let other = other.get(seeds);
                let from = from.index(other.len() + 1);
                let part = &other[from..other.len().min(from + usize::from(*count))];
                let at = place(at, bytes);
                put(bytes, at, at, part);
            }
            Self::Insert(at, which) => {
                let at = place(at, bytes);
                put(bytes, at, at, ODDITIES[which.index(ODDITIES.len())]);
            }
            Self::Number(at, which) => replace(
                bytes,
                place(at, bytes),
                u8::is_ascii_digit,
                NUMBERS[which.index(NUMBERS.len())],
            ),
            Self::Value(at, which) => {
                let at = place(at, bytes);
                let end_of_value = |byte: &u8| !matches!(byte, b',' | b'}' | b']' | b'\n');
                let from = bytes[at..]
                    .iter()
                    .position(|b| *b == b':')
                    .map_or(bytes.len(), |n| at + n + 1);
                let to = bytes[from..]
                    .iter()
                    .position(|b| !end_of_value(b))
                    .map_or(bytes.len(), |n| from + n);
                put(bytes, from, to, VALUES[which.index(VALUES.len())].as_bytes());
            }
            Self::Nest(at, depth) => {
                let at = place(at, bytes);
                let open = if depth % 2 == 0 { "[" } else { "{\"a\":" };
                put(bytes, at, at, open.repeat(usize::from(*depth)).as_bytes());
            }
            Self::Bytes(at, with) => {
                let at = place(at, bytes);
                put(bytes, at, at, with);
            }
        }
    }
}

/// Replaces the first run of bytes that `are` so, from `at` on.
fn replace(bytes: &mut Vec<u8>, at: usize, are: fn(&u8) -> bool, with: &str) {
    let Some(from) = bytes[at..].iter().position(are).map(|n| at + n) else {
        return;
    };
    let to = bytes[from..]
        .iter()
        .position(|b| !are(b))
        .map_or(bytes.len(), |n| from + n);
    bytes.splice(from..to, with.bytes());
}
