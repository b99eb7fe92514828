//! Large files: memory, progress, and how many of them a remote has to hold in its memory at once.

use serde_json::json;
use tenantry_simulator::{Fault, FaultAction, Role};

use crate::bench::Stage;

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_220_mb_takes_no_more_memory_than_a_small_one() {
    let stage = Stage::with_noise("big.bin:220000000,small.bin:1000").await;
    let ended = stage.fetch(&json!({})).await;
    assert_eq!(ended.success().bytes, 220_001_000);
    ended.took_little_memory();
    stage.holds_noise("big.bin").await;
    let progress = ended.progress();
    assert!(
        progress
            .iter()
            .all(|p| p.total_files == 2 && p.total_bytes == 220_001_000 && p.bytes <= p.total_bytes),
        "{progress:?}"
    );
    assert!(progress.is_sorted_by_key(|p| p.bytes), "{progress:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_large_files_at_once_take_no_more_memory_either() {
    let stage = Stage::with_noise("a:30000000,b:30000000,c:30000000,d:30000000").await;
    let ended = stage.fetch(&json!({"parallel": 4})).await;
    assert_eq!(ended.success().bytes, 120_000_000);
    ended.took_little_memory();
    stage.holds_noise("c").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_remote_holds_in_its_memory_comes_one_at_a_time() {
    let stage = Stage::with_noise("a:2000000,b:2000000,c:2000000,s1:10,s2:10,s3:10").await;
    stage.role(Role::tenant_without_jenkins_proxy());
    // Long enough for others to be asked for meanwhile, if they were.
    stage.simulator.control().fault(Fault::always(
        "v3.run.artifact",
        FaultAction {
            answer_delay_ms: 300,
            ..FaultAction::default()
        },
    ));
    stage.fetch(&json!({"parallel": 4})).await.success();
    let mut at: Vec<_> = stage
        .simulator
        .ledger()
        .requests("v3.run.artifact")
        .into_iter()
        .filter(|request| ["=a", "=b", "=c"].iter().any(|name| request.path.ends_with(name)))
        .map(|request| request.at)
        .collect();
    at.sort_unstable();
    assert_eq!(at.len(), 3);
    // Each was asked for only after the one before had been answered, 300 ms after it was asked for.
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 300), "{at:?}");
    for name in ["a", "b", "c", "s1"] {
        stage.holds_noise(name).await;
    }
}
