//! What must hold when all is settled: the right number of builds, the right outcome, the whole log, all files.

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tenantry::api::{ArtifactFetch, BuildRequest};

use crate::{
    common::{PROJECT, condition, remote},
    ground::Ground,
    plan::{Cell, Scenario},
};

/// Looks at everything that the object has left, here and on the remote.
pub async fn judge(ground: &Ground, cell: &Cell, name: &str) -> Result<()> {
    let builds = ground.builds(name);
    let wanted = cell.scenario.builds();
    ensure!(
        builds.len() == wanted,
        "{} builds, not {wanted}: {builds:?}",
        builds.len()
    );
    let Some(last) = builds.last().copied() else {
        bail!("no build");
    };
    let stage = &ground.stage;
    let control = stage.simulator.control();
    let summary = control
        .builds(PROJECT, "build")
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let build = summary.iter().find(|build| build.number == last);
    let how = match cell.scenario {
        Scenario::Cancel | Scenario::Delete => "ABORTED",
        _ => "SUCCESS",
    };
    match build {
        Some(build) => ensure!(
            build.state == "FINISHED" && build.result == how,
            "build {last} is {}/{}, not {how}",
            build.state,
            build.result
        ),
        // The remote's controller removes a build with its run.
        None => ensure!(
            cell.scenario == Scenario::Delete,
            "Jenkins has no build {last} any more"
        ),
    }
    let is_its = |run: &&Value| {
        let parameters = run["spec"]["parameters"].as_array();
        parameters
            .into_iter()
            .flatten()
            .any(|p| p["name"] == "VERSION" && p["value"] == name)
    };
    let runs = control.runs(PROJECT);
    let left = runs.iter().filter(is_its).count();
    let stays = if cell.scenario == Scenario::Delete {
        0
    } else {
        wanted
    };
    ensure!(left == stays, "{left} PipelineRuns are left, not {stays}");

    let object = stage.api::<BuildRequest>().get_opt(name).await?;
    let Some(object) = object else {
        ensure!(
            matches!(cell.scenario, Scenario::Delete | Scenario::Expire),
            "the object is gone"
        );
        return Ok(());
    };
    let succeeded = condition(&object, "Succeeded").0;
    let told = if how == "SUCCESS" { "True" } else { "False" };
    ensure!(succeeded == told, "Succeeded is {succeeded}, not {told}");
    let status = object.status.clone().unwrap_or_default();
    let number = status
        .run
        .as_ref()
        .and_then(|run| run.id.clone())
        .unwrap_or_default();
    ensure!(
        number == last.to_string(),
        "status.run.id is {number:?}, not {last}"
    );
    log(ground, &object, last).await?;
    if cell.scenario != Scenario::Cancel {
        files(ground, name, last).await?;
    }
    Ok(())
}

async fn log(ground: &Ground, object: &BuildRequest, build: u64) -> Result<()> {
    let Some(log) = object.status.as_ref().and_then(|status| status.log.clone()) else {
        bail!("no log in the status");
    };
    ensure!(log.complete && !log.truncated, "the log is not whole: {log:?}");
    let mut stored = String::new();
    for map in &log.config_maps {
        stored.push_str(&ground.stage.config_map(map, "log").await);
    }
    let whole = remote::console_text(&ground.stage, "build", build)
        .await
        .replace("\r\n", "\n");
    ensure!(
        stored == whole,
        "the log has {} bytes, Jenkins has {}",
        stored.len(),
        whole.len()
    );
    ensure!(
        log.sha256 == Some(hex(stored.as_bytes())),
        "another digest: {:?}",
        log.sha256
    );
    let maps = owned_maps(ground, "log", object.metadata.uid.as_deref()).await?;
    ensure!(
        maps == log.config_maps.len(),
        "{maps} ConfigMaps for {:?}",
        log.config_maps
    );
    Ok(())
}

async fn files(ground: &Ground, name: &str, build: u64) -> Result<()> {
    let fetch = ground
        .stage
        .api::<ArtifactFetch>()
        .get(&format!("{name}-artifacts"))
        .await?;
    let status = fetch.status.clone().unwrap_or_default();
    let told = serde_json::to_value(&status)?;
    let map = fetch
        .spec
        .files
        .destination
        .config_map
        .as_ref()
        .and_then(|map| map.name.clone());
    let map: ConfigMap = ground.stage.api().get(&map.unwrap_or_default()).await?;
    let token = remote::token(&ground.stage, "admin", "admin-Passw0rd").await;
    let mut count = 0;
    for (path, size) in [("dist/a.txt", 500), ("dist/b.bin", 2000)] {
        let Some(file) = told["files"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|f| f["path"] == path)
        else {
            bail!("{path} is not told of: {told}");
        };
        let key = file["key"].as_str().unwrap_or_default();
        let text = map
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|text| text.clone().into_bytes());
        let bytes = map
            .binary_data
            .as_ref()
            .and_then(|data| data.get(key))
            .map(|bytes| bytes.0.clone());
        let Some(bytes) = text.or(bytes) else {
            bail!("{path} is not stored");
        };
        let what = format!("artifact/{path}");
        let there = remote::jenkins(&ground.stage, &token, PROJECT, "build", build, &what).await;
        ensure!(
            bytes == there && bytes.len() == size,
            "{path} is not what Jenkins has"
        );
        count += 1;
    }
    let keys = map.data.map_or(0, |data| data.len()) + map.binary_data.map_or(0, |data| data.len());
    ensure!(keys == count, "{keys} files are stored");
    let maps = owned_maps(ground, "files", fetch.metadata.uid.as_deref()).await?;
    ensure!(maps == 1, "{maps} ConfigMaps with files");
    Ok(())
}

/// How many ConfigMaps with this content belong to the object.
async fn owned_maps(ground: &Ground, content: &str, uid: Option<&str>) -> Result<usize> {
    let selector = format!(
        "tenantry.dev/content={content},tenantry.dev/owner-uid={}",
        uid.unwrap_or_default()
    );
    let params = kube::api::ListParams::default().labels(&selector);
    Ok(ground.stage.api::<ConfigMap>().list(&params).await?.items.len())
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
