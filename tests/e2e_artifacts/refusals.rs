//! What cannot be fetched: said in a condition, nothing stored, nothing tried again for nothing.

use super::*;
use tenantry_simulator::{Fault, FaultAction};

#[tokio::test]
async fn what_cannot_be_had_is_refused_before_anything_is_fetched() {
    let stage = stage(Role::tenant()).await;
    let files = "a.bin:600000,b.bin:400000,out/c.txt:10";
    let number = stage
        .built_by_others("build", None, &[("ARTIFACTS", files)], "SUCCESS")
        .await;
    let digest = "0".repeat(64);
    let rows = [
        (
            "too-large",
            json!({"maxBytes": 500_000}),
            "ArtifactsTooLarge",
            "a.bin (600000 bytes)",
        ),
        (
            "larger-than-a-configmap",
            json!({"maxBytes": 2_000_000}),
            "ArtifactsTooLarge",
            "1000010 bytes together",
        ),
        (
            "too-many",
            json!({"maxFiles": 2}),
            "TooManyFiles",
            "maxFiles is 2",
        ),
        ("no-match", json!({"include": ["*.zip"]}), "NoMatch", "out/c.txt"),
        ("directory", json!({"include": ["out"]}), "NoMatch", "out/**"),
        ("bad-glob", json!({"include": ["out/{a,b"]}), "", "unbalanced"),
        (
            "worse-glob",
            json!({"include": ["a[z-a]"]}),
            "InvalidSpec",
            "a[z-a]",
        ),
        (
            "verify",
            json!({"verify": [{"path": "gone", "sha256": digest}]}),
            "VerifyPathMissing",
            "\"gone\"",
        ),
    ];
    let mut expected = Vec::new();
    for (name, change, reason, says) in rows {
        let mut spec = json!({"source": run("build", &json!({"id": number.to_string()}))});
        spec.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let object = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "ArtifactFetch", "metadata": {"name": name}, "spec": spec,
        });
        match stage.try_apply::<ArtifactFetch>(object).await {
            Ok(_) => expected.push((name, reason, says)),
            // What the schema can see, it refuses.
            Err(error) => assert!(
                reason.is_empty() && error.to_string().contains(says),
                "{name}: {error}"
            ),
        }
    }
    assert_eq!(expected.len(), 7);
    for (name, reason, says) in &expected {
        let message = stage.refused(name, reason).await;
        assert!(message.contains(says), "{name}: {message}");
        assert!(!stage.has_config_map(name).await, "{name}");
    }
    let (lists, downloads) = stage.file_requests();
    assert_eq!(downloads, 0);
    // The bad glob is found without asking.
    assert_eq!(lists, expected.len() - 1);

    // A run that ended stays as it is: nothing is asked again, not even by another process.
    let ledger = stage.simulator.ledger();
    let mut stage = stage;
    stage.restart_operator().await;
    stage.while_nothing_happens().await;
    assert_eq!(
        stage.file_requests(),
        (lists, 0),
        "{:?}",
        ledger.snapshot().requests.last()
    );

    stage
        .change("too-many", json!({"spec": {"maxFiles": 3, "exclude": ["a.bin"]}}))
        .await;
    assert_eq!(stage.fetched("too-many").await.file_count, Some(2));
}

#[tokio::test]
async fn a_wrong_digest_stores_nothing_and_keeps_what_is_there() {
    let stage = stage(Role::tenant()).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    let source = run("files", &json!({"id": number.to_string()}));
    let right = sha256(b"# other\n");
    let verify = |digest: &str| json!([{"path": "other/readme.md", "sha256": digest}]);
    stage
        .fetch(
            "docs",
            json!({"source": source, "include": ["other/**"], "verify": verify(&right)}),
        )
        .await;
    stage.fetched("docs").await;
    let before = stage.content("docs").await;

    let wrong = "0".repeat(64);
    stage
        .change(
            "docs",
            json!({"spec": {"include": ["**"], "verify": verify(&wrong)}}),
        )
        .await;
    let message = stage.refused("docs", "DigestMismatch").await;
    assert!(message.contains(&right) && message.contains(&wrong), "{message}");
    assert_eq!(stage.content("docs").await, before);
    let object = stage.api::<ArtifactFetch>().get("docs").await.unwrap();
    let (stored, _, message) = seen(&object, ConditionType::ArtifactsStored).unwrap();
    assert_eq!(stored, "True", "{message}");

    stage
        .change("docs", json!({"spec": {"verify": verify(&right)}}))
        .await;
    assert_eq!(
        stage.fetched("docs").await.file_count,
        i64::try_from(FILES.len()).ok()
    );
}

#[tokio::test]
async fn a_file_that_is_longer_than_it_was_listed_is_cut_off() {
    for (role, class) in [
        (Role::tenant(), "v2.proxy"),
        (Role::tenant_without_jenkins_proxy(), "v3.run.artifact"),
    ] {
        let stage = stage(role).await;
        let number = stage
            .built_by_others("build", None, &[("ARTIFACTS", "a.bin:1000")], "SUCCESS")
            .await;
        let mut longer = FaultAction::answer(200, &"x".repeat(5000));
        longer.content_type = Some("application/octet-stream".into());
        longer.headers = vec![("X-Jenkins".into(), "2.440".into())];
        // The first rung is probed before it is refused.
        let path = if class == "v2.proxy" { "*/artifact/*" } else { "*" };
        stage
            .simulator
            .control()
            .fault(Fault::always(class, longer).on_path(path));
        stage
            .fetch(
                "a",
                json!({"source": run("build", &json!({"id": number.to_string()}))}),
            )
            .await;
        let message = stage.refused("a", "ArtifactsTooLarge").await;
        assert!(
            message.contains("a.bin") && message.contains("1000 bytes"),
            "{message}"
        );
        assert!(!stage.has_config_map("a").await);
    }
}

#[tokio::test]
async fn a_build_that_jenkins_discarded_cannot_be_fetched_and_what_is_stored_stays() {
    let stage = stage(Role::tenant()).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    let name = stage.run_name("files", number).await;
    let source = run("files", &json!({"name": name}));
    stage
        .fetch("early", json!({"source": source, "include": ["other/**"]}))
        .await;
    stage.fetched("early").await;
    let before = stage.content("early").await;

    stage
        .simulator
        .control()
        .vanish_build(PROJECT, "files", None, number)
        .unwrap();
    stage.fetch("late", json!({"source": source})).await;
    let message = stage.refused("late", "RunNotFound").await;
    assert!(
        message.contains(&format!("{PROJECT}/files#{number}")) && message.contains("rerun"),
        "{message}"
    );
    assert!(!stage.has_config_map("late").await);

    // A wish that needs no fetch is granted, one that does is refused, and neither loses what is here.
    stage.change("early", json!({"spec": {"maxFiles": 5}})).await;
    stage.fetched("early").await;
    stage.change("early", json!({"spec": {"include": ["**"]}})).await;
    stage.refused("early", "RunNotFound").await;
    assert_eq!(stage.content("early").await, before);
}

#[tokio::test]
async fn a_config_map_of_somebody_else_is_not_overwritten() {
    let stage = stage(Role::tenant()).await;
    let number = stage.built_by_others("files", None, &[], "SUCCESS").await;
    let theirs =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"a": "1"}});
    stage.apply::<ConfigMap>(theirs).await;
    let destination = json!({"configMap": {"name": "theirs"}});
    let source = run("files", &json!({"id": number.to_string()}));
    stage
        .fetch("mine", json!({"source": source, "destination": destination}))
        .await;
    let message = stage.refused("mine", "DestinationConflict").await;
    assert!(message.contains("theirs"), "{message}");
    assert_eq!(
        stage.content("theirs").await,
        BTreeMap::from([("a".into(), b"1".to_vec())])
    );
    assert_eq!(stage.file_requests(), (0, 0));

    stage
        .change(
            "mine",
            json!({"spec": {"destination": {"configMap": {"name": "mine"}}}}),
        )
        .await;
    assert_eq!(stage.fetched("mine").await.config_map.as_deref(), Some("mine"));
    stage
        .change(
            "mine",
            json!({"spec": {"destination": {"configMap": {"name": "renamed"}}}}),
        )
        .await;
    stage
        .until_it("renamed", "mine", |o| {
            o.status.as_ref().and_then(|s| s.config_map.as_deref()) == Some("renamed")
        })
        .await;
    assert!(!stage.has_config_map("mine").await, "the old one is removed");
}
