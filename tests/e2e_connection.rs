//! TenantConnections from end to end: what a person sees in status while a connection is good, refused, away, moved.

mod common;

use common::{CONNECTION, PASSWORD, PROJECT, Setup, Stage, USER, world};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tenantry::api::{
    TenantConnection, TenantConnectionStatus,
    conditions::{self, ConditionType},
    tenant_connection::Capability,
};
use tenantry_simulator::{
    ClusterHealth, Cut, Fault, FaultAction, Role,
    world::{Project, User, UserState, Workspace},
};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

const WRONG: &str = "wrong-Passw0rd-canary";

/// Status and reason of `Ready`, `Reconciling` and `Stalled`, as `Ready=True(Ready)`, in this order.
fn conditions_of(status: &TenantConnectionStatus) -> String {
    let shown = [
        ConditionType::Ready,
        ConditionType::Reconciling,
        ConditionType::Stalled,
    ];
    let all = shown
        .into_iter()
        .filter_map(|kind| conditions::find(&status.conditions, kind));
    let all: Vec<_> = all
        .map(|c| format!("{}={}({})", c.type_, c.status, c.reason))
        .collect();
    all.join(" ")
}

fn message_of(status: &TenantConnectionStatus) -> &str {
    conditions::find(&status.conditions, ConditionType::Ready).map_or("", |c| &c.message)
}

/// Waits until the connection has these conditions, and returns its status then.
async fn until(stage: &Stage, expected: &str) -> TenantConnectionStatus {
    let api = stage.api::<TenantConnection>();
    wait_for(
        &format!("the connection to have {expected}"),
        PATIENCE,
        async || {
            let status = api.get(CONNECTION).await?.status.unwrap_or_default();
            Ok(if conditions_of(&status) == expected {
                Seen::Done(status)
            } else {
                Seen::NotYet(format!("{}: {}", conditions_of(&status), message_of(&status)))
            })
        },
    )
    .await
    .unwrap_or_else(|e| panic!("{e:#}"))
}

const READY: &str = "Ready=True(Ready)";

fn stalled(reason: &str) -> String {
    format!("Ready=False({reason}) Stalled=True({reason})")
}

async fn until_stalled(stage: &Stage, reason: &str) -> TenantConnectionStatus {
    until(stage, &stalled(reason)).await
}

/// Changes the connection by merge patch.
async fn patch(stage: &Stage, patch: Value) {
    stage
        .api::<TenantConnection>()
        .patch(CONNECTION, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("a patch");
}

async fn patch_spec(stage: &Stage, spec: Value) {
    patch(stage, json!({"spec": spec})).await;
}

/// Asks for a look now and waits until it was made.
async fn look(stage: &Stage, value: &str) -> TenantConnection {
    let annotations = json!({"metadata": {"annotations": {"tenantry.dev/reconcile-requested-at": value}}});
    patch(stage, annotations).await;
    let api = stage.api::<TenantConnection>();
    wait_for("the look to be echoed", PATIENCE, async || {
        let object = api.get(CONNECTION).await?;
        let echoed = object
            .status
            .as_ref()
            .and_then(|s| s.last_handled_reconcile_at.as_deref());
        Ok(if echoed == Some(value) {
            Seen::Done(object)
        } else {
            Seen::NotYet(format!("{echoed:?}"))
        })
    })
    .await
    .expect("a look")
}

/// Nothing that a person can read holds one of the passwords.
async fn assert_no_password_shows(stage: &Stage) {
    let object = stage
        .api::<TenantConnection>()
        .get(CONNECTION)
        .await
        .expect("it is there");
    let object = serde_json::to_string(&object).expect("JSON");
    let events = stage.events(CONNECTION).await.join("\n");
    let logs = stage
        .operator
        .as_ref()
        .expect("an operator")
        .logs()
        .expect("logs");
    let metrics = stage
        .operator
        .as_ref()
        .expect("an operator")
        .metrics_text()
        .await
        .expect("metrics");
    for (place, text) in [
        ("object", object),
        ("Events", events),
        ("log", logs),
        ("metrics", metrics),
    ] {
        for password in [PASSWORD, WRONG] {
            assert!(
                !text.contains(password),
                "a password shows in the {place}:\n{text}"
            );
        }
    }
}

#[tokio::test]
async fn a_good_connection_says_who_we_are_and_what_we_see() {
    let stage = Stage::new().await;
    let status = until(&stage, READY).await;
    assert_eq!(status.user.as_deref(), Some(USER));
    assert_eq!(status.project_count, Some(1));
    assert_eq!(status.projects[0].name, PROJECT);
    assert_eq!(status.projects[0].short_name.as_deref(), Some("shop"));
    assert!(status.token_expires_at.is_some());
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(
        message_of(&status),
        "logged in as robo; 1 DevOps project in workspace acme"
    );
    let table = stage
        .cluster
        .kubectl(["get", "tconn", "-n", &stage.namespace])
        .await
        .expect("kubectl get");
    for column in [
        "READY",
        "True",
        "REASON",
        "USER",
        USER,
        "WORKSPACE",
        "acme",
        "PROJECTS",
    ] {
        assert!(table.contains(column), "no {column} in:\n{table}");
    }
    let metrics = stage
        .operator
        .as_ref()
        .expect("an operator")
        .metrics_text()
        .await
        .expect("metrics");
    for line in [
        r#"tenantry_logins_total{grant="password",outcome="ok"} 1"#.to_owned(),
        format!(
            r#"tenantry_token_expiry_timestamp_seconds{{namespace="{}",connection="ks"}} "#,
            &*stage.namespace
        ),
    ] {
        assert!(metrics.contains(&line), "no {line} in:\n{metrics}");
    }
    assert_no_password_shows(&stage).await;
}

#[tokio::test]
async fn many_looks_cost_one_login_and_write_nothing_new() {
    let stage = Stage::with(Setup {
        args: vec!["--tune".into(), "connection-resync=200ms".into()],
        ..Setup::default()
    })
    .await;
    until(&stage, READY).await;
    for i in 0..20 {
        look(&stage, &i.to_string()).await;
    }
    let before = look(&stage, "last").await;
    let lists = || stage.simulator.ledger().count("v3.projects.list");
    let seen = lists();
    wait_for("five more looks", PATIENCE, async || {
        Ok(Seen::when(lists() >= seen + 5, || {
            format!("{} more", lists() - seen)
        }))
    })
    .await
    .expect("looks");
    let after = stage
        .api::<TenantConnection>()
        .get(CONNECTION)
        .await
        .expect("it is there");
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert_eq!(stage.simulator.ledger().logins("password", "ok"), 1);
}

#[tokio::test]
async fn a_wrong_password_stalls_and_a_corrected_secret_heals_at_once() {
    // Nothing but the watch of the Secret can heal it in time.
    let stage = Stage::with(Setup {
        operator: false,
        args: vec!["--tune".into(), "stalled-resync=1h".into()],
        ..Setup::default()
    })
    .await;
    let mut stage = stage;
    stage.connect(&stage.simulator.url(), WRONG).await;
    stage.start_operator().await;
    let status = until_stalled(&stage, "CredentialsInvalid").await;
    assert!(
        message_of(&status).contains("correct the Secret"),
        "{}",
        message_of(&status)
    );
    assert_eq!(status.user, None);
    for i in 0..5 {
        look(&stage, &i.to_string()).await;
    }
    assert_eq!(
        stage.simulator.ledger().logins("password", "*"),
        1,
        "each failed login brings the person nearer to a lockout"
    );
    stage.connect(&stage.simulator.url(), PASSWORD).await;
    let status = until(&stage, READY).await;
    assert_eq!(status.user.as_deref(), Some(USER));
    for start in ["CredentialsInvalid: ", "Ready: logged in as robo"] {
        wait_for(&format!("an Event {start}"), PATIENCE, async || {
            let events = stage.events(CONNECTION).await;
            let told = events.iter().any(|e| e.starts_with(start));
            Ok(Seen::when(told, || format!("{events:?}")))
        })
        .await
        .expect("an Event");
    }
    assert_no_password_shows(&stage).await;
}

#[tokio::test]
async fn a_lockout_is_waited_out_with_no_login_in_between() {
    let stage = Stage::with(Setup {
        operator: false,
        args: vec!["--tune".into(), "lockout-pause=3s".into()],
        ..Setup::default()
    })
    .await;
    let mut stage = stage;
    let control = stage.simulator.control();
    control
        .set_user_state(USER, UserState::AuthLimitExceeded)
        .expect("locked");
    stage.start_operator().await;
    let status = until(&stage, "Ready=False(LockedOut) Reconciling=True(LockedOut)").await;
    assert!(
        message_of(&status).contains("tried again later"),
        "{}",
        message_of(&status)
    );
    for i in 0..5 {
        look(&stage, &i.to_string()).await;
    }
    let tried = stage.simulator.ledger().logins("password", "*");
    assert!(tried <= 2, "{tried} logins of a user who is locked out");
    control.set_user_state(USER, UserState::Active).expect("freed");
    until(&stage, READY).await;
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named_and_waited_for() {
    let stage = Stage::with(Setup {
        operator: false,
        args: vec!["--tune".into(), "stalled-resync=1h,connection-resync=1h".into()],
        ..Setup::default()
    })
    .await;
    let mut stage = stage;
    let secrets = stage.api::<k8s_openapi::api::core::v1::Secret>();
    secrets
        .delete("login", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    stage.start_operator().await;
    let status = until_stalled(&stage, "ReferenceNotFound").await;
    assert!(
        message_of(&status).contains(r#"no Secret "login""#),
        "{}",
        message_of(&status)
    );
    stage
        .secret("login", &[("username", USER), ("pass", PASSWORD)])
        .await;
    let status = until_stalled(&stage, "SecretKeyMissing").await;
    assert!(
        message_of(&status).contains(r#"has no key "password" (it has pass, username)"#),
        "{}",
        message_of(&status)
    );
    stage
        .secret("login", &[("username", USER), ("password", PASSWORD)])
        .await;
    until(&stage, READY).await;
    secrets
        .delete("login", &kube::api::DeleteParams::default())
        .await
        .expect("deleted");
    until_stalled(&stage, "ReferenceNotFound").await;
    assert_no_password_shows(&stage).await;
}

#[tokio::test]
async fn a_gateway_that_is_down_takes_nothing_from_what_was_known() {
    let stage = Stage::with(Setup {
        args: vec!["--tune".into(), "connection-resync=300ms".into()],
        ..Setup::default()
    })
    .await;
    let known = until(&stage, READY).await;
    let control = stage.simulator.control();
    for action in [
        FaultAction::cut(Cut::RequestLost),
        FaultAction::answer(502, "Bad Gateway"),
        FaultAction::answer(503, "no"),
        FaultAction::answer(200, "<html>maintenance</html>"),
    ] {
        let what = format!("{action:?}");
        control.fault(Fault::always("", action));
        let api = stage.api::<TenantConnection>();
        let status = wait_for(&format!("{what} to be noticed"), PATIENCE, async || {
            let status = api.get(CONNECTION).await?.status.unwrap_or_default();
            let noticed = conditions::is_true(&status.conditions, ConditionType::Reconciling);
            Ok(if noticed {
                Seen::Done(status)
            } else {
                Seen::NotYet(conditions_of(&status))
            })
        })
        .await
        .expect("noticed");
        assert!(
            !conditions::is_true(&status.conditions, ConditionType::Stalled),
            "{what}: {}",
            conditions_of(&status)
        );
        assert_eq!(
            (&status.user, &status.projects, &status.token_expires_at),
            (&known.user, &known.projects, &known.token_expires_at),
            "{what}"
        );
        control.clear_faults();
        until(&stage, READY).await;
    }
    assert_eq!(
        stage.simulator.ledger().logins("password", "ok"),
        1,
        "the session outlives it all"
    );
}

#[tokio::test]
async fn tokens_that_the_gateway_forgot_are_replaced_and_nobody_notices() {
    let stage = Stage::new().await;
    until(&stage, READY).await;
    stage.simulator.control().flush_tokens();
    let after = look(&stage, "after the restart of the gateway").await;
    assert_eq!(conditions_of(&after.status.expect("a status")), READY);
    assert_eq!(stage.simulator.ledger().logins("password", "ok"), 2);
}

#[tokio::test]
async fn a_member_cluster_has_projects_of_its_own_and_may_be_away_alone() {
    let world = world(Role::tenant()).cluster("member-1").project(
        Project::new("acme", "east")
            .named("eastq1w2e")
            .on("member-1")
            .owned_by(USER),
    );
    let stage = Stage::with(Setup {
        world,
        args: vec!["--tune".into(), "connection-resync=300ms".into()],
        ..Setup::default()
    })
    .await;
    until(&stage, READY).await;
    patch_spec(&stage, json!({"cluster": "member-1"})).await;
    let api = stage.api::<TenantConnection>();
    wait_for("the member's project to be listed", PATIENCE, async || {
        let status = api.get(CONNECTION).await?.status.unwrap_or_default();
        let names: Vec<_> = status.projects.iter().map(|p| p.name.clone()).collect();
        Ok(Seen::when(names == ["eastq1w2e"], || format!("{names:?}")))
    })
    .await
    .expect("listed");
    let member = stage.simulator.control().on("member-1");
    for health in [
        ClusterHealth::NotReady,
        ClusterHealth::KubeApiserverDown,
        ClusterHealth::IdentityRejected,
    ] {
        member.cluster_health(health).expect("set");
        let status = until(
            &stage,
            "Ready=Unknown(RemoteUnavailable) Reconciling=True(RemoteUnavailable)",
        )
        .await;
        assert_eq!(status.projects.len(), 1, "{health:?}");
        member.cluster_health(ClusterHealth::Healthy).expect("set");
        until(&stage, READY).await;
    }
    patch_spec(&stage, json!({"cluster": "nowhere"})).await;
    let status = until_stalled(&stage, "ClusterNotFound").await;
    assert!(
        message_of(&status).contains("correct spec.cluster"),
        "{}",
        message_of(&status)
    );
}

#[tokio::test]
async fn a_workspace_that_is_not_ours_or_not_there_is_said_to_be_so() {
    let world = world(Role::tenant())
        .user(User::new("olga", "olga-Passw0rd"))
        .workspace(Workspace::new("other", &["host"]).member("olga", Role::workspace_member()))
        .workspace(Workspace::new("empty", &["host"]).member(USER, Role::workspace_member()));
    let stage = Stage::with(Setup {
        world,
        ..Setup::default()
    })
    .await;
    until(&stage, READY).await;
    patch_spec(&stage, json!({"workspace": "nowhere"})).await;
    let status = until_stalled(&stage, "WorkspaceNotFound").await;
    assert!(
        message_of(&status).contains(r#"knows no workspace "nowhere""#),
        "{}",
        message_of(&status)
    );
    patch_spec(&stage, json!({"workspace": "other"})).await;
    let api = stage.api::<TenantConnection>();
    wait_for("the foreign workspace to be refused", PATIENCE, async || {
        let status = api.get(CONNECTION).await?.status.unwrap_or_default();
        let told = conditions_of(&status) == stalled("WorkspaceNotFound")
            && message_of(&status).contains("have the user invited");
        Ok(Seen::when(told, || {
            format!("{}: {}", conditions_of(&status), message_of(&status))
        }))
    })
    .await
    .expect("refused");
    patch_spec(&stage, json!({"workspace": "empty"})).await;
    let status = until(&stage, READY).await;
    assert_eq!(
        status.project_count,
        Some(0),
        "a workspace without projects is fine"
    );
}

#[tokio::test]
async fn a_static_token_needs_no_login_and_stalls_when_it_is_worth_nothing() {
    let account = "kubesphere:serviceaccount:ci:robot";
    let world = world(Role::tenant())
        .service_account("ci", "robot")
        .workspace(Workspace::new("bots", &["host"]).member(account, Role::workspace_member()))
        .project(Project::new("bots", "apps").named("appsz9y8x").owned_by(account));
    let stage = Stage::with(Setup {
        world,
        operator: false,
        ..Setup::default()
    })
    .await;
    let mut stage = stage;
    let control = stage.simulator.control();
    let token = control.service_account_token("ci", "robot").expect("a token");
    stage.secret("robot", &[("token", &format!("{token}\n"))]).await;
    patch_spec(
        &stage,
        json!({"workspace": "bots", "credentials": {"password": null, "token": {"secretRef": {"name": "robot"}}}}),
    )
    .await;
    stage.start_operator().await;
    let status = until(&stage, READY).await;
    assert_eq!(status.user.as_deref(), Some(account));
    assert_eq!(status.token_expires_at, None);
    assert_eq!(status.projects[0].name, "appsz9y8x");
    assert_eq!(stage.simulator.ledger().logins("*", "*"), 0);
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "ks",
        "contexts": [{"name": "ks", "context": {"cluster": "ks", "user": "robot"}}],
        "clusters": [{"name": "ks", "cluster": {"server": "https://elsewhere.example.org"}}],
        "users": [{"name": "robot", "user": {"token": token}}],
    });
    stage
        .secret("robot", &[("kubeconfig", &kubeconfig.to_string())])
        .await;
    patch_spec(
        &stage,
        json!({"credentials": {"token": null, "kubeconfig": {"secretRef": {"name": "robot"}}}}),
    )
    .await;
    let api = stage.api::<TenantConnection>();
    wait_for("the kubeconfig to be used", PATIENCE, async || {
        let object = api.get(CONNECTION).await?;
        let status = object.status.unwrap_or_default();
        let used =
            conditions_of(&status) == READY && status.observed_generation == object.metadata.generation;
        Ok(Seen::when(used, || {
            format!("{}: {}", conditions_of(&status), message_of(&status))
        }))
    })
    .await
    .expect("used");
    control.remove_service_account("ci", "robot");
    until_stalled(&stage, "CredentialsInvalid").await;
    let shown = serde_json::to_string(&api.get(CONNECTION).await.expect("there")).expect("JSON");
    let logs = stage
        .operator
        .as_ref()
        .expect("an operator")
        .logs()
        .expect("logs");
    assert!(
        !shown.contains(&token) && !logs.contains(&token),
        "the token shows"
    );
}

#[tokio::test]
async fn a_suspended_connection_asks_nothing_of_the_gateway() {
    let stage = Stage::with(Setup {
        args: vec!["--tune".into(), "connection-resync=200ms".into()],
        ..Setup::default()
    })
    .await;
    until(&stage, READY).await;
    patch_spec(&stage, json!({"suspend": true})).await;
    until(&stage, "Ready=False(Suspended)").await;
    let asked = stage.simulator.ledger().count("*");
    for i in 0..5 {
        look(&stage, &i.to_string()).await;
    }
    assert_eq!(stage.simulator.ledger().count("*"), asked);
    patch_spec(&stage, json!({"suspend": false})).await;
    until(&stage, READY).await;
}

#[tokio::test]
async fn rights_that_a_build_finds_show_up_soon() {
    // No resync would show them in time.
    let stage = Stage::with(Setup {
        world: world(Role::tenant_without_pipelineruns()),
        args: vec!["--tune".into(), "connection-resync=1h".into()],
        ..Setup::default()
    })
    .await;
    let status = until(&stage, READY).await;
    assert_eq!(
        status.capabilities.unwrap_or_default().create_runs,
        Capability::Unknown,
        "nothing is tried for show"
    );
    stage.build("b", json!({})).await;
    stage.until_ready("b").await;
    let api = stage.api::<TenantConnection>();
    wait_for("the missing right to be shown", PATIENCE, async || {
        let found = api
            .get(CONNECTION)
            .await?
            .status
            .unwrap_or_default()
            .capabilities
            .unwrap_or_default();
        Ok(Seen::when(found.create_runs == Capability::No, || {
            format!("{found:?}")
        }))
    })
    .await
    .expect("shown");
}

/// The only TLS server at hand is the API server: it is no gateway, but its certificate can be trusted or not.
#[tokio::test]
async fn a_certificate_is_checked_against_the_given_authority() {
    let stage = Stage::with(Setup {
        operator: false,
        ..Setup::default()
    })
    .await;
    let mut stage = stage;
    let kubeconfig = kube::config::Kubeconfig::read_from(stage.cluster.kubeconfig()).expect("a kubeconfig");
    let cluster = kubeconfig.clusters[0].cluster.clone().expect("a cluster");
    let endpoint = cluster.server.expect("a server");
    let pem = match (cluster.certificate_authority_data, cluster.certificate_authority) {
        (Some(data), _) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD
                .decode(data)
                .expect("base64");
            String::from_utf8(bytes).expect("PEM")
        }
        (None, Some(file)) => std::fs::read_to_string(file).expect("PEM"),
        (None, None) => panic!("the test cluster has a CA of its own"),
    };
    patch_spec(&stage, json!({"endpoint": endpoint})).await;
    stage.start_operator().await;
    let away = "Ready=Unknown(RemoteUnavailable) Reconciling=True(RemoteUnavailable)";
    let status = until(&stage, away).await;
    assert!(
        message_of(&status).to_lowercase().contains("certificate"),
        "{}",
        message_of(&status)
    );

    let ca = json!({"tls": {"caRef": {"configMap": {"name": "ca", "key": "ca.crt"}}}});
    patch_spec(&stage, ca).await;
    until_stalled(&stage, "ReferenceNotFound").await;
    let config_map = |pem: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": pem},
        })
    };
    stage
        .apply::<k8s_openapi::api::core::v1::ConfigMap>(config_map("no certificate"))
        .await;
    let status = until_stalled(&stage, "InvalidSpec").await;
    assert!(
        message_of(&status).contains("no certificate"),
        "{}",
        message_of(&status)
    );
    stage
        .apply::<k8s_openapi::api::core::v1::ConfigMap>(config_map(&pem))
        .await;
    let api = stage.api::<TenantConnection>();
    let trusted = async |what: &str| {
        wait_for(what, PATIENCE, async || {
            let status = api.get(CONNECTION).await?.status.unwrap_or_default();
            let message = message_of(&status).to_lowercase();
            let asked = message.contains("http 4") && !message.contains("certificate");
            Ok(Seen::when(asked, || {
                format!("{}: {message}", conditions_of(&status))
            }))
        })
        .await
        .unwrap_or_else(|e| panic!("{e:#}"));
    };
    trusted("an answer over a connection that the CA vouches for").await;
    patch_spec(&stage, json!({"tls": {"caRef": null}})).await;
    let status = until(&stage, away).await;
    assert!(
        message_of(&status).to_lowercase().contains("certificate"),
        "{}",
        message_of(&status)
    );
    patch_spec(&stage, json!({"tls": {"insecureSkipVerify": true}})).await;
    trusted("an answer over a connection that nobody vouches for").await;
}
