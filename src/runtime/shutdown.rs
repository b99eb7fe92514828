//! Two signals: the first stops taking work and lets what is in flight end, the second ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How the process is asked to stop. All clones are the same.
#[derive(Clone, Debug)]
pub struct Shutdown {
    stop: CancellationToken,
    grace: Duration,
}

impl Shutdown {
    /// Nothing asks to stop yet; what is in flight then may take `grace`.
    pub fn new(grace: Duration) -> Self {
        Self {
            stop: CancellationToken::new(),
            grace,
        }
    }

    /// Ends when no new work is to be taken.
    pub async fn requested(&self) {
        self.stop.cancelled().await;
    }

    /// Whether no new work is to be taken.
    pub fn is_requested(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Asks everybody to stop.
    pub fn request(&self) {
        self.stop.cancel();
    }

    /// How long what is in flight may take.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Asks everybody to stop at SIGTERM or SIGINT, and ends the process at the second one.
    pub fn listen(&self) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let this = self.clone();
        Ok(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if this.is_requested() {
                    tracing::warn!("{name} again: leaving at once");
                    std::process::exit(130);
                }
                tracing::info!(grace = ?this.grace, "{name}: finishing what is in flight");
                this.request();
            }
        })
    }
}
