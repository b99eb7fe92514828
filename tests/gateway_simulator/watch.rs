//! Watching the runs of a project through `/apis`.

use std::pin::pin;

use futures::StreamExt as _;
use tenantry::gateway::{ErrorClass, Known, ProjectScope, Result, Run, RunEvent, RunProgress};
use tenantry_simulator::Role;

use super::bench::{create, recorded};

/// Takes events until one is of this run and makes `done` true.
async fn see(
    events: &mut (impl futures::Stream<Item = Result<RunEvent>> + Unpin),
    name: &str,
    done: impl Fn(&Run) -> bool,
) -> Run {
    let search = async {
        while let Some(event) = events.next().await {
            if let Ok(RunEvent::Apply(run) | RunEvent::InitApply(run)) = event
                && run.name == name
                && done(&run)
            {
                return *run;
            }
        }
        panic!("the watch ended")
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), search)
        .await
        .expect("it is seen in time")
}

fn over(run: &Run) -> bool {
    matches!(run.progress(), RunProgress::Finished(_))
}

async fn start(project: &ProjectScope, name: &str) {
    create(project, name, "hello", vec![]).await;
}

#[tokio::test]
async fn a_run_is_followed_to_its_end_by_one_watch() {
    let (sim, project) = recorded(None).await;
    let mut events = pin!(project.watch_runs(None));
    start(&project, "seen").await;
    let run = see(&mut events, "seen", over).await;
    assert_eq!(
        run.progress(),
        RunProgress::Finished(Some(tenantry::gateway::BuildOutcome::Success))
    );
    assert_eq!(sim.ledger().count("apis.pipelineruns.watch"), 1);
    assert_eq!(sim.ledger().count("v3.run.get"), 0);
    assert!(matches!(project.capabilities().watch_runs, Known::Yes { .. }));
}

#[tokio::test]
async fn a_watch_that_is_too_old_and_tokens_that_died_are_overcome() {
    let (sim, project) = recorded(None).await;
    let mut events = pin!(project.watch_runs(None));
    start(&project, "first").await;
    see(&mut events, "first", over).await;
    sim.control().flush_tokens();
    sim.control().compact().unwrap();
    start(&project, "second").await;
    see(&mut events, "second", over).await;
}

#[tokio::test]
async fn who_may_not_watch_is_told_so() {
    let (_sim, project) = recorded(Some(Role::tenant_without_watch())).await;
    let mut events = pin!(project.watch_runs(None));
    let error = loop {
        match events.next().await.expect("a watch does not end") {
            Ok(RunEvent::Init | RunEvent::InitApply(_) | RunEvent::InitDone) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.class(), ErrorClass::Denied);
    assert!(matches!(project.capabilities().watch_runs, Known::No { .. }));
    assert_eq!(
        project.apis_runs(None).await.unwrap().len(),
        0,
        "a list is still allowed"
    );
}
