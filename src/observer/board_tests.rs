use super::*;

const KEYS: [&str; 3] = ["a", "b", "c"];

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("team", name)
}

fn row(name: &str, id: &str, phase: RunPhase) -> RunRow {
    RunRow {
        name: name.into(),
        run_id: RunId::new(id).ok(),
        phase,
    }
}

fn running(name: &str) -> RunRow {
    row(name, "1", RunPhase::Running)
}

fn sight(row: RunRow) -> Sight {
    Sight {
        row,
        running_for: Duration::from_secs(10),
        estimate: None,
    }
}

fn names(mut keys: Vec<ObjectKey>) -> Vec<String> {
    keys.sort();
    keys.into_iter().map(|key| key.name).collect()
}

/// `a` and `b` follow runs of pipeline `p`, `c` one of `q`; each run is named like its follower.
fn board() -> (Board, Instant) {
    let (mut board, now) = (Board::default(), Instant::now());
    for (name, pipeline) in KEYS.iter().zip(["p", "p", "q"]) {
        let followed = Followed {
            run: (*name).into(),
            pipeline: pipeline.into(),
        };
        assert!(board.follow(&key(name), &followed, now));
        assert!(!board.follow(&key(name), &followed, now), "once");
    }
    (board, now)
}

#[test]
fn a_row_wakes_its_follower_when_it_says_something_new() {
    let (mut board, now) = board();
    assert_eq!(
        names(board.changed(&row("a", "", RunPhase::None))),
        ["a"],
        "the first word"
    );
    assert!(
        board.changed(&row("a", "", RunPhase::None)).is_empty(),
        "no change"
    );
    assert_eq!(
        names(board.changed(&row("a", "1", RunPhase::None))),
        ["a"],
        "its number"
    );
    assert_eq!(names(board.changed(&running("a"))), ["a"], "its phase");
    assert!(board.changed(&running("somebody's")).is_empty());
    assert_eq!(board.saw(&key("b"), &sight(running("b")), now), Footing::Unheard);
    assert!(board.changed(&running("b")).is_empty(), "it has seen that itself");
    assert_eq!(names(board.gone("b")), ["b"]);
    assert!(board.gone("b").is_empty());
}

#[test]
fn who_saw_something_older_than_the_row_is_behind() {
    let (mut board, now) = board();
    board.changed(&running("a"));
    let old = sight(row("a", "1", RunPhase::None));
    assert_eq!(board.saw(&key("a"), &old, now), Footing::Behind(1));
    assert_eq!(board.saw(&key("a"), &old, now), Footing::Behind(2));
    assert_eq!(board.saw(&key("a"), &sight(running("a")), now), Footing::InStep);
    assert_eq!(board.saw(&key("a"), &old, now), Footing::Behind(1));
    // Another run of that follower is another story.
    assert_eq!(board.saw(&key("a"), &sight(running("b")), now), Footing::Unheard);
    assert_eq!(board.saw(&key("nobody"), &old, now), Footing::Unheard);
}

#[test]
fn a_list_tells_of_changes_and_of_what_is_not_in_it() {
    let (mut board, _) = board();
    let rows = [running("a"), running("b"), running("z")];
    assert_eq!(names(board.all(&rows)), ["a", "b", "c"], "c is gone");
    assert!(board.all(&rows).is_empty());
    assert_eq!(
        names(board.all(&[running("a"), row("b", "1", RunPhase::Failed)])),
        ["b"]
    );
    // A list of one pipeline says nothing of others, and its first page nothing of older runs.
    assert_eq!(names(board.newest("p", &[running("b")], false)), ["b"]);
    assert_eq!(names(board.newest("p", &[running("b")], true)), ["a"]);
    assert_eq!(names(board.newest("q", &[running("c")], true)), ["c"]);
}

#[test]
fn those_who_sleep_are_roused_and_others_are_let_be() {
    let (mut board, now) = board();
    for name in KEYS {
        board.sleeps(&key(name));
    }
    assert_eq!(names(board.rouse(1)), ["c"], "alone with its pipeline");
    assert!(board.rouse(1).is_empty());
    board.leave(&key("b"));
    assert_eq!(names(board.rouse(1)), ["a"], "alone now");
    board.sleeps(&key("a"));
    board.saw(&key("a"), &sight(running("a")), now);
    assert!(board.rouse(usize::MAX).is_empty(), "awake by itself");
}

#[test]
fn nothing_is_kept_of_whom_nobody_follows() {
    let (mut board, now) = board();
    board.all(
        &(0..1_000)
            .map(|n| running(&format!("run-{n}")))
            .collect::<Vec<_>>(),
    );
    assert_eq!((board.len(), board.followers.len()), (3, 3));
    // Another run of the same follower takes the place of the first.
    let next = Followed {
        run: "a-2".into(),
        pipeline: "p".into(),
    };
    assert!(board.follow(&key("a"), &next, now));
    assert_eq!((board.len(), board.followers.len()), (3, 3));
    assert!(board.changed(&running("a")).is_empty());
    assert_eq!(names(board.changed(&running("a-2"))), ["a"]);
    for name in KEYS {
        board.leave(&key(name));
        board.leave(&key(name));
    }
    assert!(board.is_empty() && board.followers.is_empty());
}

#[test]
fn how_long_a_run_has_been_running_is_as_its_follower_saw_it() {
    let (mut board, now) = board();
    board.leave(&key("b"));
    board.leave(&key("c"));
    let estimate = Some(Duration::from_secs(60));
    let seen = Sight {
        estimate,
        ..sight(running("a"))
    };
    board.saw(&key("a"), &seen, now);
    let ages: Vec<_> = board.ages(now + Duration::from_secs(5)).collect();
    let age = Duration::from_secs(15);
    assert_eq!(ages, [Age { age, estimate }]);
}
