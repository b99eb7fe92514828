use super::*;
use crate::gateway::{error::Subject, telemetry::RouteClass};

const LIST: &str = include_str!("../../../tests/fixtures/tables/list.json");
const WATCH: &str = include_str!("../../../tests/fixtures/tables/watch.jsonl");

fn listed(body: &str) -> Result<Listed> {
    let subject = Subject {
        route: RouteClass::Kubernetes,
        what: "list the runs of project demo".into(),
        write: false,
    };
    list(&Reply {
        subject: &subject,
        status: 200,
        headers: &http::HeaderMap::new(),
        body: body.as_bytes(),
        secrets: &[],
    })
}

fn rows(body: &str) -> Rows {
    match listed(body) {
        Ok(Listed::Rows(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn row(name: &str, id: &str, phase: RunPhase) -> RunRow {
    RunRow {
        name: name.into(),
        run_id: RunId::new(id).ok(),
        phase,
    }
}

#[test]
fn the_recorded_list_and_watch_are_read() {
    let list = rows(LIST);
    assert_eq!(list.rows, [row("build-a", "", RunPhase::None)]);
    assert_eq!(list.version, "263");
    let mut columns = list.columns;
    assert!(columns.is_some());
    let told: Vec<_> = WATCH
        .lines()
        .map(|text| line(text.as_bytes(), &mut columns).unwrap_or_else(|| panic!("{text}")))
        .collect();
    let (changes, rest) = told.split_at(5);
    let expected = [
        (RowEvent::Changed(row("build-b", "", RunPhase::None)), "264"),
        (RowEvent::Changed(row("build-b", "7", RunPhase::None)), "265"),
        (RowEvent::Changed(row("build-b", "7", RunPhase::Running)), "266"),
        (RowEvent::Changed(row("build-b", "7", RunPhase::Succeeded)), "267"),
        (RowEvent::Gone("build-a".into()), "268"),
    ];
    for (told, (event, version)) in changes.iter().zip(expected) {
        assert_eq!((&told.event, told.version.as_deref()), (&event, Some(version)));
    }
    let (over, bookmarks) = rest.split_last().unwrap();
    assert!(!bookmarks.is_empty());
    for mark in bookmarks {
        assert_eq!(
            (&mark.event, mark.version.as_deref()),
            (&RowEvent::Bookmark, Some("268"))
        );
    }
    assert_eq!(
        (&over.event, over.version.as_deref()),
        (&RowEvent::Over(410), None)
    );
}

#[test]
fn whole_objects_are_rows_too() {
    let run = r#"{"metadata":{"name":"a","resourceVersion":"9","annotations":{"devops.kubesphere.io/jenkins-pipelinerun-id":"3"}},
                  "spec":{"parameters":[{"name":"P","value":"v"}]},"status":{"phase":"Pending"}}"#;
    let body = format!(
        r#"{{"kind":"PipelineRunList","metadata":{{"resourceVersion":"10"}},"items":[{run},{{"metadata":{{"name":"b"}}}}]}}"#
    );
    let list = rows(&body);
    assert_eq!(
        list.rows,
        [row("a", "3", RunPhase::Pending), row("b", "", RunPhase::None)]
    );
    assert_eq!((list.version.as_str(), list.columns), ("10", None));
    let text = format!(r#"{{"type":"MODIFIED","object":{run}}}"#);
    let told = line(text.as_bytes(), &mut None).unwrap();
    assert_eq!(told.event, RowEvent::Changed(row("a", "3", RunPhase::Pending)));
    assert_eq!(told.version.as_deref(), Some("9"));
}

#[test]
fn what_is_no_such_answer_is_told_from_one() {
    let other = r#"{"kind":"Table","columnDefinitions":[{"name":"Name"},{"name":"Age"}],"rows":[]}"#;
    assert_eq!(listed(other).unwrap(), Listed::OtherColumns);
    for body in [
        "{}",
        "[]",
        r#"{"kind":"Table","columnDefinitions":[{"name":"Name"},{"name":"ID"},{"name":"Phase"}],"rows":[{"cells":[]}]}"#,
    ] {
        let error = listed(body).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Garbled, "{body}");
    }
    // Rows before anybody said what is in them, two rows at once, no line at all.
    for text in [
        r#"{"type":"ADDED","object":{"kind":"Table","rows":[{"cells":["a","1","Running"]}]}}"#,
        r#"{"type":"ADDED","object":{"kind":"Table","columnDefinitions":[{"name":"Name"},{"name":"ID"},{"name":"Phase"}],
            "rows":[{"cells":["a","1","Running"]},{"cells":["b","1","Running"]}]}}"#,
        r#"{"type":"OTHER","object":{}}"#,
        "<html>",
    ] {
        assert_eq!(line(text.as_bytes(), &mut None), None, "{text}");
    }
}
