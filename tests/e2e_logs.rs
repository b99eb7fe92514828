//! Logs of tenants without the raw Jenkins proxy, and what must not be in any log: values from Secrets.

mod common;

use common::{PROJECT, Setup, Stage, USER, acme, condition, parameters, remote, shop};
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tenantry::api::build_request::{BuildPhase, BuildRequest, LogSource, LogStatus};
use tenantry_simulator::{
    Fault, FaultAction, Role,
    world::{LogScript, Parameter, PipelineWorld},
};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

/// A pipeline that prints these lines, stage by stage.
fn printing(name: &str, log: Vec<Vec<String>>) -> PipelineWorld {
    PipelineWorld::regular(name)
        .created_by(USER)
        .parameters(["DURATION", "RESULT", "TOKEN", "KEY"].map(|name| Parameter::string(name, "")))
        .script(|script| script.log = LogScript::Stages(log))
}

/// A pipeline that prints so many lines in each of its three stages.
fn wordy(lines: usize) -> PipelineWorld {
    let line = |stage: &str, n: usize| format!("{stage} {n:06} {}", "~".repeat(60));
    let log = ["checkout", "build", "publish"].map(|stage| (0..lines).map(|n| line(stage, n)).collect());
    printing("wordy", log.to_vec())
}

async fn stage_of(pipeline: PipelineWorld, role: Role) -> Stage {
    Stage::with(Setup {
        world: acme([shop(role).pipeline(pipeline)]),
        // Nothing here may end by this deadline.
        args: vec!["--tune".into(), "collect-deadline=600s".into()],
        ..Setup::default()
    })
    .await
}

fn log_of(object: &BuildRequest) -> Option<&LogStatus> {
    object.status.as_ref()?.log.as_ref()
}

/// The text of a stored log.
async fn stored(stage: &Stage, object: &BuildRequest) -> String {
    let mut text = String::new();
    for map in &log_of(object).expect("a log in the status").config_maps {
        text.push_str(&stage.config_map(map, "log").await);
    }
    text
}

fn sha256(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Size and digest are of the text as it is stored.
fn assert_told_truly(object: &BuildRequest, text: &str) {
    let log = log_of(object).expect("a log in the status");
    assert!(log.complete && !log.truncated, "{log:?}");
    assert_eq!(log.sha256, Some(sha256(text)));
    assert_eq!(log.bytes, i64::try_from(text.len()).unwrap());
}

/// Bytes that were served for requests of a class.
fn served(stage: &Stage, class: &str) -> u64 {
    let requests = stage.simulator.ledger().requests(class);
    requests.iter().map(|request| request.bytes_out).sum()
}

#[tokio::test]
async fn without_the_proxy_a_live_log_grows_by_what_is_new_and_ends_as_jenkins_has_it() {
    let stage = stage_of(wordy(2_000), Role::tenant_without_jenkins_proxy()).await;
    let duration = parameters(&[("DURATION", "200")]);
    stage
        .build("live", json!({"pipeline": "wordy", "parameters": duration}))
        .await;
    let mut sizes = vec![0];
    loop {
        let before = *sizes.last().unwrap();
        let object = stage
            .until("live", "more of the log", |o| {
                log_of(o).is_some_and(|log| log.bytes > before || log.complete)
            })
            .await;
        let log = log_of(&object).unwrap();
        if log.complete {
            break;
        }
        assert_eq!(log.source, LogSource::Steps);
        sizes.push(log.bytes);
        if sizes.len() == 3 {
            let live = stored(&stage, &stage.get("live").await).await;
            assert!(
                live.starts_with("[tenantry] put together from the logs of the steps"),
                "{}",
                &live[..200]
            );
            assert_eq!(
                stage.simulator.ledger().count("v2.run.log"),
                0,
                "not before the end"
            );
        }
    }
    // Often enough that reading all of it each time would show.
    assert!(sizes.len() > 6, "{sizes:?}");

    let object = stage.until_ready("live").await;
    let whole = remote::console_text(&stage, "wordy", 1).await;
    assert_eq!(stored(&stage, &object).await, whole);
    assert_told_truly(&object, &whole);
    assert_eq!(log_of(&object).unwrap().source, LogSource::Run);

    let size = whole.len() as u64;
    let again: u64 = sizes.iter().map(|s| u64::try_from(*s).unwrap()).sum();
    let steps = served(&stage, "v2.run.steplog");
    assert!(
        steps <= size + size / 10,
        "{steps} bytes of steps of a log of {size}"
    );
    assert!(
        steps < again / 2,
        "{steps} bytes, where reading all again is {again} at least"
    );
    let whole_reads = stage.simulator.ledger().count("v2.run.log");
    assert_eq!(whole_reads, 1, "once, at the end");
    println!(
        "log {size} bytes: steps {steps}, whole {}",
        served(&stage, "v2.run.log")
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_sent_whole_is_put_together_from_its_steps_and_says_so() {
    let stage = stage_of(wordy(200), Role::tenant_without_jenkins_proxy()).await;
    let too_slow = "Get \"http://jenkins/\": context deadline exceeded (Client.Timeout exceeded)";
    stage
        .simulator
        .control()
        .fault(Fault::always("v2.run.log", FaultAction::answer(500, too_slow)));
    let duration = parameters(&[("DURATION", "10")]);
    stage
        .build("large", json!({"pipeline": "wordy", "parameters": duration}))
        .await;
    let object = stage.until_ready("large").await;
    assert_eq!(log_of(&object).unwrap().source, LogSource::Steps);
    let text = stored(&stage, &object).await;
    assert_told_truly(&object, &text);
    let (_, reason, message) = condition(&object, "LogsArchived");
    assert_eq!(reason, "LogStored");
    assert!(
        message.contains("put together from the logs of the steps"),
        "{message}"
    );

    let mut printed = text.lines().filter(|line| !line.starts_with("[tenantry]"));
    for stage in ["checkout", "build", "publish"] {
        for n in 0..200 {
            let line = printed.next().expect("a line");
            assert!(line.starts_with(&format!("{stage} {n:06} ")), "{line}");
        }
    }
    assert_eq!(printed.next(), None, "every line once");
}

const TOKEN: &str = "tok-canary-4711";
const KEY: &str = "-----BEGIN KEY-----\ncanary-of-line-one==\n-----END KEY-----\n";

fn from_secret(name: &str) -> Value {
    json!({"name": name, "valueFrom": {"secretKeyRef": {"name": "release", "key": name.to_lowercase()}}})
}

/// A pipeline that prints what it is given.
fn careless() -> PipelineWorld {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let log = vec![
        lines(&["curl -H 'Bearer {TOKEN}' https://example.org", "{KEY}"]),
        lines(&["again {TOKEN}{TOKEN}"]),
        lines(&["at last: {TOKEN}", "no more"]),
    ];
    printing("careless", log)
}

async fn assert_hidden(stage: &Stage, name: &str, object: &BuildRequest) {
    let text = stored(stage, object).await;
    let shown = format!("{}\n{text}", json!(object));
    for canary in [TOKEN, "canary-of-line-one", "BEGIN KEY"] {
        assert!(!shown.contains(canary), "{name}: {canary} in {shown}");
    }
    assert!(
        text.contains("curl -H 'Bearer ****' https://example.org"),
        "{text}"
    );
}

/// Waits until the stored log has this word.
async fn until_printed(stage: &Stage, name: &str, word: &str) -> BuildRequest {
    wait_for("the live log", PATIENCE, async || {
        let object = stage.get(name).await;
        let text = match log_of(&object) {
            Some(_) => stored(stage, &object).await,
            None => String::new(),
        };
        Ok(Seen::when(text.contains(word), || text))
    })
    .await
    .unwrap();
    stage.get(name).await
}

#[tokio::test]
async fn what_a_pipeline_prints_of_a_secret_is_masked_live_and_at_the_end() {
    for role in [Role::tenant(), Role::tenant_without_jenkins_proxy()] {
        let mut stage = stage_of(careless(), role).await;
        stage.secret("release", &[("token", TOKEN), ("key", KEY)]).await;
        let given = json!([
            from_secret("TOKEN"), from_secret("KEY"),
            {"name": "DURATION", "value": "100"}, {"name": "RESULT", "value": "FAILURE"},
        ]);
        stage
            .build("leaks", json!({"pipeline": "careless", "parameters": given}))
            .await;
        let live = until_printed(&stage, "leaks", "Bearer").await;
        assert!(!log_of(&live).unwrap().complete);
        assert_hidden(&stage, "live", &live).await;
        // What was sent stays secret, whatever the Secret says by now.
        stage
            .secret("release", &[("token", "another-token"), ("key", "another-key")])
            .await;
        stage.restart_operator().await;

        let (object, _) = stage.until_stalled("leaks", "BuildFailed").await;
        assert_hidden(&stage, "at the end", &object).await;
        let text = stored(&stage, &object).await;
        assert_told_truly(&object, &text);
        let whole = remote::console_text(&stage, "careless", 1).await;
        let masked = KEY
            .lines()
            .chain([TOKEN])
            .fold(whole.replace(KEY.trim(), "****"), |text, value| {
                text.replace(value, "****")
            });
        assert_eq!(text, masked);
        let tail = object.status.unwrap().failure.and_then(|f| f.log_tail).unwrap();
        assert!(
            tail.contains("again ********") && tail.contains("at last: ****"),
            "{tail}"
        );
    }
}

#[tokio::test]
async fn where_the_run_object_is_gone_the_secret_itself_says_what_to_mask() {
    let mut stage = stage_of(careless(), Role::tenant()).await;
    let control = stage.simulator.control();
    stage.secret("release", &[("token", TOKEN), ("key", KEY)]).await;
    let given = json!([from_secret("TOKEN"), from_secret("KEY"), {"name": "DURATION", "value": "60"}]);
    stage
        .build("gone", json!({"pipeline": "careless", "parameters": given}))
        .await;
    let object = stage.until_phase("gone", BuildPhase::Running).await;
    let run = object.status.as_ref().unwrap().run.clone().unwrap();
    assert_eq!(run.secret_parameters, ["TOKEN", "KEY"]);
    stage.kill_operator();
    control.drop_run(PROJECT, &run.name.unwrap()).unwrap();
    // Neither is there to ask: then nothing is stored.
    let secrets = stage.api::<Secret>();
    secrets.delete("release", &DeleteParams::default()).await.unwrap();
    stage.restart_operator().await;
    stage.until_phase("gone", BuildPhase::Collecting).await;
    let object = stage
        .until("gone", "the log is put off", |o| {
            condition(o, "Ready").2.contains("must not be in it")
        })
        .await;
    assert!(!log_of(&object).is_some_and(|log| log.complete));

    stage.secret("release", &[("token", TOKEN), ("key", KEY)]).await;
    let object = stage.until_ready("gone").await;
    let text = stored(&stage, &object).await;
    assert!(text.ends_with("Finished: SUCCESS\n"), "{text}");
    assert_hidden(&stage, "at the end", &object).await;
}

#[tokio::test]
async fn a_value_too_short_to_be_masked_is_told() {
    let stage = stage_of(careless(), Role::tenant()).await;
    stage.secret("release", &[("token", "no"), ("key", KEY)]).await;
    let given = json!([from_secret("TOKEN"), from_secret("KEY")]);
    stage
        .build("short", json!({"pipeline": "careless", "parameters": given}))
        .await;
    let object = stage.until_ready("short").await;
    let text = stored(&stage, &object).await;
    assert!(
        text.contains("no more") && !text.contains("canary-of-line-one"),
        "{text}"
    );
    wait_for("the Event", PATIENCE, async || {
        let events = stage.events("short").await;
        let told: Vec<_> = events
            .iter()
            .filter(|e| e.starts_with("SecretTooShort:"))
            .collect();
        Ok(Seen::when(told.len() == 1 && told[0].contains("TOKEN"), || {
            format!("{events:?}")
        }))
    })
    .await
    .unwrap();
}
