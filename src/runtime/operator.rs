//! `tenantry operator`: wires everything and keeps it running. The one place of this folder that knows the controllers.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail};
use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    Client, Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    answers::AnswerWithin,
    backoff::{BackoffPolicy, Backoffs},
    cli::OperatorOptions,
    crds,
    events::Announcer,
    harness::{Env, Host},
    health::{Readiness, Servers},
    lease::{Elector, Fence, LeasePlace},
    metrics::Metrics,
    shutdown::Shutdown,
};
use crate::{
    api,
    controllers::{self, Connections, Context},
};

/// What readiness lacks before the watches run and after they were stopped.
const START: &str = "start";
/// How often we look whether the CRDs are there now.
const CRD_POLL: Duration = Duration::from_secs(1);
/// How long our API server may take to begin an answer: what asks it otherwise is bounded by as much.
const ANSWER: Duration = Duration::from_secs(30);

/// Runs until a signal, or until something that must not end has ended.
pub async fn run(options: OperatorOptions) -> anyhow::Result<()> {
    let tunables = options.tunables()?;
    let fetcher = options.fetcher()?;
    let lease_times = options.lease.times()?;
    let shutdown = Shutdown::new(options.shutdown_grace);
    let metrics = Arc::new(Metrics::default());
    let readiness = Readiness::default();
    readiness.lacks(START, "starting");

    let mut tasks = Tasks::default();
    let signals = shutdown.listen().context("cannot listen for signals")?;
    tasks.spawn("signals", async {
        signals.await;
        Ok(())
    });
    let stop_servers = CancellationToken::new();
    let servers = Servers::bind(options.health_address, options.metrics_address).await?;
    let addresses = servers.addresses()?;
    tasks.spawn(
        "health server",
        servers.serve(readiness.clone(), metrics.clone(), stop_servers.clone()),
    );
    if let Some(file) = &options.address_file {
        write_whole(file, &serde_json::to_vec(&addresses)?)?;
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), health = %addresses.health, metrics = %addresses.metrics, "tenantry starts"
    );

    let config = config(options.kubeconfig.as_deref()).await?;
    let fence = Fence::closed(metrics.clone());
    let client = fenced_client(config.clone(), &fence)?;
    tokio::select! {
        () = wait_for_crds(&client, &readiness) => {}
        () = shutdown.requested() => {}
    }
    let give_back = CancellationToken::new();
    let mut lease: BoxFuture<'static, anyhow::Result<()>> = if options.lease.leader_elect {
        let place = LeasePlace {
            namespace: (options.lease.lease_namespace.clone())
                .unwrap_or_else(|| config.default_namespace.clone()),
            name: options.lease.lease_name.clone(),
            identity: identity(&options.pod_name),
        };
        let unfenced = unfenced_client(config)?;
        let mut elector = Elector::new(
            unfenced,
            place,
            lease_times,
            fence.clone(),
            metrics.clone(),
            readiness.clone(),
        );
        // Whoever stands by watches nothing: it costs the API server one small read per retry period, and little memory.
        // What it saves at a hand-over, the listing of metadata, takes less than noticing that the leader is gone.
        readiness.has(START);
        tokio::select! {
            biased;
            () = shutdown.requested() => {
                tracing::info!("tenantry has stopped");
                return Ok(());
            }
            ended = tasks.first_end() => return Err(ended),
            () = elector.campaign() => {}
        }
        // A task of its own: it renews however busy this one is.
        let held = tokio::spawn(elector.hold(give_back.clone()));
        async { held.await.unwrap_or_else(|panic| Err(panic.into())) }.boxed()
    } else {
        fence.open_for_ever();
        metrics.lease.leads(true);
        let give_back = give_back.clone();
        async move {
            give_back.cancelled().await;
            Ok(())
        }
        .boxed()
    };
    let announcer = Announcer::new(client.clone(), metrics.clone(), &options.pod_name);
    let backoffs = Backoffs::new(BackoffPolicy {
        first: tunables.backoff_first,
        cap: tunables.backoff_cap,
    });
    let env = Env {
        client: client.clone(),
        announcer: announcer.clone(),
        metrics: metrics.clone(),
        backoffs: backoffs.clone(),
        readiness: readiness.clone(),
        shard: options.selector.clone(),
        shutdown: shutdown.clone(),
        concurrency: options.concurrency.into(),
        watch_life: tunables.watch_life,
    };
    let ctx = Arc::new(Context {
        connections: Connections::new(
            client.clone(),
            metrics.clone(),
            tunables.session_policy(),
            tunables.time_limits(),
            Arc::new(fence),
        ),
        client,
        announcer,
        metrics,
        backoffs,
        fetcher,
        shard: options.selector.clone(),
        tunables,
    });
    let mut host = Host::new(env, options.scope());
    controllers::start(&ctx, &mut host);
    let (loops, watches) = host.into_parts();
    let mut working = Tasks::default();
    for (kind, run) in loops {
        working.spawn(kind.as_str(), async {
            run.await;
            Ok(())
        });
    }
    tasks.spawn("watches", async {
        watches.await;
        Ok(())
    });
    // From here on the watches say what they lack.
    readiness.has(START);

    tokio::select! {
        // First: whoever has lost the lease stops at once.
        biased;
        ended = &mut lease => return Err(lost(ended)),
        ended = tasks.first_end() => return Err(ended),
        ended = working.first_end(), if !shutdown.is_requested() => {
            if !shutdown.is_requested() {
                return Err(ended);
            }
        }
        () = shutdown.requested() => {}
    }
    readiness.lacks(START, "stopping");
    tokio::select! {
        biased;
        ended = &mut lease => return Err(lost(ended)),
        ended = working.all_ended() => ended?,
    }
    // Nothing is in flight any more, so the next may begin.
    give_back.cancel();
    lease.await?;
    stop_servers.cancel();
    tracing::info!("tenantry has stopped");
    Ok(())
}

/// Who this process is, unlike any other, also an earlier one in the same pod.
fn identity(pod_name: &str) -> String {
    let name = if pod_name.is_empty() { "tenantry" } else { pod_name };
    format!("{name}_{}", uuid::Uuid::new_v4())
}

/// Why the task that holds the lease ended by itself.
fn lost(ended: anyhow::Result<()>) -> anyhow::Error {
    let error = ended
        .err()
        .unwrap_or_else(|| anyhow!("the lease was given back, which nobody asked for"));
    error.context("stopping at once, since another replica may act now")
}

/// Tasks none of which may end unasked.
#[derive(Default)]
struct Tasks(JoinSet<(&'static str, anyhow::Result<()>)>);

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        self.0.spawn(async move { (name, task.await) });
    }

    /// Waits for the first task that ends, whichever way, and says which it was.
    async fn first_end(&mut self) -> anyhow::Error {
        match self.0.join_next().await {
            None => std::future::pending().await,
            Some(Ok((name, Ok(())))) => anyhow!("{name} ended, which it never should"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(panic)) => anyhow!("a task of the operator panicked: {panic}"),
        }
    }

    /// Waits until all have ended.
    async fn all_ended(mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.0.join_next().await {
            match ended {
                Ok((name, result)) => result.with_context(|| format!("{name} failed"))?,
                Err(panic) => bail!("a task of the operator panicked: {panic}"),
            }
        }
        Ok(())
    }
}

/// How to reach the cluster that we serve. No retries behind our back; an idle watch must live, so there is no limit on
/// reading here: each single read is bounded where it is made, an answer must begin in time (`answers.rs`), and the
/// watches notice a dead connection themselves (`watches.rs`).
async fn config(kubeconfig: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("kubeconfig {} does not work", path.display()))?
        }
        None => Config::infer()
            .await
            .context("no cluster: neither in a pod nor a kubeconfig (--kubeconfig)")?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(10));
    config.write_timeout = Some(Duration::from_secs(30));
    config.read_timeout = None;
    Ok(config)
}

/// The client of everything but the lease: it writes only while `fence` is open.
fn fenced_client(config: Config, fence: &Fence) -> anyhow::Result<Client> {
    let builder = ClientBuilder::try_from(config).context("cannot make a client for the cluster")?;
    Ok(builder
        .with_layer(&AnswerWithin(ANSWER))
        .with_layer(fence)
        .build())
}

/// The client of the lease, which is written in order to be allowed to write.
fn unfenced_client(config: Config) -> anyhow::Result<Client> {
    Client::try_from(config).context("cannot make a client for the lease")
}

/// Waits until all our CRDs are served, and says meanwhile which are not.
async fn wait_for_crds(client: &Client, readiness: &Readiness) {
    let mut said = String::new();
    loop {
        let missing = missing_crds(client).await;
        if missing.is_empty() {
            return readiness.lacks(START, "starting");
        }
        let missing = missing.join("\n");
        if said != missing {
            tracing::warn!("waiting: {missing}");
        }
        readiness.lacks(START, &missing);
        said = missing;
        sleep(CRD_POLL).await;
    }
}

async fn missing_crds(client: &Client) -> Vec<String> {
    let version = format!("{}/{}", api::GROUP, api::VERSION);
    let served = match tokio::time::timeout(
        Duration::from_secs(10),
        client.list_api_group_resources(&version),
    )
    .await
    {
        Ok(Ok(list)) => list.resources.into_iter().map(|r| r.name).collect(),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Vec::new(),
        Ok(Err(error)) => return vec![format!("the API server cannot be asked for CRDs: {error}")],
        Err(_) => return vec!["the API server does not answer".into()],
    };
    api::crds()
        .into_iter()
        .map(|crd| crd.spec.names.plural)
        .filter(|plural| !served.contains(plural))
        .map(|plural| crds::not_installed(&plural))
        .collect()
}

/// Writes a file so that a reader sees all of it or none.
fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let part = path.with_extension("part");
    std::fs::write(&part, content)
        .and_then(|()| std::fs::rename(&part, path))
        .with_context(|| format!("cannot write {} (--address-file)", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_task_that_ends_is_named() {
        let mut tasks = Tasks::default();
        tasks.spawn("sleeper", std::future::pending());
        tasks.spawn("quitter", async { Ok(()) });
        let error = tasks.first_end().await;
        assert_eq!(error.to_string(), "quitter ended, which it never should");
        tasks.spawn("breaker", async { bail!("no disk") });
        let error = format!("{:#}", tasks.first_end().await);
        assert_eq!(error, "breaker failed: no disk");
    }
}
