//! The rules of ArtifactFetches.

use serde_json::{Value, json};

use super::{many, merge, refused, taken};

#[tokio::test]
async fn an_artifact_fetch_that_cannot_work_is_refused() {
    const ONE_SOURCE: &str = "set exactly one of source.buildRequestRef and source.run";
    const ONE_RUN: &str = "set exactly one of run.name, run.id and run.latestSuccess";
    const RELATIVE: &str = "is relative to the artifact root and must not climb out with '..'";
    const UNBALANCED: &str = "a glob has an unbalanced [ ] or { }";
    let run = |rest: Value| {
        let mut run = json!({"connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "hello"});
        merge(&mut run, &rest);
        json!({"source": {"buildRequestRef": null, "run": run}})
    };
    let verify = |path: &str, digest: String| json!({"verify": [{"path": path, "sha256": digest}]});
    let digest = "a".repeat(64);
    refused(
        "ArtifactFetch",
        vec![
            (json!({"source": {"buildRequestRef": null}}), ONE_SOURCE),
            (
                json!({"source": {"run": {
                    "connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "hello", "id": "1"
                }}}),
                ONE_SOURCE,
            ),
            (run(json!({})), ONE_RUN),
            (run(json!({"latestSuccess": false})), ONE_RUN),
            (run(json!({"id": "1", "name": "hello-1"})), ONE_RUN),
            (run(json!({"id": "1", "latestSuccess": true})), ONE_RUN),
            (run(json!({"id": "latest"})), "spec.source.run.id"),
            (run(json!({"id": "0"})), "spec.source.run.id"),
            (
                run(json!({"id": "1", "project": "a/b"})),
                "spec.source.run.project",
            ),
            (
                run(json!({"id": "1", "branch": "refs/heads/main"})),
                "branch must be written as git shows it",
            ),
            (json!({"include": []}), "spec.include"),
            (json!({"include": [""]}), "spec.include[0]"),
            (json!({"include": ["/out"]}), RELATIVE),
            (json!({"include": ["../out"]}), RELATIVE),
            (json!({"include": ["a/../../b"]}), RELATIVE),
            (json!({"include": ["out/["]}), UNBALANCED),
            (json!({"include": ["out/{a,b"]}), UNBALANCED),
            (json!({"include": ["out/a}"]}), UNBALANCED),
            (
                json!({"include": many(33, |i| json!(format!("f{i}")))}),
                "spec.include: Too many",
            ),
            (json!({"exclude": ["../x"]}), RELATIVE),
            (json!({"exclude": ["["]}), UNBALANCED),
            (verify("../x", digest.clone()), RELATIVE),
            (verify("/x", digest.clone()), RELATIVE),
            (verify("", digest.clone()), "spec.verify[0].path"),
            (verify("x", "abc".into()), "spec.verify[0].sha256"),
            (verify("x", "A".repeat(64)), "spec.verify[0].sha256"),
            (
                json!({"verify": [{"path": "x", "sha256": digest}, {"path": "x", "sha256": digest}]}),
                "Duplicate value",
            ),
            (json!({"maxBytes": 0}), "spec.maxBytes"),
            (json!({"parallel": 0}), "spec.parallel"),
            (json!({"parallel": 17}), "spec.parallel"),
            (json!({"maxFiles": 0}), "spec.maxFiles"),
            (
                json!({"destination": {"configMap": {"name": "Not A Name"}}}),
                "spec.destination.configMap.name",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_good_artifact_fetch_is_taken() {
    let deep = ["x".repeat(15).as_str(); 32].join("/");
    let run = |rest: Value| {
        let mut run = json!({"connectionRef": {"name": "ks"}, "project": "shop", "pipeline": "hello"});
        merge(&mut run, &rest);
        json!({"source": {"buildRequestRef": null, "run": run}})
    };
    taken(
        "ArtifactFetch",
        vec![
            json!({}),
            run(json!({"name": "hello-abc12"})),
            run(json!({"id": "42", "branch": "feature/login", "cluster": "member"})),
            run(json!({"latestSuccess": true})),
            run(json!({"id": "7", "latestSuccess": false})),
            json!({"include": ["**", "out/*.tar", "a..b", "[abc]/x", "{a,b}/{c,d}", "..."], "exclude": ["**/*.tmp"]}),
            json!({"include": many(32, |_| json!("x".repeat(512)))}),
            json!({"verify": many(64, |i| json!({"path": format!("out/f{i}"), "sha256": "0".repeat(64)}))}),
            json!({"maxBytes": 1, "maxFiles": 1, "prune": false, "suspend": true}),
            json!({"destination": {"configMap": {}}, "parallel": 16}),
            json!({"destination": {"volume": {"claimName": "data"}}, "maxBytes": 1_u64 << 50}),
            json!({"destination": {"volume": {"claimName": "a.b-c", "subPath": "shop/.hidden/ä b/..c"}}}),
            json!({"destination": {"volume": {"claimName": "c", "subPath": deep}}}),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_directory_on_a_volume_stays_on_it() {
    const ONE: &str = "set at most one of destination.configMap and destination.volume";
    const INSIDE: &str = "write it like 'shop/latest'";
    const ODD: &str = "must not contain backslashes, control or invisible characters";
    const PARTS: &str = "volume.subPath has at most 32 parts";
    let volume = |path: &str| json!({"destination": {"volume": {"claimName": "c", "subPath": path}}});
    refused(
        "ArtifactFetch",
        vec![
            (
                json!({"destination": {"volume": {}}}),
                "spec.destination.volume.claimName",
            ),
            (
                json!({"destination": {"volume": {"claimName": "A"}}}),
                "spec.destination.volume.claimName",
            ),
            (
                json!({"destination": {"volume": {"claimName": "c"}, "configMap": {}}}),
                ONE,
            ),
            (volume(""), "spec.destination.volume.subPath"),
            (volume(&"x/".repeat(300)), "spec.destination.volume.subPath"),
            (volume("/abs"), INSIDE),
            (volume("a/"), INSIDE),
            (volume("a//b"), INSIDE),
            (volume(".."), INSIDE),
            (volume("a/../b"), INSIDE),
            (volume("./a"), INSIDE),
            (volume("a\\b"), ODD),
            (volume("a\nb"), ODD),
            (volume("a\u{7f}"), ODD),
            (volume("a\u{202e}b"), ODD),
            (volume("a\u{200b}b"), ODD),
            (volume(&"x".repeat(64)), PARTS),
            (volume(&["x"; 33].join("/")), PARTS),
            (volume(".tenantry/x"), PARTS),
            (volume(".Tenantry"), PARTS),
        ],
    )
    .await;
}
