//! What is asked for: BuildRequests on all three rungs, each with an ending of its own, and what must come of each.

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenantry::api::build_request::Outcome;
use tenantry_simulator::{
    Role, World,
    world::{Project, User, Workspace},
};

use crate::common::{PASSWORD, USER, build_request, parameters, scripted};

/// Pipelines of each project: starts are serialised per pipeline.
const PIPELINES: usize = 4;

/// How a run is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Under a name of our choice.
    ChosenName,
    /// By POST, with a correlation parameter.
    CorrelatedPost,
    /// By POST, known again only by what was sent.
    PlainPost,
}

impl Rung {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ChosenName, Self::CorrelatedPost, Self::PlainPost];

    /// Short and full name of the project whose runs are started so: the tenant's role there leaves no other way.
    pub fn project(self) -> (&'static str, &'static str) {
        match self {
            Self::ChosenName => ("named", "namedx7k2p"),
            Self::CorrelatedPost => ("corr", "corrq3m8z"),
            Self::PlainPost => ("plain", "plaint5v1c"),
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::ChosenName => "chosen name",
            Self::CorrelatedPost => "POST with correlation parameter",
            Self::PlainPost => "POST without",
        }
    }

    fn role(self) -> Role {
        match self {
            Self::ChosenName => Role::tenant(),
            Self::CorrelatedPost | Self::PlainPost => Role::tenant_without_pipelineruns(),
        }
    }
}

/// The remote: a project for each rung, with several pipelines.
pub fn world() -> World {
    let world = World::empty()
        .user(User::new(USER, PASSWORD))
        .workspace(Workspace::new("acme", &["host"]).member(USER, Role::workspace_member()));
    Rung::ALL.into_iter().fold(world, |world, rung| {
        let (short, full) = rung.project();
        let project = Project::new("acme", short)
            .named(full)
            .owned_by(USER)
            .member(USER, rung.role());
        world.project((0..PIPELINES).fold(project, |project, n| project.pipeline(scripted(&pipeline(n)))))
    })
}

fn pipeline(n: usize) -> String {
    format!("p{n}")
}

/// One BuildRequest and what must come of it.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name; also the value of the parameter `VERSION`, by which Jenkins' builds are told apart.
    pub name: String,
    /// How it is started.
    pub rung: Rung,
    /// The pipeline.
    pub pipeline: String,
    /// How each of its builds ends.
    pub outcome: Outcome,
    /// Whether it asks for a second try.
    pub retried: bool,
    /// Whether another run is asked for when it is over.
    pub rerun: bool,
    /// Files to bring home, with sizes.
    pub files: Vec<(String, u64)>,
    spec: Value,
}

impl Planned {
    /// How many runs it asks for in all.
    pub fn tokens(&self) -> usize {
        1 + usize::from(self.retried) + usize::from(self.rerun)
    }

    /// The object to apply.
    pub fn object(&self) -> Value {
        build_request(&self.name, self.spec.clone())
    }
}

/// The plan that a seed makes.
pub fn plan(builds: usize, rng: &mut Rng) -> Vec<Planned> {
    (0..builds).map(|n| planned(n, rng)).collect()
}

fn planned(n: usize, rng: &mut Rng) -> Planned {
    let rung = Rung::ALL[n % Rung::ALL.len()];
    let name = format!("b{n:04}");
    let pipeline = pipeline(rng.usize(0..PIPELINES));
    let (result, outcome) = match rng.u8(0..20) {
        0 | 1 => ("FAILURE", Outcome::Failed),
        2 => ("UNSTABLE", Outcome::Unstable),
        3 => ("ABORTED", Outcome::Aborted),
        _ => ("SUCCESS", Outcome::Succeeded),
    };
    // Runs of one object have equal parameters: without a correlation parameter only times tell them apart, and what
    // follows within the allowance for clocks may be taken for the one before. That limit is told in the docs.
    let repeats = rung != Rung::PlainPost;
    let retried = repeats && outcome == Outcome::Failed && rng.bool();
    let rerun = repeats && !retried && rng.u8(0..10) == 0;
    let files = if outcome == Outcome::Succeeded && rng.u8(0..3) == 0 {
        vec![
            ("dist/app.bin".to_owned(), rng.u64(1..30_000)),
            ("notes/a b+c.txt".to_owned(), rng.u64(1..500)),
        ]
    } else {
        vec![]
    };
    let archived: Vec<_> = files
        .iter()
        .map(|(path, size)| format!("{path}:{size}"))
        .collect();
    let mut spec = json!({
        "project": rung.project().0, "pipeline": pipeline,
        "parameters": parameters(&[
            ("VERSION", &name),
            ("DURATION", &rng.u32(2..50).to_string()),
            ("QUEUE", &rng.u32(0..10).to_string()),
            ("LOG_BYTES", &rng.u32(200..30_000).to_string()),
            ("RESULT", result),
            ("ARTIFACTS", &archived.join(",")),
        ]),
    });
    if rung == Rung::CorrelatedPost {
        spec["correlationParameter"] = json!("CORR");
    }
    if retried {
        spec["retry"] = json!({"limit": 1, "backoff": "1s"});
    }
    if !files.is_empty() {
        spec["artifacts"] = json!({"include": ["**"]});
    }
    Planned {
        name,
        rung,
        pipeline,
        outcome,
        retried,
        rerun,
        files,
        spec,
    }
}
