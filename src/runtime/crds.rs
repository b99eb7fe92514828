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
    let text = serde_yaml_ng::to_string(crd)?;
    let lines: String = text.lines().map(|line| quoted(line) + "\n").collect();
    Ok(format!("---\n{lines}"))
}

/// What YAML 1.1, and with it Kubernetes, takes for a boolean where it is not quoted; YAML 1.2, and with it our writer,
/// does not.
const BOOLEANS_OF_YAML_1_1: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];

/// `line` with its key or its list element quoted, where that is needed.
fn quoted(line: &str) -> String {
    let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
    let (dash, rest) = match rest.strip_prefix("- ") {
        Some(element) => ("- ", element),
        None => ("", rest),
    };
    let (word, colon) = match rest.strip_suffix(':') {
        Some(key) => (key, ":"),
        None => (rest, ""),
    };
    let needed = (!dash.is_empty() || !colon.is_empty())
        && BOOLEANS_OF_YAML_1_1
            .iter()
            .any(|boolean| boolean.eq_ignore_ascii_case(word));
    if needed {
        format!("{indent}{dash}'{word}'{colon}")
    } else {
        line.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_would_take_for_a_boolean_is_quoted() {
        for (line, expected) in [
            ("  - Yes", "  - 'Yes'"),
            ("  on:", "  'on':"),
            ("    - no:", "    - 'no':"),
            ("  - Unknown", "  - Unknown"),
            ("  type: object", "  type: object"),
            ("  yes and no", "  yes and no"),
        ] {
            assert_eq!(quoted(line), expected);
        }
    }

    #[test]
    fn the_yaml_says_what_the_types_say() {
        for (crd, (name, yaml)) in api::crds().iter().zip(files().unwrap()) {
            let read: serde_json::Value = serde_yaml_ng::from_str(&yaml).unwrap();
            assert_eq!(read, serde_json::to_value(crd).unwrap(), "{name}");
        }
    }
}
