//! Reads and writes the Lease. Every write is conditional: a new Lease is created, an old one replaced under the version
//! that was read, so the API server lets exactly one of several replicas have it.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{Api, Client, api::PostParams};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    LeaseTimes, clock,
    decide::{Seen, Step, held, next_step, observe, released},
    fence::Fence,
};
use crate::runtime::{health::Readiness, metrics::Metrics};

/// What readiness lacks while the Lease cannot be read or written.
const LEASE: &str = "lease";
/// How long giving the Lease back may take.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// Where the Lease is, and who wants it.
#[derive(Clone, Debug)]
pub struct LeasePlace {
    /// Its namespace.
    pub namespace: String,
    /// Its name: replicas with the same one are one another's stand-ins.
    pub name: String,
    /// Who we are, unlike any other process, also an earlier one in the same pod.
    pub identity: String,
}

/// Gets the Lease, keeps it, and gives it back.
pub struct Elector {
    api: Api<Lease>,
    place: LeasePlace,
    times: LeaseTimes,
    fence: Fence,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    seen: Option<Seen>,
}

/// What came of one look at the Lease.
enum Standing {
    /// It is ours, by a write that was sent at this time.
    Ours { sent: Duration },
    /// It is not.
    Theirs,
}

impl Elector {
    /// Nothing is asked yet. `client` must not be behind the fence.
    pub fn new(
        client: Client,
        place: LeasePlace,
        times: LeaseTimes,
        fence: Fence,
        metrics: Arc<Metrics>,
        readiness: Readiness,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &place.namespace),
            place,
            times,
            fence,
            metrics,
            readiness,
            seen: None,
        }
    }

    /// Waits until the Lease is ours, for as long as it takes, and opens the fence. Whoever waits is ready: it is what a
    /// rolling update and a PodDisruptionBudget count on. It is not while it cannot read the Lease.
    pub async fn campaign(&mut self) {
        let mut told = String::new();
        loop {
            match self.attempt(self.times.renew_deadline).await {
                Ok(Standing::Ours { sent }) => {
                    self.readiness.has(LEASE);
                    self.extend(sent);
                    // Only now: a write that took longer than its own right to write is no right.
                    if !self.fence.left(clock::now()).is_zero() {
                        tracing::info!(
                            lease = %self.place.name, identity = %self.place.identity, transitions = self.transitions(),
                            "this replica leads"
                        );
                        self.metrics.lease.leads(true);
                        return;
                    }
                }
                Ok(Standing::Theirs) => {
                    self.readiness.has(LEASE);
                    let holder = self.holder();
                    if holder != told {
                        tracing::info!(lease = %self.place.name, %holder, "standing by: another replica leads");
                        told = holder;
                    }
                }
                Err(why) => {
                    tracing::warn!(lease = %self.place.name, "{why}");
                    self.metrics.lease.failed();
                    self.readiness.lacks(LEASE, why);
                }
            }
            self.metrics.lease.transitions(self.transitions());
            sleep(self.times.retry_period).await;
        }
    }

    /// Renews the Lease until `stop`, and then gives it back. An error means that it is lost: the process has to end at
    /// once, since another replica may act from now on. The fence is closed either way.
    pub async fn hold(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let kept = self.keep(&stop).await;
        self.fence.close();
        self.metrics.lease.leads(false);
        if kept.is_ok() {
            self.release().await;
        }
        kept
    }

    async fn keep(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(self.times.retry_period.min(self.fence.left(clock::now()))) => {}
            }
            let left = self.fence.left(clock::now());
            // Also after a pause of the process or the machine: what happened meanwhile is not known.
            if left.is_zero() {
                return Err(anyhow!(
                    "the lease {} is lost: it was not renewed for {:?}",
                    self.place.name,
                    self.times.renew_deadline
                ));
            }
            match self.attempt(left).await {
                Ok(Standing::Ours { sent }) => {
                    self.readiness.has(LEASE);
                    self.extend(sent);
                }
                Ok(Standing::Theirs) => {
                    return Err(anyhow!(
                        "the lease {} is lost: {} holds it",
                        self.place.name,
                        self.holder()
                    ));
                }
                Err(why) => {
                    let left = self.fence.left(clock::now());
                    tracing::warn!(lease = %self.place.name, ?left, "{why}");
                    self.metrics.lease.failed();
                }
            }
        }
    }

    /// The right to write ends so long after the renewal was *sent*: whoever looks at the Lease sees it later than that.
    fn extend(&self, sent: Duration) {
        self.fence.open_until(sent + self.times.renew_deadline);
        self.metrics.lease.transitions(self.transitions());
    }

    /// One look at the Lease, and one write where it is ours to have.
    async fn attempt(&mut self, limit: Duration) -> Result<Standing, String> {
        // A single request that hangs leaves time for another.
        let limit = limit.min(self.times.renew_deadline / 2);
        match timeout(limit, self.look_and_write()).await {
            Ok(Ok(standing)) => Ok(standing),
            Ok(Err(why)) => Err(format!("{}: {why}", self.trouble())),
            Err(_) => Err(format!("{}: no answer within {limit:?}", self.trouble())),
        }
    }

    fn trouble(&self) -> String {
        let LeasePlace { namespace, name, .. } = &self.place;
        format!("the lease {name} in namespace {namespace} cannot be read or written")
    }

    async fn look_and_write(&mut self) -> Result<Standing, String> {
        // The holder knows its own Lease, so a renewal is one request; only what is not as we know it is read.
        let known = self
            .seen
            .as_ref()
            .is_some_and(|_| self.holder() == self.place.identity);
        for round in 0..2 {
            if !known || round > 0 {
                self.look().await.map_err(|e| e.to_string())?;
            }
            let step = next_step(
                &self.place.identity,
                self.seen.as_ref(),
                &self.times,
                clock::now(),
            );
            if step == Step::Wait {
                return Ok(Standing::Theirs);
            }
            let sent = clock::now();
            match self.write(step).await {
                Ok(lease) => {
                    self.seen = Some(observe(self.seen.take(), lease, sent));
                    return Ok(Standing::Ours { sent });
                }
                // Somebody was faster, or it was deleted.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("it changes all the time".to_owned())
    }

    async fn look(&mut self) -> kube::Result<()> {
        let lease = self.api.get_opt(&self.place.name).await?;
        let now = clock::now();
        self.seen = lease.map(|lease| observe(self.seen.take(), lease, now));
        Ok(())
    }

    async fn write(&self, step: Step) -> kube::Result<Lease> {
        let LeasePlace { name, identity, .. } = &self.place;
        let old = self.seen.as_ref().map(|seen| &seen.lease);
        let lease = held(identity, old, name, &self.times, Timestamp::now());
        let params = PostParams::default();
        if step == Step::Create {
            self.api.create(&params, &lease).await
        } else {
            self.api.replace(name, &params, &lease).await
        }
    }

    async fn release(&self) {
        let Some(seen) = &self.seen else { return };
        let lease = released(&seen.lease, Timestamp::now());
        let params = PostParams::default();
        match timeout(RELEASE_LIMIT, self.api.replace(&self.place.name, &params, &lease)).await {
            Ok(Ok(_)) => tracing::info!(lease = %self.place.name, "the lease is given back"),
            Ok(Err(error)) => {
                tracing::warn!(lease = %self.place.name, "the lease could not be given back and will run out: {error}");
            }
            Err(_) => {
                tracing::warn!(lease = %self.place.name, "the lease could not be given back and will run out: no answer");
            }
        }
    }

    fn holder(&self) -> String {
        let spec = self.seen.as_ref().and_then(|seen| seen.lease.spec.as_ref());
        spec.and_then(|s| s.holder_identity.clone()).unwrap_or_default()
    }

    fn transitions(&self) -> i64 {
        let spec = self.seen.as_ref().and_then(|seen| seen.lease.spec.as_ref());
        spec.and_then(|s| s.lease_transitions).unwrap_or_default().into()
    }
}

#[cfg(test)]
#[path = "elector_tests.rs"]
mod tests;
