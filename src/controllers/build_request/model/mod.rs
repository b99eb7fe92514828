//! The model-based test in virtual time: random sequences of what users, the remote, the network and a kill do, against
//! what must hold (design §3).
//!
//! What is real: every decision (`decide/`, `report`, `turns`, `cleanup`, `inputs`), the order in which they are strung
//! together with writes and acts (`cycle`), and the pure parts of the eyes (`ours`, `observe`). What is made up: the API
//! server, the remote, and the calls between ([`edges`]). A kill is a reconcile that is dropped at a write or a call, and,
//! at once or a while later, a new memory. proptest shrinks what fails; what it found is kept as named cases ([`found`]).
//! That the model would notice a rule that is broken is tried by breaking each ([`breaks`]).

mod breaks;
mod build;
mod checks;
mod deletion;
mod edges;
mod faults;
mod found;
mod ops;
mod remote;
mod told;
mod world;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use jiff::SignedDuration;
use proptest::{
    prelude::*,
    test_runner::{RngSeed, TestError, TestRunner},
};

use self::{
    breaks::Break,
    ops::{Op, Setup},
    world::World,
};

/// What came of a sequence.
struct Came {
    /// The rules that were broken, each with a case.
    violations: Vec<(String, String)>,
    /// Reconciles.
    looks: usize,
    /// Ends of the process.
    kills: usize,
    /// Virtual time.
    lived: SignedDuration,
}

/// Runs a sequence, then takes all obstacles away.
fn run(setup: Setup, ops: &[Op], broken: Option<Break>) -> Came {
    let world = World::new(setup, broken);
    let began = world.lock().now;
    for op in ops {
        op.apply(&world);
        world.work();
    }
    world.heal();
    let mut inner = world.lock();
    let (objects, remote) = (inner.objects.clone(), inner.remote.clone());
    inner.checks.look(setup, &objects, &remote);
    inner.checks.at_the_end(setup, &objects, &remote);
    Came {
        violations: std::mem::take(&mut inner.checks.violations),
        looks: inner.looks,
        kills: inner.kills,
        lived: inner.now.duration_since(began),
    }
}

/// How many sequences make a round.
const CASES: u32 = 1_000;

/// What a round did.
#[derive(Default)]
struct Count {
    sequences: Cell<usize>,
    ops: Cell<usize>,
    looks: Cell<usize>,
    kills: Cell<usize>,
    lived: Cell<SignedDuration>,
}

impl Count {
    fn add(&self, ops: &[Op], came: &Came) {
        self.sequences.set(self.sequences.get() + 1);
        self.ops.set(self.ops.get() + ops.len());
        self.looks.set(self.looks.get() + came.looks);
        self.kills.set(self.kills.get() + came.kills);
        self.lived.set(self.lived.get() + came.lived);
    }
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value:?} is not a number")),
    )
}

/// Random sequences; what broke a promise comes back as short as it can be made.
fn round(
    seed: u64,
    cases: u32,
    count: &Count,
    broken: Option<Break>,
    minds: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let config = ProptestConfig {
        cases,
        max_shrink_iters: if broken.is_some() { 0 } else { 2_000 },
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..ProptestConfig::default()
    };
    let sequences = (ops::setup(), proptest::collection::vec(ops::op(), 1..40));
    let found = TestRunner::new(config).run(&sequences, |(setup, ops)| {
        let mut came = run(setup, &ops, broken);
        count.add(&ops, &came);
        came.violations.retain(|(rule, _)| minds(rule));
        prop_assert!(came.violations.is_empty(), "{:#?}", came.violations);
        Ok(())
    });
    found.map_err(|error| match error {
        TestError::Fail(why, (setup, ops)) => format!("seed {seed}: {setup:?} {ops:#?}: {why}"),
        TestError::Abort(why) => format!("seed {seed}: {why}"),
    })
}

/// One round of a fixed seed (`TENANTRY_SEED` is another); with `TENANTRY_SOAK_SECONDS` round after round for that long.
#[test]
fn whatever_happens_the_promises_hold() {
    let (began, count) = (Instant::now(), Count::default());
    let seconds = number("TENANTRY_SOAK_SECONDS");
    let first = number("TENANTRY_SEED").unwrap_or(1);
    for seed in first.. {
        let came = round(seed, CASES, &count, None, |_| true);
        if came.is_err() || began.elapsed() >= Duration::from_secs(seconds.unwrap_or(0)) {
            println!(
                "{} sequences of {} steps, {} reconciles, {} kills in {:?}, last seed {seed}",
                count.sequences.get(),
                count.ops.get(),
                count.looks.get(),
                count.kills.get(),
                began.elapsed()
            );
            came.unwrap_or_else(|case| panic!("{case}"));
            if let Some(seconds) = seconds {
                told::soak(&count, (first, seed), seconds);
            }
            return;
        }
    }
}

/// The model is worth what it notices: each rule is broken on purpose, and that must be found by its own promise within as
/// many sequences as CI runs.
#[test]
fn a_rule_that_is_broken_is_noticed() {
    let noticed = Break::ALL.map(|broken| {
        let count = Count::default();
        let minds = |rule: &str| rule == broken.rule();
        let found = round(1, CASES, &count, Some(broken), minds).is_err();
        println!("{broken:?}: {found} after {} sequences", count.sequences.get());
        (broken, found.then(|| count.sequences.get()))
    });
    told::breaks(&noticed);
    let missed: Vec<_> = noticed.iter().filter(|(_, after)| after.is_none()).collect();
    assert!(missed.is_empty(), "not noticed in {CASES} sequences: {missed:?}");
}
