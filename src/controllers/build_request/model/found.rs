//! What the model found: sequences that once broke a promise, as proptest shrank them.

use super::{
    Setup, World,
    faults::{Aim, Connection, Fault, Kill},
    ops::{Mischief, Op},
    run,
};
use crate::gateway::JenkinsResult;

/// The three rungs: whether the tenant may create run objects, and whether there is a correlation parameter.
const RUNGS: [Setup; 3] = [
    Setup {
        may_create: true,
        correlated: false,
    },
    Setup {
        may_create: false,
        correlated: true,
    },
    Setup {
        may_create: false,
        correlated: false,
    },
];

/// A sequence that once broke a promise.
fn holds(ops: &[Op]) {
    for setup in RUNGS {
        let violations = run(setup, ops, None).violations;
        assert!(violations.is_empty(), "{setup:?}: {violations:#?}");
    }
}

#[test]
fn a_cancelled_run_settles_although_another_was_asked_for() {
    holds(&[
        Op::Apply { who: 1, retries: 0 },
        Op::Fault(Fault::RequestLost, Aim::Any),
        Op::Cancel { who: 1, on: true },
        Op::Rerun { who: 1, value: 0 },
    ]);
}

#[test]
fn going_back_to_earlier_inputs_builds_them_once_more() {
    let wait = Op::Pass { seconds: 300 };
    let ops = [
        Op::Apply { who: 0, retries: 0 },
        wait,
        Op::Edit { who: 0, version: 1 },
        wait,
        Op::Edit { who: 0, version: 0 },
        wait,
    ];
    holds(&ops);
    for setup in RUNGS {
        let world = World::new(setup, None);
        for op in ops {
            op.apply(&world);
        }
        assert_eq!(world.lock().remote.builds.len(), 3, "{setup:?}");
    }
}

#[test]
fn who_moved_to_another_pipeline_does_not_block_the_line_of_the_former() {
    holds(&[
        Op::Apply { who: 2, retries: 1 },
        Op::Apply { who: 0, retries: 0 },
        Op::Move { who: 0 },
        Op::Pass { seconds: 0 },
        Op::Happen(Mischief::Finish(JenkinsResult::Failure), 2),
    ]);
}

#[test]
fn who_wants_nothing_any_more_does_not_block_the_line() {
    holds(&[
        Op::Apply { who: 0, retries: 0 },
        Op::Pass { seconds: 300 },
        Op::Apply { who: 2, retries: 1 },
        Op::Edit { who: 0, version: 1 },
        Op::Edit { who: 0, version: 0 },
        Op::Happen(Mischief::Finish(JenkinsResult::Failure), 1),
    ]);
}

#[test]
fn a_name_that_somebody_else_took_is_not_adopted() {
    holds(&[
        Op::Suspend { who: 0, on: true },
        Op::Apply { who: 0, retries: 0 },
        Op::Pass { seconds: 300 },
        Op::Edit { who: 0, version: 1 },
        Op::Suspend { who: 0, on: true },
        Op::Edit { who: 0, version: 2 },
        Op::Squat { who: 0 },
        Op::Suspend { who: 0, on: false },
    ]);
}

#[test]
fn deletion_leaves_a_run_alone_that_somebody_else_made_under_our_name() {
    holds(&[
        Op::Fault(Fault::Unavailable, Aim::Any),
        Op::Apply { who: 2, retries: 0 },
        Op::Meanwhile {
            at: 0,
            what: 5,
            who: 2,
        },
        Op::Suspend { who: 2, on: false },
        Op::Apply { who: 0, retries: 0 },
        Op::Rerun { who: 2, value: 0 },
        Op::Delete { who: 2 },
    ]);
}

#[test]
fn a_retry_does_not_take_the_twin_of_the_build_before_for_its_own() {
    holds(&[
        Op::Apply { who: 0, retries: 1 },
        Op::Fault(Fault::Late(2), Aim::Change),
        Op::Pass { seconds: 1 },
        Op::Happen(Mischief::Finish(JenkinsResult::Failure), 0),
        Op::Happen(Mischief::DropRun, 0),
        Op::Connect(Connection::Good),
        Op::Pass { seconds: 33 },
    ]);
}

/// The remote removed our run as a duplicate, or a person did: which of two equal builds is ours can be told by a correlation parameter only.
#[test]
fn what_stands_in_for_a_run_that_the_remote_removed_is_a_build_of_its_parameters() {
    holds(&[
        Op::Fault(Fault::Unavailable, Aim::Any),
        Op::Apply { who: 1, retries: 0 },
        Op::Stranger { who: 1, equal: false },
        Op::Stranger { who: 1, equal: true },
        Op::Pass { seconds: 0 },
    ]);
    holds(&[
        Op::Apply { who: 2, retries: 0 },
        Op::Apply { who: 1, retries: 0 },
        Op::Squat { who: 1 },
        Op::Pass { seconds: 11 },
        Op::Apply { who: 0, retries: 0 },
        Op::Squat { who: 2 },
        Op::Stranger { who: 0, equal: true },
        Op::Happen(Mischief::DropRun, 3),
    ]);
}

#[test]
fn what_a_person_deleted_before_anybody_saw_it_may_be_sent_again() {
    holds(&[
        Op::Fault(Fault::AnswerLost, Aim::Change),
        Op::Apply { who: 0, retries: 0 },
        Op::Happen(Mischief::DropRun, 0),
        Op::Kill(Kill {
            at: 0,
            after: false,
            away: 19,
        }),
        Op::Pass { seconds: 1 },
    ]);
}

#[test]
fn a_log_that_is_given_up_is_said_to_be_missing_also_while_the_next_build_is_held_back() {
    holds(&[
        Op::Apply { who: 0, retries: 0 },
        Op::Logs { up: false },
        Op::Meanwhile {
            at: 0,
            what: 0,
            who: 0,
        },
        Op::Pass { seconds: 671 },
        Op::Move { who: 0 },
    ]);
}
