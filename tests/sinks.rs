//! Logs and files in ConfigMaps of a real API server: what it takes, what it says of edits by hand, what its garbage
//! collector does.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenantry::{
    api::{ArtifactFetch, BuildRequest, conditions::Reason},
    sinks::{
        ConfigMaps, LogAssembly, StoredLog,
        files::{self, CAPACITY, FetchedBytes, Origin},
        log::Masks,
        store_log,
    },
    trouble::Trouble,
};
use tenantry_test_support::{Namespace, PATIENCE, Seen, TestCluster, wait_for};

const ORIGIN: Origin<'_> = Origin {
    revision: "shopx7k2p/hello#7",
    selection: "selection",
};

/// A namespace and what it takes to store something in it.
struct Place {
    client: Client,
    namespace: Namespace,
    maps: Api<ConfigMap>,
}

impl Place {
    async fn new() -> Self {
        let cluster = TestCluster::shared().await.expect("a cluster");
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        cluster.apply_crds(&crds).await.expect("the CRDs");
        let client = cluster.client().await.expect("a client");
        let namespace = cluster.namespace("sinks").await.expect("a namespace");
        let maps = Api::namespaced(client.clone(), &namespace);
        Self {
            client,
            namespace,
            maps,
        }
    }

    async fn build_request(&self) -> BuildRequest {
        let spec = json!({"connectionRef": {"name": "c"}, "project": "shop", "pipeline": "hello"});
        self.create("BuildRequest", "hello", &spec).await
    }

    async fn artifact_fetch(&self) -> ArtifactFetch {
        self.create(
            "ArtifactFetch",
            "files",
            &json!({"source": {"buildRequestRef": {"name": "b"}}}),
        )
        .await
    }

    async fn create<K>(&self, kind: &str, name: &str, spec: &Value) -> K
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + serde::de::DeserializeOwned,
    {
        let object = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        let object = serde_json::from_value(object).expect("an object");
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespace);
        api.create(&PostParams::default(), &object)
            .await
            .expect("created")
    }

    fn of<K: kube::Resource<DynamicType = ()>>(&self, owner: &K) -> ConfigMaps {
        ConfigMaps::of(self.client.clone(), owner).expect("an owner")
    }

    async fn data(&self, name: &str) -> BTreeMap<String, String> {
        self.maps.get(name).await.expect(name).data.unwrap_or_default()
    }

    async fn names(&self) -> Vec<String> {
        let all = self.maps.list(&ListParams::default()).await.expect("a list");
        let names = all.items.into_iter().filter_map(|map| map.metadata.name);
        names.filter(|name| name != "kube-root-ca.crt").collect()
    }

    async fn edit(&self, name: &str, patch: Value) {
        let patch = Patch::Merge(patch);
        self.maps
            .patch(name, &PatchParams::default(), &patch)
            .await
            .expect("an edit");
    }

    async fn versions(&self) -> Vec<Option<String>> {
        let all = self.maps.list(&ListParams::default()).await.expect("a list");
        all.items
            .into_iter()
            .map(|map| map.metadata.resource_version)
            .collect()
    }
}

async fn store(maps: &ConfigMaps, revision: &str, text: &str) -> Result<StoredLog, Trouble> {
    let mut log = LogAssembly::new(8 * 1024 * 1024, Masks::default());
    log.push(text.as_bytes());
    log.finish();
    store_log(maps, "hello-log", revision, &log.image()).await
}

fn file(path: &str, bytes: impl Into<Vec<u8>>) -> FetchedBytes {
    let bytes = bytes.into();
    let sha256 = Sha256::digest(&bytes)
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    FetchedBytes {
        path: path.into(),
        bytes,
        sha256,
    }
}

#[tokio::test]
async fn a_log_is_written_where_it_differs_and_nowhere_else() {
    let place = Place::new().await;
    let maps = place.of(&place.build_request().await);
    let text = "0123456\n".repeat(250_000);
    let stored = store(&maps, "p/hello#1", &text).await.expect("stored");
    assert_eq!(stored.config_maps, ["hello-log", "hello-log-1", "hello-log-2"]);
    let mut together = String::new();
    for name in &stored.config_maps {
        together += &place.data(name).await["log"];
    }
    assert!(together == text, "the parts are not the log");

    let before = place.versions().await;
    let again = store(&maps, "p/hello#1", &text).await.expect("stored");
    assert_eq!((again.written, again.removed), (0, 0));
    assert_eq!(before, place.versions().await);

    let next = store(&maps, "p/hello#2", "short\n").await.expect("stored");
    assert_eq!((next.written, next.removed), (1, 2));
    assert_eq!(place.names().await, ["hello-log"]);
}

#[tokio::test]
async fn an_edit_by_hand_is_seen_and_undone_and_a_key_that_is_not_ours_stays() {
    let place = Place::new().await;
    let maps = place.of(&place.build_request().await);
    store(&maps, "p/hello#1", "hello\n").await.expect("stored");
    for edit in [
        json!({"data": {"log": "tampered"}}),
        json!({"data": {"log": null}}),
        json!({"data": null}),
        json!({"metadata": {"annotations": {"tenantry.dev/content-sha256": "forged"}}}),
        json!({"metadata": {"labels": null}}),
    ] {
        place.edit("hello-log", edit.clone()).await;
        let stored = store(&maps, "p/hello#1", "hello\n").await.expect("stored");
        assert_eq!(stored.written, 1, "{edit}");
        assert_eq!(place.data("hello-log").await["log"], "hello\n", "{edit}");
    }
    place.edit("hello-log", json!({"data": {"mine": "1"}})).await;
    let stored = store(&maps, "p/hello#1", "hello\n").await.expect("stored");
    assert_eq!(stored.written, 0);
    assert_eq!(place.data("hello-log").await["mine"], "1");
}

#[tokio::test]
async fn text_that_json_blows_up_is_taken() {
    let place = Place::new().await;
    let maps = place.of(&place.build_request().await);
    // Escaped in JSON: twofold, and sixfold.
    for line in [
        "\"\\\t\"\\\t\"\\\t\n",
        "\u{1b}[0m\u{1b}[1m\u{1b}[2m\n",
        "\u{1}\u{2}\u{3}\u{4}\n",
    ] {
        let text = line.repeat(2 * 1024 * 1024 / line.len());
        let stored = store(&maps, "p/hello#1", &text)
            .await
            .unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let mut bytes = 0;
        for name in &stored.config_maps {
            bytes += place.data(name).await["log"].len();
        }
        assert_eq!(bytes, text.len(), "{line:?}");
    }
}

#[tokio::test]
async fn the_largest_files_are_taken() {
    let place = Place::new().await;
    let maps = place.of(&place.artifact_fetch().await);
    let room = usize::try_from(CAPACITY).expect("a size");
    let cases: [(&str, Vec<FetchedBytes>); 4] = [
        ("bytes", vec![file("a", vec![0xff; room])]),
        ("text", vec![file("a", "\"\n".repeat(room / 2))]),
        ("escapes", vec![file("a", "\u{1}".repeat(room))]),
        (
            "many with long names",
            (0..1000)
                .map(|n| {
                    file(
                        &format!("{}/{n}", "directory/".repeat(20)),
                        vec![b'x'; room / 1000],
                    )
                })
                .collect(),
        ),
    ];
    for (what, fetched) in cases {
        let count = fetched.len();
        let object =
            files::build("files", &ORIGIN, fetched, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        files::store(&maps, &object)
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let mine = maps.look("files").await.expect("a look").expect("a ConfigMap");
        assert!(files::is_intact(&mine, ORIGIN.selection, count, true), "{what}");
    }
}

#[tokio::test]
async fn an_edit_of_files_is_seen_from_metadata_alone() {
    let place = Place::new().await;
    let maps = place.of(&place.artifact_fetch().await);
    let store = async || {
        let fetched = vec![file("a", "text"), file("b", b"\xff".to_vec())];
        let object = files::build("files", &ORIGIN, fetched, None).expect("files");
        files::store(&maps, &object).await.expect("stored");
    };
    let intact = async || {
        let mine = maps.look("files").await.expect("a look").expect("a ConfigMap");
        files::is_intact(&mine, ORIGIN.selection, 2, true)
    };
    store().await;
    assert!(intact().await);
    for edit in [
        json!({"data": {"a": "other"}}),
        json!({"data": {"a": null}}),
        json!({"binaryData": {"b": "AAAA"}}),
        json!({"binaryData": null}),
        json!({"metadata": {"annotations": null}}),
    ] {
        place.edit("files", edit.clone()).await;
        assert!(!intact().await, "{edit}");
        store().await;
        assert!(intact().await, "{edit}");
    }
    place.edit("files", json!({"data": {"mine": "1"}})).await;
    assert!(intact().await, "a key that is not ours does not matter");
}

#[tokio::test]
async fn files_of_earlier_revisions_stay_where_they_are_not_to_be_pruned() {
    let place = Place::new().await;
    let maps = place.of(&place.artifact_fetch().await);
    let store = async |fetched, prune: bool| {
        let keep = if prune {
            None
        } else {
            maps.read("files").await.expect("a look")
        };
        let object = files::build("files", &ORIGIN, fetched, keep.as_ref()).expect("files");
        files::store(&maps, &object).await.expect("stored");
    };
    store(vec![file("old", "1"), file("turns", "text")], true).await;
    store(vec![file("new", "2"), file("turns", b"\xff".to_vec())], false).await;
    let map = place.maps.get("files").await.expect("a ConfigMap");
    let text: Vec<_> = map.data.iter().flatten().map(|(key, _)| key.as_str()).collect();
    let binary: Vec<_> = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    assert_eq!((text, binary), (vec!["new", "old"], vec!["turns"]));
    store(vec![file("new", "3")], true).await;
    let map = place.maps.get("files").await.expect("a ConfigMap");
    assert_eq!(
        map.data.unwrap_or_default(),
        BTreeMap::from([("new".into(), "3".into())])
    );
    assert_eq!(map.binary_data, None);
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_left_alone() {
    let place = Place::new().await;
    let request = place.build_request().await;
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "hello-log"}, "data": {"theirs": "1"}}))
            .expect("a ConfigMap");
    place
        .maps
        .create(&PostParams::default(), &map)
        .await
        .expect("created");
    let trouble = store(&place.of(&request), "p/hello#1", "hello\n")
        .await
        .expect_err("a conflict");
    assert_eq!(trouble.reason, Reason::DestinationConflict);
    assert!(
        trouble.is_stalled() && trouble.message.contains("hello-log"),
        "{trouble}"
    );
    assert_eq!(
        place.data("hello-log").await,
        BTreeMap::from([("theirs".into(), "1".into())])
    );

    place
        .maps
        .delete("hello-log", &DeleteParams::default())
        .await
        .expect("deleted");
    let mut immutable = map;
    immutable.metadata.owner_references =
        kube::Resource::controller_owner_ref(&request, &()).map(|owner| vec![owner]);
    immutable.immutable = Some(true);
    place
        .maps
        .create(&PostParams::default(), &immutable)
        .await
        .expect("created");
    let trouble = store(&place.of(&request), "p/hello#1", "hello\n")
        .await
        .expect_err("a refusal");
    assert!(
        trouble.is_stalled() && trouble.message.contains("immutable"),
        "{trouble}"
    );
}

#[tokio::test]
async fn what_was_stored_goes_with_its_owner() {
    let place = Place::new().await;
    let request = place.build_request().await;
    store(&place.of(&request), "p/hello#1", "hello\n")
        .await
        .expect("stored");
    let api: Api<BuildRequest> = Api::namespaced(place.client.clone(), &place.namespace);
    api.delete("hello", &DeleteParams::default())
        .await
        .expect("deleted");
    wait_for("the log to be collected", PATIENCE, async || {
        let names = place.names().await;
        Ok(Seen::when(names.is_empty(), || names.join(", ")))
    })
    .await
    .expect("collected");
}
