//! Who we are at the gateway, and whether its certificate is to be trusted: refused, locked out, missing, forgotten.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::DeleteParams;
use serde_json::json;
use tenantry::api::TenantConnection;
use tenantry_simulator::{
    Role,
    world::{Project, UserState, Workspace},
};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    READY, WRONG, assert_no_password_shows,
    common::{CONNECTION, PASSWORD, Setup, Stage, USER, world},
    conditions_of, look, message_of, patch_spec, until, until_stalled,
};

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
    let secrets = stage.api::<Secret>();
    secrets
        .delete("login", &DeleteParams::default())
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
        .delete("login", &DeleteParams::default())
        .await
        .expect("deleted");
    until_stalled(&stage, "ReferenceNotFound").await;
    assert_no_password_shows(&stage).await;
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
    stage.apply::<ConfigMap>(config_map("no certificate")).await;
    let status = until_stalled(&stage, "InvalidSpec").await;
    assert!(
        message_of(&status).contains("no certificate"),
        "{}",
        message_of(&status)
    );
    stage.apply::<ConfigMap>(config_map(&pem)).await;
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
