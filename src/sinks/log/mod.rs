//! A run's log, put together from pieces: how much there was, its digest, and as much of it as may be kept.
//!
//! [`LogAssembly`] is pure: bytes in, text out. On the way line ends become LF and secret values become `****`
//! ([`Masks`]), so that digest, size, head, tail and last lines are of the text as it is stored. Memory is bounded by the
//! limit whatever the log's length: the first part is kept as it comes, the last part in a ring. After a restart the whole
//! log is read again from its start into a new [`LogAssembly`] and the result is the same. [`store_log`] writes what it
//! made into ConfigMaps.

mod config_maps;
mod mask;
mod tail;
mod text;

use std::{collections::VecDeque, fmt};

use sha2::{Digest, Sha256};

pub use config_maps::{LOG_KEY, PART, StoredLog, remove_log, store_log};
pub use mask::{MASK, MIN_MASKED, Masker, Masks, is_too_short};
pub use tail::{MAX_LINE, MAX_LINES, last_lines, plain};
pub use text::Normaliser;

/// The smallest limit: room for a mark and some text on both sides of it. Smaller limits are raised to it.
pub const MIN_LIMIT: usize = 1024;
/// The last bytes are kept up to here even where the limit is smaller, for [`LogAssembly::last_lines`].
const MIN_RING: usize = 32 * 1024;
/// Room for the mark that stands for what was left out.
const MARK_ROOM: usize = 160;

/// A log that is being put together.
#[derive(Clone)]
pub struct LogAssembly {
    normaliser: Normaliser,
    masker: Masker,
    kept: Kept,
}

/// What is remembered of the text.
#[derive(Clone)]
struct Kept {
    limit: usize,
    head_room: usize,
    ring_room: usize,
    head: Vec<u8>,
    ring: VecDeque<u8>,
    bytes: u64,
    lines: u64,
    digest: Sha256,
}

/// What is stored of a log, and what is known of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogImage {
    /// The whole log, or its head, a line that says what is missing, and its tail.
    pub text: String,
    /// Bytes at the beginning of [`text`](Self::text) that are the beginning of the log.
    pub head_bytes: usize,
    /// Bytes at the end of [`text`](Self::text) that are the end of the log; 0 where nothing is left out.
    pub tail_bytes: usize,
    /// Bytes of the whole log.
    pub bytes: u64,
    /// Bytes that are left out.
    pub omitted_bytes: u64,
    /// Line ends that are left out.
    pub omitted_lines: u64,
    /// SHA-256 of the whole log, hexadecimal.
    pub sha256: String,
}

impl LogImage {
    /// Whether a part of the log is left out.
    pub fn truncated(&self) -> bool {
        self.omitted_bytes > 0
    }
}

impl LogAssembly {
    /// An empty log of which at most `max_bytes` are to be stored, and of whose text nothing that `masks` hide.
    pub fn new(max_bytes: usize, masks: Masks) -> Self {
        let limit = max_bytes.max(MIN_LIMIT);
        // The end of a log tells more than its beginning.
        let head_room = limit / 4;
        Self {
            normaliser: Normaliser::default(),
            masker: Masker::new(masks),
            kept: Kept {
                limit,
                head_room,
                ring_room: (limit - head_room).max(MIN_RING),
                head: Vec::new(),
                ring: VecDeque::new(),
                bytes: 0,
                lines: 0,
                digest: Sha256::new(),
            },
        }
    }

    /// Takes the next bytes, as they come: line ends may be CR LF, a character may be cut in two.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self {
            normaliser,
            masker,
            kept,
        } = self;
        normaliser.push(bytes, |text| {
            masker.push(text.as_bytes(), &mut |piece| kept.take(piece));
        });
    }

    /// Says that nothing more comes.
    pub fn finish(&mut self) {
        let Self {
            normaliser,
            masker,
            kept,
        } = self;
        normaliser.finish(|text| masker.push(text.as_bytes(), &mut |piece| kept.take(piece)));
        masker.finish(&mut |piece| kept.take(piece));
    }

    /// Bytes of the text so far.
    pub fn bytes(&self) -> u64 {
        self.kept.bytes
    }

    /// Whether the text so far ends with a line end.
    pub fn ends_line(&self) -> bool {
        let kept = &self.kept;
        kept.ring.back().or(kept.head.last()) == Some(&b'\n')
    }

    /// What to store of the text so far.
    pub fn image(&self) -> LogImage {
        self.kept.image()
    }

    /// The last `count` lines so far, for people: without terminal control, each at most [`MAX_LINE`] and all together
    /// at most [`MAX_LINES`] bytes.
    pub fn last_lines(&self, count: usize) -> String {
        let text = self.kept.remembered_tail();
        tail::last_lines(&String::from_utf8_lossy(&text), count)
    }
}

impl fmt::Debug for LogAssembly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogAssembly")
            .field("limit", &self.kept.limit)
            .field("bytes", &self.kept.bytes)
            .finish_non_exhaustive()
    }
}

impl Kept {
    fn take(&mut self, text: &[u8]) {
        self.digest.update(text);
        self.bytes += text.len() as u64;
        self.lines += line_ends(text);

        let (head, rest) = text.split_at(text.len().min(self.head_room - self.head.len()));
        self.head.extend_from_slice(head);
        // Only the last of a long piece can stay.
        let rest = &rest[rest.len().saturating_sub(self.ring_room)..];
        let surplus = (self.ring.len() + rest.len()).saturating_sub(self.ring_room);
        self.ring.drain(..surplus);
        self.grow_ring(rest.len());
        self.ring.extend(rest);
    }

    /// Doubles the ring as it fills, but never beyond its room.
    fn grow_ring(&mut self, more: usize) {
        let needed = self.ring.len() + more;
        if needed > self.ring.capacity() {
            let wanted = (self.ring.capacity() * 2).clamp(needed, self.ring_room);
            self.ring.reserve_exact(wanted - self.ring.len());
        }
    }

    /// As much of the end as is remembered.
    fn remembered_tail(&self) -> Vec<u8> {
        let gap = self.bytes > (self.head.len() + self.ring.len()) as u64;
        let head: &[u8] = if gap { &[] } else { &self.head };
        let (a, b) = self.ring.as_slices();
        [head, a, b].concat()
    }

    fn image(&self) -> LogImage {
        let sha256 = super::hex(&self.digest.clone().finalize());
        if self.bytes <= self.limit as u64 {
            // Head and ring together hold at least the limit.
            let text = String::from_utf8_lossy(&self.remembered_tail()).into_owned();
            return LogImage {
                head_bytes: text.len(),
                tail_bytes: 0,
                text,
                bytes: self.bytes,
                omitted_bytes: 0,
                omitted_lines: 0,
                sha256,
            };
        }
        let head = &self.head[..end_of_head(&self.head)];
        let room = self.limit - head.len() - MARK_ROOM;
        let ring: Vec<u8> = self
            .ring
            .iter()
            .copied()
            .skip(self.ring.len().saturating_sub(room))
            .collect();
        let tail = &ring[start_of_tail(&ring)..];

        let omitted_bytes = self.bytes - (head.len() + tail.len()) as u64;
        let omitted_lines = self.lines - line_ends(head) - line_ends(tail);
        let break_line = if head.ends_with(b"\n") { "" } else { "\n" };
        let text = format!(
            "{}{break_line}… {omitted_bytes} bytes ({omitted_lines} lines) left out by tenantry: spec.logs.maxBytes …\n{}",
            String::from_utf8_lossy(head),
            String::from_utf8_lossy(tail),
        );
        LogImage {
            text,
            head_bytes: head.len(),
            tail_bytes: tail.len(),
            bytes: self.bytes,
            omitted_bytes,
            omitted_lines,
            sha256,
        }
    }
}

fn line_ends(text: &[u8]) -> u64 {
    text.iter().map(|b| u64::from(*b == b'\n')).sum()
}

/// Where to end the head: after its last line end, or, where lines are very long, on a character.
fn end_of_head(head: &[u8]) -> usize {
    match head.iter().rposition(|b| *b == b'\n') {
        Some(at) if at >= head.len() / 2 => at + 1,
        _ => character_at_or_before(head, head.len()),
    }
}

/// Where to begin the tail: after its first line end, or, where lines are very long, on a character.
fn start_of_tail(tail: &[u8]) -> usize {
    match tail.iter().position(|b| *b == b'\n') {
        Some(at) if at < tail.len() / 2 => at + 1,
        _ => (0..tail.len())
            .find(|i| !is_continuation(tail[*i]))
            .unwrap_or(tail.len()),
    }
}

const fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// The end of the last whole character that ends at or before `end`.
fn character_at_or_before(text: &[u8], end: usize) -> usize {
    match std::str::from_utf8(&text[..end]) {
        Ok(_) => end,
        Err(error) => error.valid_up_to(),
    }
}

#[cfg(test)]
mod tests;
