//! The simulator against the recordings: brought into the same state, it gives the same request the same status, content
//! type and JSON shape. What differs is listed, with the reason, in `tests/fixtures/differences.tsv`; a difference that is
//! not listed fails, and so does a listed one that is no more.
//!
//! Each group of recordings (the first two digits of their numbers) gets a simulator of its own and is replayed in order.
//! What a recording presupposes and no earlier one of its group made is made from what it shows: runs with their
//! recorded names, builds with their numbers, pipelines. What was done behind the scenes is in `scenes.rs`.

#[path = "conformance/argo.rs"]
mod argo;
#[path = "conformance/differences.rs"]
mod differences;
#[path = "conformance/ensure.rs"]
mod ensure;
#[path = "conformance/replay.rs"]
mod replay;
#[path = "conformance/scenes.rs"]
mod scenes;
#[path = "conformance/shape.rs"]
mod shape;

use tenantry_test_support::recorded;

/// Replays one group and holds the differences against the list.
async fn group(prefix: &str) {
    let all = recorded::exchanges().expect("the recordings can be read");
    let mine: Vec<_> = all.into_iter().filter(|e| e.number.starts_with(prefix)).collect();
    if mine.is_empty() {
        println!("no recordings {prefix}xx here");
        return;
    }
    let found = replay::replay(prefix, &mine).await;
    let count = mine.len();
    let same = mine.iter().filter(|e| !found.contains_key(&e.number)).count();
    println!("recordings {prefix}xx: {same} of {count} answered alike");
    if recorded::is_own() {
        differences::hold_against_the_list(prefix, &mine, &found);
    } else {
        for (number, differences) in &found {
            println!("{number}\t{}", differences.join("; "));
        }
    }
}

macro_rules! groups {
    ($($name:ident $prefix:literal,)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                group($prefix).await;
            }
        )*

        #[test]
        fn every_recording_belongs_to_a_group() {
            let groups = [$($prefix),*];
            let all = recorded::exchanges().expect("the recordings can be read");
            let stray: Vec<_> = all
                .iter()
                .filter(|e| !groups.iter().any(|g| e.number.starts_with(g)))
                .map(|e| &e.name)
                .collect();
            assert!(stray.is_empty(), "not replayed: {stray:?}");
        }
    };
}

groups! {
    oauth "01",
    tenants_and_workspaces "02",
    projects "03",
    pipelines "04",
    credentials_and_repositories "05",
    run_life_cycle "06",
    results "07",
    branches "08",
    jenkins_routes "10",
    run_lists "11",
    logs "12",
    artifacts "13",
    stop_and_delete "14",
    applications "15",
    kubernetes_api "16",
    coalesced_triggers "17",
    jenkins_failing "18",
    builds_that_vanish "20",
    gateway "21",
    controller_down "22",
    controller_crash "23",
    inputs "30",
    member_cluster "31",
    argo_one_application "32",
    argo_many_applications "33",
    replays "34",
    member_besides "35",
    stale_cache "36",
}

/// The page that tells of this suite names its figures.
#[test]
fn the_page_tells_the_figures() {
    if !recorded::is_own() {
        return;
    }
    let all = recorded::exchanges().expect("the recordings can be read").len();
    let differ = differences::read().len();
    let wanted = format!(
        "Of {all} recordings {} are answered alike, {differ} differ",
        all - differ
    );
    let page = include_str!("../../../docs/conformance.md");
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        page.contains(&wanted),
        "docs/conformance.md does not say: {wanted}"
    );
}
