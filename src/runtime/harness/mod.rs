//! The loop around a [`Reconciler`]: from sightings, rings and timers to reconciles, one at a time per object.

#[cfg(test)]
mod bench;
mod holdings;
mod invalid;
mod known;
mod marks;
mod run;
mod shares;

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use kube::core::Status;
use tokio::sync::mpsc;

use crate::api::conditions::bounded;

use super::{
    backoff::Backoffs,
    events::Announcer,
    health::Readiness,
    kind::{Kind, ObjectKey, Watched},
    lease::Fenced,
    metrics::Metrics,
    references::Reference,
    settled::Settled,
    shard::Shard,
    shutdown::Shutdown,
    watches::{self, Subscriber, WatchScope, Watches, Witness},
};
use run::Loop;

/// What one kind needs to be reconciled. See the [module page](super) for how it is plugged in.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Watched;

    /// How long one reconcile may take; then it is dropped where it stands, like in a crash, and begun again later.
    const TIME_LIMIT: Duration = Duration::from_secs(300);

    /// Brings the world closer to what `object` asks for. `object` was read just now. What stands in the way of the
    /// object belongs into its status and is an `Ok`; an `Err` is what could not even be reported.
    fn reconcile(
        &self,
        object: Arc<Self::Kind>,
    ) -> impl Future<Output = Result<Requeue, ReconcileError>> + Send;

    /// What wakes `object` when it changes. Asked before each reconcile. A finished object should name nothing.
    fn references(&self, object: &Self::Kind) -> BTreeSet<Reference>;

    /// Something that this object made was changed or removed by somebody else. Told before it is woken for it. Quick, and
    /// no I/O.
    fn disturbed(&self, key: &ObjectKey) {
        let _ = key;
    }

    /// An object is gone: forget what was kept for it. Quick, and no I/O.
    fn gone(&self, key: &ObjectKey) {
        let _ = key;
    }
}

/// What comes after a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Nothing, until the object or something it refers to changes.
    OnChange,
    /// The same, and nothing is left to do, not for the next process either: it is told so by a [mark](super::settled).
    Settled(Settled),
    /// Nothing until something changes, and a look after so long at the latest. Not a failure.
    After(Duration),
    /// Something failed that time may mend: again after the object's backoff, and not before `at_least`.
    Backoff {
        /// The earliest moment, where the other side named one.
        at_least: Option<Duration>,
    },
}

/// Why a reconcile could neither do its work nor report.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Our own API server refused something or did not answer.
    #[error("{what}: {}", plain(source))]
    Api {
        /// What was tried, with the object.
        what: String,
        /// What came back.
        source: kube::Error,
    },
    /// Our own API server took what was written and did not keep all of it.
    #[error(
        "the API server does not keep {field} of {kind} {key}: the CRD {}.{} is older than this operator, which does \
         nothing that it cannot write down: kubectl apply --server-side -f crds/",
        kind.plural(), crate::api::GROUP
    )]
    Dropped {
        /// The kind of the object.
        kind: Kind,
        /// The object.
        key: ObjectKey,
        /// What is missing.
        field: String,
    },
    /// Something else; says what and with which object.
    #[error("{0}")]
    Other(String),
}

/// What an API server or the way to it said. kube's own text repeats each message with its `Debug` form.
pub fn plain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}

impl ReconcileError {
    /// What was tried when the API server said no: for `map_err`.
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source }
    }

    /// Whether somebody else changed the object meanwhile: normal, and soon over.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.code == 409)
    }

    /// Whether a write was not sent because this process does not hold the lease any more.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Api { source, .. } if Fenced::caused(source))
    }

    /// The API server's words where it takes no change of the object as it is: it breaks the schema of its kind, or a
    /// policy of the cluster.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } if status.code == 422 => Some(&status.message),
            _ => None,
        }
    }

    /// What a person should hear of who looks at the object: our API server was asked for something and refused it, as a
    /// webhook, a policy, a quota or a role has it. Trouble that passes by itself is not told.
    pub fn news(&self) -> Option<String> {
        let text = match self {
            Self::Dropped { .. } => self.to_string(),
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } if matches!(status.code, 400 | 403 | 422) && !is_terminating(status) => {
                format!("could not {self}; it is tried again: change the object, or what refuses it")
            }
            Self::Api {
                source: kube::Error::Api(status),
                ..
            } if status.message.contains("webhook") => format!("could not {self}; it is tried again"),
            Self::Api { .. } | Self::Other(_) => return None,
        };
        Some(bounded(&text, 1000))
    }

    /// Whether the object does not exist any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.code == 404)
    }
}

/// Whether something was refused because its namespace is going.
pub fn is_terminating(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating")
}

/// What people read where the API server does not let us take our finalizer off an object that is being deleted.
pub fn let_go_refused(words: &str) -> String {
    bounded(
        &format!(
            "it cannot be deleted as long as the API server refuses every change of it ({words}): correct the object, or \
             the policy that refuses it; it is tried again"
        ),
        1000,
    )
}

/// Asks for the reconcile of an object, from anywhere. All clones are the same. Ringing twice is ringing once.
#[derive(Clone, Debug)]
pub struct Bell(mpsc::UnboundedSender<ObjectKey>);

impl Bell {
    /// A bell, and what hears it; the host makes them. Unbounded, because ringing must never block a reconcile, and the
    /// loop takes rings at once and holds each key once.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<ObjectKey>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Reconcile the object soon. Does nothing where it is not known.
    pub fn ring(&self, key: ObjectKey) {
        // It fails when the controller has been stopped.
        let _ = self.0.send(key);
    }
}

/// What every loop uses.
#[derive(Clone)]
pub struct Env {
    /// Our own cluster.
    pub client: kube::Client,
    /// Writes Events.
    pub announcer: Announcer,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Failures in a row, per object.
    pub backoffs: Backoffs,
    /// What is missing before we are ready.
    pub readiness: Readiness,
    /// Which objects of our kinds we look after.
    pub shard: Shard,
    /// How we are asked to stop.
    pub shutdown: Shutdown,
    /// Reconciles of one kind at a time.
    pub concurrency: usize,
    /// How long a watch lives.
    pub watch_life: Duration,
}

/// Runs controllers over shared watches.
pub struct Host {
    env: Env,
    watches: Watches,
    loops: Vec<(Kind, BoxFuture<'static, ()>)>,
}

impl Host {
    /// A host without controllers.
    pub fn new(env: Env, scope: WatchScope) -> Self {
        Self {
            watches: Watches::new(scope, env.shard.clone(), env.watch_life),
            env,
            loops: Vec::new(),
        }
    }

    /// Which namespaces are watched.
    pub fn scope(&self) -> &WatchScope {
        self.watches.scope()
    }

    /// Tells `witness` of everything that is watched, before any controller hears of it.
    pub fn tell_first(&mut self, witness: Witness) {
        self.watches.tell_first(witness);
    }

    /// Begins to set up the controller that `make` makes.
    pub fn control<R: Reconciler>(&mut self, make: impl FnOnce(Bell) -> R) -> Setup<'_, R> {
        let (bell, rings) = Bell::new();
        let (subscriber, sightings) = watches::channel();
        self.watches.subscribe::<R::Kind>(subscriber.clone());
        let run = Loop::new(make(bell), self.env.clone(), sightings, rings);
        Setup {
            host: self,
            subscriber,
            run,
        }
    }

    /// The loops, each by its kind, and the watches. None of them ends before a shutdown is asked for; the watches not
    /// even then.
    pub fn into_parts(self) -> (Vec<(Kind, BoxFuture<'static, ()>)>, BoxFuture<'static, ()>) {
        let Env {
            client,
            readiness,
            metrics,
            ..
        } = self.env;
        (self.loops, self.watches.run(client, readiness, metrics))
    }
}

/// A controller that is being set up.
#[must_use = "a controller runs after `start`"]
pub struct Setup<'a, R: Reconciler> {
    host: &'a mut Host,
    subscriber: Subscriber,
    run: Loop<R>,
}

impl<R: Reconciler> Setup<'_, R> {
    /// Watches `K` too: the objects that name one of them in [`Reconciler::references`] are woken when it changes.
    pub fn wakes_on<K: Watched>(self) -> Self {
        self.host.watches.subscribe::<K>(self.subscriber.clone());
        self
    }

    /// Watches `K` too: the controller owner of one of them is woken when it changes.
    pub fn owns<K: Watched>(mut self) -> Self {
        self.run.owns(K::KIND);
        self.wakes_on::<K>()
    }

    /// Watches `K` too: the controller owner of one of them is woken when somebody else changed its data or removed it, and
    /// not by what we write ourselves.
    pub fn minds<K: Watched>(mut self) -> Self {
        self.run.minds(K::KIND);
        self.wakes_on::<K>()
    }

    /// Leaves the controller to the host.
    pub fn start(self) {
        let Self {
            host,
            subscriber,
            run,
        } = self;
        drop(subscriber);
        host.loops.push((R::Kind::KIND, Box::pin(run.run())));
    }
}
