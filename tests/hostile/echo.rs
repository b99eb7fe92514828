//! A gateway that sends back what it was sent: the login, the bearer, the parameters. None of it is shown anywhere, in
//! whatever form it came.

use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::api::ListParams;
use serde_json::json;
use tenantry_test_support::{PATIENCE, Seen, wait_for};

use crate::{
    canaries::Canaries,
    common::{self, PASSWORD, Setup, Stage, condition},
    connect,
    server::{Evil, Hostile},
};

/// A value that looks different in a form, in JSON, in base64 and in a shell.
const CANARY: &str = "c4nary's \"s3cret\"/4711 +x";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_echoes_is_shown_nowhere_in_no_form() {
    for role in [
        tenantry_simulator::Role::tenant(),
        tenantry_simulator::Role::tenant_without_pipelineruns(),
    ] {
        // A pipeline each: starts on one wait for each other.
        let names = ["login", "read", "start", "follow", "stop"];
        let shop = names.iter().fold(common::shop(role), |shop, name| {
            shop.pipeline(common::scripted(name))
        });
        let stage = Stage::with(Setup {
            world: common::acme([shop]),
            log: "trace",
            ..Setup::default()
        })
        .await;
        stage.secret("release", &[("key", CANARY)]).await;
        let secret =
            json!({"name": "VERSION", "valueFrom": {"secretKeyRef": {"name": "release", "key": "key"}}});
        let mut servers = Vec::new();
        for (name, words) in [
            ("login", vec!["/oauth/token"]),
            ("read", vec!["GET", "v1alpha3", "/pipelines/read"]),
            ("start", vec!["POST", "/pipelineruns"]),
            ("follow", vec!["GET", "/pipelineruns/"]),
            ("stop", vec!["POST", "/runs/"]),
        ] {
            let hostile = Hostile::start(&stage.simulator.url(), vec![(words, Evil::Echo)]).await;
            connect(&stage, &format!("echo-{name}"), &hostile.url()).await;
            stage
                .build(
                    &format!("echo-{name}"),
                    json!({
                        "connectionRef": {"name": format!("echo-{name}")}, "pipeline": name,
                        "parameters": [secret, {"name": "DURATION", "value": "300"}],
                    }),
                )
                .await;
            servers.push((name, hostile));
        }
        stage
            .build(
                "good",
                json!({"parameters": [secret, {"name": "DURATION", "value": "2"}]}),
            )
            .await;
        stage.until_ready("good").await;
        for (name, server) in &servers {
            let object = format!("echo-{name}");
            if *name == "stop" {
                stage
                    .until(&object, "it runs", |o| {
                        common::phase_of(o) == Some(tenantry::api::build_request::BuildPhase::Running)
                    })
                    .await;
                stage.patch(&object, json!({"spec": {"cancel": true}})).await;
            }
            wait_for(&format!("{name} to be echoed"), PATIENCE, async || {
                Ok(Seen::when(server.count() > 0, || "not asked yet".into()))
            })
            .await
            .expect("echoed");
            if ["login", "read"].contains(name) {
                let told = stage
                    .until(&object, "a word about it", |o| {
                        condition(o, "Ready").2.contains("cannot serve")
                    })
                    .await;
                println!("{name}: {}", condition(&told, "Ready").2);
            }
        }

        let canaries = Canaries::of(&[PASSWORD, CANARY]);
        let kinds = [
            "BuildRequest",
            "TenantConnection",
            "ConfigMap",
            "Event",
            "Namespace",
        ];
        canaries.assert_unseen(&stage, &kinds).await;
        let secrets = stage
            .api::<Secret>()
            .list(&ListParams::default())
            .await
            .expect("Secrets")
            .items;
        assert_eq!(secrets.len(), 2, "no Secret but ours");
        assert!(
            stage
                .api::<Job>()
                .list(&ListParams::default())
                .await
                .expect("Jobs")
                .items
                .is_empty()
        );
    }
}
