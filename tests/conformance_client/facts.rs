//! What an understood answer says, in the words of the table.

use std::collections::BTreeSet;

use tenantry::gateway::{
    Artifact, Branch, EncodedBranch, ErrorClass, GatewayError, JenkinsRun, Pipeline, PipelineKind, Result,
    Run, RunId, RunPhase, RunProgress, Stage, Step, first_failed, paused_inputs,
    wire::{answer::Answer, oauth::Tokens, run::WatchLine},
};

/// Facts of an answer.
pub type Facts = Vec<(&'static str, String)>;

/// Kind of outcome, and its facts.
pub fn of(got: &Result<Answer>) -> (&'static str, Facts) {
    match got {
        Err(error) => ("error", of_error(error)),
        Ok(answer) => of_answer(answer),
    }
}

/// One line, for messages and rules.
pub fn describe(got: Option<Result<Answer>>) -> String {
    let Some(got) = got else {
        return "silence".into();
    };
    let (outcome, facts) = of(&got);
    let facts: Vec<_> = facts.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let error = got.err().map(|e| format!("  [{e}]")).unwrap_or_default();
    format!("{outcome} {}{error}", facts.join("; "))
}

fn of_answer(answer: &Answer) -> (&'static str, Facts) {
    match answer {
        Answer::Tokens(tokens) => ("tokens", of_tokens(tokens)),
        Answer::UserName(name) => ("user", vec![("name", name.clone())]),
        Answer::Workspaces(all) => ("workspaces", list(all.iter().map(|w| w.name.as_str()))),
        Answer::Workspace(one) => ("workspace", vec![("name", one.name.clone())]),
        Answer::Projects(all) => ("projects", list(all.iter().map(|p| p.name.as_str()))),
        Answer::Namespace(view) => (
            "namespace",
            vec![("workspace", or_dash(view.workspace.as_deref()))],
        ),
        Answer::Pipeline(one) => ("pipeline", of_pipeline(one)),
        Answer::Pipelines(all) => ("pipelines", list(all.iter().map(|p| p.name.as_str()))),
        Answer::Branch(one) => ("branch", of_branch(one)),
        Answer::Branches(all) => ("branches", list(all.iter().map(|b| b.encoded.as_str()))),
        Answer::Run(run) => ("run", of_run(run)),
        Answer::Runs(page) => {
            let mut facts = list(page.items.iter().map(|r| r.name.as_str()));
            facts.push(("total", page.total.to_string()));
            ("runs", facts)
        }
        Answer::Deleted => ("deleted", Vec::new()),
        Answer::Stages(None) => ("stages", vec![("stages", "none".into())]),
        Answer::Stages(Some(stages)) => ("stages", of_stages(stages)),
        Answer::Steps(steps) => ("steps", of_steps(steps)),
        Answer::JenkinsRun(build) => ("build", of_build(build)),
        Answer::Artifacts(files) => ("artifacts", of_artifacts(files)),
        Answer::Bytes(count) => ("bytes", vec![("size", count.to_string())]),
        Answer::Events => ("events", Vec::new()),
        Answer::Watch(lines) => ("watch", of_watch(lines)),
        Answer::Other => ("other", Vec::new()),
        other => panic!("an outcome without words: {other:?}"),
    }
}

fn of_error(error: &GatewayError) -> Facts {
    let treat = match error.class() {
        ErrorClass::User => "user",
        ErrorClass::Denied => "denied",
        ErrorClass::Throttled => "throttled",
        ErrorClass::Unavailable => "unavailable",
        ErrorClass::Gone => "gone",
        ErrorClass::Conflict => "conflict",
        ErrorClass::Bug => "bug",
        ErrorClass::Fenced => "fenced",
    };
    vec![
        ("kind", format!("{:?}", error.kind())),
        ("treat", treat.into()),
        ("ambiguous", yes(error.ambiguous())),
    ]
}

fn of_tokens(tokens: &Tokens) -> Facts {
    let expires = tokens.expires_in.map(|d| d.as_secs().to_string());
    vec![
        ("expires", or_dash(expires.as_deref())),
        ("refresh", yes(tokens.refresh.is_some())),
    ]
}

fn of_pipeline(pipeline: &Pipeline) -> Facts {
    let kind = match &pipeline.kind {
        PipelineKind::Regular => "regular",
        PipelineKind::MultiBranch => "multi",
        PipelineKind::Other(kind) => kind,
    };
    let declared = pipeline.parameters.iter().flatten();
    vec![
        ("name", pipeline.name.clone()),
        ("kind", kind.to_owned()),
        ("synced", yes(pipeline.synced)),
        ("creator", or_dash(pipeline.creator.as_deref())),
        ("parameters", joined(declared.map(|p| p.name.as_str()))),
    ]
}

fn of_branch(branch: &Branch) -> Facts {
    let declared = branch.parameters.iter().flatten();
    vec![
        ("encoded", branch.encoded.as_str().to_owned()),
        ("git", branch.git.as_str().to_owned()),
        ("primary", yes(branch.primary)),
        ("parameters", joined(declared.map(|p| p.name.as_str()))),
    ]
}

fn of_run(run: &Run) -> Facts {
    let phase = match run.phase {
        RunPhase::None => "-".to_owned(),
        phase => format!("{phase:?}"),
    };
    let progress = match run.progress() {
        RunProgress::Finished(Some(outcome)) => format!("Finished:{outcome:?}"),
        RunProgress::Finished(None) => "Finished:?".into(),
        progress => format!("{progress:?}"),
    };
    let mut facts = vec![
        ("name", run.name.clone()),
        ("pipeline", run.pipeline.clone()),
        ("branch", or_dash(run.branch.as_ref().map(EncodedBranch::as_str))),
        ("id", or_dash(run.run_id.as_ref().map(RunId::as_str))),
        ("creator", or_dash(run.creator.as_deref())),
        ("parameters", run.parameters.len().to_string()),
        ("phase", phase),
        ("progress", progress),
    ];
    if run.deleting {
        facts.push(("deleting", yes(true)));
    }
    facts
}

fn of_stages(stages: &[Stage]) -> Facts {
    let word = |state: &Option<tenantry::gateway::JenkinsState>| {
        state.clone().map_or_else(|| "-".to_owned(), String::from)
    };
    let all: Vec<_> = stages
        .iter()
        .map(|s| format!("{}:{}/{}", s.name, word(&s.state), String::from(s.result)))
        .collect();
    let waits = paused_inputs(stages);
    vec![
        ("stages", joined(all.iter().map(String::as_str))),
        (
            "steps",
            stages.iter().map(|s| s.steps.len()).sum::<usize>().to_string(),
        ),
        ("waits", joined(waits.iter().map(|w| w.input.id.as_str()))),
        (
            "failed",
            or_dash(first_failed(stages).map(|(stage, _)| stage.name.as_str())),
        ),
    ]
}

fn of_steps(steps: &[Step]) -> Facts {
    let word = |step: &Step| step.state.clone().map_or_else(|| "-".to_owned(), String::from);
    let all: Vec<_> = steps
        .iter()
        .map(|s| format!("{}:{}/{}", s.id, word(s), String::from(s.result)))
        .collect();
    vec![("steps", joined(all.iter().map(String::as_str)))]
}

fn of_watch(lines: &[WatchLine]) -> Facts {
    let mut names: Vec<&str> = Vec::new();
    let mut deleted: Vec<&str> = Vec::new();
    let mut error = None;
    for line in lines {
        match line {
            WatchLine::Changed(run) | WatchLine::Deleted(run) => names.push(&run.name),
            WatchLine::Error(code) => error = Some(code.to_string()),
            WatchLine::Bookmark(_) => {}
        }
        if let WatchLine::Deleted(run) = line {
            deleted.push(&run.name);
        }
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    vec![
        ("lines", lines.len().to_string()),
        ("names", joined(names.into_iter())),
        ("deleted", joined(deleted.into_iter())),
        ("error", or_dash(error.as_deref())),
    ]
}

fn of_build(build: &JenkinsRun) -> Facts {
    vec![
        ("id", or_dash(build.id.as_ref().map(RunId::as_str))),
        ("state", String::from(build.state.clone())),
        ("result", String::from(build.result)),
        ("artifacts", yes(build.has_artifacts)),
        ("ended", yes(build.ended.is_some())),
    ]
}

fn of_artifacts(files: &[Artifact]) -> Facts {
    vec![
        ("count", files.len().to_string()),
        ("bytes", files.iter().map(|f| f.size).sum::<u64>().to_string()),
        ("first", or_dash(files.first().map(|f| f.path.as_str()))),
    ]
}

fn list<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Facts {
    vec![
        ("count", names.clone().count().to_string()),
        ("names", joined(names)),
    ]
}

fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<_> = names.collect();
    or_dash(Some(all.join(",").as_str()))
}

fn or_dash(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or("-").to_owned()
}

fn yes(fact: bool) -> String {
    if fact { "yes" } else { "no" }.into()
}
