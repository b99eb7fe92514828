//! The five-minute form of `make soak`: fifty builds a minute leave nothing behind. How fast the machine is decides how
//! many builds there are, and nothing else.

mod common;
mod load;

use std::time::Duration;

use load::{
    gauges::Look,
    soak::{self, Limits, Settings},
};
use tenantry_test_support::bench::{Samples, memory};

fn settings() -> Settings {
    let minutes = std::env::var("TENANTRY_SOAK_MINUTES").map_or(5.0, |minutes| {
        minutes.parse().expect("TENANTRY_SOAK_MINUTES is a number")
    });
    Settings {
        program: None,
        length: Duration::from_secs_f64(minutes * 60.0),
        per_minute: 50,
        at_most: Some(60),
        limits: Limits {
            memory: 1.25,
            queue: 2.0,
            lag: None,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_builds_a_minute_leave_nothing_behind() {
    let soaked = soak::run(&settings()).await.expect("a soak");
    println!("{}", soaked.report.table());
    let problems = soaked.problems.join("\n");
    assert!(
        soaked.report.missed().is_empty(),
        "{:?}\n{problems}",
        soaked.report.missed()
    );
    let own = memory::status_kib(std::process::id(), "VmRSS").map(memory::mib);
    println!("the driver with its simulator: {own:?} MiB");
}

/// Looks every five seconds for an hour, with this much memory and this many scheduled after so many seconds.
fn looks(resident: fn(f64) -> f64, scheduled: fn(f64) -> f64) -> Vec<Look> {
    let times = (0..720).map(|n| f64::from(n) * 5.0);
    times
        .map(|at| Look {
            at,
            resident: resident(at),
            scheduled: scheduled(at),
            active: 20.0,
            ..Look::default()
        })
        .collect()
}

#[test]
fn what_grows_is_noticed_and_what_settles_or_swings_is_not() {
    let hour = Settings {
        length: Duration::from_secs(3600),
        limits: Limits {
            memory: 1.05,
            queue: 1.1,
            lag: Some(1.5),
        },
        ..settings()
    };
    let lags = |last: f64| [1.0, 1.0, last].map(|lag| Samples::from_iter([lag; 100]));
    let missed = |looks: &[Look], lags: &[Samples; 3]| {
        let report = soak::judge(&hour, looks, lags);
        report.missed().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let warming = looks(|at| 20.0 + at.min(900.0) / 100.0, |at| 30.0 + at.min(600.0));
    assert!(missed(&warming, &lags(1.0)).is_empty());
    let swinging = looks(
        |at| 25.0 + 5.0 * (at / 100.0).sin(),
        |at| 500.0 + 100.0 * (at / 60.0).sin(),
    );
    assert!(missed(&swinging, &lags(1.2)).is_empty());
    // 6 MiB in an hour; one object in nine seconds; twice as slow.
    let leaking = looks(|at| 25.0 + at / 600.0, |_| 500.0);
    assert_eq!(missed(&leaking, &lags(1.0)).len(), 1, "memory");
    let piling = looks(|_| 25.0, |at| 500.0 + at / 9.0);
    assert_eq!(missed(&piling, &lags(1.0)).len(), 1, "queue");
    assert_eq!(missed(&warming, &lags(2.0)).len(), 1, "lag");
    assert_eq!(missed(&[], &lags(1.0)).len(), 3, "what was not seen is not flat");
}
