//! Starting and stopping a simulator. It runs on its own thread with its own runtime, so that tests with runtimes of
//! their own can share one, and it stops when its handle is dropped.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State as Extract};
use axum::{Router, http};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot, watch};

use crate::config::Config;
use crate::control::Control;
use crate::gateway;
use crate::ledger::Ledger;
use crate::listener::{CuttableListener, Scissors};
use crate::state::State;

/// A running simulator.
#[derive(Debug)]
pub struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) ledger: Ledger,
    /// Somebody changed something: the driver looks again when it has to come back.
    pub(crate) wake: Notify,
    /// Streams end when this turns true.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Simulator {
    /// Starts a simulator and waits until it listens.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        anyhow::ensure!(
            config.listen.ip().is_loopback(),
            "{} is not a loopback address: the simulator has no real security and listens on loopback only",
            config.listen
        );
        let ledger = Ledger::default();
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(&config, ledger.clone())),
            ledger,
            wake: Notify::new(),
            stopping,
        });
        let (ready, listening) = oneshot::channel();
        let on_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("ks-simulator".into())
            .spawn(move || run(config.listen, &on_thread, ready))?;
        let address = listening
            .await
            .map_err(|_| anyhow::anyhow!("the simulator's thread ended before it listened"))??;
        Ok(Self {
            address,
            shared,
            stop,
            thread: Some(thread),
        })
    }

    /// Base URL of the gateway, without a final slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the world while it runs.
    pub fn control(&self) -> Control {
        Control::new(self.shared.clone())
    }

    /// What happened so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // The thread ends at its next await; nothing on it blocks for long.
            let _ = thread.join();
        }
    }
}

fn run(listen: SocketAddr, shared: &Arc<Shared>, ready: oneshot::Sender<std::io::Result<SocketAddr>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let listener = match TcpListener::bind(listen).await {
            Ok(listener) => listener,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let address = listener.local_addr();
        let app = Router::new().fallback(serve).with_state(shared.clone());
        let service = app.into_make_service_with_connect_info::<Scissors>();
        tokio::spawn(drive(shared.clone()));
        let _ = ready.send(address);
        let mut stopping = shared.stopping.clone();
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => {}
            result = axum::serve(CuttableListener(listener), service) => {
                if let Err(error) = result {
                    tracing::error!(%error, "the simulator stopped listening");
                }
            }
        }
    });
    // Connections die with the runtime.
    runtime.shutdown_background();
}

/// Moves on what moves by itself: the controllers, Jenkins' queues, the events.
async fn drive(shared: Arc<Shared>) {
    const IDLE: i64 = 1_000;
    loop {
        let now = crate::clock::now();
        let due = shared.state().advance(now);
        let pause = due.map_or(IDLE, |due| (due - now).clamp(1, IDLE));
        let pause = Duration::from_millis(u64::try_from(pause).unwrap_or(1));
        let _ = tokio::time::timeout(pause, shared.wake.notified()).await;
    }
}

/// No request body is longer than this.
const BODY_LIMIT: usize = 64 * 1024 * 1024;

async fn serve(
    Extract(shared): Extract<Arc<Shared>>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: http::Request<Body>,
) -> http::Response<Body> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_LIMIT).await.unwrap_or_default();
    gateway::answer(shared, scissors, parts, body).await
}
