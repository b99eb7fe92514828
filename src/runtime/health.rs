//! What is missing before we are ready, and the pages that say so.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context as _;
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// What is missing before we are ready, by name. All clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, String>>>);

impl Readiness {
    /// `what` is missing: `why` tells a person what to do.
    pub fn lacks(&self, what: impl Into<String>, why: impl Into<String>) {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        missing.insert(what.into(), why.into());
    }

    /// `what` is there.
    pub fn has(&self, what: &str) {
        let mut missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        missing.remove(what);
    }

    /// What is missing, in words, sorted, each once.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reasons: Vec<_> = missing.values().cloned().collect();
        reasons.sort();
        reasons.dedup();
        reasons
    }
}

/// `/healthz`: the process answers. `/readyz`: 200, or 503 and a line for each thing that is missing.
fn health_pages(readiness: Readiness) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(readiness)
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let missing = readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let lines = missing.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}");
        text
    });
    (StatusCode::SERVICE_UNAVAILABLE, lines)
}

/// `/metrics`, in the format of OpenMetrics.
fn metrics_page(metrics: Arc<Metrics>) -> Router {
    let page = |State(metrics): State<Arc<Metrics>>| async move {
        (
            [(
                "content-type",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            metrics.render(),
        )
    };
    Router::new().route("/metrics", get(page)).with_state(metrics)
}

/// The two servers, listening.
pub struct Servers {
    health: TcpListener,
    metrics: TcpListener,
}

/// Where they listen.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Addresses {
    /// `/healthz` and `/readyz`.
    pub health: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
}

impl Servers {
    /// Listens; port 0 takes a free one.
    pub async fn bind(health: SocketAddr, metrics: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            health: TcpListener::bind(health)
                .await
                .with_context(|| format!("cannot listen on {health} (--health-address)"))?,
            metrics: TcpListener::bind(metrics)
                .await
                .with_context(|| format!("cannot listen on {metrics} (--metrics-address)"))?,
        })
    }

    /// Where.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        Ok(Addresses {
            health: self.health.local_addr()?,
            metrics: self.metrics.local_addr()?,
        })
    }

    /// Answers until `stop`.
    pub async fn serve(
        self,
        readiness: Readiness,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let health = axum::serve(self.health, health_pages(readiness))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        let metrics =
            axum::serve(self.metrics, metrics_page(metrics)).with_graceful_shutdown(stop.cancelled_owned());
        tokio::try_join!(health.into_future(), metrics.into_future()).context("health server")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn page(readiness: &Readiness) -> (StatusCode, String) {
        let response = readyz(State(readiness.clone())).await.into_response();
        let status = response.status();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readyz_names_what_is_missing_until_it_is_there() {
        let readiness = Readiness::default();
        readiness.lacks("watch buildrequests", "CRD b is not installed");
        readiness.lacks("watch artifactfetches", "CRD a is not installed");
        readiness.lacks("api server", "CRD a is not installed");
        assert_eq!(
            page(&readiness).await,
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "CRD a is not installed\nCRD b is not installed\n".into()
            )
        );
        for what in ["watch buildrequests", "watch artifactfetches", "api server"] {
            readiness.has(what);
        }
        assert_eq!(page(&readiness).await, (StatusCode::OK, "ok\n".into()));
    }
}
