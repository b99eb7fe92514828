//! Watching and listing the runs of a project as rows, through `/apis`. kube's own watcher knows no tables.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use http::{HeaderValue, header};

use super::{
    capabilities::Capability,
    client::ProjectScope,
    error::{ErrorKind, GatewayError, Result},
    exchange::Body,
    route::{APIS, Limit, Request},
    telemetry::RouteClass,
    wire::row::{self, Columns, Listed, RowLine, Rows},
};

/// Longest line of a watch, in bytes: it may be a whole object.
const MAX_LINE: usize = 8 << 20;
/// A table where the server makes some, else the objects.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";

/// A watch that stands. Lines come as they happen, in order.
pub struct RowWatch {
    body: Body,
    read: BytesMut,
    /// Up to here `read` has no end of a line.
    searched: usize,
    columns: Option<Columns>,
}

impl ProjectScope {
    /// All runs of the project as rows, through `/apis`: a table, or whole objects where the remote gives no table that
    /// shows what is needed.
    pub async fn run_rows(&self) -> Result<Rows> {
        let result = self.list_rows().await;
        // Who may not list may not watch; who may list may still not.
        if result.is_err() {
            self.learn(Capability::WatchRuns, &result);
        }
        result
    }

    async fn list_rows(&self) -> Result<Rows> {
        let table = self.rows_request("list").query("includeObject", "None");
        let table = table.header(header::ACCEPT, HeaderValue::from_static(TABLE));
        if let Listed::Rows(rows) = row::list(&self.scope.exchange(table).await?.reply())? {
            return Ok(rows);
        }
        let whole = self.rows_request("list");
        let whole = whole.header(header::ACCEPT, HeaderValue::from_static("application/json"));
        match row::list(&self.scope.exchange(whole).await?.reply())? {
            Listed::Rows(rows) => Ok(rows),
            Listed::OtherColumns => {
                let subject = self.rows_request("list").subject;
                Err(GatewayError::new(ErrorKind::Garbled, &subject)
                    .with_remote("a table, where none was asked for"))
            }
        }
    }

    /// Watches the project's runs from the state `version` on, in the form in which they were listed. The remote ends the
    /// watch after `life`.
    pub async fn watch_run_rows(
        &self,
        version: &str,
        columns: Option<Columns>,
        life: Duration,
    ) -> Result<RowWatch> {
        let mut request = self
            .rows_request("watch")
            .query("watch", "true")
            .query("allowWatchBookmarks", "true")
            .query("resourceVersion", version)
            .query("timeoutSeconds", life.as_secs().max(1).to_string())
            .limit(Limit::Watch);
        request = match columns {
            Some(_) => request
                .query("includeObject", "None")
                .header(header::ACCEPT, HeaderValue::from_static(TABLE)),
            None => request.header(header::ACCEPT, HeaderValue::from_static("application/json")),
        };
        let result = match self.scope.send(request).await {
            Ok(answered) => answered.accept(),
            Err(error) => Err(error),
        };
        self.learn(Capability::WatchRuns, &result);
        Ok(RowWatch {
            body: result?.into_body(),
            read: BytesMut::new(),
            searched: 0,
            columns,
        })
    }

    fn rows_request(&self, verb: &str) -> Request {
        let path = format!("{APIS}/namespaces/{}/pipelineruns", self.name());
        let what = format!("{verb} the runs of project {}", self.name());
        Request::get(RouteClass::Kubernetes, path, what)
    }
}

impl RowWatch {
    /// The next line; None where the watch ended. Dropping this half-way loses nothing.
    pub async fn next(&mut self) -> Result<Option<RowLine>> {
        loop {
            if let Some(end) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(self.searched + end);
                self.read.advance(1);
                self.searched = 0;
                return match row::line(&line, &mut self.columns) {
                    Some(line) => Ok(Some(line)),
                    None => Err(GatewayError::new(ErrorKind::Garbled, self.body.subject())),
                };
            }
            self.searched = self.read.len();
            if self.searched > MAX_LINE {
                return Err(GatewayError::new(ErrorKind::TooLarge, self.body.subject()));
            }
            match self.body.next().await? {
                Some(piece) => self.read.extend_from_slice(&piece),
                // What is left is half a line: it comes again with the next watch.
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
