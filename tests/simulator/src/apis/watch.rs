//! WATCH: resumes from any version that is still in the log, tells bookmarks, and answers 410 for older ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;

use super::Ask;
use super::list::Selectors;
use super::table::{self, Table};
use crate::call::Call;
use crate::reply::{Chunk, Reply, ReplyBody, Status};
use crate::server::Shared;
use crate::state::ClusterHealth;
use crate::store::{Change, ChangeKind, Kind, name, namespace};

/// One watch.
struct Watch {
    shared: Arc<Shared>,
    cluster: usize,
    kind: &'static Kind,
    namespace: Option<String>,
    name: Option<String>,
    selectors: Selectors,
    as_table: Option<Table>,
    bookmarks: bool,
    /// Last version that was looked at.
    seen: u64,
    /// Lines to be sent before anything else.
    ready: Vec<String>,
    changed: Receiver<u64>,
    stopping: Receiver<bool>,
    ends: Option<Instant>,
    bookmark_every: Duration,
    next_bookmark: Instant,
    /// The stream ends after what is ready.
    last: bool,
}

const BOOKMARK: &str = "BOOKMARK";

/// One line of the stream: the type comes first.
fn line(what: &str, object: &str) -> String {
    format!("{{\"type\":\"{what}\",\"object\":{object}}}\n")
}

fn expired(version: u64, oldest: u64) -> String {
    let message = format!("too old resource version: {version} ({oldest})");
    line("ERROR", &Status::new(410, "Expired", &message, None).text())
}

pub(super) fn watch(call: &mut Call<'_>, ask: &Ask<'_>, name: Option<&str>) -> Reply {
    let selectors = match Selectors::new(ask.kind, &call.query) {
        Ok(selectors) => selectors,
        Err(error) => return error.status(),
    };
    let query = call.query.clone();
    let version = query.text("resourceVersion");
    let initial = query.flag("sendInitialEvents");
    let from = match (version, initial) {
        ("" | "0", _) | (_, true) => None,
        (text, false) => {
            let Ok(version) = text.parse::<u64>() else {
                let text = format!(
                    "resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
                );
                return Reply::status(400, "BadRequest", &text, None);
            };
            Some(version)
        }
    };
    let context = call.state.context.clone();
    let as_table = match table::wanted(call) {
        Ok(table) => table,
        Err(error) => return error.status(),
    };
    let (shared, index) = (call.shared.clone(), call.cluster);
    let store = &call.cluster().store;
    let every = Duration::from_millis(context.scale.ms(context.timings.bookmark).unsigned_abs().max(50));
    let mut watch = Watch {
        stopping: shared.stopping.clone(),
        shared,
        cluster: index,
        kind: ask.kind,
        namespace: ask.namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        selectors,
        as_table,
        bookmarks: query.flag("allowWatchBookmarks"),
        seen: from.unwrap_or_else(|| store.version()),
        ready: Vec::new(),
        changed: store.subscribe(),
        ends: query
            .number("timeoutSeconds")
            .map(|s| Instant::now() + Duration::from_secs(s as u64)),
        bookmark_every: every,
        next_bookmark: Instant::now() + every,
        last: false,
    };
    if let Some(from) = from.filter(|from| *from < store.compacted()) {
        watch.ready.push(expired(from, store.compacted()));
        watch.last = true;
    } else if from.is_none() {
        for object in store.list(ask.kind, ask.namespace) {
            if watch.concerns(object) {
                let line = watch.line("ADDED", object);
                watch.ready.push(line);
            }
        }
        if initial {
            let mark = watch.bookmark(true);
            watch.ready.push(mark);
        }
    }
    let mut reply = Reply::new(200, "application/json", "");
    reply.body = ReplyBody::Stream(stream::unfold(watch, Watch::next).boxed());
    reply
}

impl Watch {
    fn in_scope(&self, object: &Value) -> bool {
        self.namespace.as_deref().is_none_or(|n| n == namespace(object))
            && self.name.as_deref().is_none_or(|n| n == name(object))
    }

    fn concerns(&self, object: &Value) -> bool {
        self.in_scope(object) && self.selectors.fit(object)
    }

    fn line(&mut self, what: &str, object: &Value) -> String {
        let Some(table) = &mut self.as_table else {
            return line(what, &object.to_string());
        };
        let event = if what == BOOKMARK {
            table.bookmark(self.kind, object)
        } else {
            table.event(self.kind, object)
        };
        table.headers = false;
        line(what, &event.to_string())
    }

    /// `ends_initial`: everything that existed when the watch began has been told.
    fn bookmark(&mut self, ends_initial: bool) -> String {
        let mut object = json!({
            "apiVersion": self.kind.api_version(), "kind": self.kind.kind,
            "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
        });
        if ends_initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        self.line(BOOKMARK, &object)
    }

    /// A change as this watch sees it: an object that no longer fits is gone for it.
    fn event(&mut self, change: &Change) -> Option<String> {
        if change.kind != self.kind || !self.in_scope(&change.object) {
            return None;
        }
        let now = change.what != ChangeKind::Deleted && self.selectors.fit(&change.object);
        let before = change.previous.as_ref().is_some_and(|o| self.selectors.fit(o));
        let what = match (before, now) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some(self.line(what, &change.object))
    }

    /// Collects what is new. `false`: the watch is over.
    fn collect(&mut self) -> bool {
        let shared = self.shared.clone();
        let state = shared.state();
        let Some(cluster) = state.clusters.get(self.cluster) else {
            return false;
        };
        // A member that goes away ends its watches without a word (finding F-O3).
        if self.cluster > 0 && cluster.health != ClusterHealth::Healthy {
            return false;
        }
        if self.seen < cluster.store.compacted() {
            // What is lost cannot be told any more.
            self.ready.push(expired(self.seen, cluster.store.compacted()));
            self.last = true;
            return true;
        }
        let events: Vec<String> = cluster
            .store
            .changes(self.seen)
            .filter_map(|c| self.event(c))
            .collect();
        self.ready.extend(events);
        self.seen = cluster.store.version();
        true
    }

    async fn next(mut self) -> Option<(Chunk, Self)> {
        loop {
            if !self.ready.is_empty() {
                let text: String = self.ready.drain(..).collect();
                return Some((Ok(Bytes::from(text)), self));
            }
            if self.last || *self.stopping.borrow() || self.ends.is_some_and(|at| at <= Instant::now()) {
                return None;
            }
            self.changed.mark_unchanged();
            if !self.collect() {
                return None;
            }
            if !self.ready.is_empty() {
                continue;
            }
            if self.bookmarks && self.next_bookmark <= Instant::now() {
                self.next_bookmark = Instant::now() + self.bookmark_every;
                let mark = self.bookmark(false);
                self.ready.push(mark);
                continue;
            }
            self.wait().await;
        }
    }

    /// Until something changes, or a bookmark or the end is due. Health has no notification, so look now and then.
    async fn wait(&mut self) {
        const LOOK: Duration = Duration::from_millis(200);
        let mut until = Instant::now() + LOOK;
        if let Some(ends) = self.ends {
            until = until.min(ends);
        }
        if self.bookmarks {
            until = until.min(self.next_bookmark);
        }
        tokio::select! {
            _ = self.changed.changed() => {}
            _ = self.stopping.changed() => {}
            () = tokio::time::sleep_until(until.into()) => {}
        }
    }
}
