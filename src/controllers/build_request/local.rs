//! OBSERVE, the part in our own cluster: parameters from Secrets and ConfigMaps, and the other BuildRequests. Reads only,
//! each within a bound.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
};

use crate::{
    api::{
        SETTLED,
        build_request::{BuildRequest, ValueFrom},
        conditions::Reason,
    },
    controllers::cluster::{API_LIMIT, get_opt},
    gateway::Parameter,
    runtime::{Shard, WatchScope},
    trouble::Trouble,
};

/// The parameters of `object` with their values.
pub async fn parameters(client: &Client, object: &BuildRequest) -> Result<Vec<Parameter>, Trouble> {
    let mut values = Vec::new();
    for parameter in &object.spec.parameters {
        let name = parameter.name.clone();
        let source = parameter.value_from.as_ref();
        let value = match (&parameter.value, source) {
            (Some(value), _) => value.clone(),
            (None, Some(from)) => referenced(client, object, &name, from).await?,
            (None, None) => {
                return Err(Trouble::user(
                    Reason::InvalidSpec,
                    format!("parameter {name:?} has neither value nor valueFrom"),
                ));
            }
        };
        values.push(Parameter { name, value });
    }
    Ok(values)
}

/// The current values of those parameters in `names` that come from Secrets, as far as these are there.
pub async fn secret_values(
    client: &Client,
    object: &BuildRequest,
    names: &[String],
) -> Result<BTreeMap<String, String>, Trouble> {
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let mut values = BTreeMap::new();
    for parameter in object.spec.parameters.iter().filter(|p| names.contains(&p.name)) {
        let source = parameter.value_from.as_ref();
        let Some(from) = source.and_then(|from| from.secret_key_ref.as_ref()) else {
            continue;
        };
        let found = get_opt(&api, &from.name, &format!("Secret {:?}", from.name)).await?;
        let value = found
            .and_then(|secret| secret.data?.remove(&from.key))
            .and_then(|bytes| String::from_utf8(bytes.0).ok());
        values.extend(value.map(|value| (parameter.name.clone(), value)));
    }
    Ok(values)
}

async fn referenced(
    client: &Client,
    object: &BuildRequest,
    parameter: &str,
    from: &ValueFrom,
) -> Result<String, Trouble> {
    let namespace = object.namespace().unwrap_or_default();
    let text = |bytes: Vec<u8>, what: &str| {
        String::from_utf8(bytes).map_err(|_| {
            Trouble::user(
                Reason::SecretKeyMissing,
                format!("parameter {parameter:?}: {what} is not text (UTF-8)"),
            )
        })
    };
    if let Some(secret) = &from.secret_key_ref {
        let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let what = format!("Secret {:?}", secret.name);
        let found = get_opt(&api, &secret.name, &what).await?;
        let mut data = found
            .ok_or_else(|| reference_missing(parameter, &what, &namespace))?
            .data
            .unwrap_or_default();
        let value = data.remove(&secret.key).ok_or_else(|| {
            key_missing(
                Reason::SecretKeyMissing,
                parameter,
                &what,
                &secret.key,
                data.keys(),
            )
        })?;
        return text(value.0, &format!("key {:?} of {what}", secret.key));
    }
    let Some(map) = &from.config_map_key_ref else {
        return Err(Trouble::user(
            Reason::InvalidSpec,
            format!("parameter {parameter:?} has an empty valueFrom"),
        ));
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let what = format!("ConfigMap {:?}", map.name);
    let found = get_opt(&api, &map.name, &what).await?;
    let mut data = found
        .ok_or_else(|| reference_missing(parameter, &what, &namespace))?
        .data
        .unwrap_or_default();
    data.remove(&map.key).ok_or_else(|| {
        key_missing(
            Reason::ConfigMapKeyMissing,
            parameter,
            &what,
            &map.key,
            data.keys(),
        )
    })
}

fn reference_missing(parameter: &str, what: &str, namespace: &str) -> Trouble {
    Trouble::user(
        Reason::ReferenceNotFound,
        format!("parameter {parameter:?}: there is no {what} in namespace {namespace:?}: create it"),
    )
}

fn key_missing<'a>(
    reason: Reason,
    parameter: &str,
    what: &str,
    key: &str,
    keys: impl Iterator<Item = &'a String>,
) -> Trouble {
    let keys: Vec<_> = keys.take(20).map(String::as_str).collect();
    let keys = if keys.is_empty() {
        "it has none".into()
    } else {
        format!("it has {}", keys.join(", "))
    };
    Trouble::user(
        reason,
        format!("parameter {parameter:?}: {what} has no key {key:?}: {keys}"),
    )
}

/// Those BuildRequests of `shard` that are not marked as finished: whoever has a run on the remote is among them.
pub async fn unfinished_build_requests(
    client: &kube::Client,
    scope: &WatchScope,
    shard: &Shard,
) -> Result<Vec<BuildRequest>, Trouble> {
    let unmarked = format!("!{SETTLED}");
    let query = match shard.query() {
        Some(query) => format!("{query},{unmarked}"),
        None => unmarked,
    };
    build_requests(client, scope, Some(query)).await
}

/// All BuildRequests of `shard` in the namespaces that this operator looks after, page by page. One that does not parse does not hide the others.
pub async fn all_build_requests(
    client: &kube::Client,
    scope: &WatchScope,
    shard: &Shard,
) -> Result<Vec<BuildRequest>, Trouble> {
    build_requests(client, scope, shard.query()).await
}

async fn build_requests(
    client: &kube::Client,
    scope: &WatchScope,
    query: Option<String>,
) -> Result<Vec<BuildRequest>, Trouble> {
    const PAGE: u32 = 500;
    let resource = ApiResource::erase::<BuildRequest>(&());
    let apis: Vec<Api<DynamicObject>> = match scope {
        WatchScope::All => vec![Api::all_with(client.clone(), &resource)],
        WatchScope::Namespaces(names) => names
            .iter()
            .map(|name| Api::namespaced_with(client.clone(), name, &resource))
            .collect(),
    };
    let failed = |e: &dyn std::fmt::Display| {
        Trouble::passing(
            Reason::RemoteUnavailable,
            format!("could not list BuildRequests: {e}"),
        )
    };
    let mut all = Vec::new();
    for api in apis {
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector.clone_from(&query);
        loop {
            let page = tokio::time::timeout(API_LIMIT, api.list(&params))
                .await
                .map_err(|e| failed(&e))?
                .map_err(|e| failed(&e))?;
            all.extend(
                page.items
                    .into_iter()
                    .filter_map(|object| object.try_parse::<BuildRequest>().ok()),
            );
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(all)
}
