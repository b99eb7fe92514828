//! Runs as rows: the Table form of a list or a watch, with the name, the build number and the phase of each run and
//! nothing else. It is what a run looks like to whom only wants to know that it changed: a tenth of the bytes and less.
//!
//! A server that gives no tables answers with whole objects, which are read as rows too.

use serde::Deserialize;
use serde_json::Value;

use super::{
    json::{garbled, null_is_default, read},
    refusal::Reply,
    run::{MAX_RUNS, Run, RunPhase},
};
use crate::gateway::{
    error::{ErrorKind, GatewayError, Result},
    names::RunId,
};

/// A run, as far as a table shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRow {
    /// Object name.
    pub name: String,
    /// The build number, once triggered.
    pub run_id: Option<RunId>,
    /// `status.phase`.
    pub phase: RunPhase,
}

impl From<&Run> for RunRow {
    fn from(run: &Run) -> Self {
        Self {
            name: run.name.clone(),
            run_id: run.run_id.clone(),
            phase: run.phase,
        }
    }
}

/// Which cell of a row holds what. A watch tells it once only, if at all: it is kept from the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns {
    name: usize,
    id: usize,
    phase: usize,
}

/// All runs of a project as rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The runs.
    pub rows: Vec<RunRow>,
    /// The state of the project that they show: a watch goes on from here.
    pub version: String,
    /// How the rows were read; None where they were whole objects.
    pub columns: Option<Columns>,
}

/// What a list was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// Rows, or whole objects that were read as rows.
    Rows(Rows),
    /// A table without the columns that are needed.
    OtherColumns,
}

/// One line of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowEvent {
    /// ADDED or MODIFIED. A row that did not change is told as well.
    Changed(RunRow),
    /// DELETED: the run of this name is gone.
    Gone(String),
    /// Nothing changed.
    Bookmark,
    /// The watch is over, with this code: 410 means that a list is due.
    Over(u16),
}

/// A line of a watch with the version that it brings the watch to; None where it names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowLine {
    /// What happened.
    pub event: RowEvent,
    /// Where the watch is now.
    pub version: Option<String>,
}

/// An object, a list of them, a table or a Status, whichever it is. What is not named here is skipped and never held.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Any {
    #[serde(deserialize_with = "null_is_default")]
    kind: String,
    #[serde(deserialize_with = "null_is_default")]
    metadata: Meta,
    column_definitions: Option<Vec<Column>>,
    #[serde(deserialize_with = "null_is_default")]
    rows: Vec<Cells>,
    items: Option<Vec<Any>>,
    status: Option<Status>,
    code: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    #[serde(deserialize_with = "null_is_default")]
    name: String,
    #[serde(deserialize_with = "null_is_default")]
    resource_version: String,
    #[serde(deserialize_with = "null_is_default")]
    annotations: Annotations,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    #[serde(rename = "devops.kubesphere.io/jenkins-pipelinerun-id")]
    run_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Column {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
struct Cells {
    #[serde(default, deserialize_with = "null_is_default")]
    cells: Vec<Value>,
}

/// `status` of a run is an object, that of a Status a word.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Status {
    Of {
        #[serde(default, deserialize_with = "null_is_default")]
        phase: String,
    },
    Other(serde::de::IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Any,
}

const TABLE: &str = "Table";

/// Reads a list.
pub fn list(reply: &Reply<'_>) -> Result<Listed> {
    reply.accept()?;
    let list: Any = read(reply)?;
    let (columns, rows) = match (list.kind.as_str(), list.items) {
        (TABLE, _) => {
            let Some(columns) = list.column_definitions.as_deref().and_then(columns) else {
                return Ok(Listed::OtherColumns);
            };
            let rows = list.rows.into_iter().map(|row| row_of(row, columns)).collect();
            (Some(columns), rows)
        }
        (_, Some(items)) => (None, items.into_iter().map(object_row).collect()),
        _ => return Err(garbled(reply)),
    };
    let rows: Option<Vec<RunRow>> = rows;
    let rows = rows.ok_or_else(|| garbled(reply))?;
    if rows.len() > MAX_RUNS {
        return Err(GatewayError::new(ErrorKind::TooLarge, reply.subject)
            .with_status(reply.status)
            .with_remote(&format!("more than {MAX_RUNS} runs")));
    }
    Ok(Listed::Rows(Rows {
        rows,
        version: list.metadata.resource_version,
        columns,
    }))
}

/// Reads a line of a watch, whose rows have these columns unless it says others. None: it is no such line.
pub fn line(line: &[u8], known: &mut Option<Columns>) -> Option<RowLine> {
    let Line { kind, object } = serde_json::from_slice(line).ok()?;
    let version = Some(object.metadata.resource_version.clone()).filter(|version| !version.is_empty());
    if let Some(definitions) = &object.column_definitions {
        *known = Some(columns(definitions)?);
    }
    let event = match kind.as_str() {
        "ADDED" | "MODIFIED" => RowEvent::Changed(only_row(object, *known)?),
        "DELETED" => RowEvent::Gone(only_row(object, *known)?.name),
        "BOOKMARK" => RowEvent::Bookmark,
        "ERROR" => RowEvent::Over(object.code?),
        _ => return None,
    };
    Some(RowLine { event, version })
}

/// The one row of a line.
fn only_row(object: Any, known: Option<Columns>) -> Option<RunRow> {
    if object.kind != TABLE {
        return object_row(object);
    }
    let mut rows = object.rows.into_iter();
    let row = row_of(rows.next()?, known?)?;
    rows.next().is_none().then_some(row)
}

fn columns(definitions: &[Column]) -> Option<Columns> {
    let place = |name: &str| definitions.iter().position(|column| column.name == name);
    Some(Columns {
        name: place("Name")?,
        id: place("ID")?,
        phase: place("Phase")?,
    })
}

/// None for a row that names no run.
fn row_of(row: Cells, columns: Columns) -> Option<RunRow> {
    let text = |at: usize| row.cells.get(at).and_then(Value::as_str).unwrap_or_default();
    run_row(text(columns.name), text(columns.id), text(columns.phase))
}

fn object_row(object: Any) -> Option<RunRow> {
    let phase = match object.status {
        Some(Status::Of { phase }) => phase,
        Some(Status::Other(_)) | None => String::new(),
    };
    let id = object.metadata.annotations.run_id.unwrap_or_default();
    run_row(&object.metadata.name, &id, &phase)
}

fn run_row(name: &str, id: &str, phase: &str) -> Option<RunRow> {
    (!name.is_empty()).then(|| RunRow {
        name: name.to_owned(),
        run_id: RunId::new(id).ok(),
        phase: RunPhase::read(phase),
    })
}

#[cfg(test)]
#[path = "row_tests.rs"]
mod tests;
