//! Thousands of finished BuildRequests without building anything: one is really built, the others are made like it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tenantry::api::BuildRequest;
use tenantry_test_support::{Seen, wait_for};

use crate::common::{Stage, parameters};

/// How many are written at a time.
const AT_A_TIME: usize = 16;
/// What a BuildRequest with a few runs behind it takes.
const BYTES: usize = 5_000;

/// A finished BuildRequest, as the API server gave it, with as many runs in its history as make 5 KB of it.
pub async fn template(stage: &Stage) -> Result<Value> {
    let script = [
        ("DURATION", "2"),
        ("LOG_BYTES", "4000"),
        ("VERSION", "2.11.0-rc.4"),
    ];
    stage
        .build("template", json!({"parameters": parameters(&script)}))
        .await;
    let built = stage.until_ready("template").await;
    let mut object = serde_json::to_value(&built)?;
    object["metadata"]["managedFields"] = Value::Null;
    let run = &built
        .status
        .as_ref()
        .and_then(|s| s.run.as_ref())
        .context("a run")?;
    let past = json!({
        "token": run.token, "attempt": 1, "inputsDigest": run.inputs_digest, "name": run.name, "id": run.id,
        "outcome": run.outcome, "startTime": run.start_time, "completionTime": run.completion_time,
    });
    let mut history = Vec::new();
    while object.to_string().len() < BYTES && history.len() < 10 {
        history.push(past.clone());
        object["status"]["history"] = Value::from(history.clone());
    }
    Ok(object)
}

/// Makes so many like `template`, named `PREFIX-N`, and returns the bytes of one as JSON.
pub async fn make(stage: &Stage, template: &Value, prefix: &str, from: usize, to: usize) -> Result<usize> {
    let api: Api<BuildRequest> = stage.api();
    let template = Arc::new(template.clone());
    stream::iter(from..to)
        .map(|n| {
            let (api, template) = (api.clone(), template.clone());
            async move {
                let name = format!("{prefix}-{n}");
                let mut object = json!({
                    "apiVersion": template["apiVersion"], "kind": template["kind"], "spec": template["spec"],
                    "metadata": {"name": name, "finalizers": template["metadata"]["finalizers"]},
                });
                let mut made = api
                    .create(&PostParams::default(), &serde_json::from_value(object.take())?)
                    .await?;
                let status = serde_json::from_value(template["status"].clone())?;
                made.status = Some(status);
                api.replace_status(&name, &PostParams::default(), &made).await?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(template.to_string().len())
}

/// Waits until a number has not changed for so long, and returns it.
pub async fn until_still(
    what: &str,
    pause: Duration,
    mut number: impl AsyncFnMut() -> Result<f64>,
) -> Result<f64> {
    let mut last = (f64::NAN, tokio::time::Instant::now());
    wait_for(
        &format!("{what} to come to rest"),
        Duration::from_secs(1800),
        async || {
            let now = number().await?;
            if now != last.0 {
                last = (now, tokio::time::Instant::now());
            }
            Ok(if last.1.elapsed() >= pause {
                Seen::Done(now)
            } else {
                Seen::NotYet(format!("{now}"))
            })
        },
    )
    .await
}
