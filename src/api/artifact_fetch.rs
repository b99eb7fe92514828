//! `ArtifactFetch`: files of a run, brought home.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::LocalRef;

/// Files of a run, brought home.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantry.dev",
    version = "v1alpha1",
    kind = "ArtifactFetch",
    namespaced,
    status = "ArtifactFetchStatus",
    derive = "PartialEq",
    shortname = "afetch",
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
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision"),
    printcolumn(name = "Files", type_ = "integer", json_path = ".status.fileCount"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.totalBytes"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress.percent"),
    printcolumn(name = "Destination", type_ = "string", json_path = ".status.destination"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactFetchSpec {
    /// Which run.
    pub source: Source,
    /// Which files, and where to.
    #[serde(flatten)]
    pub files: FileSelection,
    /// Fetch nothing while true.
    #[serde(default)]
    pub suspend: bool,
}

/// Which run: exactly one of the two.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.buildRequestRef) != has(self.run)").message("set exactly one of source.buildRequestRef and source.run"))]
pub struct Source {
    /// The latest run of a BuildRequest in this namespace; its reruns are followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_request_ref: Option<LocalRef>,
    /// A run named by its coordinates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunCoordinates>,
}

/// A run named by its coordinates; of `name`, `id` and `latestSuccess` exactly one.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.name), has(self.id), has(self.latestSuccess) && self.latestSuccess].filter(x, x).size() == 1").message("set exactly one of run.name, run.id and run.latestSuccess"))]
pub struct RunCoordinates {
    /// The TenantConnection to fetch through.
    pub connection_ref: LocalRef,
    /// The DevOps project: its full name or its short name.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub project: String,
    /// The cluster that the project lives in. Unset: the connection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub cluster: Option<String>,
    /// The pipeline.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub pipeline: String,
    /// The branch, as git writes it, of a multi-branch pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    #[x_kube(validation = Rule::new("!self.startsWith('refs/') && !self.contains('%') && self.matches('^[^ ~^:?*\\\\[\\\\\\\\\\\\x00-\\\\x1f\\\\x7f]+$')").message("branch must be written as git shows it, like feature/login: without refs/heads/ and without percent encoding"))]
    pub branch: Option<String>,
    /// Name of the PipelineRun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: Option<String>,
    /// Jenkins build number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 18), regex(pattern = r"^[1-9][0-9]*$"))]
    pub id: Option<String>,
    /// The newest run that succeeded, when this object is reconciled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_success: Option<bool>,
}

/// Which files of a run, where they go, and within which bounds.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSelection {
    /// Globs of the paths to fetch; `*` stays within a directory, `**` does not. Unset: all.
    #[serde(default = "everything")]
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(
        validation = Rule::new("self.all(g, !g.startsWith('/') && !g.matches('(^|/)[.][.](/|$)'))").message("include: a glob is relative to the artifact root and must not climb out with '..'"),
        validation = Rule::new("self.all(g, g.matches('^[^\\\\[\\\\]{}]*([\\\\[][^\\\\[\\\\]]+[\\\\]][^\\\\[\\\\]{}]*|[{][^{}]+[}][^\\\\[\\\\]{}]*)*$'))").message("include: a glob has an unbalanced [ ] or { }: write it like 'out/**/*.{tar,zip}'")
    )]
    pub include: Vec<String>,
    /// Globs of the paths to leave out of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 512)))]
    #[x_kube(
        validation = Rule::new("self.all(g, !g.startsWith('/') && !g.matches('(^|/)[.][.](/|$)'))").message("exclude: a glob is relative to the artifact root and must not climb out with '..'"),
        validation = Rule::new("self.all(g, g.matches('^[^\\\\[\\\\]{}]*([\\\\[][^\\\\[\\\\]]+[\\\\]][^\\\\[\\\\]{}]*|[{][^{}]+[}][^\\\\[\\\\]{}]*)*$'))").message("exclude: a glob has an unbalanced [ ] or { }: write it like 'out/**/*.{tar,zip}'")
    )]
    pub exclude: Vec<String>,
    /// Where the files go.
    #[serde(default)]
    pub destination: Destination,
    /// Digests that must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub verify: Vec<Digest>,
    /// Bytes of all files together. Unset: as many as the destination holds, which is 900 KiB for a ConfigMap, and for a
    /// volume whatever room its claim has. More than 900 KiB means something for volumes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<i64>,
    /// How many files.
    #[serde(default = "default_max_files")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_files: i64,
    /// Remove files of an earlier revision that the new one lacks.
    #[serde(default = "yes")]
    pub prune: bool,
    /// Files on their way at a time, into a volume; 4 where unset, and at most 8 of more than 1 MiB. Into a ConfigMap they come one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub parallel: Option<u8>,
}

fn everything() -> Vec<String> {
    vec!["**".into()]
}
fn default_max_files() -> i64 {
    1000
}
fn yes() -> bool {
    true
}

/// Where files go: at most one of the two; a ConfigMap where neither is set.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.configMap) && has(self.volume))").message("set at most one of destination.configMap and destination.volume"))]
pub struct Destination {
    /// Into a ConfigMap that this object owns, named like it where no name is given here. Together at most 900 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapDestination>,
    /// Onto a volume, by a Job in this namespace. They stay when this object is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeDestination>,
}

/// A ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapDestination {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub name: Option<String>,
}

/// A directory of a PersistentVolumeClaim.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeDestination {
    /// The PersistentVolumeClaim, in this namespace. It must exist and be writable for group 65532 or by its `fsGroup`.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    pub claim_name: String,
    /// The directory in the volume, made where it is missing. Unset: the volume's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(
        validation = Rule::new("!self.startsWith('/') && self.split('/').all(part, part != '' && part != '.' && part != '..')").message("volume.subPath is a directory inside the volume: write it like 'shop/latest', without a leading or trailing '/', without '.' and '..' parts"),
        validation = Rule::new("self.matches('^[^\\\\\\\\\\\\p{C}\\\\p{Zl}\\\\p{Zp}]+$')").message("volume.subPath must not contain backslashes, control or invisible characters"),
        validation = Rule::new("self.split('/').all(part, part.size() <= 63) && self.split('/').size() <= 32 && !self.lowerAscii().matches('^[.]tenantry(/|$)')").message("volume.subPath has at most 32 parts of at most 63 characters each, and .tenantry is kept for tenantry's own files")
    )]
    pub sub_path: Option<String>,
}

impl std::fmt::Display for VolumeDestination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "claim {:?}", self.claim_name)?;
        match &self.sub_path {
            Some(path) => write!(f, ", directory {path:?}"),
            None => Ok(()),
        }
    }
}

/// A digest that a file must have.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Digest {
    /// Path of the file in the archive.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("!self.startsWith('/') && !self.matches('(^|/)[.][.](/|$)')").message("verify.path is relative to the artifact root and must not climb out with '..'"))]
    pub path: String,
    /// SHA-256, 64 hexadecimal digits.
    #[schemars(regex(pattern = r"^[a-f0-9]{64}$"))]
    pub sha256: String,
}

/// What was fetched.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactFetchStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The run whose files these are: `PROJECT/PIPELINE[/BRANCH]#ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The run that was looked at last, also where that ended badly and the files are still those of `revision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempted_revision: Option<String>,
    /// Digest of the revision and the selection that the files belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_digest: Option<String>,
    /// Where the files are, in short: `configmap/NAME` or `pvc/CLAIM[:SUBPATH]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The ConfigMap that holds the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// The volume that holds the files. What is changed on it by others is not noticed: the annotation
    /// `tenantry.dev/reconcile-requested-at` makes it be looked at again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStatus>,
    /// How far the files on their way to a volume are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The latest Job that brings files to a volume. It is removed an hour after it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// How many files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_count: Option<i64>,
    /// Their bytes together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_bytes: Option<i64>,
    /// The first hundred files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub files: Vec<FetchedFile>,
    /// Failed tries since the last success or change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// When it was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched_at: Option<Time>,
    /// The value of the annotation `tenantry.dev/reconcile-requested-at` that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// `Ready`, and `Reconciling` or `Stalled` while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where on a volume the files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// The PersistentVolumeClaim.
    pub claim_name: String,
    /// The directory in the volume; absent for its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// The manifest with path, size and digest of all files, relative to the volume's root.
    pub manifest: String,
}

/// How far files on their way are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Files that are whole.
    pub files: i64,
    /// Files in all; 0 where it is not known yet.
    pub total_files: i64,
    /// Bytes that are there.
    pub bytes: i64,
    /// Bytes in all; 0 where it is not known.
    pub total_bytes: i64,
    /// Bytes that are there, in percent of all, like `42%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<String>,
}

/// One file that was fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FetchedFile {
    /// Path in the archive.
    pub path: String,
    /// Key in the ConfigMap's `data` or `binaryData`; absent on a volume, where the file is under its path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Bytes.
    pub size: i64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}
