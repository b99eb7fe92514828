//! What the controller tells the pod.
//!
//! One JSON document, in the environment variable [`ENV`] or in the file that `tenantry fetch --plan FILE` names:
//! ```json
//! {"owner": "artifactfetch.files", "revision": "shopx7k2p/build#7",
//!  "gateway": {"endpoint": "https://ks.example.com", "credentials": {"password": {"clientId": "kubesphere"}},
//!              "tls": {"caFile": true}, "limits": {"requestsPerSecond": 20, "burst": 40,
//!              "concurrentRequests": 16}},
//!  "run": {"project": "shopx7k2p", "pipeline": "build", "id": "7", "name": "build-x9f4q"},
//!  "task": {"artifacts": {"include": ["**"], "maxBytes": 1073741824, "maxFiles": 1000, "selectionDigest": "…",
//!                         "prune": true}},
//!  "target": {"mountPath": "/data", "subPath": "shop/latest"}}
//! ```
//! It holds no secret. Those are files in one directory ([`CREDENTIALS_DIR`], or `--credentials DIR`), of these names:
//!
//! | file | for |
//! |---|---|
//! | [`USERNAME_FILE`], [`PASSWORD_FILE`] | credentials `password` |
//! | [`CLIENT_SECRET_FILE`] | credentials `password` with `clientSecretFile: true` |
//! | [`TOKEN_FILE`] | credentials `token` |
//! | [`KUBECONFIG_FILE`] | credentials `kubeconfig` |
//! | [`CA_FILE`] | `tls.caFile: true`, whichever the credentials |
//! | [`mask_file`] | task `log` with `masks` |
//!
//! A projected volume maps the keys of Secrets and ConfigMaps to them. The claim is mounted whole, at `target.mountPath`
//! and never with `subPath` of the volume mount: the pod keeps its own files in `.tenantry/` in the volume's root, where it
//! also sees whom else files belong to, and makes `target.subPath` itself without following symlinks.

use serde::{Deserialize, Serialize};
use url::Url;

use super::path::{FileName, SubPath};
use crate::{
    api::artifact_fetch::Digest,
    gateway::{EncodedBranch, ProjectName, RunId, RunRef},
};

/// The environment variable that holds the plan.
pub const ENV: &str = "TENANTRY_FETCH_PLAN";
/// Where the credentials are, unless `--credentials` says otherwise.
pub const CREDENTIALS_DIR: &str = "/etc/tenantry/credentials";
/// The KubeSphere user's name.
pub const USERNAME_FILE: &str = "username";
/// Its password.
pub const PASSWORD_FILE: &str = "password";
/// The OAuth client's secret.
pub const CLIENT_SECRET_FILE: &str = "clientSecret";
/// A token that is used as it is.
pub const TOKEN_FILE: &str = "token";
/// A kubeconfig of KubeSphere.
pub const KUBECONFIG_FILE: &str = "kubeconfig";
/// CA certificates as PEM.
pub const CA_FILE: &str = "ca.crt";
/// Longest plan that goes into an environment variable: Linux takes 128 KiB for one, its name included.
pub const MAX_ENV: usize = 120 * 1024;

/// Everything that the pod is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Whose files these are on the volume.
    pub owner: Owner,
    /// The run, for people and for telling its files from those of another: `PROJECT/PIPELINE[/BRANCH]#ID`.
    pub revision: String,
    /// How to reach the gateway, and as whom.
    pub gateway: GatewayPlan,
    /// The run.
    pub run: RunPlan,
    /// What of it.
    pub task: Task,
    /// Where to.
    pub target: Target,
}

/// Whose files these are on the volume: names the manifest `.tenantry/OWNER.json`. Several owners may share a claim, also
/// with overlapping sub-paths; each removes its own files only. Made from kind and name, not from the UID, so that an
/// object that was made anew takes over what its predecessor stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Owner(String);

/// How to reach the gateway, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayPlan {
    /// Base URL.
    pub endpoint: Url,
    /// Which credentials the directory holds.
    pub credentials: CredentialsPlan,
    /// How the server's certificate is checked.
    #[serde(default)]
    pub tls: TlsPlan,
    /// The request budget.
    pub limits: LimitsPlan,
}

/// Which credentials the directory holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum CredentialsPlan {
    /// Files `username` and `password`.
    Password {
        /// OAuth client.
        client_id: String,
        /// Its secret is in the file `clientSecret`; else it is the one every KubeSphere is installed with.
        #[serde(default)]
        client_secret_file: bool,
    },
    /// File `token`.
    Token,
    /// File `kubeconfig`.
    Kubeconfig,
}

/// How the server's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsPlan {
    /// Only the certificates in the file `ca.crt` are trusted.
    #[serde(default)]
    pub ca_file: bool,
    /// Any certificate will do. For trials only.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// The request budget of the pod: the same as that of the TenantConnection, which has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LimitsPlan {
    /// Requests per second in the long run.
    pub requests_per_second: u32,
    /// Requests that may be sent at once after a rest.
    pub burst: u32,
    /// Requests that may be in flight at once.
    #[serde(default = "default_concurrent_requests")]
    pub concurrent_requests: u32,
}

fn default_concurrent_requests() -> u32 {
    16
}

/// The run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RunPlan {
    /// The cluster behind the gateway; `None` is the gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Full name of the project.
    pub project: ProjectName,
    /// The pipeline.
    pub pipeline: String,
    /// The branch as Jenkins encodes it, of a multi-branch pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<EncodedBranch>,
    /// Jenkins build number.
    pub id: RunId,
    /// Name of the PipelineRun, where there is one: without it files come over the raw Jenkins proxy only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Task {
    /// Its archived files.
    Artifacts(ArtifactsTask),
    /// Its whole build log.
    Log(LogTask),
}

/// Which files, and within which bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactsTask {
    /// Globs of the paths to fetch.
    pub include: Vec<String>,
    /// Globs of the paths to leave out of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Digests that must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify: Vec<Digest>,
    /// Bytes of all files together.
    pub max_bytes: u64,
    /// How many files.
    pub max_files: u64,
    /// Tells this selection of this run from any other: what is on the volume already under the same revision and digest
    /// is not fetched again.
    pub selection_digest: String,
    /// Remove files of an earlier revision that this one lacks.
    pub prune: bool,
    /// Files on their way at a time.
    #[serde(default)]
    pub parallel: Parallel,
}

/// Files on their way at a time, 1 to 16. Large ones still go one at a time where the remote would hold them in its memory
/// (contract §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Parallel(u8);

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LogTask {
    /// Name of the file in the sub-path. A file of this name is replaced.
    pub file_name: FileName,
    /// How many of the last lines the outcome tells, within its bounds.
    #[serde(default)]
    pub tail_lines: u32,
    /// So many values must not show in the log, each the content of a file [`mask_file`]. Where a parameter took its value
    /// from a Secret, the pod is given the same key.
    #[serde(default)]
    pub masks: u16,
}

/// The file that holds the value number `number` that must not show in the log, counted from 0.
pub fn mask_file(number: u16) -> String {
    format!("mask-{number}")
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Target {
    /// Where the volume is mounted, whole; absolute.
    pub mount_path: String,
    /// Where in the volume the files go; the volume's root where it is empty.
    #[serde(default)]
    pub sub_path: SubPath,
}

/// Why a plan does not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    /// It is no plan.
    #[error("the plan cannot be read: {0}")]
    Unreadable(String),
    /// It is too long for the environment.
    #[error("the plan has {0} bytes, {MAX_ENV} fit: write fewer or shorter globs and verify entries")]
    TooLong(usize),
    /// A name that is no name of an owner.
    #[error(
        "{0:?} cannot name an owner: it must be 1 to 200 of a-z, 0-9, '-' and '.', and begin and end with a letter or digit"
    )]
    Owner(String),
    /// A number of parallel downloads that is out of range.
    #[error("parallel is {0}, it must be 1 to 16")]
    Parallel(u8),
}

impl Plan {
    /// Reads a plan.
    pub fn parse(text: &str) -> Result<Self, BadPlan> {
        serde_json::from_str(text).map_err(|why| BadPlan::Unreadable(why.to_string()))
    }

    /// Names of all files that the credentials directory must have, in a fixed order: what the Job has to map.
    pub fn files(&self) -> Vec<String> {
        let masks = match &self.task {
            Task::Log(log) => log.masks,
            Task::Artifacts(_) => 0,
        };
        let gateway = self.gateway.files().into_iter().map(str::to_owned);
        gateway.chain((0..masks).map(mask_file)).collect()
    }

    /// The plan as the value of [`ENV`].
    pub fn env_value(&self) -> Result<String, BadPlan> {
        let text = serde_json::to_string(self).map_err(|why| BadPlan::Unreadable(why.to_string()))?;
        if text.len() > MAX_ENV {
            return Err(BadPlan::TooLong(text.len()));
        }
        Ok(text)
    }
}

impl GatewayPlan {
    /// Names of the files in the credentials directory that the connection needs, in a fixed order.
    pub fn files(&self) -> Vec<&'static str> {
        let mut files = match self.credentials {
            CredentialsPlan::Password {
                client_secret_file: false,
                ..
            } => vec![USERNAME_FILE, PASSWORD_FILE],
            CredentialsPlan::Password { .. } => vec![USERNAME_FILE, PASSWORD_FILE, CLIENT_SECRET_FILE],
            CredentialsPlan::Token => vec![TOKEN_FILE],
            CredentialsPlan::Kubeconfig => vec![KUBECONFIG_FILE],
        };
        if self.tls.ca_file {
            files.push(CA_FILE);
        }
        files
    }
}

impl RunPlan {
    /// Where Jenkins keeps the build.
    pub fn run_ref(&self) -> RunRef {
        RunRef {
            pipeline: self.pipeline.clone(),
            branch: self.branch.clone(),
            id: self.id.clone(),
        }
    }
}

impl Owner {
    /// The owner `kind` `name`, e.g. `artifactfetch` `files`. A name that is too long is cut and told apart by a digest.
    pub fn of(kind: &str, name: &str) -> Result<Self, BadPlan> {
        use sha2::{Digest as _, Sha256};
        let whole = format!("{kind}.{name}").to_ascii_lowercase();
        if whole.len() <= Self::MAX || !whole.is_ascii() {
            return Self::new(whole);
        }
        let digest = crate::sinks::hex(&Sha256::digest(&whole)[..8]);
        Self::new(format!("{}x{digest}", &whole[..Self::MAX - digest.len() - 1]))
    }

    const MAX: usize = 200;

    /// Checks `name`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadPlan> {
        let name = name.into();
        let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = name.as_bytes();
        let legal = (1..=Self::MAX).contains(&bytes.len())
            && bytes.iter().all(|b| alphanumeric(b) || matches!(b, b'-' | b'.'))
            && bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric);
        if legal {
            Ok(Self(name))
        } else {
            Err(BadPlan::Owner(name))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Parallel {
    /// Checks `count`.
    pub const fn new(count: u8) -> Result<Self, BadPlan> {
        if count >= 1 && count <= 16 {
            Ok(Self(count))
        } else {
            Err(BadPlan::Parallel(count))
        }
    }

    /// How many.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Default for Parallel {
    fn default() -> Self {
        Self(4)
    }
}

impl TryFrom<String> for Owner {
    type Error = BadPlan;
    fn try_from(name: String) -> Result<Self, BadPlan> {
        Self::new(name)
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> Self {
        owner.0
    }
}

impl TryFrom<u8> for Parallel {
    type Error = BadPlan;
    fn try_from(count: u8) -> Result<Self, BadPlan> {
        Self::new(count)
    }
}

impl From<Parallel> for u8 {
    fn from(parallel: Parallel) -> Self {
        parallel.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn whole() -> Value {
        json!({
            "owner": "artifactfetch.files", "revision": "shopx7k2p/web/feature/x#7",
            "gateway": {
                "endpoint": "https://ks.example.com/",
                "credentials": {"password": {"clientId": "kubesphere", "clientSecretFile": true}},
                "tls": {"caFile": true, "insecureSkipVerify": false},
                "limits": {"requestsPerSecond": 20, "burst": 40, "concurrentRequests": 8},
            },
            "run": {"cluster": "east", "project": "shopx7k2p", "pipeline": "web", "branch": "feature%2Fx", "id": "7",
                    "name": "web-x9f4q"},
            "task": {"artifacts": {
                "include": ["out/**"], "exclude": ["*.tmp"], "verify": [{"path": "out/a", "sha256": "00"}],
                "maxBytes": 1_u64 << 40, "maxFiles": 10, "selectionDigest": "abc", "prune": true, "parallel": 8,
            }},
            "target": {"mountPath": "/data", "subPath": "shop/latest"},
        })
    }

    #[test]
    fn a_plan_is_what_was_written() {
        let plan = Plan::parse(&whole().to_string()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&plan.env_value().unwrap()).unwrap(),
            whole()
        );
        assert_eq!(
            plan.gateway.files(),
            [USERNAME_FILE, PASSWORD_FILE, CLIENT_SECRET_FILE, CA_FILE]
        );
        let mut log = whole();
        log["task"] = json!({"log": {"fileName": "build.log", "tailLines": 20, "masks": 2}});
        log["gateway"]["credentials"] = json!("token");
        let plan = Plan::parse(&log.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&plan).unwrap(), log);
        assert_eq!(plan.files(), [TOKEN_FILE, CA_FILE, "mask-0", "mask-1"]);
    }

    #[test]
    fn what_may_be_left_out_may_be_left_out() {
        let mut plan = whole();
        plan["gateway"].as_object_mut().unwrap().remove("tls");
        for key in ["cluster", "branch", "name"] {
            plan["run"].as_object_mut().unwrap().remove(key);
        }
        for key in ["exclude", "verify", "parallel"] {
            plan["task"]["artifacts"].as_object_mut().unwrap().remove(key);
        }
        plan["target"].as_object_mut().unwrap().remove("subPath");
        let limits = plan["gateway"]["limits"].as_object_mut().unwrap();
        limits.remove("concurrentRequests"); // of an operator from before there was that
        let plan = Plan::parse(&plan.to_string()).unwrap();
        assert_eq!(plan.target.sub_path, SubPath::default());
        assert_eq!(plan.gateway.limits.concurrent_requests, 16);
        let Task::Artifacts(task) = plan.task else {
            panic!()
        };
        assert_eq!(task.parallel.get(), 4);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (pointer, value) in [
            ("/target/subPath", json!("../x")),
            ("/target/subPath", json!("/x")),
            ("/target/subPath", json!(".tenantry")),
            ("/task/artifacts/parallel", json!(0)),
            ("/task/artifacts/parallel", json!(17)),
            ("/owner", json!("../x")),
            ("/run/project", json!("a/b")),
            ("/run/id", json!("x")),
            ("/run/more", json!(1)),
            ("/more", json!(1)),
            ("/task/artifacts/more", json!(1)),
            (
                "/gateway/credentials",
                json!({"password": {"clientId": "k", "password": "secret"}}),
            ),
        ] {
            let mut plan = whole();
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            plan.pointer_mut(parent).unwrap()[key] = value.clone();
            let error = Plan::parse(&plan.to_string()).expect_err(pointer).to_string();
            assert!(error.starts_with("the plan cannot be read"), "{error}");
        }
    }

    #[test]
    fn a_plan_that_does_not_fit_is_refused_before_it_is_sent() {
        let mut plan = Plan::parse(&whole().to_string()).unwrap();
        let Task::Artifacts(task) = &mut plan.task else {
            panic!()
        };
        task.include = vec!["x".repeat(MAX_ENV)];
        assert!(matches!(plan.env_value(), Err(BadPlan::TooLong(_))));
    }

    #[test]
    fn every_name_of_an_object_names_an_owner() {
        assert_eq!(
            Owner::of("ArtifactFetch", "a.b-c").unwrap().as_str(),
            "artifactfetch.a.b-c"
        );
        let long = |end: &str| Owner::of("artifactfetch", &("n".repeat(250) + end)).unwrap();
        assert_eq!(long("a").as_str().len(), 200);
        assert_ne!(long("a"), long("b"));
        for bad in ["", "A", ".a", "a.", "a/b", "é", "a b"] {
            assert!(Owner::new(bad).is_err(), "{bad:?}");
        }
    }
}
