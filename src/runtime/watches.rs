//! The watches: one per kind and namespace, shared by all controllers, metadata only. What they see is cut down to a
//! [`Sighting`] at once, so that nothing of an object stays in memory but its name and one number.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, join, join_all},
};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt,
        watcher::{self, InitialListStrategy, watcher},
    },
};
use tokio::sync::mpsc;

use super::{
    glimpse::Glimpse,
    health::Readiness,
    kind::{Kind, ObjectKey, Watched},
    metrics::Metrics,
    reach::{self, Doubt},
    shard::Shard,
    vanished::Told,
};

/// Which namespaces are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchScope {
    /// All.
    #[default]
    All,
    /// These; each has watches of its own, so that no right on the whole cluster is needed.
    Namespaces(Vec<String>),
}

impl WatchScope {
    /// The namespaces; `None` stands for all.
    fn shards(&self) -> Vec<Option<String>> {
        match self {
            Self::All => vec![None],
            Self::Namespaces(names) => {
                let mut names = names.clone();
                names.sort();
                names.dedup();
                names.into_iter().map(Some).collect()
            }
        }
    }
}

/// What a watch saw of which kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The kind.
    pub kind: Kind,
    /// Which of the kind's watches (one per namespace) saw it.
    pub shard: usize,
    /// What.
    pub what: Seen,
}

/// What a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All objects are told again from here on.
    Relisting,
    /// An object is new, changed or told again.
    Object(Glimpse),
    /// All were told again: what was not, is gone.
    Relisted,
    /// An object is gone.
    Gone(Glimpse),
}

/// How many sightings may wait for a controller. A watch waits when it is full; controllers never do slow things
/// between two sightings.
const CHANNEL: usize = 256;

/// Where sightings go.
pub type Subscriber = mpsc::Sender<Sighting>;

/// A channel for sightings.
pub fn channel() -> (Subscriber, mpsc::Receiver<Sighting>) {
    mpsc::channel(CHANNEL)
}

/// Told of each object that a watch saw, before any controller is. Must be quick.
pub type Witness = Arc<dyn Fn(Kind, &ObjectKey) + Send + Sync>;

/// All watches, before they run.
pub struct Watches {
    scope: WatchScope,
    shard: Shard,
    life: Duration,
    witness: Option<Witness>,
    kinds: BTreeMap<Kind, KindWatch>,
}

struct KindWatch {
    start: fn(Client, Vec<Option<String>>, Tellers) -> BoxFuture<'static, ()>,
    subscribers: Vec<Subscriber>,
}

/// Whom a watch tells what.
#[derive(Clone)]
struct Tellers {
    witness: Option<Witness>,
    subscribers: Vec<Subscriber>,
    shard: Shard,
    life: Duration,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    doubt: Doubt,
    /// Whether the API server lists by streaming, as far as is known.
    streams: Arc<AtomicBool>,
}

impl Tellers {
    /// Tells everybody, the witness first.
    async fn tell(&self, kind: Kind, shard: usize, what: Seen) {
        if let (Some(witness), Seen::Object(glimpse) | Seen::Gone(glimpse)) = (&self.witness, &what) {
            witness(kind, &glimpse.key);
        }
        let sighting = Sighting { kind, shard, what };
        for subscriber in &self.subscribers {
            // A closed channel is a controller that has been stopped.
            let _ = subscriber.send(sighting.clone()).await;
        }
    }
}

impl Watches {
    /// No watches yet. Each lives so long, and is then begun anew where it stood; one that says nothing for 5 s longer is
    /// taken for dead (an open connection whose other end is gone), so this is how long a change can stay unseen.
    pub fn new(scope: WatchScope, shard: Shard, life: Duration) -> Self {
        Self {
            scope,
            shard,
            life,
            witness: None,
            kinds: BTreeMap::new(),
        }
    }

    /// Which namespaces are watched.
    pub fn scope(&self) -> &WatchScope {
        &self.scope
    }

    /// Tells `witness` of everything, before any subscriber.
    pub fn tell_first(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    /// Tells `subscriber` of all objects of kind `K`.
    pub fn subscribe<K: Watched>(&mut self, subscriber: Subscriber) {
        let watch = self.kinds.entry(K::KIND).or_insert_with(|| KindWatch {
            start: |client, shards, tellers| watch_kind::<K>(client, shards, tellers).boxed(),
            subscribers: Vec::new(),
        });
        watch.subscribers.push(subscriber);
    }

    /// Watches until dropped. Never ends by itself: a watch that fails is begun again.
    pub fn run(self, client: Client, readiness: Readiness, metrics: Arc<Metrics>) -> BoxFuture<'static, ()> {
        let shards = self.scope.shards();
        let streams = Arc::new(AtomicBool::new(true));
        let (doubt, look) = reach::watch_over(client.clone(), readiness.clone());
        let watches = self.kinds.into_iter().map(|(kind, watch)| {
            readiness.lacks(watch_name(kind), format!("{} are not listed yet", kind.plural()));
            let tellers = Tellers {
                witness: self.witness.clone(),
                subscribers: watch.subscribers,
                shard: self.shard.clone(),
                life: self.life,
                readiness: readiness.clone(),
                metrics: metrics.clone(),
                doubt: doubt.clone(),
                streams: streams.clone(),
            };
            (watch.start)(client.clone(), shards.clone(), tellers)
        });
        let watches = join_all(watches.collect::<Vec<_>>());
        join(watches, look).map(|_| ()).boxed()
    }
}

fn watch_name(kind: Kind) -> String {
    format!("watch {}", kind.plural())
}

async fn watch_kind<K: Watched>(client: Client, shards: Vec<Option<String>>, tellers: Tellers) {
    let unlisted = std::sync::atomic::AtomicUsize::new(shards.len());
    let unlisted = &unlisted;
    let watches = shards.into_iter().enumerate().map(|(shard, namespace)| {
        let (client, tellers) = (client.clone(), tellers.clone());
        async move {
            let mut listed = false;
            let mut told = Told::default();
            loop {
                watch_shard::<K>(&client, namespace.as_deref(), shard, &tellers, &mut told, || {
                    use std::sync::atomic::Ordering::SeqCst;
                    let left = if listed {
                        unlisted.load(SeqCst)
                    } else {
                        listed = true;
                        unlisted.fetch_sub(1, SeqCst) - 1
                    };
                    if left == 0 {
                        tellers.readiness.has(&watch_name(K::KIND));
                    }
                })
                .await;
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    });
    join_all(watches).await;
}

/// Before a watch is begun anew because its kind is not served or not allowed.
const RESTART_PAUSE: Duration = Duration::from_secs(2);
/// How long the next object of a listing may take: a page is being read, perhaps after a pause.
const PAGE_LIMIT: Duration = Duration::from_secs(90);

/// Watches one kind in one namespace. Returns where only a fresh start can help: the kind is not served any more, may
/// not be watched any more, or the API server has forgotten where we stood (the watcher itself would go on to ask for the
/// same resource version).
async fn watch_shard<K: Watched>(
    client: &Client,
    namespace: Option<&str>,
    shard: usize,
    tellers: &Tellers,
    told: &mut Told,
    mut on_listed: impl FnMut(),
) {
    let api: Api<PartialObjectMeta<K>> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let config = watcher::Config {
        label_selector: if K::SHARDED {
            tellers.shard.query()
        } else {
            K::SELECTOR.map(Into::into)
        },
        timeout: Some(u32::try_from(tellers.life.as_secs().max(1)).unwrap_or(u32::MAX)),
        // Object by object in one request: a page of thousands need not be held, here or by the API server.
        initial_list_strategy: if tellers.streams.load(Ordering::Relaxed) {
            InitialListStrategy::StreamingList
        } else {
            InitialListStrategy::ListWatch
        },
        ..watcher::Config::default()
    };
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut listing = true;
    loop {
        let next = if listing {
            tokio::time::timeout(PAGE_LIMIT, events.next()).await
        } else {
            Ok(events.next().await)
        };
        let event = match next {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(_) => {
                let message = format!(
                    "{} are not told within {PAGE_LIMIT:?}: listed anew",
                    K::KIND.plural()
                );
                tracing::warn!(kind = %K::KIND, "{message}");
                tellers.metrics.watch_failed(K::KIND);
                tellers.doubt.raise();
                tellers.readiness.lacks(watch_name(K::KIND), message);
                return;
            }
        };
        let what = match event {
            Ok(watcher::Event::Init) => Seen::Relisting,
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                Seen::Object(Glimpse::of(&object.metadata))
            }
            Ok(watcher::Event::Delete(object)) => Seen::Gone(Glimpse::of(&object.metadata)),
            Ok(watcher::Event::InitDone) => Seen::Relisted,
            Err(error) if listing && is_refused_stream(&error) => {
                if tellers.streams.swap(false, Ordering::Relaxed) {
                    tracing::info!("the API server does not stream lists: they are read page by page");
                }
                return;
            }
            Err(error) => {
                tellers.metrics.watch_failed(K::KIND);
                let (message, hopeless) = explain(K::KIND, namespace, &error);
                tracing::warn!(kind = %K::KIND, "{message}");
                if is_doubtful(&error) {
                    tellers.doubt.raise();
                }
                if hopeless || listing {
                    tellers.readiness.lacks(watch_name(K::KIND), message);
                }
                if hopeless {
                    return;
                }
                continue;
            }
        };
        // Of their own kind the controllers know it themselves, and the more of it there is, the more it would cost.
        if !K::SHARDED {
            for gone in told.learn(&what) {
                tellers.tell(K::KIND, shard, Seen::Gone(gone)).await;
            }
        }
        let listed = what == Seen::Relisted;
        listing = (listing || what == Seen::Relisting) && !listed;
        tellers.tell(K::KIND, shard, what).await;
        if listed {
            on_listed();
        }
    }
}

/// Whether the API server does not know how to list by a watch, as one before 1.32 or with the feature `WatchList` off.
fn is_refused_stream(error: &watcher::Error) -> bool {
    let watcher::Error::WatchStartFailed(kube::Error::Api(status)) = error else {
        return false;
    };
    let words = ["sendInitialEvents", "resourceVersionMatch"];
    matches!(status.code, 400 | 422) && words.iter().any(|word| status.message.contains(word))
}

/// Whether the API server itself may be away.
fn is_doubtful(error: &watcher::Error) -> bool {
    use watcher::Error::{InitialListFailed, NoResourceVersion, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => Doubt::is_due(error),
        WatchError(status) => status.code >= 500,
        NoResourceVersion => false,
    }
}

/// What to say about a failed watch, and whether only a fresh start can help.
fn explain(kind: Kind, namespace: Option<&str>, error: &watcher::Error) -> (String, bool) {
    use watcher::Error::{InitialListFailed, WatchStartFailed};
    let place = namespace.map_or_else(|| "in all namespaces".into(), |n| format!("in namespace {n}"));
    let code = match error {
        InitialListFailed(kube::Error::Api(status)) | WatchStartFailed(kube::Error::Api(status)) => {
            status.code
        }
        watcher::Error::WatchError(status) => status.code,
        _ => 0,
    };
    let plural = kind.plural();
    match code {
        404 => (super::crds::not_installed(plural), true),
        // In the stream of a watch, and to a list, it is the watcher's own affair. As the answer to a watch it is not.
        410 => (
            format!("the watch of {plural} {place} was away for too long: all are listed again"),
            matches!(error, WatchStartFailed(_)),
        ),
        403 => (
            format!("tenantry may not list and watch {plural} {place}: check its role"),
            true,
        ),
        _ => (format!("cannot watch {plural} {place}: {error}"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_watched_once_each() {
        assert_eq!(WatchScope::All.shards(), [None]);
        let scope = WatchScope::Namespaces(vec!["b".into(), "a".into(), "b".into()]);
        assert_eq!(scope.shards(), [Some("a".to_owned()), Some("b".to_owned())]);
    }
}
