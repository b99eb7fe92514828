//! The Job that runs `tenantry fetch`. Pure: the same order gives the same Job, under the same name, so that making it
//! twice is making it once.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            Capabilities, Container, EnvVar, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec,
            PodTemplateSpec, ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecurityContext,
            Volume, VolumeMount, VolumeProjection,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
    },
};
use sha2::{Digest as _, Sha256};

use super::template::Fetcher;
use crate::{
    api::conditions::Reason,
    fetcher::{
        outcome::FINAL,
        plan::{self, Plan},
    },
    sinks::{
        config_map::{CONTENT, OWNER_UID},
        hex,
    },
    trouble::Trouble,
};

/// The container of the pod.
pub const CONTAINER: &str = "fetch";
/// The volume that is the claim.
pub const CLAIM_VOLUME: &str = "claim";
/// The volume that holds what the pod logs in with.
pub const CREDENTIALS_VOLUME: &str = "credentials";
/// Where the claim is mounted.
pub const MOUNT_PATH: &str = "/data";
/// Label: who made it. What we watch of Jobs bears it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub const TENANTRY: &str = "tenantry";
/// Annotation: digest of what the object asked for, as far as that is known without the remote.
pub const ASKED: &str = "tenantry.dev/asked";
/// Annotation: digest of what of which run the Job is to bring.
pub const SELECTION: &str = "tenantry.dev/selection";
/// Annotation: how many Jobs for the same there were, this one included.
pub const ATTEMPT: &str = "tenantry.dev/attempt";

/// User and group of the pod, as in the image.
const USER: i64 = 65532;
/// Pods that may fail before the Job does. Kubernetes waits 10, 20, 40, … seconds in between: ten minutes in all.
const BACKOFF_LIMIT: i32 = 6;
/// A day: the last net, for pods that hang. What a pod waits for before is told long before.
const DEADLINE_SECONDS: i64 = 24 * 3600;
/// How long people can look at a Job that ended.
const TTL_SECONDS: i32 = 3600;
/// Exit code of a command line that is wrong (clap's).
const USAGE: i32 = 2;
/// Longest name of a Job: it becomes a label of its pods.
const MAX_NAME: usize = 63;

/// What a Job is to bring, and for whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Namespace of all of it.
    pub namespace: String,
    /// The object that it is for.
    pub owner: OwnerReference,
    /// What of it: `files` or `log`.
    pub content: &'static str,
    /// Digest of what the object asked for, as far as that is known without the remote.
    pub asked: String,
    /// Digest of what of which run the Job is to bring.
    pub selection: String,
    /// How many Jobs for the same there were, this one included.
    pub attempt: u32,
    /// The claim.
    pub claim: String,
    /// What the pod is told.
    pub plan: Plan,
    /// The files that it logs in with, and those with what a log must not show: keys of Secrets and ConfigMaps, never copies.
    pub credentials: Vec<VolumeProjection>,
}

/// The name of the Job number `attempt` of the object `owner` that asked for `selection`.
pub fn name(owner: &str, asked: &str, selection: &str, attempt: u32) -> String {
    let digest = hex(&Sha256::digest(format!("{asked} {selection} {attempt}"))[..5]);
    let mut head = owner.replace('.', "-");
    head.truncate(MAX_NAME - digest.len() - 1);
    format!("{}-{digest}", head.trim_end_matches('-'))
}

/// The Job for `order`; or what stands in the way of it.
pub fn job(order: &Order, fetcher: &Fetcher) -> Result<Job, Trouble> {
    let Some(image) = &fetcher.image else {
        return Err(Trouble::user(
            Reason::FetcherNotConfigured,
            "volumes are filled by Jobs, and this operator has no image for them: its administrator must set \
             --fetcher-image (TENANTRY_FETCHER_IMAGE) to the operator's own image; or use a ConfigMap as destination",
        ));
    };
    let plan = order
        .plan
        .env_value()
        .map_err(|why| Trouble::user(Reason::InvalidSpec, why.to_string()))?;
    let labels = labels(order);
    let mut template = template(order, image, plan, labels.clone());
    fetcher.template.lay_over(&mut template);
    Ok(Job {
        metadata: ObjectMeta {
            name: Some(name(
                &order.owner.name,
                &order.asked,
                &order.selection,
                order.attempt,
            )),
            namespace: Some(order.namespace.clone()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([
                (ASKED.to_owned(), order.asked.clone()),
                (SELECTION.to_owned(), order.selection.clone()),
                (ATTEMPT.to_owned(), order.attempt.to_string()),
            ])),
            owner_references: Some(vec![order.owner.clone()]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            backoff_limit: Some(BACKOFF_LIMIT),
            pod_failure_policy: Some(failure_policy()),
            // The next pod does not start before the last one is over: one writer at a time.
            pod_replacement_policy: Some("Failed".into()),
            ttl_seconds_after_finished: Some(TTL_SECONDS),
            template,
            ..JobSpec::default()
        }),
        status: None,
    })
}

/// The labels of Job and pod.
fn labels(order: &Order) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", TENANTRY),
        ("app.kubernetes.io/component", CONTAINER),
        (MANAGED_BY, TENANTRY),
        (OWNER_UID, &order.owner.uid),
        (CONTENT, order.content),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn failure_policy() -> PodFailurePolicy {
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
                    container_name: Some(CONTAINER.into()),
                    operator: "In".into(),
                    values: vec![USAGE, FINAL.into()],
                }),
                on_pod_conditions: None,
            },
            PodFailurePolicyRule {
                action: "Ignore".into(),
                on_exit_codes: None,
                on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
                    type_: "DisruptionTarget".into(),
                    status: Some("True".into()),
                }]),
            },
        ],
    }
}

fn template(order: &Order, image: &str, plan: String, labels: BTreeMap<String, String>) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            restart_policy: Some("Never".into()),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                // A volume of many files is not gone through at each start.
                fs_group_change_policy: Some("OnRootMismatch".into()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".into(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            containers: vec![container(image, plan)],
            volumes: Some(volumes(order)),
            ..PodSpec::default()
        }),
    }
}

fn volumes(order: &Order) -> Vec<Volume> {
    vec![
        Volume {
            name: CLAIM_VOLUME.into(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: order.claim.clone(),
                read_only: None,
            }),
            ..Volume::default()
        },
        Volume {
            name: CREDENTIALS_VOLUME.into(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(order.credentials.clone()),
            }),
            ..Volume::default()
        },
    ]
}

fn container(image: &str, plan: String) -> Container {
    let quantities = |all: &[(&str, &str)]| {
        let all = all
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Quantity((*v).to_owned())));
        Some(all.collect::<BTreeMap<_, _>>())
    };
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    Container {
        name: CONTAINER.into(),
        image: Some(image.into()),
        args: Some(vec!["fetch".into()]),
        env: Some(vec![EnvVar {
            name: plan::ENV.into(),
            value: Some(plan),
            value_from: None,
        }]),
        // Measured (docs/performance.md): 14 to 22 MiB, and 32 MiB at the most; the rest of the limit is page cache, which the
        // kernel takes back.
        resources: Some(ResourceRequirements {
            requests: quantities(&[("cpu", "50m"), ("memory", "32Mi")]),
            limits: quantities(&[("memory", "64Mi")]),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".into()]),
            }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("File".into()),
        volume_mounts: Some(vec![
            mount(CLAIM_VOLUME, MOUNT_PATH, false),
            mount(CREDENTIALS_VOLUME, plan::CREDENTIALS_DIR, true),
        ]),
        ..Container::default()
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
