//! The generated files that are checked in are those that the code makes. Where they are not, one command renews them:
//! `TENANTRY_RENEW=1 cargo test --test crds`.

use std::{env, fs, path::PathBuf};

use tenantry::runtime::{crds, reference};

/// Where the chart has its copies of the CRDs.
const CHART_CRDS: &str = "charts/tenantry/files/crds";

/// Each generated file, by its path in the repository, with what should be in it.
fn generated() -> Vec<(String, String)> {
    let mut files: Vec<_> = crds::files()
        .expect("the CRDs are YAML")
        .into_iter()
        // Helm reads nothing outside of its chart.
        .flat_map(|(name, yaml)| {
            ["crds", CHART_CRDS].map(|folder| (format!("{folder}/{name}"), yaml.clone()))
        })
        .collect();
    files.push((
        "config/crd/crds.yaml".into(),
        crds::stream().expect("the CRDs are YAML"),
    ));
    files.push(("docs/api.md".into(), reference::markdown()));
    files
}

#[test]
fn generated_files_are_up_to_date() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let renew = env::var_os("TENANTRY_RENEW").is_some_and(|v| v == "1");
    let mut stale = Vec::new();
    for (path, content) in generated() {
        let file = root.join(&path);
        if renew {
            fs::create_dir_all(file.parent().expect("a folder")).expect("a folder for it");
            fs::write(&file, content).unwrap_or_else(|e| panic!("{path}: {e}"));
        } else if fs::read_to_string(&file).ok().as_deref() != Some(content.as_str()) {
            stale.push(path);
        }
    }
    assert!(
        stale.is_empty(),
        "stale: {}; renew them: TENANTRY_RENEW=1 cargo test --test crds",
        stale.join(", ")
    );
}

#[test]
fn no_crd_file_is_left_over() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let expected: Vec<_> = generated().into_iter().map(|(path, _)| path).collect();
    for folder in ["crds", CHART_CRDS] {
        for entry in fs::read_dir(root.join(folder)).expect("the folder is there") {
            let path = format!("{folder}/{}", entry.expect("an entry").file_name().display());
            assert!(
                expected.contains(&path),
                "{path} is of no kind that there is: remove it"
            );
        }
    }
}
