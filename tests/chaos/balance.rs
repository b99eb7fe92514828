//! The balance of a kill loop: printed, and written down as JSON.

use std::{collections::BTreeMap, fmt, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use tenantry_simulator::FaultKind;

use crate::{common::Stage, kills::Killed, plan::Rung, settings::Settings};

/// What came of the builds of one rung.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RungBalance {
    /// BuildRequests.
    pub requested: usize,
    /// Run tokens in their statuses: first runs, retries and reruns.
    pub tokens: usize,
    /// Builds that Jenkins made of them.
    pub builds: usize,
    /// Builds beyond the tokens.
    pub duplicates: usize,
    /// Tokens without a build.
    pub losses: usize,
    /// Objects that did not settle.
    pub unfinished: usize,
    /// Objects that ended `Stalled` with several candidates, rather than be built twice: the stated limit of a POST
    /// without correlation parameter.
    pub ambiguous: usize,
    /// Objects whose log is not home, byte by byte.
    pub logs_missing: usize,
    /// Objects whose artifacts are not home, byte by byte.
    pub artifacts_missing: usize,
}

impl RungBalance {
    fn add(&mut self, other: &Self) {
        let Self {
            requested,
            tokens,
            builds,
            duplicates,
            losses,
            unfinished,
            ambiguous,
            logs_missing,
            artifacts_missing,
        } = other;
        self.requested += requested;
        self.tokens += tokens;
        self.builds += builds;
        self.duplicates += duplicates;
        self.losses += losses;
        self.unfinished += unfinished;
        self.ambiguous += ambiguous;
        self.logs_missing += logs_missing;
        self.artifacts_missing += artifacts_missing;
    }
}

/// The whole balance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Balance {
    /// The commit that was tested.
    pub commit: String,
    /// The command that did it.
    pub command: String,
    /// What all that is random came from.
    pub seed: u64,
    /// How long it took, settling included.
    pub seconds: u64,
    /// How often the operator was killed.
    pub kills: usize,
    /// How many of the kills came before it was ready.
    pub kills_on_the_way_up: usize,
    /// How many unfinished objects there were at a kill, on average.
    pub unfinished_at_kill: usize,
    /// In which states their runs were at the kills, summed up: intended, sending, submitted, started, ended.
    pub states_at_kill: [usize; 5],
    /// Requests that reached the gateway.
    pub requests: usize,
    /// Of a thousand requests, how many were to meet a fault.
    pub faults_permille: u32,
    /// Faults that were served, by sort.
    pub faults: BTreeMap<FaultKind, u64>,
    /// By rung.
    pub rungs: BTreeMap<Rung, RungBalance>,
    /// All rungs together.
    pub total: RungBalance,
    /// What is wrong, each a sentence with what there is to know.
    pub problems: Vec<String>,
}

impl Balance {
    /// Without the rungs, which the audit fills in.
    pub fn new(settings: &Settings, stage: &Stage, killed: &Killed, took: Duration, commit: String) -> Self {
        Self {
            commit,
            command: settings.command().to_owned(),
            seed: settings.seed,
            seconds: took.as_secs(),
            kills: killed.kills,
            kills_on_the_way_up: killed.on_the_way_up,
            unfinished_at_kill: killed.unfinished / killed.kills.max(1),
            states_at_kill: killed.states,
            requests: stage.simulator.ledger().count("*"),
            faults_permille: settings.permille,
            faults: stage.simulator.control().random_faults_served(),
            rungs: BTreeMap::new(),
            total: RungBalance::default(),
            problems: killed.ends.clone(),
        }
    }

    /// Sums up.
    pub fn sum(&mut self) {
        self.total = RungBalance::default();
        for rung in self.rungs.values() {
            self.total.add(rung);
        }
    }

    /// Whether nothing is wrong.
    pub fn holds(&self) -> bool {
        let t = &self.total;
        let wrong = t.duplicates + t.losses + t.unfinished + t.logs_missing + t.artifacts_missing;
        self.problems.is_empty() && wrong == 0
    }

    /// Writes it down.
    pub fn write(&self, file: &Path) {
        let json = serde_json::to_string_pretty(self).expect("JSON");
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, json + "\n").expect("a file");
    }

    /// The part of the docs that tells it.
    pub fn part(&self) -> String {
        let served: u64 = self.faults.values().sum();
        let kinds: Vec<_> = self
            .faults
            .iter()
            .map(|(kind, times)| format!("{} {times}", words(*kind)))
            .collect();
        let [intended, sending, submitted, started, ended] = self.states_at_kill;
        format!(
            "Made by `{}` at commit `{}`, seed {}, in {} min. {} kills, {} of them before the operator was ready; {} \
             unfinished objects at a kill, on average. The runs of these, at all kills together: {intended} intended, \
             {sending} sending, {submitted} submitted, {started} started, {ended} ended and being brought home. {} requests \
             reached the gateway, {served} of them met a fault ({} of a thousand were to): {}.\n\n{}",
            self.command,
            self.commit,
            self.seed,
            self.seconds.div_ceil(60),
            self.kills,
            self.kills_on_the_way_up,
            self.unfinished_at_kill,
            self.requests,
            self.faults_permille,
            kinds.join(", "),
            self.table()
        )
    }

    /// The table, as Markdown.
    fn table(&self) -> String {
        let mut text = String::from(
            "| rung | requests | tokens | Jenkins builds | duplicates | losses | unfinished | ambiguous | logs missing | artifacts missing |\n|---|---|---|---|---|---|---|---|---|---|\n",
        );
        let rows = self.rungs.iter().map(|(rung, b)| (rung.title(), b));
        for (title, b) in rows.chain([("all", &self.total)]) {
            text.push_str(&format!(
                "| {title} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                b.requested,
                b.tokens,
                b.builds,
                b.duplicates,
                b.losses,
                b.unfinished,
                b.ambiguous,
                b.logs_missing,
                b.artifacts_missing
            ));
        }
        text
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served: u64 = self.faults.values().sum();
        writeln!(
            f,
            "{} kills ({} before it was ready) in {} s, {} unfinished objects at a kill; {served} faults in {} requests {:?}; seed {}, commit {}",
            self.kills,
            self.kills_on_the_way_up,
            self.seconds,
            self.unfinished_at_kill,
            self.requests,
            self.faults,
            self.seed,
            self.commit
        )?;
        writeln!(
            f,
            "runs at the kills: intended, sending, submitted, started, ended = {:?}\n",
            self.states_at_kill
        )?;
        f.write_str(&self.table())
    }
}

/// A kind of fault, for people.
fn words(kind: FaultKind) -> String {
    let name = serde_json::to_value(kind).expect("JSON");
    name.as_str().expect("a word").replace('_', " ")
}
