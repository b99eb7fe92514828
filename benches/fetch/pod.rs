//! The pods: what operator and fetch Jobs take on a real node, installed by the chart, from the image.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use tenantry::api::{BuildRequest, TenantConnection};
use tenantry_simulator::world::BuildScript;
use tenantry_test_support::{
    PATIENCE, Seen,
    bench::{
        Figure, Report,
        memory::{self, Life, mib},
    },
    wait_condition, wait_for,
};

use crate::{
    Files,
    common::{CONNECTION, PROJECT, Stage, condition},
    node::{Reach, TAG, node_with},
    on_node::Bench,
    race::resident,
};

/// What takes a while also on a quick machine.
const LONG: Duration = Duration::from_secs(600);
/// How many builds the operator follows at once.
const BUILDS: usize = 50;

/// Installs the chart, lets fetch Jobs bring these files home, then builds many at once.
pub async fn measure(all: &[Files], report: &mut Report) -> Result<()> {
    let place = node_with(Reach::Namespace, &[TAG]).await;
    let values = ["operator.logLevel=info"];
    let bench = Bench::on(place, Reach::Namespace, BuildScript::default(), &values).await;
    let installed = &bench.installed;
    let stage = &installed.stage;
    let limits = json!({"requestsPerSecond": 1000, "burst": 5000});
    stage.patch_connection(json!({"spec": {"limits": limits}})).await;
    wait_condition(&stage.api::<TenantConnection>(), CONNECTION, "Ready", "True").await?;

    let pod = installed.pod().await;
    let operator = process(&pod, PATIENCE).await.context("the operator")?;
    let of = |name: &str| memory::status_kib(operator, name).unwrap_or_default();
    report.add(Figure::new(
        "operator pod, one connection and nothing else: RSS",
        mib(of("VmRSS")),
        "MiB",
    ));
    for files in all {
        let life = fetch(stage, *files).await?;
        report.add(resident(&format!("{}: fetch pod", files.name), life));
        report.add(Figure::new(
            format!(
                "{}: fetch pod, peak of its control group, page cache included",
                files.name
            ),
            mib(life.group_kib),
            "MiB",
        ));
        report.add(Figure::new(
            format!("{}: fetch pod, time of its process", files.name),
            life.seconds,
            "s",
        ));
    }
    builds(stage).await;
    for (what, kib) in [
        (
            format!("{BUILDS} builds at once: operator pod, peak RSS (VmHWM)"),
            of("VmHWM"),
        ),
        (format!("after {BUILDS} builds: operator pod, RSS"), of("VmRSS")),
        (
            format!("{BUILDS} builds at once: operator pod, peak of its control group, page cache included"),
            memory::group_peak_kib(operator),
        ),
    ] {
        report.add(Figure::new(what, mib(kib), "MiB"));
    }
    bench.installed.uninstall().await;
    Ok(())
}

/// A build with these files, brought home by a Job; what its pod's process took.
async fn fetch(stage: &Stage, files: Files) -> Result<Life> {
    let noise: Vec<_> = files.noise().collect();
    let script = BuildScript {
        artifacts: noise.join(","),
        ..BuildScript::default()
    };
    let control = stage.simulator.control();
    control
        .set_script(PROJECT, "build", script)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let name = format!("fetch-{}", files.count);
    let artifacts = json!({
        "include": ["**"], "maxFiles": 5000,
        "destination": {"volume": {"claimName": "data", "subPath": name}},
    });
    stage.build(&name, json!({"artifacts": artifacts})).await;
    let pods: Api<Pod> = stage.api();
    let mine = ListParams::default().labels("batch.kubernetes.io/job-name");
    let pod = wait_for("a fetch pod", LONG, async || {
        let all = pods.list(&mine).await?.items;
        let waiting = all.into_iter().find(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Pending" | "Running"))
        });
        Ok(waiting.map_or_else(|| Seen::NotYet("none".into()), Seen::Done))
    })
    .await?;
    let pid = process(&pod, LONG).await.context("the fetch")?;
    let life = tokio::task::spawn_blocking(move || memory::watch(pid)).await?;
    let ready = |o: &BuildRequest| condition(o, "Ready").0 == "True";
    stage.until_within(LONG, &name, "Ready", ready).await;
    Ok(life)
}

/// The process of ours in a pod.
async fn process(pod: &Pod, patience: Duration) -> Result<u32> {
    let uid = pod.uid().context("a UID")?;
    wait_for(
        &format!("a process in pod {}", pod.name_any()),
        patience,
        async || {
            let found = memory::in_group("tenantry", &uid);
            Ok(found
                .first()
                .map_or_else(|| Seen::NotYet("none".into()), |pid| Seen::Done(*pid)))
        },
    )
    .await
}

/// Many builds at once, each with a log and a file that go into ConfigMaps.
async fn builds(stage: &Stage) {
    let script = BuildScript {
        log_bytes: 200_000,
        artifacts: "out/report.bin:50000".into(),
        ..BuildScript::default()
    };
    let control = stage.simulator.control();
    control.set_script(PROJECT, "build", script).expect("a script");
    let names: Vec<_> = (0..BUILDS).map(|number| format!("b{number:02}")).collect();
    for name in &names {
        let parameters = json!([{"name": "VERSION", "value": name}]);
        stage
            .build(
                name,
                json!({"parameters": parameters, "artifacts": {"include": ["out/**"]}}),
            )
            .await;
    }
    for name in &names {
        let ready = |o: &BuildRequest| condition(o, "Ready").0 == "True";
        stage.until_within(LONG, name, "Ready", ready).await;
    }
}
