//! What a BuildRequest names: parameters, Secrets, projects, pipelines, branches, clusters, credentials. Mistakes end in
//! `Stalled` with advice and with nothing sent; what is mended goes on by itself.

mod common;

use common::{PASSWORD, PROJECT, Setup, Stage, USER, acme, condition, parameters, scripted, shop};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret};
use kube::api::ListParams;
use serde_json::{Value, json};
use tenantry::api::{BuildRequest, TenantConnection, build_request::BuildPhase};
use tenantry_simulator::{
    Role, World,
    world::{Parameter, PipelineWorld, Project, UserState, Workspace},
};

const FAST: (&str, &str) = ("DURATION", "2");

/// Nothing was started, on no rung.
fn assert_nothing_sent(stage: &Stage) {
    let ledger = stage.simulator.ledger();
    let sent = ledger.count("apis.pipelineruns.create") + ledger.count("v3.runs.create");
    assert_eq!((sent, ledger.builds().len()), (0, 0), "{:?}", ledger.builds());
}

#[tokio::test]
async fn parameters_that_jenkins_would_refuse_are_refused_before_anything_is_sent() {
    let run = Parameter {
        kind: "run".into(),
        default: None,
        ..Parameter::string("UPSTREAM", "")
    };
    let mut needs = PipelineWorld::multi_branch("needs", &["main"]).created_by(USER);
    needs.branches[0].parameters.push(run);
    let project = shop(Role::tenant()).pipeline(needs);
    let stage = Stage::with(Setup {
        world: acme([project]),
        ..Setup::default()
    })
    .await;
    let rows: [(&str, Value, &[&str]); 4] = [
        (
            "unknown",
            json!({"parameters": parameters(&[("VERSON", "2")])}),
            &[
                "\"VERSON\" is not declared",
                "VERSION",
                "TARGET (staging|production)",
            ],
        ),
        (
            "choice",
            json!({"parameters": parameters(&[("TARGET", "moon")])}),
            &["\"TARGET\" must be one of staging, production"],
        ),
        (
            "missing",
            json!({"pipeline": "needs", "branch": "main"}),
            &["\"UPSTREAM\" needs a value", "UPSTREAM"],
        ),
        (
            "several",
            json!({"parameters": parameters(&[("A", "1"), ("TARGET", "x")]), "correlationParameter": "NOPE"}),
            &[
                "\"A\" is not declared",
                "\"TARGET\" must be",
                "\"NOPE\" is not declared",
            ],
        ),
    ];
    for (name, spec, _) in &rows {
        stage.build(name, spec.clone()).await;
    }
    for (name, _, words) in &rows {
        let (object, message) = stage.until_stalled(name, "ParametersInvalid").await;
        assert_eq!(common::phase_of(&object), Some(BuildPhase::Pending));
        for word in *words {
            assert!(message.contains(word), "{name}: {word} in {message}");
        }
    }
    stage.while_nothing_happens().await;
    assert_nothing_sent(&stage);
    stage
        .build(
            "choice",
            json!({"parameters": parameters(&[("TARGET", "production")])}),
        )
        .await;
    stage.until_ready("choice").await;
}

#[tokio::test]
async fn parameters_that_nobody_declared_yet_are_sent_with_a_warning() {
    let project = shop(Role::tenant()).pipeline(PipelineWorld::regular("bare").created_by(USER));
    let stage = Stage::with(Setup {
        world: acme([project]),
        ..Setup::default()
    })
    .await;
    stage
        .build(
            "bare",
            json!({"pipeline": "bare", "parameters": parameters(&[("VERSION", "2")])}),
        )
        .await;
    stage.until_ready("bare").await;
    let events = stage.events("bare").await;
    assert!(
        events.iter().any(|e| e.starts_with("ParametersMayBeIgnored:")),
        "{events:#?}"
    );
    assert_eq!(stage.built("bare"), 1);
}

#[tokio::test]
async fn references_that_are_missing_are_named_and_healed_when_they_appear() {
    let stage = Stage::new().await;
    stage.secret("half", &[("other", "x")]).await;
    let from = |reference: Value| json!({"parameters": [{"name": "VERSION", "valueFrom": reference}, {"name": "DURATION", "value": "2"}]});
    let rows = [
        (
            "no-secret",
            from(json!({"secretKeyRef": {"name": "later", "key": "version"}})),
            "ReferenceNotFound",
            vec!["Secret \"later\"", "create it"],
        ),
        (
            "no-key",
            from(json!({"secretKeyRef": {"name": "half", "key": "version"}})),
            "SecretKeyMissing",
            vec!["Secret \"half\"", "\"version\"", "it has other"],
        ),
        (
            "no-map",
            from(json!({"configMapKeyRef": {"name": "settings", "key": "version"}})),
            "ReferenceNotFound",
            vec!["ConfigMap \"settings\""],
        ),
    ];
    for (name, spec, ..) in &rows {
        stage.build(name, spec.clone()).await;
    }
    for (name, _, reason, words) in &rows {
        let (_, message) = stage.until_stalled(name, reason).await;
        for word in words {
            assert!(message.contains(word), "{name}: {word} in {message}");
        }
    }
    assert_nothing_sent(&stage);
    stage.secret("later", &[("version", "s1")]).await;
    stage.secret("half", &[("other", "x"), ("version", "s2")]).await;
    stage
        .apply::<ConfigMap>(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"version": "c3"},
        }))
        .await;
    for (name, ..) in &rows {
        stage.until_ready(name).await;
    }
    let mut versions: Vec<_> = stage
        .simulator
        .ledger()
        .builds_of(PROJECT, "build")
        .into_iter()
        .flat_map(|b| b.parameters)
        .filter(|(name, _)| name == "VERSION")
        .map(|(_, value)| value)
        .collect();
    versions.sort();
    assert_eq!(versions, ["c3", "s1", "s2"], "the values arrive at Jenkins");
}

#[tokio::test]
async fn a_secret_shows_nowhere_but_where_it_is_sent() {
    const CANARY: &str = "s3cret-canary-4711";
    for role in [Role::tenant(), Role::tenant_without_pipelineruns()] {
        let stage = Stage::with(Setup {
            world: common::world(role),
            log: "trace",
            ..Setup::default()
        })
        .await;
        stage.secret("release", &[("key", CANARY)]).await;
        let secret =
            json!({"name": "VERSION", "valueFrom": {"secretKeyRef": {"name": "release", "key": "key"}}});
        stage
            .build(
                "uses",
                json!({"parameters": [secret, {"name": "DURATION", "value": "2"}]}),
            )
            .await;
        // A refusal quotes what it can: not this.
        let choice =
            json!({"name": "TARGET", "valueFrom": {"secretKeyRef": {"name": "release", "key": "key"}}});
        stage.build("refused", json!({"parameters": [choice]})).await;
        stage.until_ready("uses").await;
        stage.until_stalled("refused", "ParametersInvalid").await;
        let sent = &stage.simulator.ledger().builds_of(PROJECT, "build")[0].parameters;
        assert!(sent.contains(&("VERSION".into(), CANARY.into())), "{sent:?}");

        let operator = stage.operator.as_ref().unwrap();
        let mut seen = vec![
            ("the log".to_owned(), operator.logs().unwrap()),
            ("the metrics".to_owned(), operator.metrics_text().await.unwrap()),
        ];
        let all = ListParams::default();
        for object in stage.api::<BuildRequest>().list(&all).await.unwrap() {
            seen.push(("a BuildRequest".into(), json!(object).to_string()));
        }
        for object in stage.api::<TenantConnection>().list(&all).await.unwrap() {
            seen.push(("a TenantConnection".into(), json!(object).to_string()));
        }
        for object in stage.api::<Event>().list(&all).await.unwrap() {
            seen.push(("an Event".into(), json!(object).to_string()));
        }
        for object in stage.api::<ConfigMap>().list(&all).await.unwrap() {
            seen.push(("a ConfigMap".into(), json!(object).to_string()));
        }
        // The pipeline has printed it.
        let printed = stage.config_map("uses-log", "log").await;
        assert!(printed.contains(r#""VERSION": "****""#), "{printed}");
        let secrets = stage.api::<Secret>().list(&all).await.unwrap().items;
        assert_eq!(secrets.len(), 2, "no Secret but ours");
        assert!(stage.api::<Pod>().list(&all).await.unwrap().items.is_empty());
        // Tokens are JSON web tokens, which all begin so.
        for (what, text) in seen {
            for secret in [CANARY, PASSWORD, "eyJ"] {
                if let Some(at) = text.find(secret) {
                    let around: String = text[at.saturating_sub(200)..].chars().take(200).collect();
                    panic!("{secret} in {what}: after {around}");
                }
            }
        }
    }
}

/// Two workspaces' worth of ways to name something that is not there.
fn crowded() -> World {
    let member = Project::new("acme", "far")
        .named("farm3m4e5")
        .on("member-1")
        .owned_by(USER);
    let shop = shop(Role::tenant());
    let twin = |name: &str| {
        Project::new("acme", "twin")
            .named(name)
            .owned_by(USER)
            .pipeline(scripted("build"))
    };
    let unlisted = |short: &str, name: &str| {
        Project::new("acme", short)
            .named(name)
            .owned_by(USER)
            .unlabelled()
    };
    let (hidden, stray) = (unlisted("hidden", "hiddenx1y2z"), unlisted("stray", "strayx1y2z"));
    let mut world = acme([shop, twin("twinaaaaa"), twin("twinbbbbb"), hidden, stray]).cluster("member-1");
    world.workspaces.clear();
    world
        .workspace(Workspace::new("acme", &["host", "member-1"]).member(USER, Role::workspace_member()))
        .project(member.pipeline(scripted("build")))
}

#[tokio::test]
async fn what_is_not_there_is_told_with_what_is() {
    let stage = Stage::with(Setup {
        world: crowded(),
        ..Setup::default()
    })
    .await;
    // Moved by hand, say: its namespace names another workspace.
    stage
        .simulator
        .control()
        .set_workspace_labels("strayx1y2z", None, Some("other"))
        .unwrap();
    stage
        .apply::<TenantConnection>(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantConnection", "metadata": {"name": "elsewhere"},
            "spec": {
                "endpoint": stage.simulator.url(), "workspace": "nowhere", "pollInterval": "1s",
                "credentials": {"password": {"secretRef": {"name": "login"}}},
            },
        }))
        .await;
    let rows: [(&str, Value, &str, &[&str]); 11] = [
        (
            "ambiguous",
            json!({"project": "twin"}),
            "ProjectAmbiguous",
            &["twinaaaaa", "twinbbbbb"],
        ),
        (
            "no-project",
            json!({"project": "shoop"}),
            "ProjectNotFound",
            &["shoop", "shop", "twin"],
        ),
        (
            "hidden",
            json!({"project": "hiddenx1y2z"}),
            "ProjectNotFound",
            &["hiddenx1y2z", "does not list it"],
        ),
        (
            "mislabelled",
            json!({"project": "strayx1y2z"}),
            "ProjectMislabelled",
            &["strayx1y2z", "kubesphere.io/workspace", "\"other\"", "\"acme\""],
        ),
        (
            "no-pipeline",
            json!({"pipeline": "biuld"}),
            "PipelineNotFound",
            &["biuld", "it has build, web"],
        ),
        (
            "no-branch",
            json!({"pipeline": "web"}),
            "BranchRequired",
            &["set spec.branch"],
        ),
        (
            "other-branch",
            json!({"pipeline": "web", "branch": "feature/logout"}),
            "BranchNotFound",
            &["feature/logout", "main", "feature/login"],
        ),
        (
            "a-branch",
            json!({"branch": "main"}),
            "BranchNotSupported",
            &["remove spec.branch"],
        ),
        (
            "no-cluster",
            json!({"cluster": "member-9"}),
            "ClusterNotFound",
            &["member-9", "spec.cluster"],
        ),
        (
            "no-connection",
            json!({"connectionRef": {"name": "none"}}),
            "ConnectionNotFound",
            &["none"],
        ),
        (
            "no-workspace",
            json!({"connectionRef": {"name": "elsewhere"}}),
            "AccessDenied",
            &["nowhere"],
        ),
    ];
    for (name, spec, ..) in &rows {
        stage.build(name, spec.clone()).await;
    }
    for (name, _, reason, words) in &rows {
        let (object, message) = stage.until_stalled(name, reason).await;
        assert_eq!(condition(&object, "Succeeded").0, "Unknown", "{name}");
        for word in *words {
            assert!(message.contains(word), "{name}: {word} in {message}");
        }
    }
    assert_nothing_sent(&stage);

    // The full name tells twins apart, and a project of a member is found there.
    for (name, spec) in [
        (
            "ambiguous",
            json!({"project": "twinbbbbb", "parameters": parameters(&[FAST])}),
        ),
        (
            "far",
            json!({"cluster": "member-1", "project": "far", "parameters": parameters(&[FAST])}),
        ),
    ] {
        stage.build(name, spec).await;
    }
    stage.until_ready("ambiguous").await;
    let far = stage.until_ready("far").await;
    let ledger = stage.simulator.ledger();
    assert_eq!(ledger.builds_of("twinbbbbb", "build").len(), 1);
    assert_eq!(ledger.builds_of("farm3m4e5", "build")[0].cluster, "member-1");
    assert_eq!(
        far.status.unwrap().run.unwrap().cluster.as_deref(),
        Some("member-1")
    );
}

#[tokio::test]
async fn a_wrong_password_stalls_without_hammering_and_a_corrected_secret_heals_it() {
    let mut stage = Stage::with(Setup {
        operator: false,
        ..Setup::default()
    })
    .await;
    stage.connect(&stage.simulator.url(), "not-the-password").await;
    stage.start_operator().await;
    for name in ["one", "two", "three"] {
        stage
            .build(name, json!({"parameters": parameters(&[FAST])}))
            .await;
    }
    for name in ["one", "two", "three"] {
        let (_, message) = stage.until_stalled(name, "CredentialsInvalid").await;
        assert!(message.contains("Secret"), "{message}");
        assert!(!message.contains("not-the-password"), "{message}");
    }
    stage.while_nothing_happens().await;
    let logins = stage.simulator.ledger().logins("*", "*");
    assert!(logins <= 2, "{logins} logins: ten lock the user out");
    stage.connect(&stage.simulator.url(), PASSWORD).await;
    for name in ["one", "two", "three"] {
        stage.until_ready(name).await;
    }
    assert_eq!(stage.built("build"), 3);
}

#[tokio::test]
async fn a_locked_out_user_is_left_alone() {
    let mut stage = Stage::with(Setup {
        operator: false,
        ..Setup::default()
    })
    .await;
    let control = stage.simulator.control();
    control
        .set_user_state(USER, UserState::AuthLimitExceeded)
        .unwrap();
    stage.start_operator().await;
    stage
        .build("locked", json!({"parameters": parameters(&[FAST])}))
        .await;
    let object = stage
        .until("locked", "LockedOut", |o| condition(o, "Ready").1 == "LockedOut")
        .await;
    assert_eq!(condition(&object, "Stalled").0, "", "time may end it");
    stage.while_nothing_happens().await;
    let logins = stage.simulator.ledger().logins("*", "*");
    assert!(logins <= 2, "{logins} logins keep the lock-out alive");
    // Somebody frees the user and gives it another password: a change of the Secret is tried at once.
    control.set_user_state(USER, UserState::Active).unwrap();
    control.set_password(USER, "another-Passw0rd").unwrap();
    stage.connect(&stage.simulator.url(), "another-Passw0rd").await;
    stage.until_ready("locked").await;
}
