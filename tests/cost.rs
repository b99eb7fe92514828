//! One build's life has a ceiling: at most 10 reconciles, as designed, and 14 writes of its status, log included, where 8 are
//! wanted (docs/performance.md says which are too many). `make bench-life` tells the figures.

mod common;
mod load;

use load::life;

/// Seconds that the build runs: two looks of one that polls, every 5 s, are in it.
const RUNS: u32 = 12;
const RECONCILES: usize = 10;
const STATUS_WRITES: usize = 14;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_build_stays_below_its_ceiling() {
    let life = life::measure(None, RUNS).await.expect("a build");
    println!("{}\n{life:#?}", life.bill.table());
    assert!(life.reconciles <= RECONCILES, "{} reconciles", life.reconciles);
    let changes = life.changes.join("\n");
    assert!(
        life.status_writes <= STATUS_WRITES,
        "{} status writes:\n{changes}",
        life.status_writes
    );
}
