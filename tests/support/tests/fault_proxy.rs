//! The fault proxy does what a suite asks of it, between a client as the operator's and a real API server.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ObjectMeta, PostParams, WatchEvent, WatchParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tenantry_test_support::{
    ApiAction, ApiFault, FaultProxy, Namespace, PATIENCE, Seen, Select, TestCluster, fault_proxy::Refusal,
    wait_for,
};

/// A namespace, seen past the proxy and through it.
struct Stage {
    proxy: FaultProxy,
    namespace: Namespace,
    direct: Api<ConfigMap>,
    through: Api<ConfigMap>,
}

impl Stage {
    async fn new() -> Result<Self> {
        let cluster = TestCluster::shared().await?;
        let namespace = cluster.namespace("faults").await?;
        let proxy = FaultProxy::start(cluster.kubeconfig()).await?;
        let config = Kubeconfig::read_from(proxy.kubeconfig())?;
        let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        config.default_retry = false;
        Ok(Self {
            direct: Api::namespaced(cluster.client().await?, &namespace),
            through: Api::namespaced(Client::try_from(config)?, &namespace),
            namespace,
            proxy,
        })
    }

    async fn create(&self, name: &str) -> kube::Result<ConfigMap> {
        self.through
            .create(&PostParams::default(), &config_map(name))
            .await
    }

    /// Lets it happen to the next create.
    fn spoil(&self, action: ApiAction) {
        self.proxy
            .fault(ApiFault::once(Select::of("create configmaps"), action));
    }

    async fn exists(&self, name: &str) -> Result<bool> {
        Ok(self.direct.get_opt(name).await?.is_some())
    }
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("key".to_owned(), "value".repeat(1000))])),
        ..ConfigMap::default()
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

#[tokio::test]
async fn what_is_not_spoiled_passes_as_it_is() -> Result<()> {
    let stage = Stage::new().await?;
    let made = stage.create("plain").await?;
    assert_eq!(stage.direct.get("plain").await?, made);
    assert_eq!(code(&stage.create("plain").await.unwrap_err()), Some(409));
    assert_eq!(stage.through.get("plain").await?, made);
    let maps = Select::of("* configmaps").in_namespace(&stage.namespace);
    let seen = stage.proxy.seen();
    assert_eq!((seen.len(), stage.proxy.count(&maps)), (3, 3), "{seen:?}");
    assert_eq!(seen[1].status, Some(409));
    assert!(seen.iter().all(|request| !request.spoiled));
    Ok(())
}

#[tokio::test]
async fn each_action_carries_out_what_it_says_and_answers_as_it_says() -> Result<()> {
    let stage = Stage::new().await?;
    let refusal = || Refusal::code(503).retry_after(1);
    // What is seen of it: a status code, or none where the connection broke. Whether it was carried out.
    let rows = [
        ("request-lost", ApiAction::RequestLost, None, false),
        ("answer-lost", ApiAction::AnswerLost, None, true),
        ("half-body", ApiAction::HalfBody, None, true),
        ("refused", ApiAction::Refuse(refusal()), Some(503), false),
        (
            "though",
            ApiAction::CarriedOutThough(Refusal::code(500)),
            Some(500),
            true,
        ),
    ];
    for (name, action, status, carried_out) in rows {
        stage.spoil(action);
        let error = stage.create(name).await.expect_err(name);
        assert_eq!(code(&error), status, "{name}: {error}");
        assert_eq!(stage.exists(name).await?, carried_out, "{name}");
        assert_eq!(stage.proxy.faults(), 0, "{name}: it has struck");
        // The connection after it is a good one.
        stage.create(&format!("{name}-again")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_late_is_carried_out_though_nobody_waits_for_it() -> Result<()> {
    let stage = Stage::new().await?;
    let long = Duration::from_secs(3600);
    stage.spoil(ApiAction::AnswerLate(Duration::from_millis(10)));
    stage.create("soon").await?;
    for (name, action) in [
        ("answer-late", ApiAction::AnswerLate(long)),
        ("request-late", ApiAction::RequestLate(Duration::from_secs(1))),
    ] {
        stage.spoil(action);
        // The client gives up.
        let patience = Duration::from_millis(300);
        assert!(
            tokio::time::timeout(patience, stage.create(name)).await.is_err(),
            "{name}"
        );
        wait_for(&format!("{name} to be carried out"), PATIENCE, async || {
            let exists = stage.exists(name).await?;
            Ok(Seen::when(exists, || "it is not there".to_owned()))
        })
        .await?;
    }
    stage.spoil(ApiAction::Hang);
    let patience = Duration::from_millis(300);
    assert!(
        tokio::time::timeout(patience, stage.create("never"))
            .await
            .is_err()
    );
    stage.create("after").await?;
    assert!(!stage.exists("never").await?);
    Ok(())
}

#[tokio::test]
async fn a_fault_strikes_the_request_that_it_names() -> Result<()> {
    let stage = Stage::new().await?;
    let named = Select::of("create configmaps").with_body(|o| o["metadata"]["name"] == "marked");
    let storm = stage.proxy.fault(ApiFault::always(
        named,
        ApiAction::Refuse(Refusal::code(403).saying("no")),
    ));
    stage.create("other").await?;
    for _ in 0..2 {
        let error = stage.create("marked").await.unwrap_err();
        assert!(error.to_string().contains("no"), "{error}");
    }
    assert!(stage.proxy.remove_fault(storm));
    stage.create("marked").await?;
    Ok(())
}

#[tokio::test]
async fn watches_pass_piece_by_piece_are_silenced_dropped_and_told_410() -> Result<()> {
    let stage = Stage::new().await?;
    let all = Select::of("watch configmaps");
    let params = || WatchParams::default().timeout(290);
    let mut events = stage.through.watch(&params(), "0").await?.boxed();
    stage.create("one").await?;
    // It comes while the watch goes on.
    assert_eq!(next_name(&mut events).await?, Some("one".to_owned()));
    assert_eq!(stage.proxy.watches(&all), 1);

    stage.proxy.silence(all.clone());
    stage.create("two").await?;
    let silence = tokio::time::timeout(Duration::from_millis(500), next_name(&mut events)).await;
    assert!(silence.is_err(), "it told {silence:?}");
    stage.proxy.speak();
    assert_eq!(next_name(&mut events).await?, Some("two".to_owned()));

    // Dead without a word: also its end, a second later, is not told; others are.
    let mut dead = stage.through.watch(&params().timeout(1), "0").await?.boxed();
    assert!(next_name(&mut dead).await?.is_some());
    assert_eq!(stage.proxy.kill_silently(&all), 2);
    let silence = tokio::time::timeout(Duration::from_secs(3), async {
        while let Ok(Some(_)) = dead.try_next().await {}
    });
    assert!(silence.await.is_err(), "it ended");
    drop(dead);
    drop(events);
    let mut events = stage.through.watch(&params(), "0").await?.boxed();
    for _ in ["one", "two"] {
        assert!(next_name(&mut events).await?.is_some(), "a new one speaks");
    }
    wait_for("the dead ones to be gone", PATIENCE, async || {
        let open = stage.proxy.watches(&all);
        Ok(Seen::when(open == 1, || format!("{open} are open")))
    })
    .await?;

    assert_eq!(stage.proxy.drop_watches(&Select::of("watch secrets")), 0);
    assert_eq!(stage.proxy.drop_watches(&all), 1);
    assert!(
        next_name(&mut events).await.is_err(),
        "the stream ends with an error"
    );

    stage
        .proxy
        .fault(ApiFault::once(all, ApiAction::WatchError(Refusal::code(410))));
    let mut events = stage.through.watch(&params(), "0").await?.boxed();
    let event = events.try_next().await?;
    assert!(
        matches!(&event, Some(WatchEvent::Error(status)) if status.code == 410),
        "{event:?}"
    );
    Ok(())
}

/// The name in the next event about something of this test; every namespace has a ConfigMap of its own.
async fn next_name(
    events: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
) -> kube::Result<Option<String>> {
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Added(map) = event
            && map.name_any() != "kube-root-ca.crt"
        {
            return Ok(Some(map.name_any()));
        }
    }
    Ok(None)
}

#[tokio::test]
async fn connections_are_refused_for_a_time() -> Result<()> {
    let stage = Stage::new().await?;
    let mut events = stage.through.watch(&WatchParams::default(), "0").await?.boxed();
    stage.create("before").await?;
    assert_eq!(next_name(&mut events).await?, Some("before".to_owned()));
    stage.proxy.refuse().await;
    assert!(next_name(&mut events).await.is_err(), "open ones are reset");
    for name in ["one", "two"] {
        let error = stage.create(name).await.unwrap_err();
        assert_eq!(code(&error), None, "{error}");
        // One that was kept open may only now be found to be reset.
        let said = format!("{error:?}");
        assert!(
            said.contains("refused") || said.contains("ConnectionReset"),
            "{said}"
        );
    }
    stage.proxy.accept().await;
    stage.create("after").await?;
    Ok(())
}
