//! A simulator with alice in it, and a client for her.

use std::time::{Duration, Instant};

use tenantry::gateway::{
    BuildOutcome, CreateOutcome, Credentials, EncodedBranch, Gateway, GatewayConfig, Limits, NewRun,
    Parameter, Pipeline, ProjectName, ProjectScope, Run, RunProgress,
};
use tenantry_simulator::{Config, Role, Simulator, World};

/// Alice's password in the recorded worlds.
pub(crate) const PASSWORD: &str = "tenant-Passw0rd";
/// The project of the recorded world.
pub(crate) const PROJECT: &str = "demo2snmj";

/// A simulator at 20 times the real pace.
pub(crate) async fn simulator(world: World) -> Simulator {
    Simulator::start(Config::of(world).with_time_scale(0.05))
        .await
        .expect("the simulator starts")
}

/// A configuration whose budget is not what a test waits for.
pub(crate) fn config(sim: &Simulator, credentials: Credentials) -> GatewayConfig {
    let mut config = GatewayConfig::new(sim.url().parse().unwrap(), credentials);
    config.limits = Limits {
        requests_per_second: 1000,
        burst: 1000,
        ..Limits::default()
    };
    config
}

/// A client for alice.
pub(crate) fn alice(sim: &Simulator) -> Gateway {
    Gateway::new(config(sim, Credentials::password("alice", PASSWORD))).unwrap()
}

/// The recorded project, as a client sees it.
pub(crate) fn project(gateway: &Gateway) -> ProjectScope {
    gateway.scope(None).project(&ProjectName::new(PROJECT).unwrap())
}

/// A simulator of the recorded world, and its project for alice with the full tenant role or another one.
pub(crate) async fn recorded(role: Option<Role>) -> (Simulator, ProjectScope) {
    let sim = simulator(World::recorded()).await;
    if let Some(role) = role {
        sim.control().set_role(PROJECT, "alice", Some(role)).unwrap();
    }
    let project = project(&alice(&sim));
    (sim, project)
}

/// A parameter.
pub(crate) fn parameter(name: &str, value: &str) -> Parameter {
    Parameter {
        name: name.into(),
        value: value.into(),
    }
}

/// A run to be created.
pub(crate) fn new_run<'a>(name: &str, pipeline: &'a Pipeline, branch: Option<EncodedBranch>) -> NewRun<'a> {
    NewRun {
        name: name.into(),
        pipeline,
        branch,
        parameters: Vec::new(),
        creator: "alice".into(),
        annotations: std::iter::once(("tenantry.dev/run-token".to_owned(), name.to_owned())).collect(),
        labels: std::collections::BTreeMap::new(),
    }
}

/// Creates a run under a chosen name.
pub(crate) async fn create(
    project: &ProjectScope,
    name: &str,
    pipeline: &str,
    parameters: Vec<Parameter>,
) -> Run {
    let pipeline = project.pipeline(pipeline).await.unwrap();
    let run = NewRun {
        parameters,
        ..new_run(name, &pipeline, None)
    };
    match project.create_run(&run).await.unwrap() {
        CreateOutcome::Created(run) => *run,
        CreateOutcome::AlreadyExists => panic!("{name} exists already"),
    }
}

/// Follows a run until this is true of it.
pub(crate) async fn until(project: &ProjectScope, name: &str, done: impl Fn(&Run) -> bool) -> Run {
    let begun = Instant::now();
    loop {
        let run = project.run(name).await.unwrap();
        if done(&run) {
            return run;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "this did not come true: {run:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Follows a run to its end.
pub(crate) async fn finished(project: &ProjectScope, name: &str) -> (Run, Option<BuildOutcome>) {
    let run = until(project, name, |run| {
        matches!(run.progress(), RunProgress::Finished(_))
    })
    .await;
    let RunProgress::Finished(outcome) = run.progress() else {
        unreachable!()
    };
    (run, outcome)
}
