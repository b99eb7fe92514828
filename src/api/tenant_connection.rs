//! `TenantConnection`: how to reach a KubeSphere gateway, and as whom.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Duration, KeyRef, LocalRef};

/// How to reach a KubeSphere gateway, and as whom.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "TenantConnection",
    namespaced,
    status = "TenantConnectionStatus",
    derive = "PartialEq",
    shortname = "tconn",
    category = "tenantry",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "User", type_ = "string", json_path = ".status.user"),
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace"),
    printcolumn(name = "Projects", type_ = "integer", json_path = ".status.projectCount"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".spec.endpoint",
        priority = 1
    ),
    printcolumn(
        name = "Token-Expires",
        type_ = "string",
        json_path = ".status.tokenExpiresAt",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TenantConnectionSpec {
    /// URL of the KubeSphere gateway (ks-apiserver), for example `https://ks.example.org`. Every request goes there and
    /// nowhere else.
    #[schemars(length(min = 8, max = 2048))]
    #[x_kube(
        validation = Rule::new("isURL(self) && url(self).getScheme() in ['http','https'] && url(self).getHostname() != '' && url(self).getQuery().size() == 0").message("endpoint must be the URL of the KubeSphere gateway, like https://ks.example.org"),
        validation = Rule::new("!self.contains('@')").message("endpoint must not contain a user name or password: put them into a Secret and name it in credentials")
    )]
    pub endpoint: String,

    /// The workspace whose DevOps projects are used.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub workspace: String,

    /// The member cluster that is used where a BuildRequest names none. Empty: the host cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub cluster: Option<String>,

    /// Who we are at the gateway: exactly one kind.
    pub credentials: Credentials,

    /// How the gateway's certificate is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,

    /// Bounds on what this connection asks of the gateway.
    #[serde(default)]
    pub limits: Limits,

    /// How often a running build is looked at. Where the runs of a project are watched, its builds share that: one of them is
    /// looked at so often, and each when its run changes. At least `1s`.
    #[serde(default = "default_poll_interval")]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('10m')").message("pollInterval must be between 1s and 10m"))]
    pub poll_interval: Duration,

    /// While true, nothing is asked of the gateway through this connection.
    #[serde(default)]
    pub suspend: bool,
}

fn default_poll_interval() -> Duration {
    Duration::from_secs(5)
}

/// Who we are at the gateway: exactly one of the three.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.password), has(self.token), has(self.kubeconfig)].filter(x, x).size() == 1").message("set exactly one of credentials.password, credentials.token and credentials.kubeconfig"))]
pub struct Credentials {
    /// User name and password, from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<PasswordCredentials>,
    /// A static token (for example of a KubeSphere ServiceAccount), from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenCredentials>,
    /// The token in a kubeconfig downloaded from KubeSphere, from a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<KubeconfigCredentials>,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordCredentials {
    /// The Secret that holds them.
    pub secret_ref: LocalRef,
    /// Key of the user name.
    #[serde(default = "username_key")]
    #[schemars(length(min = 1, max = 253))]
    pub username_key: String,
    /// Key of the password.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub password_key: String,
    /// OAuth client id.
    #[serde(default = "client_kubesphere")]
    #[schemars(length(min = 1, max = 253))]
    pub client_id: String,
    /// OAuth client secret; where unset, `kubesphere`, which every installation is shipped with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_ref: Option<KeyRef>,
}

fn username_key() -> String {
    "username".into()
}
fn password_key() -> String {
    "password".into()
}
fn client_kubesphere() -> String {
    "kubesphere".into()
}

/// A static token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenCredentials {
    /// The Secret that holds it.
    pub secret_ref: LocalRef,
    /// Key of the token.
    #[serde(default = "token_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn token_key() -> String {
    "token".into()
}

/// A kubeconfig whose current context carries a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubeconfigCredentials {
    /// The Secret that holds it.
    pub secret_ref: LocalRef,
    /// Key of the kubeconfig.
    #[serde(default = "kubeconfig_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn kubeconfig_key() -> String {
    "kubeconfig".into()
}

/// How the gateway's certificate is checked.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.caRef) && self.insecureSkipVerify)").message("set tls.caRef or tls.insecureSkipVerify, not both"))]
pub struct Tls {
    /// PEM certificates to trust in place of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<CaRef>,
    /// Do not check the certificate at all. Only for trying things out.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// Where the CA certificates are: exactly one of the two.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secret) != has(self.configMap)").message("set exactly one of caRef.secret and caRef.configMap"))]
pub struct CaRef {
    /// Key of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyRef>,
    /// Key of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyRef>,
}

/// Bounds on what this connection asks of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Requests per second, on average.
    #[serde(default = "default_rps")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: u32,
    /// Requests that may go out at once after a quiet time.
    #[serde(default = "default_burst")]
    #[schemars(range(min = 1, max = 5000))]
    pub burst: u32,
    /// Requests that may be in flight at once. Watches that stand open do not count.
    #[serde(default = "default_concurrent_requests")]
    #[schemars(range(min = 1, max = 256))]
    pub concurrent_requests: u32,
    /// Runs of this connection that may be active at once; further BuildRequests wait. Unset: no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub concurrent_runs: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: default_rps(),
            burst: default_burst(),
            concurrent_requests: default_concurrent_requests(),
            concurrent_runs: None,
        }
    }
}

fn default_rps() -> u32 {
    20
}
fn default_burst() -> u32 {
    40
}
fn default_concurrent_requests() -> u32 {
    16
}

/// What was last seen of the connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantConnectionStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The user we are logged in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When the current token ends; it is renewed at 80 % of its life. Absent for tokens without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_expires_at: Option<Time>,
    /// How many DevOps projects of the workspace we may see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_count: Option<i64>,
    /// The first hundred of them, by full name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub projects: Vec<ProjectName>,
    /// What the tenant may do, found by trying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// The value of the annotation `tenantry.dev/reconcile-requested-at` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// `Ready`, and `Reconciling` or `Stalled` while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// A DevOps project, by both of its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectName {
    /// The name used in URLs: short name and five random characters.
    pub name: String,
    /// The name that people gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_name: Option<String>,
}

/// What the tenant may do, found by trying.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    /// Create PipelineRuns under a name of our choice (the first trigger rung).
    pub create_runs: Capability,
    /// Watch PipelineRuns.
    pub watch_runs: Capability,
    /// Use the raw Jenkins proxy for logs and artifacts.
    pub jenkins_proxy: Capability,
}

/// Whether something is allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Capability {
    /// It worked.
    Yes,
    /// It was refused; it is tried again after an hour or with new credentials.
    No,
    /// Not tried yet.
    #[default]
    Unknown,
}
