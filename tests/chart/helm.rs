//! Helm as a process, and what it renders.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde::Deserialize as _;
use serde_json::Value;
use tempfile::TempDir;
use tenantry_test_support::TestCluster;

/// A path of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The text of a file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The chart.
pub fn chart() -> String {
    repository("charts/tenantry").display().to_string()
}

fn program() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let output = Command::new(repository("hack/helm.sh"))
            .arg("--path")
            .output()
            .expect("hack/helm.sh runs");
        assert!(
            output.status.success(),
            "hack/helm.sh: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)
            .expect("a path")
            .trim()
            .to_owned()
    })
}

/// Helm with a home of its own, so that nothing of the user's is read or written.
pub struct Helm {
    home: TempDir,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Without any cluster.
    pub fn offline() -> Self {
        Self {
            home: TempDir::with_prefix("tenantry-helm-").expect("a folder"),
            kubeconfig: None,
        }
    }

    /// As administrator of a cluster.
    pub fn on(cluster: &TestCluster) -> Self {
        Self {
            kubeconfig: Some(cluster.kubeconfig().to_owned()),
            ..Self::offline()
        }
    }

    /// What it printed, or what it complained about.
    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> Result<String, String> {
        let mut helm = Command::new(program());
        helm.args(args.iter().map(AsRef::as_ref))
            .env_clear()
            .env("HOME", self.home.path());
        if let Some(kubeconfig) = &self.kubeconfig {
            helm.env("KUBECONFIG", kubeconfig);
        }
        let output = helm.output().expect("helm runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    }

    /// What it printed; it must succeed.
    pub fn ok<S: AsRef<str>>(&self, args: &[S]) -> String {
        self.run(args).unwrap_or_else(|error| {
            let args: Vec<_> = args.iter().map(AsRef::as_ref).collect();
            panic!("helm {}: {error}", args.join(" "))
        })
    }
}

/// `helm template` of the release `tenantry` in `namespace`, with values like `replicas=0` or `watchNamespaces=["a"]`.
pub fn try_template(namespace: &str, values: &[&str]) -> Result<String, String> {
    let mut args: Vec<_> = ["template", "tenantry"].map(str::to_owned).into();
    args.extend([chart(), format!("--namespace={namespace}")]);
    args.extend(set(values));
    Helm::offline().run(&args)
}

/// The same; it must succeed.
pub fn template(namespace: &str, values: &[&str]) -> String {
    try_template(namespace, values).unwrap_or_else(|error| panic!("{values:?}: {error}"))
}

/// Values as Helm's arguments. Each is JSON after the `=`.
pub fn set(values: &[&str]) -> impl Iterator<Item = String> {
    values.iter().map(|value| format!("--set-json={value}"))
}

/// The objects of a stream of YAML documents.
pub fn objects(yaml: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("{e} in:\n{yaml}")))
        .filter(|object| !object.is_null())
        .collect()
}

/// The objects that the chart renders in the namespace `system`.
pub fn rendered(values: &[&str]) -> Vec<Value> {
    objects(&template("system", values))
}

/// The one object of a kind.
#[track_caller]
pub fn only<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<_> = objects.iter().filter(|o| o["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {found:?}");
    found[0]
}

/// The operator's container.
#[track_caller]
pub fn container(objects: &[Value]) -> &Value {
    &only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
}

/// The rules of the operator: of its ClusterRole, or of its Role in one namespace.
pub fn rules(objects: &[Value]) -> &Value {
    let role = objects
        .iter()
        .find(|o| {
            let kind = o["kind"].as_str().unwrap_or_default();
            ["ClusterRole", "Role"].contains(&kind) && o["metadata"]["name"] == "tenantry"
        })
        .expect("a role");
    &role["rules"]
}
