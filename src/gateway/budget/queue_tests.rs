use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn object(name: &str) -> Arc<str> {
    name.into()
}

/// All that comes out, in order.
fn drain(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
    std::iter::from_fn(|| queue.pop(|_| true).map(|(_, what)| what)).collect()
}

#[test]
fn the_objects_of_a_class_take_turns_however_much_one_has_to_ask() {
    let mut queue = Queue::default();
    for what in ["big-1", "big-2", "big-3"] {
        queue.push(Class::Background, &object("big"), what);
    }
    queue.push(Class::Background, &object("small"), "small-1");
    queue.push(Class::Background, &object("other"), "other-1");
    assert_eq!(
        drain(&mut queue),
        ["big-1", "small-1", "other-1", "big-2", "big-3"]
    );
}

#[test]
fn a_start_goes_before_all_that_waits_already() {
    let mut queue = Queue::default();
    for _ in 0..500 {
        queue.push(Class::Background, &object("files"), "file");
    }
    queue.push(Class::Following, &object("a"), "look");
    queue.push(Class::Interactive, &object("b"), "start");
    assert_eq!(drain(&mut queue)[..3], ["start", "look", "file"]);
}

#[test]
fn what_may_not_go_now_stops_nobody_and_is_not_passed_over() {
    let mut queue = Queue::default();
    queue.push(Class::Background, &object("a"), "file");
    for _ in 0..20 {
        queue.push(Class::Interactive, &object("b"), "start");
    }
    for _ in 0..12 {
        assert_eq!(
            queue.pop(|class| class != Class::Background).map(|p| p.1),
            Some("start")
        );
    }
    assert_eq!(queue.pop(|_| true).map(|p| p.1), Some("start"));
    assert_eq!(queue.next(|class| class == Class::Following), None);
}

#[test]
fn nobody_starves_however_busy_the_urgent_are() {
    let mut queue = Queue::default();
    let push = |queue: &mut Queue<Class>, class| {
        queue.push(class, &object("x"), class);
    };
    for class in Class::ALL {
        push(&mut queue, class);
    }
    let mut counts = BTreeMap::new();
    let mut silent = 0;
    for _ in 0..1000 {
        let (class, _) = queue.pop(|_| true).unwrap();
        push(&mut queue, class);
        *counts.entry(class).or_insert(0) += 1;
        silent = if class == Class::Background { 0 } else { silent + 1 };
        assert!(silent <= 8, "background waits for {silent}");
    }
    assert_eq!(counts[&Class::Background], 111, "one in nine");
    assert!(counts[&Class::Following] >= 170, "{counts:?}");
    assert!(counts[&Class::Interactive] > 700, "{counts:?}");
}

#[derive(Clone, Debug)]
enum Move {
    Push(usize, u8),
    Pop { background: bool },
    Remove(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0..Class::ALL.len(), 0..4u8).prop_map(|(class, object)| Move::Push(class, object)),
        2 => any::<bool>().prop_map(|background| Move::Pop { background }),
        1 => (0..50usize).prop_map(Move::Remove),
    ];
    proptest::collection::vec(one, 1..200)
}

proptest! {
    /// Whatever comes and goes: all that was not taken back comes out once, each object's in its order, and nobody comes
    /// twice while another of its class waits.
    #[test]
    fn everybody_gets_a_turn_and_nobody_two(moves in moves()) {
        let mut queue = Queue::default();
        let mut waiting: Vec<(Ticket, usize, u8, u32)> = Vec::new();
        // Per class, who was served since when of the others that wait.
        let mut served: BTreeMap<usize, BTreeMap<u8, BTreeSet<u8>>> = BTreeMap::new();
        for (n, step) in (0_u32..).zip(moves) {
            match step {
                Move::Push(class, who) => {
                    let ticket = queue.push(Class::ALL[class], &object(&who.to_string()), n);
                    waiting.push((ticket, class, who, n));
                }
                Move::Remove(at) if !waiting.is_empty() => {
                    let (ticket, class, who, n) = waiting.remove(at % waiting.len());
                    prop_assert_eq!(queue.remove(&ticket), Some(n));
                    prop_assert_eq!(queue.remove(&ticket), None);
                    if !waiting.iter().any(|w| (w.1, w.2) == (class, who)) {
                        for missed in served.entry(class).or_default().values_mut() {
                            missed.remove(&who);
                        }
                    }
                }
                Move::Remove(_) => {}
                Move::Pop { background } => {
                    let may_go = |class| background || class != Class::Background;
                    let Some((class, got)) = queue.pop(may_go) else {
                        prop_assert!(waiting.iter().all(|w| !may_go(Class::ALL[w.1])));
                        continue;
                    };
                    let class = class as usize;
                    let at = waiting.iter().position(|w| w.3 == got).expect("it waits");
                    let (_, its_class, who, _) = waiting.remove(at);
                    prop_assert_eq!(class, its_class);
                    prop_assert!(!waiting.iter().any(|w| (w.1, w.2) == (class, who) && w.3 < got), "its own order");
                    let lane = served.entry(class).or_default();
                    // Those that wait now and waited when it was last served were served since.
                    if let Some(missed) = lane.get(&who) {
                        prop_assert!(missed.is_empty(), "{} again before {:?}", who, missed);
                    }
                    for missed in lane.values_mut() {
                        missed.remove(&who);
                    }
                    let others = waiting.iter().filter(|w| w.1 == class && w.2 != who).map(|w| w.2).collect();
                    lane.insert(who, others);
                }
            }
            prop_assert_eq!(queue.is_empty(), waiting.is_empty());
        }
    }
}
