//! The kill loop: builds are asked for while the operator is killed at random moments and the remote answers badly.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tenantry::api::build_request::{BuildRequest, RunState};
use tenantry_test_support::{Seen, page, wait_for};
use tokio::time::sleep;

use crate::{
    audit,
    balance::Balance,
    common::{Setup, Stage},
    plan::{self, Planned},
    settings::Settings,
    watched::{Standing, Watched, standing_of},
};

/// One of so many kills comes on the way up, before the operator is ready.
const ON_THE_WAY_UP: usize = 10;
/// Within this time.
const WAY_UP: Duration = Duration::from_millis(500);

/// Deadlines for a remote that answers up to a second late: whoever searches must outwait that.
const TUNES: [&str; 4] = [
    "search-window=10s",
    "refused-pause=1s",
    "lockout-pause=1s",
    "answer-limit=8s",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_build_is_built_once_however_often_the_operator_is_killed() {
    let settings = Settings::from_env();
    println!(
        "{settings:?}; the same again with TENANTRY_CHAOS_SEED={}",
        settings.seed
    );
    let mut rng = Rng::with_seed(settings.seed);
    let planned = plan::plan(settings.builds, &mut rng);
    let mut stage = Stage::with(Setup {
        world: plan::world(),
        args: TUNES
            .iter()
            .flat_map(|tune| ["--tune".to_owned(), (*tune).to_owned()])
            .collect(),
        log: "info",
        ..Setup::default()
    })
    .await;
    let watched = Watched::start(stage.api::<BuildRequest>());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Now: while it goes on for long, somebody may work on the tree.
    let (began, commit) = (Instant::now(), page::commit(root).expect("a commit"));
    stage.simulator.control().random_faults(Some(settings.faults()));
    let killed = Killer {
        settings: &settings,
        planned: &planned,
        watched: &watched,
        reruns: BTreeSet::new(),
        done: Killed::default(),
    }
    .run(&mut stage, &mut rng)
    .await;
    stage.simulator.control().random_faults(None);
    let unsettled = settle(&stage, &planned, &watched, settings.settle).await;
    let mut balance = Balance::new(&settings, &stage, &killed, began.elapsed(), commit);
    audit::audit(&stage, &planned, &watched, &mut balance).await;
    balance.problems.extend(unsettled);
    balance.sum();
    println!("{balance}");
    balance.write(&root.join("target/reliability/chaos.json"));
    if settings.long {
        page::renew_part(&root.join("docs/reliability.md"), "kill loop", &balance.part()).expect("a page");
    }
    assert!(
        balance.holds(),
        "the books do not balance, seed {}:\n{}",
        settings.seed,
        balance.problems.join("\n\n")
    );
}

/// What was done to the operator.
#[derive(Debug, Default)]
pub struct Killed {
    /// How often it was killed.
    pub kills: usize,
    /// How many of them came before it was ready.
    pub on_the_way_up: usize,
    /// How many objects were unfinished at the kills, summed up.
    pub unfinished: usize,
    /// How many runs were in which state at the kills, summed up: intended, sending, submitted, started, ended.
    pub states: [usize; 5],
    /// How it ended by itself, which it must not.
    pub ends: Vec<String>,
}

struct Killer<'a> {
    settings: &'a Settings,
    planned: &'a [Planned],
    watched: &'a Watched,
    /// Those that were asked to run again.
    reruns: BTreeSet<String>,
    done: Killed,
}

impl Killer<'_> {
    async fn run(mut self, stage: &mut Stage, rng: &mut Rng) -> Killed {
        let mut applied = 0;
        for kill in 0..self.settings.kills {
            // All are there well before the last kill.
            let due = self.settings.builds * (kill + 1) * 10 / (self.settings.kills * 8).max(1);
            while applied < due.min(self.settings.builds) {
                stage.apply::<BuildRequest>(self.planned[applied].object()).await;
                applied += 1;
            }
            self.ask_for_reruns(stage).await;
            let on_the_way_up = kill % ON_THE_WAY_UP == ON_THE_WAY_UP - 1;
            let operator = stage.operator.as_mut().expect("an operator");
            if on_the_way_up {
                operator.relaunch().expect("it starts");
                sleep(WAY_UP.mul_f64(rng.f64())).await;
                self.done.on_the_way_up += 1;
            } else {
                operator.restart().await.expect("it gets ready");
                self.let_live(stage, rng).await;
            }
            self.kill(stage);
            if kill % 50 == 49 {
                println!(
                    "{} kills, {applied} asked for, {} settled",
                    kill + 1,
                    self.watched.count(Standing::Settled)
                );
            }
        }
        stage
            .operator
            .as_mut()
            .expect("an operator")
            .restart()
            .await
            .expect("it gets ready");
        // What was due for a rerun and not settled yet.
        let end = Instant::now() + self.settings.settle;
        while self.reruns.len() < self.planned.iter().filter(|p| p.rerun).count() && Instant::now() < end {
            self.ask_for_reruns(stage).await;
            sleep(Duration::from_millis(200)).await;
        }
        self.done
    }

    /// Lets the operator send so many requests, and a moment more. The more is unfinished, the more: one that never gets
    /// beyond looking at all of it anew would be killed at the same place again and again.
    async fn let_live(&self, stage: &Stage, rng: &mut Rng) {
        let ledger = stage.simulator.ledger();
        let most = self.settings.requests + self.watched.count(Standing::Busy);
        let until = ledger.len() + rng.usize(0..=most);
        let end = Instant::now() + self.settings.life;
        // Whoever has nothing to do sends nothing.
        let busy = || self.watched.count(Standing::Busy) > 0;
        while ledger.len() < until && Instant::now() < end && busy() {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(Duration::from_millis(rng.u64(0..20))).await;
    }

    fn kill(&mut self, stage: &mut Stage) {
        let operator = stage.operator.as_mut().expect("an operator");
        match operator.exited() {
            Ok(None) => {}
            ended => self
                .done
                .ends
                .push(format!("the operator ended by itself: {ended:?}")),
        }
        operator.kill9().expect("it is killed");
        self.done.kills += 1;
        for object in self.watched.objects().values() {
            if standing_of(object) == Standing::Settled {
                continue;
            }
            self.done.unfinished += 1;
            if let Some(run) = object.status.as_ref().and_then(|s| s.run.as_ref()) {
                self.done.states[match run.state {
                    RunState::Intended => 0,
                    RunState::Sending => 1,
                    RunState::Submitted => 2,
                    RunState::Started => 3,
                    RunState::Ended => 4,
                }] += 1;
            }
        }
    }

    async fn ask_for_reruns(&mut self, stage: &Stage) {
        for planned in self.planned.iter().filter(|p| p.rerun) {
            let settled = self
                .watched
                .get(&planned.name)
                .is_some_and(|o| standing_of(&o) == Standing::Settled);
            if settled && self.reruns.insert(planned.name.clone()) {
                stage.rerun(&planned.name, "again").await;
            }
        }
    }
}

/// Waits until nothing is left to do. What is left at the deadline, as sentences.
async fn settle(stage: &Stage, planned: &[Planned], watched: &Watched, deadline: Duration) -> Vec<String> {
    let left = || -> Vec<String> {
        let objects = watched.objects();
        planned
            .iter()
            .filter(|p| !objects.get(&p.name).is_some_and(|o| is_over(p, o)))
            .map(|p| p.name.clone())
            .collect()
    };
    let waited = wait_for("every BuildRequest to settle", deadline, async || {
        let left = left();
        Ok(Seen::when(left.is_empty(), || {
            format!("{} left: {left:?}", left.len())
        }))
    })
    .await;
    let Err(error) = waited else { return vec![] };
    let ready = stage.operator.as_ref().expect("an operator").readyz().await;
    vec![format!(
        "{error:#}; the operator's readiness: {:?}",
        ready.map(|r| r.status)
    )]
}

/// Whether this object has settled on the last run that it was asked for.
fn is_over(planned: &Planned, object: &BuildRequest) -> bool {
    let run = object.status.as_ref().and_then(|s| s.run.as_ref());
    let asked = object
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(tenantry::api::RERUN_REQUESTED_AT));
    let all_asked = !planned.rerun || asked.is_some();
    standing_of(object) == Standing::Settled && all_asked && run.is_none_or(|run| run.rerun.as_ref() == asked)
}
