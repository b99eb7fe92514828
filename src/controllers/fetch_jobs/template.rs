//! How fetch Jobs are run, as the operator's administrator has it: the image, and what else their pods need here.

use k8s_openapi::{
    DeepMerge as _,
    api::core::v1::{Container, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use super::build::{CLAIM_VOLUME, CONTAINER, CREDENTIALS_VOLUME, MOUNT_PATH};
use crate::{api::GROUP, fetcher::plan};

/// How fetch Jobs are run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetcher {
    /// The image that holds `tenantry`; without one there are no fetch Jobs.
    pub image: Option<String>,
    /// What is laid over the pods.
    pub template: PodTemplate,
}

/// A part of a pod template that is laid over ours, as a strategic merge patch is: maps are merged, lists of named things
/// by name, other lists replaced. Ours gives way where it says something, also in the security context; what makes the pod
/// a fetch pod can not be said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodTemplate(PodTemplateSpec);

impl PodTemplate {
    /// Reads YAML or JSON. Says what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut given: Value =
            serde_yaml_ng::from_str(text).map_err(|why| format!("it is no YAML: {why}"))?;
        drop_nulls(&mut given);
        if given.is_null() {
            return Ok(Self::default());
        }
        // A partial template lacks the list of containers, which the type asks for.
        if let Some(spec) = given.get_mut("spec").and_then(Value::as_object_mut) {
            spec.entry("containers")
                .or_insert_with(|| Value::Array(Vec::new()));
        }
        let template: PodTemplateSpec =
            serde_json::from_value(given.clone()).map_err(|why| format!("it is no pod template: {why}"))?;
        let understood = serde_json::to_value(&template).map_err(|why| why.to_string())?;
        if let Some(unknown) = first_unknown(&given, &understood, "") {
            return Err(format!(
                "a pod template has no field {unknown}: correct it, or remove it"
            ));
        }
        check(&template)?;
        Ok(Self(template))
    }

    /// Lays it over `ours`.
    pub fn lay_over(&self, ours: &mut PodTemplateSpec) {
        ours.merge_from(self.0.clone());
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The first field of `given` that was not understood.
fn first_unknown(given: &Value, understood: &Value, path: &str) -> Option<String> {
    match (given, understood) {
        (Value::Object(given), understood) => given.iter().find_map(|(name, value)| {
            let path = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            match understood.get(name) {
                Some(seen) => first_unknown(value, seen, &path),
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(understood)) => given
            .iter()
            .zip(understood)
            .enumerate()
            .find_map(|(at, (given, seen))| first_unknown(given, seen, &format!("{path}[{at}]"))),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Refuses what would make the pod another one.
fn check(template: &PodTemplateSpec) -> Result<(), String> {
    let PodTemplateSpec { metadata, spec } = template;
    if let Some(metadata) = metadata {
        let ObjectMeta {
            labels, annotations, ..
        } = metadata;
        let ours = ObjectMeta {
            labels: labels.clone(),
            annotations: annotations.clone(),
            ..ObjectMeta::default()
        };
        if *metadata != ours {
            return Err("metadata takes labels and annotations only".into());
        }
        let mut keys = labels.iter().chain(annotations).flatten().map(|(key, _)| key);
        if let Some(key) = keys.find(|key| is_ours(key)) {
            return Err(format!(
                "metadata: {key} is set by the operator or by Kubernetes: remove it"
            ));
        }
    }
    let Some(spec) = spec else { return Ok(()) };
    check_spec(spec)?;
    spec.containers.iter().try_for_each(check_container)
}

fn is_ours(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    domain == GROUP || domain == "batch.kubernetes.io" || key == super::build::MANAGED_BY
}

fn check_spec(spec: &PodSpec) -> Result<(), String> {
    if spec.restart_policy.is_some() {
        return Err("spec.restartPolicy is always Never: remove it".into());
    }
    if spec.automount_service_account_token == Some(true) {
        return Err(
            "spec.automountServiceAccountToken must not be true: a fetch pod gets no Kubernetes credentials"
                .into(),
        );
    }
    let mut volumes = spec.volumes.iter().flatten();
    if let Some(volume) = volumes.find(|v| [CLAIM_VOLUME, CREDENTIALS_VOLUME].contains(&v.name.as_str())) {
        return Err(format!(
            "spec.volumes: {:?} is the operator's own: choose another name",
            volume.name
        ));
    }
    Ok(())
}

fn check_container(container: &Container) -> Result<(), String> {
    let Container {
        name,
        image,
        command,
        args,
        env,
        volume_mounts,
        ..
    } = container;
    if name != CONTAINER {
        return Err(format!(
            "spec.containers: the one container is named {CONTAINER:?}, not {name:?}: a Job would not end while another runs"
        ));
    }
    if image.is_some() {
        return Err("spec.containers: set the image with --fetcher-image".into());
    }
    if command.is_some() || args.is_some() {
        return Err("spec.containers: command and args are the operator's own: remove them".into());
    }
    if env.iter().flatten().any(|env| env.name == plan::ENV) {
        return Err(format!(
            "spec.containers: {} is the operator's own: remove it",
            plan::ENV
        ));
    }
    let ours = [MOUNT_PATH, plan::CREDENTIALS_DIR];
    if let Some(mount) = volume_mounts.iter().flatten().find(|mount| {
        ours.iter()
            .any(|path| mount.mount_path.trim_end_matches('/').starts_with(path))
    }) {
        return Err(format!(
            "spec.containers: {} is where the operator mounts: choose another mountPath",
            mount.mount_path
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_administrators_need_is_taken() {
        let text = "
metadata:
  labels: {team: build}
spec:
  nodeSelector: {disk: fast}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  imagePullSecrets: [{name: pull}]
  priorityClassName: low
  tolerations: []
  securityContext: {runAsUser: 1000, fsGroup: 1000}
  containers:
  - name: fetch
    imagePullPolicy: Never
    resources: {limits: {memory: 128Mi}}
    env: [{name: HTTPS_PROXY, value: http://proxy:3128}]
";
        assert!(PodTemplate::parse(text).is_ok());
        for nothing in ["", "{}", "spec: {}", "spec:\n", "# only a comment"] {
            assert_eq!(
                PodTemplate::parse(nothing).map(|t| t.0.spec.unwrap_or_default()),
                Ok(PodSpec::default()),
                "{nothing:?}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_hint() {
        for (text, hint) in [
            ("a: [", "no YAML"),
            ("spec: 7", "no pod template"),
            ("spec: {nodeselector: {}, hostIPX: true}", "spec.hostIPX"),
            (
                "spec: {containers: [{name: fetch, imagePullpolicy: Never}]}",
                "spec.containers[0].imagePullpolicy",
            ),
            (
                "spec: {containers: [{name: sidecar}]}",
                "\"fetch\", not \"sidecar\"",
            ),
            ("spec: {containers: [{name: fetch, image: x}]}", "--fetcher-image"),
            ("spec: {containers: [{name: fetch, args: [x]}]}", "args"),
            ("spec: {containers: [{name: fetch, command: [x]}]}", "command"),
            (
                "spec: {containers: [{name: fetch, env: [{name: TENANTRY_FETCH_PLAN}]}]}",
                "TENANTRY_FETCH_PLAN",
            ),
            (
                "spec: {containers: [{name: fetch, volumeMounts: [{name: x, mountPath: /data/}]}]}",
                "/data/",
            ),
            ("spec: {volumes: [{name: claim}]}", "\"claim\""),
            ("spec: {restartPolicy: Always}", "Never"),
            ("spec: {automountServiceAccountToken: true}", "credentials"),
            ("metadata: {name: x}", "labels and annotations only"),
            (
                "metadata: {labels: {tenantry.dev/owner-uid: x}}",
                "tenantry.dev/owner-uid",
            ),
            (
                "metadata: {labels: {app.kubernetes.io/managed-by: x}}",
                "managed-by",
            ),
        ] {
            let why = PodTemplate::parse(text).expect_err(text);
            assert!(why.contains(hint), "{text}: {why}");
        }
    }
}
