//! The observer against a little gateway that lists and watches one run table, in every state that a gateway can be in.

use std::{collections::BTreeMap, io, time::Duration};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::gateway::{
    RunId, RunRow,
    testing::{Seen, Server, answer, demo, forbidden},
};

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

type Watcher = UnboundedSender<io::Result<Bytes>>;

/// What the gateway knows and grants.
#[derive(Default)]
struct World {
    /// Build number and phase by name.
    rows: BTreeMap<String, (String, String)>,
    /// Every change, with the version that it made.
    changes: Vec<(usize, String)>,
    version: usize,
    /// Watches from before this version are refused with 410.
    oldest: usize,
    watchers: Vec<Watcher>,
    may_not_list: bool,
    may_not_watch: bool,
    away: bool,
    /// Watchers are told nothing.
    silent: bool,
}

#[derive(Clone, Default)]
struct Remote(Arc<Mutex<World>>);

fn cells(name: &str, (id, phase): &(String, String)) -> Value {
    json!({"cells": [name, id, phase, "1s"], "object": null})
}

fn table(rows: &[Value], version: usize) -> Value {
    let columns = ["Name", "ID", "Phase", "Age"].map(|name| json!({"name": name}));
    json!({"kind": "Table", "metadata": {"resourceVersion": version.to_string()}, "columnDefinitions": columns, "rows": rows})
}

impl Remote {
    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// A run is so from now on.
    fn set(&self, name: &str, id: &str, phase: &str) {
        let mut world = self.world();
        world.version += 1;
        let row = (id.to_owned(), phase.to_owned());
        let line = json!({"type": "MODIFIED", "object": table(&[cells(name, &row)], world.version)});
        world.rows.insert(name.into(), row);
        let (version, line) = (world.version, format!("{line}\n"));
        world.changes.push((version, line.clone()));
        if !world.silent {
            world.watchers.retain(|w| w.send(Ok(line.clone().into())).is_ok());
        }
    }

    /// Breaks off all watches.
    fn cut(&self) {
        for watcher in self.world().watchers.drain(..) {
            let _ = watcher.send(Err(io::ErrorKind::ConnectionReset.into()));
        }
    }

    fn answer(&self, seen: &Seen) -> Response {
        let mut world = self.world();
        if world.away {
            return answer(502, &[], "bad gateway");
        }
        if seen.target.starts_with("/kapis/") {
            let items: Vec<_> = world
                .rows
                .iter()
                .filter(|(name, _)| seen.target.contains(&format!("/pipelines/{}/", pipeline_of(name))))
                .map(|(name, (id, phase))| {
                    json!({"metadata": {"name": name, "annotations": {"devops.kubesphere.io/jenkins-pipelinerun-id": id}},
                           "status": {"phase": phase}})
                })
                .collect();
            let body = json!({"totalItems": items.len(), "items": items});
            return answer(200, &JSON, body.to_string());
        }
        if world.may_not_list {
            return forbidden();
        }
        let Some((_, from)) = seen.target.split_once("resourceVersion=") else {
            let rows: Vec<_> = world.rows.iter().map(|(name, row)| cells(name, row)).collect();
            return answer(200, &JSON, table(&rows, world.version).to_string());
        };
        if world.may_not_watch {
            return forbidden();
        }
        let from: usize = from.split('&').next().unwrap().parse().unwrap();
        if from < world.oldest {
            return answer(
                200,
                &JSON,
                "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410}}\n",
            );
        }
        let (sender, receiver) = unbounded_channel::<io::Result<Bytes>>();
        for (_, line) in world.changes.iter().filter(|(version, _)| *version > from) {
            sender.send(Ok(line.clone().into())).unwrap();
        }
        world.watchers.push(sender);
        let body = stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        });
        answer(200, &JSON, Body::from_stream(body))
    }
}

/// The pipeline of a run: what is before its dash.
fn pipeline_of(run: &str) -> &str {
    run.split('-').next().unwrap()
}

struct Stage {
    remote: Remote,
    server: Server,
    project: ProjectScope,
    observers: Observers,
    metrics: Arc<Metrics>,
    rings: UnboundedReceiver<ObjectKey>,
}

fn key(run: &str) -> ObjectKey {
    ObjectKey::new("team", run)
}

impl Stage {
    /// A gateway where these runs run, and followers of them.
    async fn of(runs: &[&str], grants: impl FnOnce(&mut World)) -> Self {
        let remote = Remote::default();
        grants(&mut remote.world());
        for run in runs {
            remote.set(run, "1", "Running");
        }
        let answers = remote.clone();
        let server = Server::start(move |seen: &Seen| answers.answer(seen)).await;
        let (bell, rings) = Bell::new();
        let metrics = Arc::new(Metrics::default());
        let times = Times {
            watch_life: Duration::from_secs(3600),
            grace: Duration::from_secs(5),
            quiet: Duration::from_secs(300),
        };
        let stage = Self {
            project: demo(&server),
            observers: Observers::new(bell, metrics.clone(), times),
            remote,
            server,
            metrics,
            rings,
        };
        for run in runs {
            stage.follow(run);
        }
        stage
    }

    fn follow(&self, run: &str) {
        let followed = Followed {
            run: run.into(),
            pipeline: pipeline_of(run).into(),
        };
        self.observers.follow(&self.project, &key(run), &followed, POLL);
    }

    /// How long a follower may sleep who sees its run running.
    fn quiet(&self, run: &str) -> Option<Duration> {
        let row = RunRow {
            name: run.into(),
            run_id: RunId::new("1").ok(),
            phase: RunPhase::Running,
        };
        let (running_for, estimate) = (Duration::from_secs(1), None);
        self.observers.quiet(
            &key(run),
            &Sight {
                row,
                running_for,
                estimate,
            },
        )
    }

    async fn until(&self, what: &str, is: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !is() {
            assert!(
                Instant::now() < end,
                "{what}: never within {PATIENCE:?}; asked: {:?}",
                self.server.seen()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until_quiet(&self, run: &str) {
        self.until("it may sleep", || self.quiet(run).is_some()).await;
    }

    /// The next that is woken.
    async fn woken(&mut self) -> String {
        let rung = tokio::time::timeout(PATIENCE, self.rings.recv()).await;
        rung.expect("somebody is woken in time").unwrap().name
    }

    fn asked(&self, watch: bool) -> usize {
        let seen = self.server.seen();
        let runs = seen.iter().filter(|s| s.target.starts_with("/apis/"));
        runs.filter(|s| s.target.contains("watch=true") == watch).count()
    }
}

#[tokio::test]
async fn by_one_watch_all_sleep_until_their_own_row_changes() {
    let names: Vec<_> = (0..20).map(|n| format!("p-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut stage = Stage::of(&names, |_| ()).await;
    for run in &names {
        stage.until_quiet(run).await;
    }
    let share = stage.quiet("p-3").unwrap();
    assert!(
        share > POLL * 15 && share < POLL * 25,
        "twenty share the looks of one: {share:?}"
    );
    while stage.rings.try_recv().is_ok() {}
    stage.remote.set("somebody's", "1", "Succeeded");
    stage.remote.set("p-3", "1", "Running"); // no change of the row
    stage.remote.set("p-7", "1", "Succeeded");
    assert_eq!(stage.woken().await, "p-7");
    assert_eq!(
        (stage.asked(false), stage.asked(true)),
        (1, 1),
        "one list, one watch"
    );
    // What it sees is older than the row: it is to look again soon, and ever later.
    let soon: Vec<_> = (0..3).map(|_| stage.quiet("p-7").unwrap()).collect();
    assert!(soon.iter().all(|pause| *pause <= POLL), "{soon:?}");
}

#[tokio::test]
async fn without_the_right_to_watch_one_list_per_tick_does() {
    let mut stage = Stage::of(&["p-1", "q-1"], |world| world.may_not_watch = true).await;
    for run in ["p-1", "q-1"] {
        stage.until_quiet(run).await;
    }
    while stage.rings.try_recv().is_ok() {}
    stage.remote.set("q-1", "1", "Failed");
    assert_eq!(stage.woken().await, "q-1");
    let lists = stage.asked(false);
    stage
        .until("it lists on", || stage.asked(false) > lists + 2)
        .await;
    assert_eq!(stage.asked(true), 1, "the watch is not tried again");
    // For a single run one GET tells more than a list: it looks after itself.
    stage.quiet("p-1").expect("it sleeps");
    stage.observers.leave(&key("q-1"));
    assert_eq!(stage.woken().await, "p-1");
    assert_eq!(stage.quiet("p-1"), None);
}

#[tokio::test]
async fn without_apis_only_pipelines_with_several_runs_are_listed() {
    let mut stage = Stage::of(&["p-1", "p-2", "q-1"], |world| world.may_not_list = true).await;
    for run in ["p-1", "p-2"] {
        stage.until_quiet(run).await;
    }
    assert_eq!(stage.quiet("q-1"), None, "it is alone with its pipeline");
    while stage.rings.try_recv().is_ok() {}
    stage.remote.set("p-2", "1", "Failed");
    assert_eq!(stage.woken().await, "p-2");
    assert_eq!(
        (stage.asked(false), stage.asked(true)),
        (1, 0),
        "what is refused is not asked again"
    );
    let seen = stage.server.seen();
    assert!(
        seen.iter().all(|s| !s.target.contains("/pipelines/q/")),
        "{seen:?}"
    );
    stage.quiet("p-1").expect("it sleeps");
    stage.observers.leave(&key("p-2"));
    assert_eq!(stage.woken().await, "p-1", "alone now");
}

#[tokio::test]
async fn a_watch_that_breaks_is_too_old_or_falls_silent_loses_nothing() {
    let mut stage = Stage::of(&["p-1"], |_| ()).await;
    stage.observers.times.watch_life = Duration::from_millis(1200);
    stage.observers.times.grace = Duration::from_millis(100);
    stage.observers.leave(&key("p-1"));
    stage.follow("p-1");
    stage.until_quiet("p-1").await;
    while stage.rings.try_recv().is_ok() {}
    // Broken off, and something happens before it stands again.
    stage.remote.world().silent = true;
    stage.remote.set("p-1", "1", "Pending");
    stage.remote.cut();
    assert_eq!(stage.woken().await, "p-1");
    // Silent, while something happens.
    stage.remote.set("p-1", "1", "Failed");
    assert_eq!(stage.woken().await, "p-1");
    // Too old.
    let lists = stage.asked(false);
    stage.remote.world().oldest = usize::MAX;
    stage.remote.set("p-1", "1", "Unknown");
    stage.remote.cut();
    assert_eq!(stage.woken().await, "p-1");
    assert!(stage.asked(false) > lists, "it was listed again");
}

#[tokio::test]
async fn where_no_watch_comes_to_anything_lists_take_its_place() {
    let mut stage = Stage::of(&["p-1", "p-2"], |world| world.oldest = usize::MAX).await;
    stage.until("it gives up", || stage.asked(true) == 5).await;
    for run in ["p-1", "p-2"] {
        stage.until_quiet(run).await;
    }
    while stage.rings.try_recv().is_ok() {}
    let lists = stage.asked(false);
    stage
        .until("it lists on", || stage.asked(false) > lists + 20)
        .await;
    stage.remote.set("p-2", "1", "Failed");
    assert_eq!(stage.woken().await, "p-2");
    assert_eq!(stage.asked(true), 5);
}

#[tokio::test]
async fn while_the_gateway_is_away_all_look_by_themselves_and_afterwards_not_any_more() {
    let mut stage = Stage::of(&["p-1", "p-2"], |_| ()).await;
    for run in ["p-1", "p-2"] {
        stage.until_quiet(run).await;
    }
    while stage.rings.try_recv().is_ok() {}
    stage.remote.world().away = true;
    stage.remote.cut();
    let mut roused = [stage.woken().await, stage.woken().await];
    roused.sort();
    assert_eq!(roused, ["p-1", "p-2"]);
    assert_eq!(stage.quiet("p-1"), None);
    stage.remote.world().away = false;
    for run in ["p-1", "p-2"] {
        stage.until_quiet(run).await;
    }
}

#[tokio::test]
async fn an_observer_ends_with_its_last_follower() {
    let stage = Stage::of(&["p-1", "p-2"], |_| ()).await;
    stage.until_quiet("p-1").await;
    let shown = || {
        stage
            .metrics
            .render()
            .contains("tenantry_observed_builds{rung=\"watch\"} 2")
    };
    stage.until("it is counted", shown).await;
    for run in ["p-1", "p-2"] {
        let watchers = stage.remote.world().watchers.clone();
        assert!(watchers.iter().all(|w| !w.is_closed()), "somebody follows still");
        stage.observers.leave(&key(run));
    }
    let ended = || {
        stage
            .remote
            .world()
            .watchers
            .iter()
            .all(UnboundedSender::is_closed)
    };
    stage.until("the watch ends", ended).await;
    let uncounted = || !stage.metrics.render().contains("tenantry_observers{");
    stage.until("it is not counted any more", uncounted).await;
    assert_eq!(stage.quiet("p-1"), None);
}
