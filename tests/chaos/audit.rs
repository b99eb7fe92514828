//! The audit: each object against the plan, against Jenkins and against what lies in the ConfigMaps.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::ListParams};
use sha2::{Digest, Sha256};
use tenantry::api::{
    ArtifactFetch,
    build_request::{BuildRequest, Outcome, RunState, TriggerRung},
    conditions::Reason,
};
use tenantry_simulator::{BuildRecord, LedgerSnapshot};

use crate::{
    balance::{Balance, RungBalance},
    common::{Stage, condition, describe, remote},
    plan::{Planned, Rung},
    watched::{Standing, Watched, standing_of},
};

/// The limits that the API promises for lists in the status.
const HISTORY: usize = 10;
const STAGES: usize = 64;

/// All that the audit reads, read once.
pub struct Books {
    objects: BTreeMap<String, BuildRequest>,
    fetches: BTreeMap<String, ArtifactFetch>,
    maps: BTreeMap<String, ConfigMap>,
    ledger: LedgerSnapshot,
    admin: String,
    operator: String,
}

impl Books {
    /// Reads them.
    pub async fn read(stage: &Stage) -> Self {
        let all = ListParams::default();
        let objects = stage
            .api::<BuildRequest>()
            .list(&all)
            .await
            .expect("BuildRequests")
            .items;
        let fetches = stage
            .api::<ArtifactFetch>()
            .list(&all)
            .await
            .expect("ArtifactFetches")
            .items;
        let maps = stage
            .api::<ConfigMap>()
            .list(&all)
            .await
            .expect("ConfigMaps")
            .items;
        Self {
            objects: objects.into_iter().map(|o| (o.name_any(), o)).collect(),
            fetches: fetches.into_iter().map(|o| (o.name_any(), o)).collect(),
            maps: maps.into_iter().map(|o| (o.name_any(), o)).collect(),
            ledger: stage.simulator.ledger().snapshot(),
            admin: remote::token(stage, "admin", "admin-Passw0rd").await,
            operator: stage
                .operator
                .as_ref()
                .and_then(|o| o.logs().ok())
                .unwrap_or_default(),
        }
    }

    /// The builds of Jenkins that were made for an object, whoever triggered them.
    fn builds(&self, name: &str) -> Vec<&BuildRecord> {
        let is_its = |b: &&BuildRecord| b.parameters.iter().any(|(n, v)| n == "VERSION" && v == name);
        self.ledger.builds.iter().filter(is_its).collect()
    }

    /// What there is to know about an object, for whoever has to find out what went wrong.
    fn dossier(&self, name: &str) -> String {
        let object = self.objects.get(name);
        let status = object
            .map(|o| serde_json::to_string(&o.status).unwrap_or_default())
            .unwrap_or_default();
        let mut text = format!("  status: {status}\n");
        for build in self.builds(name) {
            text.push_str(&format!(
                "  Jenkins build: {}/{}#{} at {} by {}, {:?}\n",
                build.project, build.pipeline, build.number, build.at, build.cause, build.parameters
            ));
        }
        let run = object.and_then(|o| o.status.as_ref()?.run.clone());
        if let Some(run) = run {
            let names: BTreeSet<_> = run.name.iter().cloned().collect();
            let from = run.intended_at.0.as_millisecond() - 1_000;
            let starts = |class: &str| matches!(class, "apis.pipelineruns.create" | "v3.runs.create");
            let lines = self.ledger.requests.iter().filter(|r| {
                names.iter().any(|n| r.path.contains(n.as_str()))
                    || (starts(r.class)
                        && r.path.contains(&run.project)
                        && (from..from + 30_000).contains(&r.at))
            });
            for r in lines.take(60) {
                text.push_str(&format!(
                    "  ledger: {} {} {} {} -> {}{}\n",
                    r.at,
                    r.class,
                    r.method,
                    r.path,
                    r.status,
                    if r.faulted { " (fault)" } else { "" }
                ));
            }
        }
        let key = format!("/{name}");
        for line in self
            .operator
            .lines()
            .filter(|l| l.contains(&key))
            .rev()
            .take(10)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            text.push_str(&format!("  operator: {line}\n"));
        }
        text
    }
}

/// Fills the balance in.
pub async fn audit(stage: &Stage, planned: &[Planned], watched: &Watched, balance: &mut Balance) {
    let books = Books::read(stage).await;
    for planned in planned {
        let mut findings = Findings::default();
        let rung = balance.rungs.entry(planned.rung).or_default();
        rung.requested += 1;
        match books.objects.get(&planned.name) {
            Some(object) => {
                one(&books, planned, object, rung, &mut findings);
                bytes(stage, &books, planned, object, rung, &mut findings).await;
            }
            None => findings.say("it is gone from the API server"),
        }
        if !findings.0.is_empty() {
            let sentences = findings.0.join("; ");
            balance.problems.push(format!(
                "{} ({}): {sentences}\n{}",
                planned.name,
                planned.rung.title(),
                books.dossier(&planned.name)
            ));
        }
    }
    strangers(&books, planned, balance);
    balance.problems.extend(
        watched
            .taken_back()
            .into_iter()
            .map(|s| format!("an ending was taken back: {s}")),
    );
}

#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn say(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.say(what());
        }
    }
}

/// Tokens against builds, and the status against the plan.
fn one(
    books: &Books,
    planned: &Planned,
    object: &BuildRequest,
    rung: &mut RungBalance,
    findings: &mut Findings,
) {
    let status = object.status.clone().unwrap_or_default();
    let run = status.run.as_ref();
    let ids = |id: &Option<String>| id.iter().cloned().collect::<Vec<_>>();
    let tokens: BTreeSet<_> = run
        .map(|r| r.token.clone())
        .into_iter()
        .chain(status.history.iter().map(|p| p.token.clone()))
        .collect();
    let claimed: BTreeSet<_> = run
        .map(|r| ids(&r.id))
        .into_iter()
        .chain(status.history.iter().map(|p| ids(&p.id)))
        .flatten()
        .collect();
    let builds = books.builds(&planned.name);
    rung.tokens += tokens.len();
    rung.builds += builds.len();
    rung.duplicates += builds.len().saturating_sub(tokens.len());

    let ambiguous = condition(object, "Stalled").1 == Reason::AmbiguousRun.as_str();
    if ambiguous && planned.rung == Rung::PlainPost {
        rung.ambiguous += 1;
        findings.check(builds.len() <= tokens.len(), || {
            format!("{} builds for {} tokens", builds.len(), tokens.len())
        });
        return;
    }
    rung.losses += tokens.len().saturating_sub(builds.len());
    findings.check(tokens.len() == planned.tokens(), || {
        format!("{} tokens, {} were asked for", tokens.len(), planned.tokens())
    });
    findings.check(builds.len() == tokens.len(), || {
        format!("{} builds of Jenkins for {} tokens", builds.len(), tokens.len())
    });
    let numbers: BTreeSet<_> = builds.iter().map(|b| b.number.to_string()).collect();
    findings.check(numbers == claimed, || {
        format!("Jenkins has builds {numbers:?}, the status speaks of {claimed:?}")
    });

    if standing_of(object) != Standing::Settled {
        rung.unfinished += 1;
        findings.say(format!("it is unfinished: {}", describe(object)));
        return;
    }
    let want = if planned.rung == Rung::ChosenName {
        TriggerRung::ChosenName
    } else {
        TriggerRung::Post
    };
    findings.check(run.is_some_and(|r| r.trigger == want), || {
        format!("it was not started by {want:?}")
    });
    findings.check(
        run.is_some_and(|r| r.state == RunState::Ended && r.outcome == Some(planned.outcome)),
        || {
            format!(
                "its ending is {:?}, Jenkins' {:?}",
                run.and_then(|r| r.outcome),
                planned.outcome
            )
        },
    );
    let (ready, succeeded) = (condition(object, "Ready").0, condition(object, "Succeeded").0);
    let good = planned.outcome == Outcome::Succeeded;
    findings.check((ready == "True") == good && (succeeded == "True") == good, || {
        format!("Ready {ready}, Succeeded {succeeded}: {}", describe(object))
    });
    findings.check(
        status.history.len() <= HISTORY && status.stages.len() <= STAGES,
        || "a list in the status is too long".into(),
    );
}

/// Log and artifacts, byte by byte.
async fn bytes(
    stage: &Stage,
    books: &Books,
    planned: &Planned,
    object: &BuildRequest,
    rung: &mut RungBalance,
    findings: &mut Findings,
) {
    let status = object.status.clone().unwrap_or_default();
    let Some((number, id)) = status
        .run
        .as_ref()
        .and_then(|r| Some((r.id.as_deref()?.parse::<u64>().ok()?, r.id.clone()?)))
    else {
        return;
    };
    let project = planned.rung.project().1;
    let log = status.log.clone().unwrap_or_default();
    let text: String = log
        .config_maps
        .iter()
        .filter_map(|map| books.maps.get(map)?.data.as_ref()?.get("log"))
        .cloned()
        .collect();
    let whole = remote::jenkins(
        stage,
        &books.admin,
        project,
        &planned.pipeline,
        number,
        "consoleText",
    )
    .await;
    let digest = sha256(&whole);
    let home = condition(object, "LogsArchived").0 == "True"
        && log.complete
        && text.as_bytes() == whole
        && log.sha256.as_ref() == Some(&digest);
    if !home {
        rung.logs_missing += 1;
        findings.say(format!(
            "the log of build {id} is not home: {} of {} bytes, LogsArchived {:?}, {log:?}",
            text.len(),
            whole.len(),
            condition(object, "LogsArchived")
        ));
    }
    if planned.files.is_empty() {
        return;
    }
    let fetch = status
        .artifact_fetch_ref
        .as_ref()
        .and_then(|r| books.fetches.get(&r.name));
    let fetched = fetch.and_then(|f| f.status.clone()).unwrap_or_default();
    let map = fetched
        .config_map
        .as_ref()
        .and_then(|m| books.maps.get(m))
        .cloned()
        .unwrap_or_default();
    let mut wrong = Vec::new();
    for (path, size) in &planned.files {
        let remote = remote::jenkins(
            stage,
            &books.admin,
            project,
            &planned.pipeline,
            number,
            &format!("artifact/{}", encoded(path)),
        )
        .await;
        let file = fetched.files.iter().find(|f| f.path == *path);
        let key = file.and_then(|f| f.key.clone()).unwrap_or_default();
        let local = map
            .binary_data
            .as_ref()
            .and_then(|d| d.get(&key))
            .map(|b| b.0.clone());
        let local = local.or_else(|| Some(map.data.as_ref()?.get(&key)?.clone().into_bytes()));
        let same = local.as_ref() == Some(&remote) && remote.len() as u64 == *size;
        if !same || file.map(|f| f.sha256.as_str()) != Some(sha256(&remote).as_str()) {
            wrong.push(format!(
                "{path}: {:?} of {size} bytes, {file:?}",
                local.map(|l| l.len())
            ));
        }
    }
    let stored = condition(object, "ArtifactsStored").0 == "True";
    if !stored || !wrong.is_empty() {
        rung.artifacts_missing += 1;
        findings.say(format!(
            "artifacts are missing: ArtifactsStored {:?}, {wrong:?}",
            condition(object, "ArtifactsStored")
        ));
    }
}

/// Builds that nobody asked for.
fn strangers(books: &Books, planned: &[Planned], balance: &mut Balance) {
    let names: BTreeSet<_> = planned.iter().map(|p| p.name.as_str()).collect();
    for build in &books.ledger.builds {
        let version = build
            .parameters
            .iter()
            .find(|(n, _)| n == "VERSION")
            .map(|(_, v)| v.as_str());
        if version.is_none_or(|v| !names.contains(v)) {
            balance
                .problems
                .push(format!("a build that nobody asked for: {build:?}"));
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A path as it is written in a URL.
fn encoded(path: &str) -> String {
    path.split('/')
        .map(|part| {
            percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
        })
        .collect::<Vec<_>>()
        .join("/")
}
