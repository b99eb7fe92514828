//! TenantConnections from end to end: what a person sees in status while a connection is good, refused, away, moved.

#[path = "../common/mod.rs"]
mod common;
mod credentials;
mod leaving;

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
    world::{Project, User, Workspace},
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

/// A stage whose connection is ready, and is looked at several times a second.
async fn looked_at_often() -> Stage {
    let stage = Stage::with(Setup {
        args: vec!["--tune".into(), "connection-resync=200ms".into()],
        ..Setup::default()
    })
    .await;
    until(&stage, READY).await;
    stage
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
    let stage = looked_at_often().await;
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
async fn a_suspended_connection_asks_nothing_of_the_gateway() {
    let stage = looked_at_often().await;
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
