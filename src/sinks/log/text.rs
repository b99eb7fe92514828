//! From the bytes of a log, in whatever pieces they come, to one text.

/// Makes UTF-8 with LF line ends from raw bytes, whatever the pieces they come in.
///
/// Broken UTF-8 becomes U+FFFD, as [`String::from_utf8_lossy`] does it. Any number of CR before an LF goes, so that the
/// result is the same whether or not somebody before us did this already, and whichever rung the log came by (Blue Ocean
/// sends CR LF, contract §5.4). A CR inside a line stays. Holds at most three bytes and a count.
#[derive(Clone, Debug, Default)]
pub struct Normaliser {
    /// The beginning of a character whose rest has not come yet.
    partial: Vec<u8>,
    /// CRs that are dropped if an LF follows.
    returns: u64,
}

impl Normaliser {
    /// Takes the next bytes and hands on the text that is certain by now.
    pub fn push(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        if self.partial.is_empty() {
            self.decode(bytes, &mut emit);
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(bytes);
            self.decode(&joined, &mut emit);
        }
    }

    /// Hands on what was held back, because nothing more comes.
    pub fn finish(&mut self, mut emit: impl FnMut(&str)) {
        if !std::mem::take(&mut self.partial).is_empty() {
            self.line_ends("\u{fffd}", &mut emit);
        }
        self.release_returns(&mut emit);
    }

    fn decode(&mut self, mut rest: &[u8], emit: &mut impl FnMut(&str)) {
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => return self.line_ends(text, emit),
                Err(error) => error,
            };
            let (valid, broken) = rest.split_at(error.valid_up_to());
            // The error says that this much is valid.
            self.line_ends(std::str::from_utf8(valid).unwrap_or_default(), emit);
            let Some(length) = error.error_len() else {
                self.partial.extend_from_slice(broken);
                return;
            };
            self.line_ends("\u{fffd}", emit);
            rest = &broken[length..];
        }
    }

    fn line_ends(&mut self, mut text: &str, emit: &mut impl FnMut(&str)) {
        while !text.is_empty() {
            let after = text.trim_start_matches('\r');
            self.returns += (text.len() - after.len()) as u64;
            if after.is_empty() {
                return;
            }
            if after.starts_with('\n') {
                self.returns = 0;
            } else {
                self.release_returns(emit);
            }
            let end = after.find('\r').unwrap_or(after.len());
            emit(&after[..end]);
            text = &after[end..];
        }
    }

    fn release_returns(&mut self, emit: &mut impl FnMut(&str)) {
        for _ in 0..std::mem::take(&mut self.returns) {
            emit("\r");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normalised<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut out = String::new();
        let mut normaliser = Normaliser::default();
        for piece in pieces {
            normaliser.push(piece, |text| out.push_str(text));
        }
        normaliser.finish(|text| out.push_str(text));
        out
    }

    #[test]
    fn line_ends_become_lf_and_other_returns_stay() {
        for (raw, text) in [
            (&b"a\r\nb\r\n"[..], "a\nb\n"),
            (b"a\nb", "a\nb"),
            (b"a\r\r\nb", "a\nb"),
            (b"10%\r20%\r\n", "10%\r20%\n"),
            (b"end\r", "end\r"),
            (b"\r\r", "\r\r"),
            (b"", ""),
            (b"caf\xc3\xa9 \xff\xe2\x82", "café \u{fffd}\u{fffd}"),
        ] {
            assert_eq!(normalised([raw]), text, "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_text(
            pieces in prop::collection::vec(
                prop_oneof![
                    Just(vec![b'\r']), Just(vec![b'\n']), Just("é".as_bytes()[..1].to_vec()),
                    Just("é".as_bytes()[1..].to_vec()), Just("😀".as_bytes()[..3].to_vec()),
                    Just("😀".as_bytes()[3..].to_vec()),
                    prop::collection::vec(any::<u8>(), 0..5), "[a-z]{0,6}".prop_map(String::into_bytes),
                ],
                0..40,
            ),
        ) {
            let whole: Vec<u8> = pieces.concat();
            let text = normalised(pieces.iter().map(Vec::as_slice));
            prop_assert_eq!(&text, &normalised([whole.as_slice()]));
            prop_assert_eq!(&text, &normalised(whole.chunks(1)));
            // A second time changes nothing.
            prop_assert_eq!(&text, &normalised([text.as_bytes()]));
            let mut expected = String::from_utf8_lossy(&whole).into_owned();
            while expected.contains("\r\n") {
                expected = expected.replace("\r\n", "\n");
            }
            prop_assert_eq!(text, expected);
        }
    }
}
