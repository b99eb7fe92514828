//! When a step is asked again, and how the text is put together.

use super::*;
use crate::gateway::JenkinsResult;

#[test]
fn a_step_is_asked_again_until_it_is_known_to_be_read() {
    use LogEnd::{Complete, Cut, Growing, Unknown};
    for (over, end, same, tries, want) in [
        // It runs: whatever is said, there may be more.
        (false, Complete, false, 0, Then::Again),
        (false, Unknown, true, 0, Then::Again),
        (true, Complete, false, 1, Then::Done),
        // Without headers: a second whole read that brings nothing new is the end, an empty answer alone never.
        (true, Unknown, true, 2, Then::Done),
        (true, Unknown, false, 1, Then::Again),
        (true, Unknown, false, TRIES, Then::GivenUp),
        (true, Growing, false, 1, Then::Again),
        (true, Growing, false, TRIES, Then::GivenUp),
        (true, Cut, false, 1, Then::Again),
        (true, Cut, false, TRIES, Then::GivenUp),
    ] {
        let got = then(over, end, same, tries);
        assert_eq!(got, want, "over={over} {end:?} same={same} tries={tries}");
    }
}

fn stage(name: &str) -> Stage {
    Stage {
        id: "6".into(),
        name: name.into(),
        parallel: false,
        state: Some(JenkinsState::Running),
        result: JenkinsResult::Unknown,
        started: None,
        duration_ms: None,
        steps: Vec::new(),
    }
}

fn step(id: &str, name: &str) -> Step {
    Step {
        id: id.into(),
        name: name.into(),
        description: None,
        state: Some(JenkinsState::Running),
        result: JenkinsResult::Unknown,
        started: None,
        duration_ms: None,
        input: None,
    }
}

#[test]
fn each_steps_lines_stand_under_its_name_and_a_half_line_is_ended() {
    let mut view = StepView::new(4096, Masks::of(["hunter2"]).unwrap());
    view.write(&stage("Build"), &step("7", "Shell Script"), b"one\n");
    view.write(&stage("Build"), &step("7", "Shell Script"), b"two\nthr");
    view.write(&stage("Test hunter2"), &step("9", "Print Message"), b"four\n");
    view.write(&stage("Build"), &step("7", "Shell Script"), b"");
    view.write(&stage("Build"), &step("7", "Shell Script"), b"five\n");
    let want = format!(
        "{NOTICE}[tenantry] stage \"Build\", step \"Shell Script\"\none\ntwo\nthr\n\
         [tenantry] stage \"Test ****\", step \"Print Message\"\nfour\n\
         [tenantry] stage \"Build\", step \"Shell Script\"\nfive\n"
    );
    assert_eq!(view.assembly().image().text, want);
}

#[test]
fn a_steps_text_is_handed_on_by_lines_and_masked_wherever_it_was_cut() {
    let mut text = StepText::new(&Masks::of(["hunter2"]).unwrap());
    let mut got = Vec::new();
    for piece in [&b"a\r"[..], b"\nb hun", b"ter2 c\r\nhunt"] {
        text.push(piece);
        got.push(String::from_utf8(text.take(false)).unwrap());
    }
    assert_eq!(got, ["", "a\n", "b **** c\n"]);
    text.finish();
    assert_eq!(text.take(true), b"hunt");

    let mut long = StepText::new(&Masks::default());
    long.push("é".repeat(LONG_LINE).as_bytes());
    assert_eq!(long.take(false).len(), 2 * LONG_LINE, "too long to be waited for");
}
