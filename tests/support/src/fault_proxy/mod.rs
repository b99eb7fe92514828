//! A proxy between the operator and the API server that spoils what is said between the two, on purpose and countably.
//!
//! ```no_run
//! # use tenantry_test_support::*;
//! # async fn example(cluster: &TestCluster) -> anyhow::Result<()> {
//! let proxy = FaultProxy::start(cluster.kubeconfig()).await?;
//! let operator = cluster
//!     .operator("target/debug/tenantry")
//!     .env("KUBECONFIG", proxy.kubeconfig()) // set last, it wins: the operator sees the proxy and nothing else
//!     .arg("operator")
//!     .start()
//!     .await?;
//!
//! // The next status that says `Submitted` is written, and nobody is told.
//! let record = Select::of("update buildrequests/status").with_body(|o| o["status"]["run"]["state"] == "Submitted");
//! proxy.fault(ApiFault::once(record, ApiAction::AnswerLost));
//! // The third ConfigMap is refused, as by a webhook; every second thought is answered with 409.
//! let refusal = Refusal::code(403).saying("admission webhook \"guard\" denied the request");
//! proxy.fault(ApiFault::once(Select::of("create configmaps"), ApiAction::Refuse(refusal)).after(2));
//! # use fault_proxy::Refusal;
//! let storm = proxy.fault(ApiFault::always(Select::of("update *"), ApiAction::Refuse(Refusal::code(409))));
//! proxy.remove_fault(storm);
//!
//! proxy.silence(Select::of("watch buildrequests")); // open and new watches stay open and tell nothing …
//! proxy.speak(); // … and tell it all now
//! proxy.kill_silently(&Select::of("watch *")); // open watches stay open for ever and tell nothing; new ones speak
//! proxy.drop_watches(&Select::of("watch *")); // all open watches are reset
//! proxy.fault(ApiFault::once(Select::of("watch *"), ApiAction::WatchError(Refusal::code(410))));
//! proxy.refuse().await; // connections are reset, and new ones refused …
//! proxy.accept().await; // … until now
//! assert!(proxy.count(&Select::of("update buildrequests/status")) > 0); // what was asked, spoiled or not
//! # Ok(()) }
//! ```
//!
//! The proxy speaks plain HTTP on a free port of 127.0.0.1 and asks the API server with the credentials of the kubeconfig
//! that it was given: the administrator's, or a ServiceAccount's
//! ([`TestCluster::kubeconfig_of`](crate::TestCluster::kubeconfig_of)). Answers are passed on piece by piece as they come.
//! It lives on a thread of its own and ends when it is dropped. Exec, attach and port-forward do not work through it.

mod fault;
mod request;
mod serve;
mod wire;

use std::{
    collections::HashSet,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use http::StatusCode;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use tempfile::TempPath;
use tokio::{
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    sync::watch,
};

pub use fault::{ApiAction, ApiFault, Refusal};
pub use request::{ApiRequest, Select};

use fault::Faults;
use wire::{Scissors, Wire};

/// A request that came to the proxy.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// What it asked for.
    pub request: ApiRequest,
    /// Whether a fault was in force for it.
    pub spoiled: bool,
    /// The status of the answer; absent where there was none, or none yet.
    pub status: Option<u16>,
    /// Bytes of the body that came with it.
    pub sent: usize,
    /// Bytes of the answer's body so far, as the API server gave them, compressed perhaps.
    pub received: usize,
}

/// The proxy. Dropped, it ends, and what is connected to it is cut.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    kubeconfig: TempPath,
    /// Whether connections are wanted; what follows says whether they are taken.
    wanted: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    runtime: Option<Runtime>,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

struct Shared {
    client: Client,
    state: Mutex<State>,
    silenced: watch::Sender<Vec<Select>>,
}

#[derive(Default)]
struct State {
    faults: Faults,
    seen: Vec<SeenRequest>,
    connections: Vec<(u64, Scissors)>,
    watches: Vec<(u64, ApiRequest, Scissors)>,
    /// Those that say nothing any more.
    dead: HashSet<u64>,
    last: u64,
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request. Returns what happens to it, and its number.
    fn meet(&self, request: &ApiRequest, body: &[u8]) -> (Option<ApiAction>, usize) {
        let mut state = self.state();
        let action = state.faults.take(request, body);
        state.seen.push(SeenRequest {
            request: request.clone(),
            spoiled: action.is_some(),
            status: None,
            sent: body.len(),
            received: 0,
        });
        (action, state.seen.len() - 1)
    }

    fn answered(&self, number: usize, status: StatusCode) {
        if let Some(seen) = self.state().seen.get_mut(number) {
            seen.status = Some(status.as_u16());
        }
    }

    fn received(&self, number: usize, bytes: usize) {
        if let Some(seen) = self.state().seen.get_mut(number) {
            seen.received += bytes;
        }
    }

    fn watch_begins(self: &Arc<Self>, request: ApiRequest, scissors: Scissors) -> OpenWatch {
        let mut state = self.state();
        let number = state.next();
        state.watches.push((number, request.clone(), scissors));
        OpenWatch {
            shared: Arc::clone(self),
            request,
            number,
            silenced: self.silenced.subscribe(),
        }
    }
}

/// A watch that is being passed on.
struct OpenWatch {
    shared: Arc<Shared>,
    request: ApiRequest,
    number: u64,
    silenced: watch::Receiver<Vec<Select>>,
}

impl OpenWatch {
    /// Waits while the watch is silenced; for ever where it is dead.
    async fn may_speak(&mut self) {
        if self.shared.state().dead.contains(&self.number) {
            std::future::pending::<()>().await;
        }
        let request = &self.request;
        let speaks = |silenced: &Vec<Select>| !silenced.iter().any(|select| select.fits(request, b""));
        let _ = self.silenced.wait_for(speaks).await;
    }
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        self.shared
            .state()
            .watches
            .retain(|(number, ..)| *number != self.number);
    }
}

impl FaultProxy {
    /// Starts a proxy that asks the API server as this kubeconfig says.
    pub async fn start(kubeconfig: &Path) -> Result<Self> {
        let upstream = Kubeconfig::read_from(kubeconfig)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fault-proxy")
            .enable_all()
            .build()?;
        let (wanted, wants) = watch::channel(true);
        let (listens, listening) = watch::channel(true);
        let (client, listener, reserved) = runtime
            .spawn(async move {
                let client = client(upstream).await?;
                // Bound and never listening: keeps the port ours while connections are refused.
                let reserved = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                let listener = listener(reserved.local_addr()?)?;
                anyhow::Ok((client, listener, reserved))
            })
            .await??;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            client,
            state: Mutex::default(),
            silenced: watch::Sender::new(Vec::new()),
        });
        runtime.spawn(listen(Arc::clone(&shared), listener, reserved, wants, listens));
        Ok(Self {
            shared,
            address,
            kubeconfig: kubeconfig_for(address)?,
            wanted,
            listening,
            runtime: Some(runtime),
        })
    }

    /// A kubeconfig that leads to the proxy; the file goes with the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Lets something happen; the number is for [`remove_fault`](Self::remove_fault).
    pub fn fault(&self, fault: ApiFault) -> u64 {
        self.shared.state().faults.add(fault)
    }

    /// Takes a fault back. False where it has struck for the last time already.
    pub fn remove_fault(&self, number: u64) -> bool {
        self.shared.state().faults.remove(number)
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// How many faults are still in force.
    pub fn faults(&self) -> usize {
        self.shared.state().faults.len()
    }

    /// All requests that came, in their order.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.shared.state().seen.clone()
    }

    /// How many requests came that fit. (Bodies are not kept: a pattern with a body fits none.)
    pub fn count(&self, select: &Select) -> usize {
        let state = self.shared.state();
        state
            .seen
            .iter()
            .filter(|seen| select.fits(&seen.request, b""))
            .count()
    }

    /// How many watches are open that fit.
    pub fn watches(&self, select: &Select) -> usize {
        let state = self.shared.state();
        state
            .watches
            .iter()
            .filter(|(_, request, _)| select.fits(request, b""))
            .count()
    }

    /// The open watches that fit stay open and never tell anything again, not even their end: as when the other machine is
    /// gone and nobody says so. New ones are served. Returns how many there were.
    pub fn kill_silently(&self, select: &Select) -> usize {
        let mut state = self.shared.state();
        let fit = state
            .watches
            .iter()
            .filter(|(_, request, _)| select.fits(request, b""));
        let dead: Vec<_> = fit.map(|(number, ..)| *number).collect();
        let count = dead.len();
        state.dead.extend(dead);
        count
    }

    /// Resets the open watches that fit, and returns how many there were.
    pub fn drop_watches(&self, select: &Select) -> usize {
        let state = self.shared.state();
        let fit = state
            .watches
            .iter()
            .filter(|(_, request, _)| select.fits(request, b""));
        fit.map(|(.., scissors)| scissors.cut()).count()
    }

    /// From now on watches that fit stay open, also new ones, and tell nothing.
    pub fn silence(&self, select: Select) {
        self.shared.silenced.send_modify(|silenced| silenced.push(select));
    }

    /// All watches speak again, and tell what they have kept back.
    pub fn speak(&self) {
        self.shared.silenced.send_modify(Vec::clear);
    }

    /// Resets all connections, and refuses new ones until [`accept`](Self::accept).
    pub async fn refuse(&self) {
        self.switch(false).await;
        let state = self.shared.state();
        for (_, scissors) in &state.connections {
            scissors.cut();
        }
    }

    /// Takes connections again, on the same port.
    pub async fn accept(&self) {
        self.switch(true).await;
    }

    async fn switch(&self, on: bool) {
        self.wanted.send_replace(on);
        // Ends early only with the proxy.
        let _ = self
            .listening
            .clone()
            .wait_for(|listening| *listening == on)
            .await;
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn client(kubeconfig: Kubeconfig) -> Result<Client> {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // What the operator sees is what the API server said the first time, and a watch may be silent for hours.
    config.default_retry = false;
    config.read_timeout = None;
    config.write_timeout = None;
    config.connect_timeout = Some(Duration::from_secs(10));
    Ok(Client::try_from(config)?)
}

fn kubeconfig_for(address: SocketAddr) -> Result<TempPath> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
        "clusters": [{"name": "proxy", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "proxy", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
    });
    let mut file = tempfile::Builder::new()
        .prefix("tenantry-kubeconfig-")
        .tempfile()?;
    serde_json::to_writer(&mut file, &config)?;
    Ok(file.into_temp_path())
}

fn socket(address: SocketAddr) -> Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address).with_context(|| format!("bind {address}"))?;
    Ok(socket)
}

fn listener(address: SocketAddr) -> Result<TcpListener> {
    Ok(socket(address)?.listen(1024)?)
}

/// Takes connections while they are wanted.
async fn listen(
    shared: Arc<Shared>,
    first: TcpListener,
    reserved: TcpSocket,
    mut wanted: watch::Receiver<bool>,
    listening: watch::Sender<bool>,
) -> Result<()> {
    let address = reserved.local_addr()?;
    let mut open = Some(first);
    loop {
        let want = *wanted.borrow_and_update();
        match (&open, want) {
            (Some(_), false) => open = None,
            (None, true) => open = Some(listener(address)?),
            _ => {}
        }
        listening.send_replace(open.is_some());
        let accepted = async {
            match &open {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => changed?,
            accepted = accepted => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(Arc::clone(&shared), Wire { stream, scissors: Scissors::default() }));
            }
        }
    }
}

async fn connection(shared: Arc<Shared>, wire: Wire) {
    let scissors = wire.scissors.clone();
    let number = {
        let mut state = shared.state();
        let number = state.next();
        state.connections.push((number, scissors.clone()));
        number
    };
    let service = service_fn(|request| serve::answer(Arc::clone(&shared), scissors.clone(), request));
    let served = http1::Builder::new().serve_connection(TokioIo::new(wire), service);
    tokio::select! {
        // The client's affair: it sees what it made of it.
        _ = served => {}
        () = scissors.is_cut() => {}
    }
    shared.state().connections.retain(|(other, _)| *other != number);
}
