//! `make bench-objects`: what finished BuildRequests cost, in memory and at the start, beside a controller-runtime manager
//! that caches the same objects and does nothing.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/load/mod.rs"]
mod load;
mod manager;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use common::{Setup, Stage, acme, parameters, scripted, shop};
use kube::api::DeleteParams;
use load::{bill::Bill, count, finished};
use serde_json::json;
use tenantry::api::BuildRequest;
use tenantry_simulator::Role;
use tenantry_test_support::{
    FaultProxy, Operator, Seen, TestCluster,
    bench::{self, Figure, Report, Target, gauges, memory},
    wait_for,
};

const PIPELINES: usize = 50;
/// So long nothing may have happened before memory is looked at.
const REST: Duration = Duration::from_secs(10);

/// Measures what objects cost.
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure; without, the one that cargo built, which is not static.
    #[arg(long)]
    program: Option<PathBuf>,
    /// The controller-runtime manager; without, it is left out.
    #[arg(long)]
    manager: Option<PathBuf>,
    /// How many finished BuildRequests, in rising order.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000, 10_000])]
    finished: Vec<usize>,
    /// How many active ones beside the most finished ones.
    #[arg(long, default_value_t = 500)]
    active: usize,
    /// What cargo says to benches.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = Options::parse();
    println!("{}", bench::machine());
    let cluster = TestCluster::shared().await?;
    let proxy = FaultProxy::start(cluster.kubeconfig()).await?;
    let mut bench = Bench::new(&options, &proxy).await?;
    let template = finished::template(&bench.stage).await?;
    bench
        .stage
        .api::<BuildRequest>()
        .delete("template", &DeleteParams::default())
        .await?;
    bench.rest().await?;
    let mut made = 0;
    for finished in &options.finished {
        bench.stage.kill_operator();
        let bytes = finished::make(&bench.stage, &template, "done", made, *finished).await?;
        made = *finished;
        println!("{made} finished BuildRequests of {bytes} bytes");
        // One life settles them; what is measured is the next.
        bench.stage.restart_operator().await;
        bench.rest().await?;
        let started = bench.start().await?;
        let judged = made >= 10_000;
        bench.tell(&format!("{made} finished"), &started, judged, judged);
        if let Some(program) = &options.manager {
            bench.stage.kill_operator();
            bench.beside(program, made, &started)?;
        }
    }
    if options.active > 0 {
        bench.stage.restart_operator().await;
        bench.activate(options.active).await?;
        let what = format!("{made} finished and {} active", options.active);
        let (resident, peak) = bench.memory()?;
        bench.report.add(Figure::new(
            format!("{what}: RSS, once they run"),
            resident,
            "MiB",
        ));
        bench.report.add(Figure::new(
            format!("{what}: peak (VmHWM) while they were started"),
            peak,
            "MiB",
        ));
        let started = bench.start().await?;
        bench.tell(&what, &started, made >= 10_000, false);
    }
    bench.report.finish(&bench::path("objects"))
}

struct Bench<'a> {
    stage: Stage,
    proxy: &'a FaultProxy,
    /// Gateway requests of a start without any BuildRequest: those of the connection.
    alone: Option<usize>,
    report: Report,
}

/// A start of the operator, from nothing to rest.
struct Started {
    ready: f64,
    cpu: f64,
    resident: f64,
    peak: f64,
    reconciles: f64,
    gateway: Vec<&'static str>,
    bill: Bill,
}

impl<'a> Bench<'a> {
    async fn new(options: &Options, proxy: &'a FaultProxy) -> Result<Self> {
        let names = (0..PIPELINES).map(|n| format!("p{n}"));
        let project = names.fold(shop(Role::tenant()), |project, name| {
            project.pipeline(scripted(&name))
        });
        let program = options
            .program
            .as_ref()
            .map(|program| program.canonicalize())
            .transpose()?;
        let stage = Stage::with(Setup {
            world: acme([project]),
            config: |config| config.with_time_scale(1.0),
            program,
            tunes: &[],
            env: vec![("KUBECONFIG".into(), proxy.kubeconfig().display().to_string())],
            log: "warn,tenantry=info",
            operator: false,
            ..Setup::default()
        })
        .await;
        let spec = json!({"pollInterval": "5s", "limits": {"requestsPerSecond": 200, "burst": 400}});
        stage.patch_connection(json!({ "spec": spec })).await;
        let mut bench = Self {
            stage,
            proxy,
            alone: None,
            report: Report::default(),
        };
        bench.stage.start_operator().await;
        Ok(bench)
    }

    fn pid(&self) -> Result<u32> {
        self.stage
            .operator
            .as_ref()
            .and_then(Operator::pid)
            .context("the operator runs")
    }

    /// `VmRSS` and `VmHWM` of the operator, MiB.
    fn memory(&self) -> Result<(f64, f64)> {
        let pid = self.pid()?;
        let mib = |name| {
            memory::status_kib(pid, name)
                .map(memory::mib)
                .context("the operator runs")
        };
        Ok((mib("VmRSS")?, mib("VmHWM")?))
    }

    /// Waits until it reconciles nothing any more; how often it has.
    async fn rest(&self) -> Result<f64> {
        let operator = self.stage.operator.as_ref().context("an operator")?;
        finished::until_still("reconciles", REST, async || {
            Ok(gauges::metric(
                &operator.metrics_text().await?,
                "tenantry_reconciles_total",
                "",
            ))
        })
        .await
    }

    /// Starts the operator again, lets it come to rest, and says what that took. Active builds are never at rest: then it is
    /// given a minute.
    async fn start(&mut self) -> Result<Started> {
        self.stage.kill_operator();
        let (asked, gateway) = (self.proxy.seen().len(), self.stage.simulator.ledger().len());
        let began = Instant::now();
        self.stage.restart_operator().await;
        let ready = began.elapsed().as_secs_f64();
        let open = self.stage.simulator.control();
        let busy = (0..PIPELINES).any(|n| {
            let builds = open.builds(common::PROJECT, &format!("p{n}")).unwrap_or_default();
            builds.iter().any(|build| build.state != "FINISHED")
        });
        let reconciles = if busy {
            tokio::time::sleep(Duration::from_secs(60)).await;
            f64::NAN
        } else {
            self.rest().await?
        };
        let (resident, peak) = self.memory()?;
        let seen = self.proxy.seen();
        let cpu = gauges::cpu_seconds(self.pid()?).context("the operator runs")?;
        let asked_gateway = self.stage.simulator.ledger().requests("*");
        let gateway = asked_gateway[gateway..].iter().map(|r| r.class).collect();
        Ok(Started {
            ready,
            cpu,
            resident,
            peak,
            reconciles,
            gateway,
            bill: Bill::of(&seen[asked..]),
        })
    }

    fn tell(&mut self, what: &str, started: &Started, memory_judged: bool, start_judged: bool) {
        println!(
            "{what}: requests to the API server from the start to rest\n{}",
            started.bill.table()
        );
        let judged = |figure: Figure, judged: bool, most: f64| {
            if judged {
                figure.target(Target::ValueAtMost(most))
            } else {
                figure
            }
        };
        println!("and to the gateway: {}\n", started.gateway.join(" "));
        let requests = started.bill.sum(|_| true);
        let alone = *self.alone.get_or_insert(started.gateway.len());
        let for_builds = count(started.gateway.len().saturating_sub(alone));
        let figure = |name: &str, value, unit| Figure::new(format!("{what}: {name}"), value, unit);
        let all = [
            judged(
                figure("RSS at rest", started.resident, "MiB"),
                memory_judged,
                32.0,
            ),
            judged(
                figure("peak of the start (VmHWM)", started.peak, "MiB"),
                memory_judged,
                32.0,
            ),
            judged(figure("start to ready", started.ready, "s"), start_judged, 2.0),
            figure("CPU of the start", started.cpu, "s"),
            judged(
                figure("requests to the API server", count(requests.requests), "requests"),
                start_judged,
                20.0,
            ),
            figure("bytes from the API server", count(requests.received) / 1e6, "MB"),
            judged(
                figure("gateway requests beside the connection's", for_builds, "requests"),
                start_judged,
                0.0,
            ),
        ];
        for figure in all {
            self.report.add(figure);
        }
        if started.reconciles.is_finite() {
            self.report.add(figure(
                "reconciles of the start",
                started.reconciles,
                "reconciles",
            ));
        }
    }

    /// The same objects in the cache of a controller-runtime manager; tenantry is compared with it.
    fn beside(&mut self, program: &std::path::Path, objects: usize, started: &Started) -> Result<()> {
        for (name, metadata) in [("whole objects", false), ("metadata only", true)] {
            let namespace = self.stage.namespace.to_string();
            let kubeconfig = self.stage.cluster.kubeconfig();
            let taken = manager::measure(program, kubeconfig, &namespace, metadata, objects, REST)?;
            let rows = [
                ("RSS", started.resident, taken.idle, "MiB"),
                ("peak", started.peak, taken.peak, "MiB"),
                ("start", started.ready, taken.ready, "s"),
            ];
            for (what, ours, theirs, unit) in rows {
                let name = format!("{objects} finished: {what}, against controller-runtime with {name}");
                self.report.add(Figure::new(name, ours, unit).against(theirs));
            }
        }
        Ok(())
    }

    /// Starts so many builds that do not end, and waits until all run.
    async fn activate(&self, builds: usize) -> Result<()> {
        for n in 0..builds {
            let spec = json!({"pipeline": format!("p{}", n % PIPELINES), "parameters": parameters(&[("DURATION", "100000")])});
            self.stage.build(&format!("active-{n}"), spec).await;
        }
        let operator = self.stage.operator.as_ref().context("an operator")?;
        wait_for("all to run", Duration::from_secs(900), async || {
            let text = operator.metrics_text().await?;
            let seen = gauges::metric(&text, "tenantry_builds", "phase=\"running\"");
            Ok(Seen::when(seen >= count(builds), || {
                format!("{seen} of {builds}")
            }))
        })
        .await
    }
}
