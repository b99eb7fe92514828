//! What the chart renders, from several sets of values, and which values it refuses. Needs no cluster.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use serde_json::{Value, json};
use tenantry::runtime::cli::Cli;

use crate::helm::{
    Helm, chart, container, objects, only, read, rendered, rules, set, template, try_template,
};

/// Sets of values that people have, each with what it is.
pub const SETS: [(&str, &[&str]); 7] = [
    ("nothing set", &[]),
    ("namespace-only", &[r#"watchNamespaces=["team-a","team-b"]"#]),
    (
        "its own namespace only, without CRDs",
        &[
            r#"watchNamespaces=["system"]"#,
            "crds.install=false",
            "fetcher.enabled=false",
        ],
    ),
    (
        "a test cluster without a pod network",
        &[
            "hostNetwork=true",
            r#"dnsPolicy="Default""#,
            r#"operator.listenAddress="127.0.0.1""#,
            r#"operator.extraEnv=[{"name":"KUBERNETES_SERVICE_HOST","value":"127.0.0.1"}]"#,
            r#"image.pullPolicy="Never""#,
            r#"fetcher.podTemplate={"spec":{"hostNetwork":true,"securityContext":{"fsGroup":1000},"containers":[{"name":"fetch","imagePullPolicy":"Never"}]}}"#,
        ],
    ),
    (
        "everything that needs nothing else",
        &[
            "podDisruptionBudget.enabled=true",
            "networkPolicy.enabled=true",
            r#"networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"a":"b"}}}]"#,
            r#"networkPolicy.egress=[{"ports":[{"port":443,"protocol":"TCP"}]}]"#,
            "metrics.dashboard.enabled=true",
            r#"metrics.service.annotations={"a":"yes"}"#,
            r#"commonLabels={"team":"on"}"#,
            r#"imagePullSecrets=[{"name":"registry"}]"#,
            r#"nodeSelector={"disk":"ssd"}"#,
            r#"tolerations=[{"key":"ci","operator":"Exists","effect":"NoSchedule"}]"#,
            r#"affinity={"nodeAffinity":{}}"#,
            r#"priorityClassName="system-cluster-critical""#,
            r#"podAnnotations={"a":"b"}"#,
            r#"podLabels={"a":"b"}"#,
            r#"serviceAccount.annotations={"a":"b"}"#,
            r#"fetcher.podTemplate={"metadata":{"labels":{"a":"b"}},"spec":{"imagePullSecrets":[{"name":"r"}],"containers":[{"name":"fetch","resources":{"limits":{"memory":"64Mi"}}}]}}"#,
        ],
    ),
    (
        "as little as possible",
        &[
            "crds.install=false",
            "rbac.create=false",
            "serviceAccount.create=false",
            r#"serviceAccount.name="somebody""#,
            "metrics.service.enabled=false",
            "fetcher.enabled=false",
            "replicas=0",
        ],
    ),
    (
        "another name and image",
        &[
            r#"fullnameOverride="builds""#,
            r#"image.repository="registry.example.org/tenantry""#,
            r#"image.digest="sha256:0000000000000000000000000000000000000000000000000000000000000000""#,
            r#"operator.logFormat="text""#,
        ],
    ),
];

/// Kinds without a namespace.
const CLUSTER_WIDE: [&str; 3] = ["ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"];

fn is_cluster_wide(object: &Value) -> bool {
    CLUSTER_WIDE.iter().any(|kind| object["kind"] == *kind)
}

#[test]
fn lint_finds_nothing() {
    let helm = Helm::offline();
    for (what, values) in SETS {
        let mut args = vec!["lint".to_owned(), "--strict".to_owned(), chart()];
        args.extend(set(values));
        let said = helm.ok(&args);
        assert!(!said.contains("[WARNING]"), "{what}: {said}");
    }
}

#[test]
fn every_object_is_whole_and_there_once() {
    for (what, values) in SETS {
        let objects = rendered(values);
        let mut seen = BTreeSet::new();
        for object in &objects {
            let meta = &object["metadata"];
            let id = format!("{}/{}/{}", object["kind"], meta["namespace"], meta["name"]);
            assert!(seen.insert(id.clone()), "{what}: {id} twice");
            assert!(object["apiVersion"].is_string(), "{what}: {id}");
            assert_eq!(
                meta["namespace"].is_null(),
                is_cluster_wide(object),
                "{what}: {id}"
            );
            assert_eq!(
                meta["labels"]["app.kubernetes.io/instance"], "tenantry",
                "{what}: {id}"
            );
        }
        let selector = &only(&objects, "Deployment")["spec"]["selector"]["matchLabels"];
        let labels = &only(&objects, "Deployment")["spec"]["template"]["metadata"]["labels"];
        for (key, value) in selector.as_object().expect("labels") {
            assert_eq!(
                &labels[key], value,
                "{what}: the Deployment does not find its pods"
            );
        }
        for kind in ["Service", "PodDisruptionBudget", "NetworkPolicy"] {
            for object in objects.iter().filter(|o| o["kind"] == kind) {
                let spec = &object["spec"];
                let of = [
                    &spec["selector"]["matchLabels"],
                    &spec["podSelector"]["matchLabels"],
                    &spec["selector"],
                ];
                assert!(of.contains(&selector), "{what}: {kind} selects {of:?}");
            }
        }
    }
}

#[test]
fn what_is_switched_on_is_there_and_nothing_else() {
    let kinds = |values: &[&str]| -> BTreeSet<String> {
        let objects = rendered(values);
        objects
            .iter()
            .map(|o| o["kind"].as_str().expect("a kind").to_owned())
            .collect()
    };
    let always = kinds(SETS[5].1);
    assert_eq!(always, ["Deployment".to_owned()].into());
    for (switch, kind) in [
        ("crds.install=true", "CustomResourceDefinition"),
        ("serviceAccount.create=true", "ServiceAccount"),
        ("metrics.service.enabled=true", "Service"),
        ("metrics.dashboard.enabled=true", "ConfigMap"),
        ("metrics.prometheusRule.enabled=true", "PrometheusRule"),
        ("podDisruptionBudget.enabled=true", "PodDisruptionBudget"),
        ("networkPolicy.enabled=true", "NetworkPolicy"),
        ("fetcher.enabled=true", "ConfigMap"),
    ] {
        let values: Vec<_> = SETS[5].1.iter().copied().chain([switch]).collect();
        let more: Vec<_> = kinds(&values).difference(&always).cloned().collect();
        assert_eq!(more, [kind], "{switch}");
    }
    let refused = try_template(
        "system",
        &[
            "metrics.service.enabled=false",
            "metrics.serviceMonitor.enabled=true",
        ],
    );
    assert!(
        refused
            .expect_err("refused")
            .contains("needs metrics.service.enabled")
    );
}

#[test]
fn namespace_only_mode_has_roles_in_the_named_namespaces_and_nothing_cluster_wide() {
    let both = rendered(&[
        r#"watchNamespaces=["team-a","team-b","team-a"]"#,
        "crds.install=false",
    ]);
    assert!(!both.iter().any(is_cluster_wide), "{both:?}");
    for kind in ["Role", "RoleBinding"] {
        let places: Vec<_> = both
            .iter()
            .filter(|o| o["kind"] == kind)
            .map(|o| (&o["metadata"]["name"], &o["metadata"]["namespace"]))
            .map(|(name, place)| format!("{}/{}", place.as_str().unwrap(), name.as_str().unwrap()))
            .collect();
        let expected = ["system/tenantry-lease", "team-a/tenantry", "team-b/tenantry"];
        assert_eq!(
            places.iter().map(String::as_str).collect::<BTreeSet<_>>(),
            expected.into(),
            "{kind}"
        );
    }
    for binding in both.iter().filter(|o| o["kind"] == "RoleBinding") {
        assert_eq!(
            binding["subjects"][0],
            json!({"kind": "ServiceAccount", "name": "tenantry", "namespace": "system"})
        );
    }
    // One truth for both modes.
    assert_eq!(rules(&both), rules(&rendered(&[])));
    let namespaces = |objects: &[Value]| {
        let env = container(objects)["env"].as_array().expect("variables").clone();
        env.into_iter().find(|e| e["name"] == "TENANTRY_NAMESPACE")
    };
    assert_eq!(namespaces(&both).expect("set")["value"], "team-a,team-b");
    assert_eq!(namespaces(&rendered(&[])), None);
    let own = namespaces(&rendered(&[r#"watchNamespaces=["system"]"#])).expect("set");
    assert_eq!(own["valueFrom"]["fieldRef"]["fieldPath"], "metadata.namespace");
}

#[test]
fn every_rule_says_what_it_is_for() {
    let text = template("system", &[]);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let rules: Vec<_> = (0..lines.len())
        .filter(|i| lines[*i].starts_with("- apiGroups:"))
        .collect();
    assert!(rules.len() > 10, "{rules:?}");
    // Those for tenants are told above their ClusterRoles.
    let (tenants, operators): (Vec<usize>, Vec<usize>) = rules
        .iter()
        .partition(|at| lines[**at + 1] == "resources: [tenantconnections, buildrequests, artifactfetches]");
    assert_eq!(tenants.len(), 2);
    for at in &operators {
        assert!(
            lines[at - 1].starts_with("# "),
            "no comment above rule: {}",
            lines[*at..at + 3].join(" ")
        );
    }
    let all = rendered(&[]);
    for rule in rules_of(&all) {
        for part in ["apiGroups", "resources", "verbs"] {
            let values = rule[part].as_array().expect("a list");
            assert!(!values.is_empty() && !values.contains(&json!("*")), "{rule}");
        }
        assert_eq!(rule["nonResourceURLs"], Value::Null);
    }
}

fn rules_of(objects: &[Value]) -> impl Iterator<Item = &Value> {
    objects.iter().filter_map(|o| o["rules"].as_array()).flatten()
}

#[test]
fn the_schema_refuses_what_is_wrong() {
    for (value, named) in [
        ("replicas=-1", "replicas"),
        ("replicas=1.5", "replicas"),
        ("leaderElection.enable=true", "leaderElection"),
        ("leaderElection.leaseDurationSeconds=0", "leaseDurationSeconds"),
        (r#"leaderElection.leaseName="A_B""#, "leaseName"),
        (r#"selector={"shard":"a"}"#, "selector"),
        (
            r#"selector={"matchExpressions":[{"key":"a","operator":"Near"}]}"#,
            "selector",
        ),
        ("replica=1", "replica"),
        (r#"image.tagg="1""#, "tagg"),
        ("image.tag=1.5", "tag"),
        (r#"image.digest="sha256:1""#, "digest"),
        (r#"image.pullPolicy="Sometimes""#, "pullPolicy"),
        (r#"watchNamespaces="team-a""#, "watchNamespaces"),
        (r#"watchNamespaces=["Team"]"#, "watchNamespaces"),
        (r#"watchNamespaces=[""]"#, "watchNamespaces"),
        (r#"operator.logFormat="yaml""#, "logFormat"),
        ("operator.shutdownGraceSeconds=0", "shutdownGraceSeconds"),
        ("operator.metricsPort=70000", "metricsPort"),
        (r#"operator.listenAddress="::""#, "listenAddress"),
        (r#"operator.extraEnv=[{"value":"x"}]"#, "extraEnv"),
        (r#"hostNetwork="yes""#, "hostNetwork"),
        (r#"nodeSelector={"ssd":true}"#, "nodeSelector"),
        (r#"resources={"memory":"1Gi"}"#, "resources"),
        (r#"tolerations=[{"effect":"Never"}]"#, "tolerations"),
        ("securityContext.capabilites={}", "securityContext"),
        ("rbac.clusterAdmin=true", "rbac"),
        (r#"fetcher.podTemplate={"nodeSelector":{}}"#, "podTemplate"),
        (
            r#"fetcher.podTemplate={"spec":{"restartPolicy":"Always"}}"#,
            "podTemplate",
        ),
        (
            r#"fetcher.podTemplate={"spec":{"containers":[{"name":"other"}]}}"#,
            "podTemplate",
        ),
        (
            r#"fetcher.podTemplate={"spec":{"containers":[{"name":"fetch","image":"x"}]}}"#,
            "podTemplate",
        ),
        (r#"metrics.serviceMonitor.interval="often""#, "interval"),
        ("podDisruptionBudget.maxUnavailable=-1", "maxUnavailable"),
        ("networkPolicy.metricsFrom=[{}, 1]", "metricsFrom"),
    ] {
        match try_template("system", &[value]) {
            Ok(_) => panic!("{value} was taken"),
            Err(said) => assert!(said.contains(named) && said.contains("schema"), "{value}: {said}"),
        }
    }
}

#[test]
fn values_and_schema_list_the_same_keys() {
    fn compare(at: &str, values: &Value, schema: &Value, all: &Value) {
        let schema = match schema["$ref"].as_str() {
            Some(name) => &all["$defs"][name.rsplit('/').next().expect("a name")],
            None => schema,
        };
        if schema["type"] == "object" {
            assert!(
                schema.get("additionalProperties").is_some(),
                "{at} takes anything"
            );
        }
        let (Some(values), Some(listed)) = (values.as_object(), schema["properties"].as_object()) else {
            return;
        };
        let keys: Vec<_> = values.keys().collect();
        for key in &keys {
            assert!(listed.contains_key(*key), "{at}.{key} is not in the schema");
        }
        // Where a default is given in the form of Kubernetes, more may be set than is shown.
        let kubernetes = [
            "podSecurityContext",
            "securityContext",
            "resources",
            "affinity",
            "podTemplate",
            ".selector",
        ];
        if !kubernetes.iter().any(|k| at.contains(k)) {
            let unlisted: Vec<_> = listed
                .keys()
                .filter(|k| !keys.contains(k) && *k != "global")
                .collect();
            assert!(
                unlisted.is_empty(),
                "{at} lacks {unlisted:?}, which the schema allows"
            );
        }
        for (key, value) in values {
            compare(&format!("{at}.{key}"), value, &listed[key], all);
        }
    }
    let values = objects(&read("charts/tenantry/values.yaml")).remove(0);
    let schema: Value = serde_json::from_str(&read("charts/tenantry/values.schema.json")).expect("JSON");
    compare("", &values, &schema, &schema);
}

#[test]
fn the_pod_gets_time_to_end() {
    for (values, grace) in [(&[][..], 20), (&["operator.shutdownGraceSeconds=300"], 300)] {
        let objects = rendered(values);
        let spec = &only(&objects, "Deployment")["spec"];
        let kill = spec["template"]["spec"]["terminationGracePeriodSeconds"]
            .as_i64()
            .expect("seconds");
        let env = container(&objects)["env"].as_array().expect("variables");
        let told = env
            .iter()
            .find(|e| e["name"] == "TENANTRY_SHUTDOWN_GRACE")
            .expect("set");
        assert_eq!(told["value"], format!("{grace}s"));
        assert!(kill > grace, "{kill} s");
    }
}

/// The command line takes every variable of the Deployment, with the value that is set. Those of the fetcher are left
/// out until the operator has them.
#[test]
fn the_operator_knows_its_variables() {
    let command = Cli::command();
    let operator = command.find_subcommand("operator").expect("the subcommand");
    for values in [
        &["fetcher.enabled=false", r#"watchNamespaces=["a","b"]"#][..],
        &[
            "fetcher.enabled=false",
            r#"operator.listenAddress="[::1]""#,
            r#"selector={"matchExpressions":[{"key":"a","operator":"NotIn","values":["b","c"]}]}"#,
        ],
        &["fetcher.enabled=false", "leaderElection.enabled=false"],
    ] {
        let objects = rendered(values);
        let container = container(&objects);
        assert_eq!(container["args"], json!(["operator"]));
        let mut args = vec!["tenantry".to_owned(), "operator".to_owned()];
        for variable in container["env"].as_array().expect("variables") {
            let name = variable["name"].as_str().expect("a name");
            let known = operator
                .get_arguments()
                .find(|a| a.get_env().is_some_and(|env| env == name));
            let flag = known
                .and_then(|a| a.get_long())
                .unwrap_or_else(|| panic!("nobody reads {name}"));
            args.push(format!("--{flag}={}", variable["value"].as_str().unwrap_or("x")));
        }
        command
            .clone()
            .try_get_matches_from(&args)
            .unwrap_or_else(|e| panic!("{args:?}: {e}"));
    }
}

#[test]
fn probes_follow_the_address_that_is_listened_on() {
    let probe = |values: &[&str]| container(&rendered(values))["readinessProbe"]["httpGet"].clone();
    assert_eq!(probe(&[]), json!({"path": "/readyz", "port": "health"}));
    let local = probe(&["hostNetwork=true", r#"operator.listenAddress="127.0.0.1""#]);
    assert_eq!(
        local,
        json!({"path": "/readyz", "port": "health", "host": "127.0.0.1"})
    );
    assert_eq!(probe(&[r#"operator.listenAddress="[::1]""#])["host"], "::1");
}

#[test]
fn the_fetcher_gets_the_operators_image_and_the_pod_template_as_it_was_set() {
    let variable = |objects: &[Value], name: &str| {
        let env = container(objects)["env"].as_array().expect("variables").clone();
        env.into_iter()
            .find(|e| e["name"] == name)
            .map(|e| e["value"].clone())
    };
    let objects = rendered(&[
        r#"image.repository="r.example.org/t""#,
        r#"image.tag="7""#,
        r#"fetcher.podTemplate={"metadata":{"labels":{"ready":"yes"}},"spec":{"hostNetwork":true}}"#,
    ]);
    assert_eq!(container(&objects)["image"], "r.example.org/t:7");
    assert_eq!(
        variable(&objects, "TENANTRY_FETCHER_IMAGE"),
        Some(json!("r.example.org/t:7"))
    );
    let map = only(&objects, "ConfigMap");
    let pod = &only(&objects, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["volumes"][0]["configMap"]["name"], map["metadata"]["name"]);
    let path = variable(&objects, "TENANTRY_FETCHER_POD_TEMPLATE").expect("set");
    let mounted = format!(
        "{}/pod-template.yaml",
        container(&objects)["volumeMounts"][0]["mountPath"]
            .as_str()
            .expect("a path")
    );
    assert_eq!(path, mounted);
    let text = map["data"]["pod-template.yaml"].as_str().expect("a file");
    assert!(
        text.contains(r#"ready: "yes""#),
        "not a boolean for YAML 1.1 either: {text}"
    );
    let template: Value = serde_yaml_ng::from_str(text).expect("YAML");
    assert_eq!(
        template,
        json!({"metadata": {"labels": {"ready": "yes"}}, "spec": {"hostNetwork": true}})
    );

    let other = rendered(&[r#"fetcher.image="other:1""#]);
    assert_eq!(variable(&other, "TENANTRY_FETCHER_IMAGE"), Some(json!("other:1")));
    let annotation = |objects: &[Value]| {
        only(objects, "Deployment")["spec"]["template"]["metadata"]["annotations"]["tenantry.dev/fetcher-pod-template"].clone()
    };
    assert_ne!(
        annotation(&objects),
        annotation(&other),
        "a changed template makes a new pod"
    );
    assert_eq!(
        rendered(&["fetcher.enabled=false"])
            .iter()
            .filter(|o| o["kind"] == "ConfigMap")
            .count(),
        0
    );
}
