//! Kubernetes Events. The name of an Event is made from what it says, so that saying the same again (also after a
//! restart) counts up one Event instead of adding another, and saying something else never hides behind the first.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::metrics::Metrics;
use crate::{
    api::conditions::{Reason, bounded},
    crash_points::{Write, around},
};

/// Who says it.
const CONTROLLER: &str = "tenantry.dev/tenantry";
/// The API server takes 1 KiB.
const MAX_NOTE: usize = 1000;
/// An Event is worth no longer wait.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Good to know.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Severity {
    /// A warning or not.
    pub const fn warning_if(warning: bool) -> Self {
        if warning { Self::Warning } else { Self::Normal }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Writes Events. Cheap to clone. What cannot be written is logged and counted, and stops nobody.
#[derive(Clone)]
pub struct Announcer {
    client: Client,
    metrics: Arc<Metrics>,
    instance: Arc<str>,
}

impl Announcer {
    /// Speaks through `client`, as the process `instance` (the pod's name).
    pub fn new(client: Client, metrics: Arc<Metrics>, instance: &str) -> Self {
        let instance = if instance.is_empty() { "tenantry" } else { instance };
        Self {
            client,
            metrics,
            instance: bounded(instance, 128).into(),
        }
    }

    /// Something good to know about `object`.
    pub async fn normal(
        &self,
        object: &impl Resource<DynamicType = ()>,
        reason: Reason,
        note: impl AsRef<str>,
    ) {
        self.say(Severity::Normal, &object.object_ref(&()), reason, note.as_ref())
            .await;
    }

    /// Something about `object` that somebody should look at.
    pub async fn warning(
        &self,
        object: &impl Resource<DynamicType = ()>,
        reason: Reason,
        note: impl AsRef<str>,
    ) {
        self.say(Severity::Warning, &object.object_ref(&()), reason, note.as_ref())
            .await;
    }

    /// The same, for an object of which only the reference is known.
    pub async fn say(&self, severity: Severity, about: &ObjectReference, reason: Reason, note: &str) {
        let said = match timeout(TIME_LIMIT, self.write(severity, about, reason, note)).await {
            Ok(said) => said.map_err(|e| e.to_string()),
            Err(_) => Err("no answer in time".into()),
        };
        if let Err(error) = said {
            self.metrics.event_dropped();
            tracing::warn!(
                reason = reason.as_str(),
                note,
                "could not write an Event about {}/{}: {error}",
                about.namespace.as_deref().unwrap_or_default(),
                about.name.as_deref().unwrap_or_default(),
            );
        }
    }

    async fn write(
        &self,
        severity: Severity,
        about: &ObjectReference,
        reason: Reason,
        note: &str,
    ) -> kube::Result<()> {
        let event = event(&self.instance, severity, about, reason, note, Timestamp::now());
        let events: Api<Event> = Api::namespaced(
            self.client.clone(),
            about.namespace.as_deref().unwrap_or("default"),
        );
        match around(Write::Event, events.create(&PostParams::default(), &event)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => return other.map(|_| ()),
        }
        let name = event.metadata.name.as_deref().unwrap_or_default();
        let known = events.get(name).await?;
        let series = EventSeries {
            count: known.series.map_or(2, |s| s.count.saturating_add(1)),
            last_observed_time: MicroTime(Timestamp::now()),
        };
        let patch = Patch::Merge(json!({ "series": series }));
        let params = PatchParams::default();
        let patched = events.patch(name, &params, &patch);
        around(Write::Event, patched).await.map(|_| ())
    }
}

fn event(
    instance: &str,
    severity: Severity,
    about: &ObjectReference,
    reason: Reason,
    note: &str,
    now: Timestamp,
) -> Event {
    let note = bounded(note, MAX_NOTE);
    let mut digest = Sha256::new();
    for part in [
        about.uid.as_deref().unwrap_or_default(),
        severity.as_str(),
        reason.as_str(),
        &note,
    ] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let digest = digest.finalize();
    let suffix = digest[..8].iter().fold(String::new(), |mut hex, byte| {
        // Writing into a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    let object = about.name.as_deref().unwrap_or("tenantry");
    // Names are ASCII, so this cuts no character; 253 is the longest name there is.
    let object = object.get(..230).unwrap_or(object).trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{object}.{suffix}")),
            namespace: about.namespace.clone(),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(now)),
        note: Some(note),
        reason: Some(reason.as_str().into()),
        regarding: Some(about.clone()),
        reporting_controller: Some(CONTROLLER.into()),
        reporting_instance: Some(instance.into()),
        type_: Some(severity.as_str().into()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            name: Some(name.into()),
            namespace: Some("team".into()),
            uid: Some("u1".into()),
            ..ObjectReference::default()
        }
    }

    fn name(severity: Severity, about: &ObjectReference, reason: Reason, note: &str) -> String {
        let event = event("me", severity, about, reason, note, Timestamp::UNIX_EPOCH);
        event.metadata.name.unwrap()
    }

    #[test]
    fn the_same_word_is_the_same_event_and_another_is_another() {
        let first = name(Severity::Warning, &about("a"), Reason::BuildFailed, "x");
        assert_eq!(
            first,
            name(Severity::Warning, &about("a"), Reason::BuildFailed, "x")
        );
        assert!(first.starts_with("a."), "{first}");
        for other in [
            name(Severity::Normal, &about("a"), Reason::BuildFailed, "x"),
            name(Severity::Warning, &about("b"), Reason::BuildFailed, "x"),
            name(Severity::Warning, &about("a"), Reason::BuildAborted, "x"),
            name(Severity::Warning, &about("a"), Reason::BuildFailed, "y"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn names_and_notes_stay_within_what_the_api_server_takes() {
        let long = format!("{}.{}", "a".repeat(229), "b".repeat(23));
        let event = event(
            "me",
            Severity::Normal,
            &about(&long),
            Reason::Ready,
            &"ä".repeat(5000),
            Timestamp::UNIX_EPOCH,
        );
        let name = event.metadata.name.unwrap();
        assert!(name.len() <= 253 && !name.contains(".."), "{name}");
        assert!(event.note.unwrap().len() <= 1024);
    }
}
