//! A watch whose one event never ends.

use futures::StreamExt as _;
use tenantry::gateway::{Credentials, ErrorKind, Gateway, GatewayConfig, ProjectName};
use tenantry_test_support::PATIENCE;

use crate::server::{Evil, Hostile, endless_head, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_never_ends_ends_the_watch() {
    let list = r#"{"kind":"PipelineRunList","apiVersion":"devops.kubesphere.io/v1alpha3","metadata":{"resourceVersion":"7"},"items":[]}"#;
    let event = Evil::Endless {
        head: endless_head("application/json"),
        piece: b"x".repeat(1000),
        per_second: 100 << 20,
    };
    let spoils = vec![
        (vec!["pipelineruns", "watch=true"], event),
        (vec!["pipelineruns"], Evil::Bytes(json(list))),
    ];
    let hostile = Hostile::start("http://127.0.0.1:9", spoils).await;
    let config = GatewayConfig::new(
        hostile.url().parse().expect("a URL"),
        Credentials::Token("t".into()),
    );
    let gateway = Gateway::new(config).expect("a gateway");
    let project = gateway
        .scope(None)
        .project(&ProjectName::new("demo").expect("a name"));
    let rows = project.run_rows().await.expect("a list");
    let life = std::time::Duration::from_secs(60);
    let watch = project.watch_run_rows(&rows.version, rows.columns, life).await;
    let next = tokio::time::timeout(PATIENCE, watch.expect("a watch").next()).await;
    let error = next.expect("it ends").expect_err("it is no event");
    assert!(
        matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::ConnectionLost),
        "{error:?}"
    );
    let mut events = Box::pin(project.watch_runs(None));
    let error = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Err(error)) = events.next().await {
                return error;
            }
        }
    })
    .await
    .expect("the watch ends");
    assert!(
        matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::ConnectionLost),
        "{error:?}"
    );
}
