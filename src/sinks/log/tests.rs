use proptest::prelude::*;

use super::*;

fn assembled(limit: usize, pieces: &[&[u8]]) -> LogAssembly {
    let mut log = LogAssembly::new(limit, Masks::default());
    for piece in pieces {
        log.push(piece);
    }
    log.finish();
    log
}

fn sha256(text: &str) -> String {
    crate::sinks::hex(&Sha256::digest(text.as_bytes()))
}

/// A log whose lines can be told apart.
fn numbered(lines: usize) -> String {
    (0..lines).fold(String::new(), |text, n| text + &format!("line {n:06}\n"))
}

#[test]
fn a_short_log_is_kept_whole() {
    let image = assembled(4096, &[b"one\r\ntwo\r", b"\nthree"]).image();
    assert_eq!(image.text, "one\ntwo\nthree");
    assert_eq!(
        (image.bytes, image.omitted_bytes, image.truncated()),
        (13, 0, false)
    );
    assert_eq!(image.sha256, sha256("one\ntwo\nthree"));
}

#[test]
fn an_empty_log_is_empty() {
    let image = assembled(4096, &[]).image();
    assert_eq!((image.text.as_str(), image.bytes), ("", 0));
    assert_eq!(image.sha256, sha256(""));
}

#[test]
fn a_log_of_exactly_the_limit_is_kept_whole_and_one_byte_more_is_not() {
    let text = "x".repeat(4096);
    assert!(!assembled(4096, &[text.as_bytes()]).image().truncated());
    let longer = assembled(4096, &[text.as_bytes(), b"y"]).image();
    assert!(longer.truncated() && longer.text.ends_with('y') && longer.text.len() <= 4096);
}

#[test]
fn a_long_log_keeps_whole_lines_of_head_and_tail_around_a_mark() {
    let text = numbered(10_000);
    let image = assembled(4096, &[text.as_bytes()]).image();
    assert_eq!(image.bytes, text.len() as u64);
    assert_eq!(image.sha256, sha256(&text));
    let lines: Vec<&str> = image.text.lines().collect();
    let mark = lines.iter().position(|l| l.starts_with('…')).expect("a mark");
    assert_eq!(lines[0], "line 000000");
    assert_eq!(lines[mark - 1], format!("line {:06}", mark - 1));
    assert_eq!(*lines.last().unwrap(), "line 009999");
    let missing = 10_000 - (lines.len() - 1);
    assert_eq!(
        lines[mark],
        format!(
            "… {} bytes ({missing} lines) left out by tenantry: spec.logs.maxBytes …",
            missing * 12
        )
    );
}

#[test]
fn lines_longer_than_the_limit_are_cut_on_a_character() {
    let text = "ü€😀".repeat(5000);
    let image = assembled(4096, &[text.as_bytes()]).image();
    assert!(!image.text.contains('\u{fffd}'), "{}", image.text);
    assert!(image.text.starts_with("ü€😀") && image.text.ends_with("ü€😀"));
}

#[test]
fn the_last_lines_are_there_even_if_the_limit_is_small() {
    let text = format!("{}\u{1b}[31mERROR\u{1b}[0m no\n", "x".repeat(199) + "\n").repeat(500);
    let lines = assembled(4096, &[text.as_bytes()]).last_lines(40);
    assert_eq!(lines.lines().count(), 40);
    assert!(lines.ends_with("ERROR no"), "{lines}");
}

#[test]
fn memory_stays_within_the_limit_whatever_comes() {
    let mut log = LogAssembly::new(256 * 1024, Masks::default());
    let piece = numbered(1000);
    for _ in 0..1000 {
        log.push(piece.as_bytes());
    }
    assert_eq!(log.bytes(), 12_000_000);
    assert!(
        log.kept.head.capacity() <= 128 * 1024,
        "{}",
        log.kept.head.capacity()
    );
    assert!(
        log.kept.ring.capacity() <= 256 * 1024,
        "{}",
        log.kept.ring.capacity()
    );
}

#[test]
fn growing_logs_give_the_image_of_what_came_so_far() {
    let mut log = LogAssembly::new(4096, Masks::default());
    log.push(b"compiling\r");
    assert_eq!(log.image().text, "compiling");
    log.push(b"\ndone\n");
    assert_eq!(log.image().text, "compiling\ndone\n");
}

#[test]
fn debug_output_shows_no_text() {
    let log = assembled(4096, &[b"password=hunter2"]);
    assert!(!format!("{log:?}").contains("hunter2"));
}

/// Text with short and long lines, several alphabets and broken bytes.
fn logs() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => "[a-z ]{0,60}\n".prop_map(String::into_bytes),
        2 => "[äß€😀]{0,40}\r\n".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (1_usize..3000).prop_map(|n| vec![b'#'; n]),
    ];
    prop::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn the_pieces_it_comes_in_do_not_matter(
        log in logs(),
        limit in 1024_usize..6000,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(log.len() + 1)).collect();
        cuts.extend([0, log.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &log[w[0]..w[1]]).collect();
        let split = assembled(limit, &pieces);
        let whole = assembled(limit, &[&log]);
        prop_assert_eq!(split.image(), whole.image());
        prop_assert_eq!(split.last_lines(30), whole.last_lines(30));
    }

    #[test]
    fn head_and_tail_are_true_and_the_limit_holds(log in logs(), limit in 1024_usize..6000) {
        let mut whole = String::new();
        let mut normaliser = Normaliser::default();
        normaliser.push(&log, |t| whole.push_str(t));
        normaliser.finish(|t| whole.push_str(t));

        let image = assembled(limit, &[&log]).image();
        prop_assert!(image.text.len() <= limit, "{} > {limit}", image.text.len());
        prop_assert_eq!(image.bytes, whole.len() as u64);
        prop_assert_eq!(&image.sha256, &sha256(&whole));
        prop_assert_eq!(image.truncated(), whole.len() > limit);
        let head = &image.text[..image.head_bytes];
        let tail = &image.text[image.text.len() - image.tail_bytes..];
        prop_assert!(whole.starts_with(head));
        prop_assert!(whole.ends_with(tail));
        let left_out = &whole[head.len()..whole.len() - tail.len()];
        prop_assert_eq!(image.omitted_bytes, left_out.len() as u64);
        prop_assert_eq!(image.omitted_lines, left_out.matches('\n').count() as u64);
        if image.truncated() {
            // Not wasteful: more than a third of what is allowed is there.
            prop_assert!(head.len() + tail.len() > limit / 3);
        }
    }
}
