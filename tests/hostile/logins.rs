//! Every kind of login, in every way to fail with it: what was logged in with shows nowhere, in no form, nor does what was
//! named by mistake.

use k8s_openapi::api::{batch::v1::Job, core::v1::PersistentVolumeClaim};
use kube::api::ListParams;
use serde_json::{Value, json};
use tenantry::api::{ArtifactFetch, TenantConnection};
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    canaries::Canaries,
    common::{PASSWORD, Setup, Stage, condition},
    server::{Evil, Hostile},
};

const CLIENT: &str = "cl1ent's \"canary\"/4711 +x";
/// What HTTP takes as a bearer, and what no other text has.
const TOKEN: &str = "t0ken.canary/4711+x'\"==";
const IN_KUBECONFIG: &str = "kube.canary/4711+x'\"==";
const KEY: &str = "MIIEvQcanaryBADANBgkqhkiG9w0BAQEFAASC";
const PARAMETER: &str = "par4meter's \"canary\"/4711 +x";

/// A kubeconfig with a token, whose server nobody should ask.
fn kubeconfig() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "ks",
        "contexts": [{"name": "ks", "context": {"cluster": "ks", "user": "robot"}}],
        "clusters": [{"name": "ks", "cluster": {"server": "https://elsewhere.invalid"}}],
        "users": [{"name": "robot", "user": {"token": IN_KUBECONFIG}}],
    })
}

/// The Secrets of all ways to log in, right and wrong.
async fn plant(stage: &Stage) {
    stage.secret("client", &[("secret", CLIENT)]).await;
    stage.secret("token", &[("token", TOKEN)]).await;
    let whole = kubeconfig().to_string();
    // As it is, cut off in the middle of the token, and with a server that is none but a token.
    let cut = &whole[..whole
        .find(IN_KUBECONFIG.trim_end_matches("'\"=="))
        .expect("in it")
        + 12];
    let turned = whole.replace("https://elsewhere.invalid", &format!("{TOKEN} {TOKEN}"));
    stage
        .secret(
            "kubeconfig",
            &[("kubeconfig", &whole), ("cut", cut), ("turned", &turned)],
        )
        .await;
    // A key that lost its line breaks, where a certificate is to be.
    let key = format!("-----BEGIN PRIVATE KEY {KEY}");
    stage.secret("tls", &[("tls.key", &key)]).await;
    stage.secret("release", &[("key", PARAMETER)]).await;
}

/// Name, credentials and TLS of all ways to log in. What is `broken` fails before anything is sent.
fn logins() -> Vec<(&'static str, Value, Value)> {
    let password = json!({"password": {"secretRef": {"name": "login"}}});
    let kubeconfig = |key: &str| json!({"kubeconfig": {"secretRef": {"name": "kubeconfig"}, "key": key}});
    let ca = json!({"caRef": {"secret": {"name": "tls", "key": "tls.key"}}});
    vec![
        (
            "password",
            json!({"password": {
                "secretRef": {"name": "login"}, "clientId": "shop", "clientSecretRef": {"name": "client", "key": "secret"},
            }}),
            json!({}),
        ),
        (
            "token",
            json!({"token": {"secretRef": {"name": "token"}}}),
            json!({}),
        ),
        ("kubeconfig", kubeconfig("kubeconfig"), json!({})),
        ("broken-kubeconfig-cut", kubeconfig("cut"), json!({})),
        ("broken-kubeconfig-turned", kubeconfig("turned"), json!({})),
        (
            "broken-user",
            json!({"password": {"secretRef": {"name": "login"}, "usernameKey": "password", "passwordKey": "user"}}),
            json!({}),
        ),
        ("broken-ca", password, ca),
    ]
}

async fn connect(stage: &Stage, name: &str, endpoint: &str, credentials: &Value, tls: &Value) {
    stage
        .apply::<TenantConnection>(json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "TenantConnection", "metadata": {"name": name},
            "spec": {
                "endpoint": endpoint, "workspace": "acme", "pollInterval": "1s", "credentials": credentials, "tls": tls,
            },
        }))
        .await;
}

/// A parameter that nobody is to see.
fn parameter() -> Value {
    json!({"name": "VERSION", "valueFrom": {"secretKeyRef": {"name": "release", "key": "key"}}})
}

fn canaries() -> Canaries {
    Canaries::of(&[PASSWORD, CLIENT, TOKEN, IN_KUBECONFIG, KEY, PARAMETER])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_way_to_fail_shows_what_was_logged_in_with() {
    let stage = Stage::with(Setup {
        log: "trace",
        ..Setup::default()
    })
    .await;
    plant(&stage).await;
    let all = || vec![(vec![" /"], Evil::Echo)];
    let echo = Hostile::start(&stage.simulator.url(), all()).await;
    let mut endpoints = vec![
        ("good", stage.simulator.url()),
        ("echo", echo.url()),
        // Speaks no TLS; and one whose certificate nobody vouches for: the API server, which is no gateway.
        ("plain", format!("https://{}", echo.address)),
    ];
    let config = kube::config::Kubeconfig::read_from(stage.cluster.kubeconfig()).expect("a kubeconfig");
    let cluster = config.clusters[0].cluster.clone().expect("a cluster");
    endpoints.push(("untrusted", cluster.server.expect("a server")));
    let mut waited = Vec::new();
    for (place, endpoint) in &endpoints {
        for (login, credentials, tls) in logins() {
            let name = format!("{place}-{login}");
            connect(&stage, &name, endpoint, &credentials, &tls).await;
            let spec = json!({"connectionRef": {"name": name}, "parameters": [parameter()]});
            stage.build(&name, spec).await;
            waited.push(name);
        }
    }
    for name in &waited {
        let object = stage
            .until(name, "what is wrong", |o| {
                let (status, reason, _) = condition(o, "Ready");
                status != "True" && !["", "Starting", "Pending", "Queued"].contains(&reason.as_str())
            })
            .await;
        let (_, reason, message) = condition(&object, "Ready");
        println!("{name}: {reason}: {message}");
        assert!(message.len() > 20, "{name}: {message}");
        let is_spec = ["InvalidSpec", "SecretKeyMissing"].contains(&reason.as_str());
        assert_eq!(is_spec, name.contains("broken"), "{name}: {reason}: {message}");
    }
    assert!(echo.count() > 2, "what was sent was sent back");
    assert_eq!(
        stage.simulator.ledger().logins("*", "ok"),
        1,
        "the usual connection alone"
    );
    let connections = stage.api::<TenantConnection>();
    for name in &waited {
        wait_for(
            &format!("TenantConnection {name} to say it too"),
            PATIENCE,
            async || {
                let status = connections.get(name).await?.status.unwrap_or_default();
                let said = status
                    .conditions
                    .iter()
                    .any(|c| c.type_ == "Ready" && c.status != "True");
                Ok(Seen::when(said, || format!("{:?}", status.conditions)))
            },
        )
        .await
        .expect("said");
    }
    let kinds = ["BuildRequest", "TenantConnection", "Event"];
    canaries().assert_unseen(&stage, &kinds).await;
}

/// Jobs mount Secrets, and copy nothing of them: neither into their plan nor anywhere else.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_holds_nothing_of_what_it_mounts() {
    let stage = Stage::with(Setup {
        log: "trace",
        args: vec!["--fetcher-image".into(), "registry.invalid/tenantry:1".into()],
        ..Setup::default()
    })
    .await;
    plant(&stage).await;
    stage
        .apply::<PersistentVolumeClaim>(json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "by-hand",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }))
        .await;
    // Whether they open the gateway is the pod's to find out, which does not run here.
    let volume = json!({"volume": {"claimName": "data", "subPath": "shop"}});
    let given = json!([parameter(), {"name": "ARTIFACTS", "value": "a.txt:100"}]);
    for (name, kept) in [
        ("log", json!({"logs": {"destination": volume}})),
        (
            "files",
            json!({"artifacts": {"include": ["**"], "destination": volume}}),
        ),
    ] {
        let mut spec = kept;
        spec["parameters"] = given.clone();
        stage.build(name, spec).await;
    }
    let jobs = stage.api::<Job>();
    let made = wait_for("Jobs for log and files", PATIENCE, async || {
        let made = jobs.list(&ListParams::default()).await?.items;
        Ok(if made.len() >= 2 {
            Seen::Done(made)
        } else {
            Seen::NotYet(format!("{} Jobs", made.len()))
        })
    })
    .await
    .expect("Jobs");
    for job in made {
        let text = json!(job).to_string();
        assert!(
            text.contains("TENANTRY_FETCH_PLAN") && text.contains(r#""login""#),
            "{text}"
        );
    }
    let sent = &stage
        .simulator
        .ledger()
        .builds_of(crate::common::PROJECT, "build")[0]
        .parameters;
    assert!(sent.contains(&("VERSION".into(), PARAMETER.into())), "{sent:?}");
    let kinds = ["BuildRequest", "ArtifactFetch", "Job", "Pod", "Event"];
    canaries().assert_unseen(&stage, &kinds).await;
}

/// A reference is looked up in the object's own namespace, whatever there is elsewhere that the operator may read.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_namespace_has_is_not_there() {
    let without_operator = || Setup {
        operator: false,
        ..Setup::default()
    };
    let (mut ours, theirs) = (
        Stage::with(without_operator()).await,
        Stage::with(without_operator()).await,
    );
    ours.scope.extend(theirs.scope.clone());
    ours.start_operator().await;
    // They have one of each, and all of it works for them.
    let login = json!({"password": {"secretRef": {"name": "theirs"}}});
    theirs
        .secret(
            "theirs",
            &[("username", "robo"), ("password", PASSWORD), ("key", PARAMETER)],
        )
        .await;
    connect(&theirs, "theirs", &theirs.simulator.url(), &login, &json!({})).await;
    let secret = json!({"name": "VERSION", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "key"}}});
    let spec = json!({"connectionRef": {"name": "theirs"}, "parameters": [secret]});
    theirs.build("theirs", spec).await;
    theirs.until_ready("theirs").await;

    let through = json!({"connectionRef": {"name": "theirs"}});
    ours.build("connection", through).await;
    ours.build("secret", json!({"parameters": [secret]})).await;
    let map =
        json!({"name": "VERSION", "valueFrom": {"configMapKeyRef": {"name": "theirs-log", "key": "log"}}});
    ours.build("config-map", json!({"parameters": [map]})).await;
    connect(&ours, "login", &theirs.simulator.url(), &login, &json!({})).await;
    ours.build("login", json!({"connectionRef": {"name": "login"}}))
        .await;
    for (name, reason) in [
        ("connection", "ConnectionNotFound"),
        ("secret", "ReferenceNotFound"),
        ("config-map", "ReferenceNotFound"),
        ("login", "ReferenceNotFound"),
    ] {
        let (_, message) = ours.until_stalled(name, reason).await;
        assert!(message.contains(&ours.namespace.to_string()), "{name}: {message}");
        assert!(
            !message.contains(&theirs.namespace.to_string()),
            "{name}: {message}"
        );
    }
    ours.apply::<ArtifactFetch>(json!({
        "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": "files"},
        "spec": {"source": {"buildRequestRef": {"name": "theirs"}}},
    }))
    .await;
    let fetch = ours.until_fetch("files", "Stalled", "True").await;
    let conditions = fetch.status.expect("a status").conditions;
    assert!(
        conditions.iter().any(|c| c.reason == "SourceNotFound"),
        "{conditions:?}"
    );
    assert_eq!(ours.built("build"), 0, "nothing was built with what is theirs");
    assert_eq!(theirs.built("build"), 1);
}
