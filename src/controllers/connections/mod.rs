//! From a TenantConnection's name to a gateway that is ready to be asked.
//!
//! Every controller comes through here; nobody else reads credentials or builds a `Gateway`. One gateway lives per
//! TenantConnection as long as its endpoint, credentials, certificates and limits stay the same, so that its token is
//! kept; a rotated Secret makes a new one. What was read is trusted until a watch saw a change of one of the objects it
//! was read from, and for `TRUST` at most. Values of Secrets are held in types that cannot be printed.

mod material;
mod notice;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use kube::{Api, Client};
use tokio::{sync::Mutex as AsyncMutex, time::Instant, time::timeout};

use crate::trouble::Trouble;
use crate::{
    api::{TenantConnection, TenantConnectionSpec, conditions::Reason},
    gateway::{CallObserver, Gateway, Purpose, Scope, SessionPolicy, TimeLimits, WriteGate},
    runtime::{Bell, Kind, ObjectKey, metrics::Metrics},
};
pub use material::references;
use material::{Digest, Material};
use notice::Noticing;

/// How long what was read is trusted without a word from a watch.
const TRUST: Duration = Duration::from_secs(30);
/// How long reading one object may take.
const READ_LIMIT: Duration = Duration::from_secs(30);

/// A TenantConnection and its gateway. Cheap to clone.
#[derive(Clone)]
pub struct Connected {
    /// The gateway.
    pub gateway: Gateway,
    /// The spec it was made from.
    pub spec: Arc<TenantConnectionSpec>,
}

impl Connected {
    /// The same, for this purpose.
    #[must_use]
    pub fn on_behalf_of(mut self, purpose: Purpose) -> Self {
        self.gateway = self.gateway.on_behalf_of(purpose);
        self
    }

    /// The cluster `cluster` behind the gateway; where `None`, the connection's own choice.
    pub fn scope(&self, cluster: Option<&str>) -> Scope {
        self.gateway.scope(cluster.or(self.spec.cluster.as_deref()))
    }
}

/// The gateways, one per TenantConnection.
pub struct Connections {
    client: Client,
    metrics: Arc<Metrics>,
    session: SessionPolicy,
    times: TimeLimits,
    gate: Arc<dyn WriteGate>,
    /// Wakes a TenantConnection whose rights were found to be others; set once, when its controller starts.
    bell: OnceLock<Bell>,
    slots: Mutex<HashMap<ObjectKey, Arc<AsyncMutex<Slot>>>>,
    /// What each was last, for clean-ups; with the time since when there is none of that name.
    last: Mutex<HashMap<ObjectKey, (Connected, Option<Instant>)>>,
    changes: Changes,
}

/// How long a connection that is gone is kept for clean-ups: longer than any of them may take.
const KEPT: Duration = Duration::from_secs(600);

/// What is kept of one connection. Its lock also lets one reader read for all that wait.
#[derive(Default)]
struct Slot {
    gateway: Option<(Digest, Gateway)>,
    fresh: Option<Fresh>,
}

/// What was read, and from which state of which objects.
struct Fresh {
    connected: Connected,
    until: Instant,
    from: Vec<Mark>,
}

impl Connections {
    /// No connections yet. `gate` is asked before each write to any gateway.
    pub fn new(
        client: Client,
        metrics: Arc<Metrics>,
        session: SessionPolicy,
        times: TimeLimits,
        gate: Arc<dyn WriteGate>,
    ) -> Self {
        Self {
            client,
            metrics,
            session,
            times,
            gate,
            bell: OnceLock::new(),
            slots: Mutex::default(),
            last: Mutex::default(),
            changes: Changes::default(),
        }
    }

    /// Rings `bell` for a TenantConnection whose rights were found to be others than they seemed.
    pub fn tell(&self, bell: Bell) {
        // A second controller of TenantConnections does not exist.
        let _ = self.bell.set(bell);
    }

    /// A watch saw that an object changed. To be told before any controller hears of it.
    pub fn changed(&self, kind: Kind, key: &ObjectKey) {
        self.changes.bump(kind, key);
    }

    /// A TenantConnection is gone.
    pub fn forget(&self, key: &ObjectKey) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.remove(key);
        self.changes.drop(Kind::TenantConnection, key);
        self.metrics.connection_gone(key);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, gone)) = last.get_mut(key) {
            gone.get_or_insert_with(Instant::now);
        }
        last.retain(|_, (_, gone)| gone.is_none_or(|at| at.elapsed() < KEPT));
    }

    /// The gateway to clean up through: as [`get`](Self::get); where the connection or its Secret went together with what is
    /// to be cleaned up (`kubectl delete -f`, a namespace that goes), the one that was in use last, if this process knows it.
    pub async fn get_for_cleanup(&self, namespace: &str, name: &str) -> Result<Connected, Trouble> {
        let trouble = match self.get(namespace, name).await {
            Ok(connected) => return Ok(connected),
            Err(trouble) => trouble,
        };
        let went = matches!(
            trouble.reason,
            Reason::ConnectionNotFound | Reason::ReferenceNotFound
        );
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get(&ObjectKey::new(namespace, name)).filter(|_| went) {
            Some((connected, _)) => Ok(connected.clone()),
            None => Err(trouble),
        }
    }

    /// The gateway of the TenantConnection `name` in `namespace`, or what stands in the way.
    pub async fn get(&self, namespace: &str, name: &str) -> Result<Connected, Trouble> {
        let key = ObjectKey::new(namespace, name);
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.entry(key.clone()).or_default().clone()
        };
        let mut slot = slot.lock().await;
        if let Some(fresh) = &slot.fresh
            && fresh.until > Instant::now()
            && self.changes.unchanged(&fresh.from)
        {
            return Ok(fresh.connected.clone());
        }
        slot.fresh = None;
        // Marked before it is read: a change in between makes what was read stale, not lost.
        let mut from = vec![self.changes.mark(Kind::TenantConnection, &key)];
        let spec = match self.read_spec(&key).await {
            Ok(spec) => spec,
            Err(trouble) => {
                if trouble.reason == Reason::ConnectionNotFound {
                    slot.gateway = None;
                    self.forget(&key);
                }
                return Err(trouble);
            }
        };
        let mut material = Material::default();
        for (kind, name) in references(&spec) {
            let target = ObjectKey::new(namespace, name);
            from.push(self.changes.mark(kind, &target));
            material.insert(kind, &target.name, self.read_data(kind, &target).await?);
        }
        let ingredients = material.assemble(&key, &spec)?;
        let digest = ingredients.digest();
        let gateway = match slot.gateway.take() {
            Some((known, gateway)) if known == digest => gateway,
            _ => {
                let metered = self.metrics.observer(&key);
                // What held back the one before says nothing of this one.
                metered.held_back(false);
                let observer: Arc<dyn CallObserver> = match self.bell.get() {
                    Some(bell) => Arc::new(Noticing::new(metered, bell.clone(), key.clone())),
                    None => metered,
                };
                let gateway =
                    Gateway::new(ingredients.config(self.session, self.times, observer, self.gate.clone()))
                        .map_err(|error| {
                        Trouble::user(
                            Reason::InvalidSpec,
                            format!("TenantConnection {key} cannot work: {error}"),
                        )
                    })?;
                tracing::info!(connection = %key, "a new session: first use, or endpoint or credentials changed");
                gateway
            }
        };
        slot.gateway = Some((digest, gateway.clone()));
        let connected = Connected {
            gateway,
            spec: Arc::new(spec),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.insert(key, (connected.clone(), None));
        drop(last);
        slot.fresh = Some(Fresh {
            connected: connected.clone(),
            until: Instant::now() + TRUST,
            from,
        });
        Ok(connected)
    }

    async fn read_spec(&self, key: &ObjectKey) -> Result<TenantConnectionSpec, Trouble> {
        let api: Api<TenantConnection> = Api::namespaced(self.client.clone(), &key.namespace);
        match timeout(READ_LIMIT, api.get_opt(&key.name)).await {
            Ok(Ok(Some(connection))) if connection.spec.suspend => Err(Trouble::user(
                Reason::ConnectionSuspended,
                format!("TenantConnection {key} is suspended: set its spec.suspend to false"),
            )),
            Ok(Ok(Some(connection))) => Ok(connection.spec),
            Ok(Ok(None)) => Err(Trouble::user(
                Reason::ConnectionNotFound,
                format!(
                    "there is no TenantConnection {:?} in namespace {}: create it, or correct the name",
                    key.name, key.namespace
                ),
            )),
            Ok(Err(kube::Error::SerdeError(why))) => Err(Trouble::user(
                Reason::InvalidSpec,
                format!("TenantConnection {key} cannot be read ({why}): correct it"),
            )),
            Ok(Err(error)) => Err(unread("TenantConnection", key, &error.to_string())),
            Err(_) => Err(unread("TenantConnection", key, "no answer in time")),
        }
    }

    /// The data of a Secret or ConfigMap; `None` where there is none.
    async fn read_data(&self, kind: Kind, key: &ObjectKey) -> Result<Option<material::Data>, Trouble> {
        match timeout(READ_LIMIT, material::read(&self.client, kind, key)).await {
            Ok(Ok(data)) => Ok(data),
            Ok(Err(error)) => Err(unread(kind.as_str(), key, &error.to_string())),
            Err(_) => Err(unread(kind.as_str(), key, "no answer in time")),
        }
    }
}

fn unread(kind: &str, key: &ObjectKey, why: &str) -> Trouble {
    Trouble::passing(
        Reason::ConnectionNotReady,
        format!("{kind} {key} could not be read: {why}"),
    )
}

/// Counts the changes of the objects that connections were read from, and of no others.
#[derive(Default)]
struct Changes(Mutex<HashMap<(Kind, ObjectKey), u64>>);

/// An object, and how often it had changed at some time.
struct Mark {
    object: (Kind, ObjectKey),
    count: u64,
}

impl Changes {
    /// Counts the changes of an object from now on, at the latest.
    fn mark(&self, kind: Kind, key: &ObjectKey) -> Mark {
        let object = (kind, key.clone());
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = *counts.entry(object.clone()).or_default();
        Mark { object, count }
    }

    fn bump(&self, kind: Kind, key: &ObjectKey) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&(kind, key.clone())) {
            *count += 1;
        }
    }

    fn drop(&self, kind: Kind, key: &ObjectKey) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.remove(&(kind, key.clone()));
    }

    /// Whether none of the objects has changed since.
    fn unchanged(&self, marks: &[Mark]) -> bool {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks
            .iter()
            .all(|mark| counts.get(&mark.object) == Some(&mark.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_any_source_makes_what_was_read_stale() {
        let changes = Changes::default();
        let (secret, other) = (ObjectKey::new("team", "ks"), ObjectKey::new("team", "other"));
        let marks = [changes.mark(Kind::Secret, &secret)];
        changes.bump(Kind::Secret, &other);
        changes.bump(Kind::ConfigMap, &secret);
        assert!(changes.unchanged(&marks), "somebody else's change");
        changes.bump(Kind::Secret, &secret);
        assert!(!changes.unchanged(&marks));
        let again = [changes.mark(Kind::Secret, &secret)];
        assert!(changes.unchanged(&again));
        changes.drop(Kind::Secret, &secret);
        assert!(!changes.unchanged(&again), "what is not counted is not trusted");
    }
}
