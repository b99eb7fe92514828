use super::*;
use crate::gateway::{
    Known,
    testing::{Seen, Server, answer, demo, forbidden},
    wire::row::RowEvent,
};

const LIST: &str = include_str!("../../tests/fixtures/tables/list.json");
const WATCH: &str = include_str!("../../tests/fixtures/tables/watch.jsonl");
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn wants_table(seen: &Seen) -> bool {
    seen.accept.as_deref() == Some(TABLE) && seen.target.contains("includeObject=None")
}

#[tokio::test]
async fn runs_are_listed_and_watched_as_rows() {
    let server = Server::start(|seen: &Seen| {
        assert!(wants_table(seen), "{seen:?}");
        let watching = seen.target.contains("watch=true");
        answer(200, &JSON, if watching { WATCH } else { LIST })
    })
    .await;
    let project = demo(&server);
    let rows = project.run_rows().await.unwrap();
    assert_eq!(rows.rows.len(), 1);
    assert_eq!(
        project.capabilities().watch_runs,
        Known::Unknown,
        "a list is no watch"
    );
    let life = Duration::from_secs(110);
    let mut watch = project
        .watch_run_rows(&rows.version, rows.columns, life)
        .await
        .unwrap();
    let mut told = Vec::new();
    while let Some(line) = watch.next().await.unwrap() {
        told.push(line);
    }
    assert_eq!(told.len(), WATCH.lines().count());
    assert_eq!(told.last().unwrap().event, RowEvent::Over(410));
    let asked = server.seen();
    let asked = &asked.last().unwrap().target;
    for part in [
        "resourceVersion=263",
        "allowWatchBookmarks=true",
        "timeoutSeconds=110",
    ] {
        assert!(asked.contains(part), "{asked}");
    }
    assert!(matches!(project.capabilities().watch_runs, Known::Yes { .. }));
}

#[tokio::test]
async fn a_gateway_without_such_tables_gives_whole_objects() {
    const OTHER: &str = r#"{"kind":"Table","columnDefinitions":[{"name":"Name"}],"rows":[]}"#;
    const OBJECTS: &str = r#"{"kind":"PipelineRunList","metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"a"}}]}"#;
    for gives in [OTHER, OBJECTS] {
        let server = Server::start(move |seen: &Seen| {
            answer(200, &JSON, if wants_table(seen) { gives } else { OBJECTS })
        })
        .await;
        let project = demo(&server);
        let rows = project.run_rows().await.unwrap();
        assert_eq!((rows.rows.len(), rows.columns), (1, None), "{gives}");
        let watch = project.watch_run_rows("5", None, Duration::from_secs(1)).await;
        assert!(watch.is_ok());
        let asked = server.seen();
        assert_eq!(asked.last().unwrap().accept.as_deref(), Some("application/json"));
    }
}

#[tokio::test]
async fn a_refusal_is_remembered_and_half_a_line_is_no_event() {
    let server = Server::start(|_: &Seen| forbidden()).await;
    let project = demo(&server);
    assert_eq!(project.run_rows().await.unwrap_err().kind(), ErrorKind::Forbidden);
    assert!(matches!(project.capabilities().watch_runs, Known::No { .. }));

    let server = Server::start(|_: &Seen| answer(200, &JSON, r#"{"type":"ADDED","obj"#)).await;
    let watched = |server: &Server| {
        let project = demo(server);
        async move {
            project
                .watch_run_rows("5", None, Duration::from_secs(1))
                .await
                .unwrap()
        }
    };
    assert_eq!(watched(&server).await.next().await.unwrap(), None);
    let server = Server::start(|_: &Seen| answer(200, &JSON, "<html>\n")).await;
    assert_eq!(
        watched(&server).await.next().await.unwrap_err().kind(),
        ErrorKind::Garbled
    );
}
