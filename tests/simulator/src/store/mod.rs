//! The object store of one cluster: Kubernetes objects with resource versions, a change log that watches resume from,
//! finalizers and optimistic locking.
//!
//! It knows nothing of HTTP or of what the objects mean. The API (`crate::apis`), ks-devops (`crate::v3`) and the
//! controller write through it; nobody changes an object behind its back.

mod error;
mod kind;
pub(crate) mod managed;
pub(crate) mod patch;
pub(crate) mod selector;
mod writer;

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;
use tokio::sync::watch;

pub(crate) use error::{Cause, StoreError};
pub(crate) use kind::{
    APPLICATIONS, CONFIG_MAPS, EVENTS, GIT_REPOSITORIES, KINDS, Kind, NAMESPACES, PIPELINES, PROJECTS, RUNS,
    SECRETS,
};

pub(crate) use writer::Writer;
use writer::{bump_generation, has_finalizers, keep_system_metadata, replace};

use crate::clock::{self, Millis};

/// Which part of an object a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One entry of the change log.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: &'static Kind,
    pub(crate) what: ChangeKind,
    pub(crate) object: Value,
    pub(crate) previous: Option<Value>,
}

/// An object that changed.
#[derive(Debug, Clone)]
pub(crate) struct Touched {
    pub(crate) kind: &'static Kind,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

type Key = (&'static str, String, String);

/// How many changes a watch can go back.
const LOG: usize = 20_000;
/// Characters of generated name suffixes.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The store.
#[derive(Debug)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Value>,
    version: u64,
    /// Versions up to this one can no longer be watched from.
    compacted: u64,
    log: VecDeque<Change>,
    /// Objects of DevOps kinds that changed since the controller looked last.
    touched: Vec<Touched>,
    /// Suffixes for the next generated names, for replays that must hit recorded names.
    pub(crate) suffixes: VecDeque<String>,
    /// What each field manager applied last: kind, namespace, name, manager.
    pub(crate) applied: BTreeMap<(&'static str, String, String, String), Value>,
    /// When each run was created; objects themselves only know the second.
    born: BTreeMap<(String, String), Millis>,
    notify: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        // Recorded clusters start somewhat above 400; versions are opaque anyway.
        const START: u64 = 448;
        Self {
            objects: BTreeMap::new(),
            version: START,
            compacted: START,
            log: VecDeque::new(),
            touched: Vec::new(),
            suffixes: VecDeque::new(),
            applied: BTreeMap::new(),
            born: BTreeMap::new(),
            notify: watch::Sender::new(START),
        }
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.name`
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// An annotation.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// A label.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

fn key(kind: &'static Kind, object: &Value) -> Key {
    (kind.plural, namespace(object).to_owned(), name(object).to_owned())
}

impl Store {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Forgets the change log: every watch from before is too old from now on.
    pub(crate) fn compact(&mut self) {
        self.compacted = self.version;
        self.log.clear();
    }

    /// Told whenever something changed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.notify.subscribe()
    }

    pub(crate) fn take_touched(&mut self) -> Vec<Touched> {
        std::mem::take(&mut self.touched)
    }

    pub(crate) fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<&Value> {
        self.objects
            .get(&(kind.plural, namespace.to_owned(), name.to_owned()))
    }

    /// Objects in order of namespace and name.
    pub(crate) fn list<'a>(
        &'a self,
        kind: &'static Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Value> {
        let from = (
            kind.plural,
            namespace.unwrap_or_default().to_owned(),
            String::new(),
        );
        self.objects
            .range(from..)
            .take_while(move |((plural, ns, _), _)| {
                *plural == kind.plural && namespace.is_none_or(|n| n == ns)
            })
            .map(|(_, object)| object)
    }

    /// Whether the controller has something to look at.
    pub(crate) fn was_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Changes after a version.
    pub(crate) fn changes(&self, after: u64) -> impl Iterator<Item = &Change> {
        let start = self.log.partition_point(|c| c.version <= after);
        self.log.range(start..)
    }

    /// A name suffix of five characters that Kubernetes could have made.
    pub(crate) fn suffix(&mut self) -> String {
        if let Some(given) = self.suffixes.pop_front() {
            return given;
        }
        let bytes = uuid::Uuid::new_v4();
        bytes.as_bytes()[..5]
            .iter()
            .map(|b| SUFFIX[usize::from(*b) % SUFFIX.len()] as char)
            .collect()
    }

    /// Stores a new object.
    pub(crate) fn create(
        &mut self,
        kind: &'static Kind,
        object: Value,
        manager: &str,
        dry_run: bool,
    ) -> Result<Value, StoreError> {
        let writer = Writer {
            dry_run,
            ..Writer::main(manager)
        };
        self.create_by(kind, object, writer)
    }

    /// Stores a new object: fills in uid, version, generation and time, and a generated name.
    pub(crate) fn create_by(
        &mut self,
        kind: &'static Kind,
        mut object: Value,
        writer: Writer<'_>,
    ) -> Result<Value, StoreError> {
        if name(&object).is_empty() {
            let base = text(&object, "/metadata/generateName").to_owned();
            if base.is_empty() {
                return Err(StoreError::invalid(
                    kind,
                    "",
                    vec![Cause::required(
                        "metadata.name",
                        "name or generateName is required",
                    )],
                ));
            }
            object["metadata"]["name"] = Value::from(format!("{base}{}", self.suffix()));
        }
        error::check_name(kind, name(&object))?;
        let key = key(kind, &object);
        if self.objects.contains_key(&key) {
            return Err(StoreError::exists(kind, &key.2));
        }
        object["apiVersion"] = Value::from(kind.api_version());
        object["kind"] = Value::from(kind.kind);
        let now = clock::now();
        let metadata = object["metadata"]
            .as_object_mut()
            .expect("metadata was indexed above");
        for foreign in [
            "resourceVersion",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "managedFields",
        ] {
            metadata.remove(foreign);
        }
        metadata.insert("uid".into(), Value::from(uuid::Uuid::new_v4().to_string()));
        metadata.insert("creationTimestamp".into(), Value::from(clock::rfc3339(now)));
        if kind.is_custom() {
            metadata.insert("generation".into(), Value::from(1));
        }
        if kind.status_subresource {
            object.as_object_mut().expect("an object").remove("status");
        }
        let hand = managed::Hand {
            manager: writer.manager,
            operation: writer.operation,
            part: Part::Main,
            applied: None,
        };
        managed::record(None, &mut object, hand, now);
        if writer.dry_run {
            return Ok(object);
        }
        if kind == &RUNS {
            self.born.insert((key.1.clone(), key.2.clone()), now);
        }
        Ok(self.put(kind, key, object, ChangeKind::Added))
    }

    /// Changes when an object was created.
    pub(crate) fn backdate(&mut self, kind: &'static Kind, namespace: &str, name: &str, time: &str) -> bool {
        let key = (kind.plural, namespace.to_owned(), name.to_owned());
        let object = self.objects.get_mut(&key);
        object.is_some_and(|o| {
            o["metadata"]["creationTimestamp"] = Value::from(time);
            true
        })
    }

    /// How long a run has existed.
    pub(crate) fn age_of_run(&self, namespace: &str, name: &str, now: Millis) -> Option<Millis> {
        self.born
            .get(&(namespace.to_owned(), name.to_owned()))
            .map(|born| now - born)
    }

    /// Replaces an object. `expected` is the version the writer saw; an empty one means "whatever is there".
    pub(crate) fn update(
        &mut self,
        kind: &'static Kind,
        mut object: Value,
        writer: Writer<'_>,
    ) -> Result<Value, StoreError> {
        let key = key(kind, &object);
        let old = self
            .objects
            .get(&key)
            .ok_or_else(|| StoreError::not_found(kind, &key.2))?
            .clone();
        let expected = text(&object, "/metadata/resourceVersion");
        if !expected.is_empty() && expected != text(&old, "/metadata/resourceVersion") {
            return Err(StoreError::conflict(kind, &key.2));
        }
        let sent_uid = text(&object, "/metadata/uid");
        if !sent_uid.is_empty() && sent_uid != text(&old, "/metadata/uid") {
            return Err(StoreError::conflict(kind, &key.2));
        }
        if kind.status_subresource {
            match writer.part {
                Part::Main => replace(&mut object, "status", old.get("status")),
                Part::Status => {
                    let status = object.get("status").cloned();
                    object = old.clone();
                    replace(&mut object, "status", status.as_ref());
                }
            }
        }
        keep_system_metadata(&mut object, &old);
        object["apiVersion"] = Value::from(kind.api_version());
        object["kind"] = Value::from(kind.kind);
        let unchanged = object == old;
        if unchanged && writer.applied.is_none() {
            return Ok(old);
        }
        let now = clock::now();
        if kind.is_custom() && object.get("spec") != old.get("spec") {
            bump_generation(&mut object);
        }
        let hand = managed::Hand {
            manager: writer.manager,
            operation: writer.operation,
            part: writer.part,
            applied: writer.applied,
        };
        managed::record(Some(&old), &mut object, hand, now);
        if unchanged && managed::same_owners(&old, &object) {
            return Ok(old);
        }
        if writer.dry_run {
            return Ok(object);
        }
        let finished = !text(&object, "/metadata/deletionTimestamp").is_empty() && !has_finalizers(&object);
        if finished {
            self.remove(kind, &key);
            return Ok(object);
        }
        Ok(self.put(kind, key, object, ChangeKind::Modified))
    }

    /// Deletes an object, or marks it for its finalizers. Returns it and whether it is gone.
    pub(crate) fn delete(
        &mut self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        at: Millis,
    ) -> Result<(Value, bool), StoreError> {
        let key = (kind.plural, namespace.to_owned(), name.to_owned());
        let mut object = self
            .objects
            .get(&key)
            .ok_or_else(|| StoreError::not_found(kind, name))?
            .clone();
        if !has_finalizers(&object) {
            self.remove(kind, &key);
            return Ok((object, true));
        }
        if text(&object, "/metadata/deletionTimestamp").is_empty() {
            object["metadata"]["deletionTimestamp"] = Value::from(clock::rfc3339(at));
            object["metadata"]["deletionGracePeriodSeconds"] = Value::from(0);
            bump_generation(&mut object);
            object = self.put(kind, key, object, ChangeKind::Modified);
        }
        Ok((object, false))
    }

    fn put(&mut self, kind: &'static Kind, key: Key, mut object: Value, what: ChangeKind) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = Value::from(self.version.to_string());
        let previous = self.objects.insert(key, object.clone());
        self.record(kind, what, object.clone(), previous);
        object
    }

    fn remove(&mut self, kind: &'static Kind, key: &Key) {
        if let Some(mut object) = self.objects.remove(key) {
            self.born.remove(&(key.1.clone(), key.2.clone()));
            self.applied
                .retain(|(plural, ns, name, _), _| (*plural, ns, name) != (key.0, &key.1, &key.2));
            self.version += 1;
            object["metadata"]["resourceVersion"] = Value::from(self.version.to_string());
            let uid = text(&object, "/metadata/uid").to_owned();
            self.record(kind, ChangeKind::Deleted, object.clone(), Some(object));
            self.collect_dependents(&uid);
        }
    }

    /// The garbage collector: what only the deleted object owned goes as well.
    fn collect_dependents(&mut self, uid: &str) {
        let owned: Vec<Key> = self
            .objects
            .iter()
            .filter(|(_, object)| {
                object
                    .pointer("/metadata/ownerReferences")
                    .and_then(Value::as_array)
                    .is_some_and(|refs| refs.iter().any(|r| r["uid"] == uid))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in owned {
            let kind = KINDS
                .into_iter()
                .find(|k| k.plural == key.0)
                .expect("a stored kind is known");
            let _ = self.delete(kind, &key.1, &key.2, clock::now());
        }
    }

    fn record(&mut self, kind: &'static Kind, what: ChangeKind, object: Value, previous: Option<Value>) {
        if kind.is_custom() {
            let (namespace, name) = (namespace(&object).to_owned(), name(&object).to_owned());
            self.touched.push(Touched {
                kind,
                namespace,
                name,
            });
        }
        self.log.push_back(Change {
            version: self.version,
            kind,
            what,
            object,
            previous,
        });
        if self.log.len() > LOG
            && let Some(dropped) = self.log.pop_front()
        {
            self.compacted = dropped.version;
        }
        self.notify.send_replace(self.version);
    }
}

#[cfg(test)]
mod tests;
