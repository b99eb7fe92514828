//! `tenantry crds`: the CRDs as YAML, and the words for a CRD that is missing.

use std::{fs, path::Path};

use anyhow::Context as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::api::{self, GROUP};

/// What to say where a CRD is not installed.
pub fn not_installed(plural: &str) -> String {
    format!("CRD {plural}.{GROUP} is not installed: kubectl apply --server-side -f crds/")
}

/// Each CRD with the name of its file.
pub fn files() -> anyhow::Result<Vec<(String, String)>> {
    api::crds()
        .iter()
        .map(|crd| Ok((format!("{}.yaml", crd.spec.names.plural), yaml(crd)?)))
        .collect()
}

/// All CRDs as one YAML stream.
pub fn stream() -> anyhow::Result<String> {
    Ok(files()?.into_iter().map(|(_, yaml)| yaml).collect())
}

/// Writes each CRD to a file of its own in `folder`.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, yaml) in files()? {
        let path = folder.join(name);
        fs::write(&path, yaml).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    Ok(format!("---\n{}", serde_yaml_ng::to_string(crd)?))
}
