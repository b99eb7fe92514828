//! The operator fixture, tried on a program that behaves like an operator to its outside.

use std::path::Path;

use anyhow::{Context, Result};
use tenantry_test_support::{OperatorBuilder, PATIENCE, Seen, TestCluster, wait_for};

const DUMMY: &str = env!("CARGO_BIN_EXE_tenantry-test-dummy");

async fn dummy() -> Result<OperatorBuilder> {
    Ok(TestCluster::shared().await?.operator(DUMMY))
}

fn runs(pid: u32) -> bool {
    // A killed process may stay as a zombie until its parent has looked.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn it_starts_is_killed_and_starts_again() -> Result<()> {
    let mut operator = dummy()
        .await?
        .arg("operator")
        .env("GREETING", "hello")
        .start()
        .await?;
    assert_eq!(operator.metrics_text().await?, "answers 42\n");
    let first = operator.pid().context("it runs")?;

    operator.kill9()?;
    assert!(!runs(first));
    assert!(operator.readyz().await.is_err(), "nobody answers after a kill");
    operator.restart().await?;
    assert_ne!(operator.pid(), Some(first));
    assert_eq!(operator.readyz().await?.status, 200);

    let status = operator.terminate().await?;
    assert!(!status.success(), "the dummy does not handle SIGTERM");
    assert_eq!(operator.pid(), None);
    let logs = operator.logs()?;
    assert_eq!(
        logs.matches("GREETING=hello").count(),
        2,
        "one line for each start:\n{logs}"
    );
    Ok(())
}

#[tokio::test]
async fn it_sees_the_test_clusters_kubeconfig_and_nothing_else_of_the_environment() -> Result<()> {
    let operator = dummy().await?.start().await?;
    let kubeconfig = TestCluster::shared().await?.kubeconfig().display().to_string();
    wait_for("the log", PATIENCE, async || {
        let logs = operator.logs()?;
        Ok(Seen::when(
            logs.contains(&format!("KUBECONFIG={kubeconfig}\n")) && logs.contains("CARGO_MANIFEST_DIR=\n"),
            || logs,
        ))
    })
    .await
}

#[tokio::test]
async fn a_crash_is_told_with_the_log() -> Result<()> {
    let error = format!("{:#}", dummy().await?.arg("crash").start().await.unwrap_err());
    assert!(
        error.contains("exit status: 3") && error.contains("the reason of the crash"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn one_that_is_not_ready_can_be_asked_why() -> Result<()> {
    let operator = dummy().await?.arg("unready").start_unready().await?;
    let answer = operator.readyz().await?;
    assert_eq!((answer.status, answer.body.as_str()), (503, "ready or not\n"));
    Ok(())
}

#[tokio::test]
async fn it_is_killed_when_dropped() -> Result<()> {
    let operator = dummy().await?.start().await?;
    let pid = operator.pid().context("it runs")?;
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    drop(operator);
    assert!(!runs(pid));
    Ok(())
}

/// Threads of a runtime come and go; the kernel's promise to end the process with its parent must not hang on them.
#[test]
fn it_outlives_the_thread_that_started_it() -> Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let start = move || -> Result<_> { runtime()?.block_on(async { dummy().await?.start().await }) };
    let operator = std::thread::spawn(start)
        .join()
        .expect("the thread did not panic")?;
    let answer = runtime()?.block_on(operator.readyz())?;
    assert_eq!(answer.status, 200);
    Ok(())
}
