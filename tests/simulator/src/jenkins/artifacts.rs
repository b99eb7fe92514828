//! The bytes of archived files: given text, or noise that is the same every time and can be read from any offset.

use super::plan::Artifact;

fn seed(path: &str, number: u64) -> u64 {
    path.bytes().fold(
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0xcbf2_9ce4_8422_2325,
        |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3),
    )
}

/// `splitmix64`: eight bytes of noise for the given place.
fn word(seed: u64, index: u64) -> [u8; 8] {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).to_le_bytes()
}

/// Bytes `from..to` of an artifact of build `number`.
pub(crate) fn content(artifact: &Artifact, number: u64, from: u64, to: u64) -> Vec<u8> {
    let to = to.min(artifact.size);
    if from >= to {
        return Vec::new();
    }
    let index = |n: u64| usize::try_from(n).expect("an artifact fits into memory");
    if let Some(text) = &artifact.text {
        return text.as_bytes()[index(from)..index(to)].to_vec();
    }
    let seed = seed(&artifact.path, number);
    let mut bytes = Vec::with_capacity(index(to - from) + 16);
    for place in (from / 8)..to.div_ceil(8) {
        bytes.extend_from_slice(&word(seed, place));
    }
    let skip = index(from % 8);
    bytes.drain(..skip);
    bytes.truncate(index(to - from));
    bytes
}
