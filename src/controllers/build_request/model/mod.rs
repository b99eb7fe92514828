//! The model-based test in virtual time: random sequences of what users, the remote, the network and a kill do, against
//! what must hold (design §3).
//!
//! What is real: every decision (`decide/`, `report`, `turns`, `cleanup`, `inputs`), the order in which they are strung
//! together with writes and acts (`cycle`), and the pure parts of the eyes (`ours`, `observe`). What is made up: the API
//! server, the remote, and the calls between ([`edges`]). A kill is a reconcile that is dropped at a write or a call, and
//! a new memory. proptest shrinks what fails; what it found is kept below as named cases.

mod checks;
mod edges;
mod ops;
mod remote;
mod world;

use std::time::{Duration, Instant};

use proptest::{prelude::*, test_runner::TestRunner};

use self::{
    ops::{Op, Setup},
    world::World,
};

/// Runs a sequence, then takes all obstacles away; the rules that were broken.
fn run(setup: Setup, ops: &[Op]) -> Vec<(String, String)> {
    let world = World::new(setup);
    for op in ops {
        op.apply(&world);
        world.work();
    }
    world.heal();
    let mut inner = world.lock();
    let (objects, remote) = (inner.objects.clone(), inner.remote.clone());
    inner.checks.look(&objects, &remote);
    inner.checks.at_the_end(setup, &objects, &remote);
    std::mem::take(&mut inner.checks.violations)
}

/// How many sequences make a round.
const CASES: u32 = 300;

#[test]
fn who_moved_to_another_pipeline_does_not_block_the_line_of_the_former() {
    holds(&[
        Op::Apply { who: 2, retries: 1 },
        Op::Apply { who: 0, retries: 0 },
        Op::Move { who: 0 },
        Op::Pass { seconds: 0 },
        Op::Happen(
            remote::Mischief::Finish(crate::gateway::JenkinsResult::Failure),
            2,
        ),
    ]);
}

/// For how long round after round is run: `TENANTRY_SOAK_SECONDS`, for a soak. Otherwise one is enough.
fn soak() -> Duration {
    let seconds = std::env::var("TENANTRY_SOAK_SECONDS");
    Duration::from_secs(seconds.map_or(0, |n| n.parse().expect("a number of seconds")))
}

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
        let violations = run(setup, ops);
        assert!(violations.is_empty(), "{setup:?}: {violations:#?}");
    }
}

#[test]
fn a_cancelled_run_settles_although_another_was_asked_for() {
    holds(&[
        Op::Apply { who: 1, retries: 0 },
        Op::Fault(world::Fault::RequestLost),
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
        let world = World::new(setup);
        for op in ops {
            op.apply(&world);
        }
        assert_eq!(world.lock().remote.builds.len(), 3, "{setup:?}");
    }
}

#[test]
fn whatever_happens_the_promises_hold() {
    let began = Instant::now();
    let mut sequences = 0;
    loop {
        round();
        sequences += CASES;
        if began.elapsed() >= soak() {
            break;
        }
    }
    println!("{sequences} sequences in {:?}", began.elapsed());
}

fn round() {
    let config = ProptestConfig {
        cases: CASES,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let sequences = (ops::setup(), proptest::collection::vec(ops::op(), 1..40));
    let found = TestRunner::new(config).run(&sequences, |(setup, ops)| {
        let violations = run(setup, &ops);
        prop_assert!(violations.is_empty(), "{violations:#?}");
        Ok(())
    });
    if let Err(error) = found {
        panic!("{error}");
    }
}
