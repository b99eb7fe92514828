//! Several replicas, and shards: what the chart makes of them. Needs no cluster.

use serde_json::{Value, json};
use tenantry::runtime::Shard;

use crate::helm::{container, only, rendered, try_template};

#[test]
fn several_replicas_need_the_lease_and_without_it_there_are_never_two() {
    let strategy = |values: &[&str]| only(&rendered(values), "Deployment")["spec"]["strategy"].clone();
    let rolling = |surge: i64, unavailable: i64| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
    assert_eq!(strategy(&[]), rolling(1, 0));
    assert_eq!(strategy(&["replicas=3"]), rolling(1, 0));
    // Two pods cannot have the same ports of a node.
    assert_eq!(strategy(&["hostNetwork=true"]), rolling(0, 1));
    let off = "leaderElection.enabled=false";
    assert_eq!(strategy(&[off]), json!({"type": "Recreate"}));
    let refused = try_template("system", &[off, "replicas=2"]).expect_err("refused");
    assert!(
        refused.contains("replicas") && refused.contains("schema"),
        "{refused}"
    );

    let variable = |objects: &[Value], name: &str| {
        let env = container(objects)["env"].as_array().expect("variables").clone();
        env.into_iter()
            .find(|e| e["name"] == name)
            .map(|e| e["value"].clone())
    };
    let alone = rendered(&[off]);
    assert_eq!(variable(&alone, "TENANTRY_LEADER_ELECT"), None);
    assert!(
        alone.iter().all(|o| o["kind"] != "Role"),
        "no lease, no right to it"
    );

    // Everywhere the same name; and one lease a shard.
    let shard = rendered(&[
        r#"fullnameOverride="shard-a""#,
        r#"selector={"matchLabels":{"tenantry.dev/shard":"a"}}"#,
        "replicas=2",
    ]);
    assert_eq!(variable(&shard, "TENANTRY_LEASE_NAME"), Some(json!("shard-a")));
    assert_eq!(
        only(&shard, "Role")["rules"][1]["resourceNames"],
        json!(["shard-a"])
    );
    let selector = variable(&shard, "TENANTRY_SELECTOR").expect("set");
    let shard_of: Shard = selector.as_str().unwrap().parse().expect("a selector");
    assert_eq!(shard_of.query().as_deref(), Some("tenantry.dev/shard=a"));
    let spread = |objects: &[Value]| {
        only(objects, "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"].clone()
    };
    assert_eq!(spread(&shard)[0]["whenUnsatisfiable"], "ScheduleAnyway");
    assert_eq!(spread(&rendered(&[])), Value::Null);
    let own = rendered(&["replicas=2", r#"affinity={"podAntiAffinity":{}}"#]);
    assert_eq!(spread(&own), Value::Null, "somebody knows better");
}
