use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;
use crate::controllers::build_request::decide::testing::object_in;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

fn run(state: RunState, dequeued: bool) -> CurrentRun {
    let mut run = object_in(state).status.unwrap().run.unwrap();
    run.dequeued = dequeued;
    run
}

fn place() -> Place {
    Place::of(&run(RunState::Sending, false))
}

#[test]
fn the_next_may_start_when_the_one_before_has_left_the_queue_of_jenkins() {
    let turns = Turns::default();
    let ks = key("ks");
    assert_eq!(turns.ask(&wish("a"), &place(), &ks, None), Turn::Ours);
    assert_eq!(turns.ask(&wish("b"), &place(), &ks, None), after(1, 1));
    assert_eq!(turns.ask(&wish("c"), &place(), &ks, None), after(2, 2));
    for state in [RunState::Sending, RunState::Submitted, RunState::Started] {
        assert_eq!(
            turns.note(&key("a"), &ks, Some(&run(state, false))),
            [],
            "{state:?}"
        );
        assert!(
            matches!(turns.ask(&wish("b"), &place(), &ks, None), Turn::After { .. }),
            "{state:?}"
        );
    }
    assert_eq!(
        turns.note(&key("a"), &ks, Some(&run(RunState::Started, true))),
        [key("b")]
    );
    assert!(
        matches!(turns.ask(&wish("c"), &place(), &ks, None), Turn::After { .. }),
        "b is first"
    );
    assert_eq!(turns.ask(&wish("b"), &place(), &ks, None), Turn::Ours);
    assert_eq!(turns.forget(&key("b")), [key("c")]);
    assert_eq!(turns.ask(&wish("c"), &place(), &ks, None), Turn::Ours);
}

#[test]
fn other_places_do_not_wait() {
    let turns = Turns::default();
    let other = Place {
        branch: Some("dev".into()),
        ..place()
    };
    assert_eq!(turns.ask(&wish("a"), &place(), &key("ks"), None), Turn::Ours);
    assert_eq!(turns.ask(&wish("b"), &other, &key("ks"), None), Turn::Ours);
}

/// A gateway may call its projects as it likes.
#[test]
fn a_project_of_the_same_name_behind_another_gateway_or_in_another_cluster_is_another_place() {
    let elsewhere = [
        Place {
            endpoint: Some("https://ks.example.org".into()),
            ..place()
        },
        Place {
            endpoint: None,
            ..place()
        },
        Place {
            cluster: Some("member-1".into()),
            ..place()
        },
    ];
    for (n, other) in elsewhere.iter().enumerate() {
        let turns = Turns::default();
        let (ks, theirs) = (key("ks"), key("theirs"));
        // Also after a restart, when all that is known is in the statuses.
        let mut run = run(RunState::Submitted, false);
        (run.endpoint, run.cluster) = (other.endpoint.clone(), other.cluster.clone());
        turns.note(&key("stranger"), &theirs, Some(&run));
        assert_eq!(turns.ask(&wish("a"), &place(), &ks, None), Turn::Ours, "{n}");
        turns.note(&key("a"), &ks, None);
        // And whoever comes to where the stranger is, waits.
        let waits = turns.ask(&wish("b"), other, &ks, None);
        assert!(matches!(waits, Turn::After { .. }), "{n}: {waits:?}");
    }
}

#[test]
fn one_who_waited_and_left_does_not_block_the_line() {
    let turns = Turns::default();
    let ks = key("ks");
    for name in ["a", "b", "c"] {
        turns.ask(&wish(name), &place(), &ks, None);
    }
    turns.note(&key("a"), &ks, None);
    assert_eq!(turns.forget(&key("b")), [key("c")]);
    assert_eq!(turns.ask(&wish("c"), &place(), &ks, None), Turn::Ours);
}

#[test]
fn one_who_waits_elsewhere_by_now_or_for_nothing_does_not_block_the_line() {
    let turns = Turns::default();
    let ks = key("ks");
    let other = Place {
        pipeline: "deploy".into(),
        ..place()
    };
    for name in ["a", "b", "c"] {
        turns.ask(&wish(name), &place(), &ks, None);
    }
    turns.note(&key("a"), &ks, None);
    assert_eq!(turns.ask(&wish("b"), &other, &ks, None), Turn::Ours);
    assert_eq!(turns.note(&key("b"), &ks, None), [key("c")]);
    assert_eq!(turns.ask(&wish("c"), &place(), &ks, None), Turn::Ours);

    turns.ask(&wish("a"), &place(), &ks, None);
    turns.ask(&wish("b"), &place(), &ks, None);
    turns.note(&key("c"), &ks, None);
    assert_eq!(turns.quit(&key("a")), [key("b")]);
    assert_eq!(turns.ask(&wish("b"), &place(), &ks, None), Turn::Ours);
}

#[test]
fn active_runs_are_bounded_per_connection() {
    let turns = Turns::default();
    let (ks, other) = (key("ks"), key("other"));
    let at = |branch: &str| Place {
        branch: Some(branch.into()),
        ..place()
    };
    assert_eq!(turns.ask(&wish("a"), &at("1"), &ks, Some(1)), Turn::Ours);
    turns.note(&key("a"), &ks, Some(&run(RunState::Started, true)));
    assert_eq!(
        turns.ask(&wish("b"), &at("2"), &ks, Some(1)),
        Turn::Full {
            limit: 1,
            line: InLine::new(1, 1)
        }
    );
    assert_eq!(turns.ask(&wish("c"), &at("3"), &other, Some(1)), Turn::Ours);
    assert_eq!(
        turns.note(&key("a"), &ks, Some(&run(RunState::Ended, true))),
        [key("b")]
    );
    assert_eq!(turns.ask(&wish("b"), &at("2"), &ks, Some(1)), Turn::Ours);
}

#[test]
fn a_restart_finds_the_turns_in_the_statuses() {
    let turns = Turns::default();
    turns.note(&key("a"), &key("ks"), Some(&run(RunState::Submitted, false)));
    assert!(matches!(
        turns.ask(&wish("b"), &place(), &key("ks"), None),
        Turn::After { .. }
    ));
}

proptest! {
    /// Whatever happens in whatever order: never two at one place, and whoever waits gets its turn in the end.
    #[test]
    fn never_two_at_once_and_nobody_is_forgotten(moves in proptest::collection::vec((0..4usize, 0..3u8), 1..60)) {
        let turns = Turns::default();
        let ks = key("ks");
        let names: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| key(n)).collect();
        let wishes: Vec<_> = ["a", "b", "c", "d"].iter().map(|n| wish(n)).collect();
        let mut holding: Vec<bool> = vec![false; 4];
        for (who, what) in moves {
            match what {
                0 => {
                    if !holding[who] && turns.ask(&wishes[who], &place(), &ks, None) == Turn::Ours {
                        holding[who] = true;
                        turns.note(&names[who], &ks, Some(&run(RunState::Sending, false)));
                    }
                }
                1 => if holding[who] {
                    turns.note(&names[who], &ks, Some(&run(RunState::Started, true)));
                    holding[who] = false;
                },
                _ => {
                    turns.forget(&names[who]);
                    holding[who] = false;
                }
            }
            prop_assert!(holding.iter().filter(|h| **h).count() <= 1);
        }
        for name in &names {
            turns.forget(name);
        }
        prop_assert_eq!(turns.ask(&wishes[0], &place(), &ks, None), Turn::Ours);
    }
}

/// The wish of `team/NAME`. All are as old; names decide.
fn wish(name: &str) -> Wish {
    wish_of(name, 0, 0)
}

fn wish_of(name: &str, priority: i32, created: i64) -> Wish {
    let mut object = object_in(RunState::Intended);
    object.metadata.namespace = Some("team".into());
    object.metadata.name = Some(name.into());
    object.metadata.creation_timestamp = Some(Time(Timestamp::from_second(created).unwrap()));
    object.spec.priority = priority;
    Wish::of(&object)
}

/// Has to wait as the `position`th of `of`, for `team/a`.
fn after(position: usize, of: usize) -> Turn {
    Turn::After {
        line: InLine::new(position, of),
        holder: "team/a".into(),
    }
}

fn branch(name: &str) -> Place {
    Place {
        branch: Some(name.into()),
        ..place()
    }
}

#[test]
fn the_higher_priority_goes_first_then_the_older_and_neither_stops_who_has_its_turn() {
    let turns = Turns::default();
    let ks = key("ks");
    turns.ask(&wish("a"), &place(), &ks, None);
    for wish in [
        wish_of("low", -5, 1),
        wish_of("young", 0, 9),
        wish_of("old", 0, 2),
        wish_of("high", 7, 9),
    ] {
        assert!(matches!(
            turns.ask(&wish, &place(), &ks, None),
            Turn::After { .. }
        ));
    }
    let order = [("high", 7, 9), ("old", 0, 2), ("young", 0, 9), ("low", -5, 1)];
    for (n, (name, priority, created)) in order.into_iter().enumerate() {
        let wish = wish_of(name, priority, created);
        assert_eq!(turns.still(&wish, &ks, None), Some(after(n + 1, 4)), "{name}");
    }
    let mut holder = key("a");
    for (name, priority, created) in order {
        assert_eq!(turns.note(&holder, &ks, None), [key(name)]);
        let wish = wish_of(name, priority, created);
        assert_eq!(turns.still(&wish, &ks, None), None, "{name}: its turn has come");
        assert_eq!(turns.ask(&wish, &place(), &ks, None), Turn::Ours, "{name}");
        turns.note(&key(name), &ks, Some(&run(RunState::Sending, false)));
        holder = key(name);
    }
}

#[test]
fn the_limit_of_a_connection_lets_the_first_go_that_has_nothing_else_to_wait_for() {
    let turns = Turns::default();
    let ks = key("ks");
    let active = run(RunState::Started, true);
    for name in ["r1", "r2"] {
        assert_eq!(turns.ask(&wish(name), &branch(name), &ks, Some(2)), Turn::Ours);
        turns.note(&key(name), &ks, Some(&active));
    }
    // One that is started through another connection of the same gateway holds the place of the first.
    assert_eq!(
        turns.ask(&wish("x"), &branch("1"), &key("other"), None),
        Turn::Ours
    );
    let (first, second, third) = (wish_of("b1", 3, 0), wish_of("b2", 2, 0), wish_of("b3", 1, 0));
    turns.ask(&third, &branch("3"), &ks, Some(2));
    turns.ask(&second, &branch("2"), &ks, Some(2));
    turns.ask(&first, &branch("1"), &ks, Some(2));
    let full = |position| {
        let line = InLine::new(position, 3);
        Some(Turn::Full { limit: 2, line })
    };
    for (n, wish) in [&first, &second, &third].into_iter().enumerate() {
        assert_eq!(turns.still(wish, &ks, Some(2)), full(n + 1));
    }
    assert_eq!(
        turns.note(&key("r1"), &ks, None),
        [key("b2")],
        "b1 waits for its place too"
    );
    assert_eq!(turns.still(&third, &ks, Some(2)), full(3));
    assert_eq!(turns.ask(&second, &branch("2"), &ks, Some(2)), Turn::Ours);
    // A raised limit lets the next go.
    assert_eq!(turns.still(&third, &ks, Some(3)), None);
}

#[test]
fn another_wish_or_priority_is_another_place_in_the_line() {
    let turns = Turns::default();
    let ks = key("ks");
    turns.ask(&wish("a"), &place(), &ks, None);
    turns.ask(&wish("b"), &place(), &ks, None);
    turns.ask(&wish("c"), &place(), &ks, None);
    let hurries = wish_of("c", 1, 0);
    assert_eq!(turns.still(&hurries, &ks, None), None, "it has to ask with that");
    assert_eq!(turns.ask(&hurries, &place(), &ks, None), after(1, 2));
    assert_eq!(turns.still(&wish("b"), &ks, None), Some(after(2, 2)));
}

/// So many wait for one pipeline, each start takes some seconds: what is written for that.
fn writes_while_all_are_started(waiting: usize) -> usize {
    const EACH: u64 = 7;
    let turns = Turns::default();
    let ks = key("ks");
    turns.ask(&wish("a"), &place(), &ks, None);
    let wishes: Vec<_> = (0..waiting).map(|n| wish_of(&format!("b{n:05}"), 0, 1)).collect();
    // When each looks next, and what it shows.
    let mut due = std::collections::BTreeSet::new();
    let mut shown = vec![None; waiting];
    let mut writes = 0;
    for wish in &wishes {
        turns.ask(wish, &place(), &ks, None);
    }
    due.extend((0..waiting).map(|n| (0, n)));
    let mut holder = key("a");
    for started in 0..waiting {
        let now = started as u64 * EACH;
        while let Some((at, n)) = due.pop_first() {
            if at > now {
                due.insert((at, n));
                break;
            }
            let Some(Turn::After { line, holder }) = turns.still(&wishes[n], &ks, None) else {
                panic!("b{n} waits");
            };
            // The same as decide::begin writes.
            let says = (line.shown(), line.is_exact().then_some(holder));
            writes += usize::from(shown[n] != Some(says.clone()));
            shown[n] = Some(says);
            due.insert((at + line.look_in().as_secs(), n));
        }
        assert_eq!(
            turns.note(&holder, &ks, None),
            [wishes[started].rank.key.clone()],
            "one is woken"
        );
        assert_eq!(turns.ask(&wishes[started], &place(), &ks, None), Turn::Ours);
        due.retain(|(_, n)| *n != started);
        holder = wishes[started].rank.key.clone();
    }
    writes
}

#[test]
fn what_is_shown_of_a_long_line_costs_each_who_waits_some_writes_and_not_one_per_start() {
    let (few, many) = (
        writes_while_all_are_started(50),
        writes_while_all_are_started(800),
    );
    assert!(few <= 50 * 18, "{few} writes for 50");
    assert!(
        many <= 800 * 30,
        "{many} writes for 800, who would cost 320,000 if all were told of each start"
    );
}
