//! What must hold of a build when all is settled.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt as _, api::ListParams};
use sha2::{Digest as _, Sha256};
use tenantry::api::{ArtifactFetch, BuildRequest};

use crate::{
    common::{PROJECT, condition, describe, remote},
    stage::{Behind, FILES},
};

impl Behind {
    /// Waits until the build of `name` is over and all of it is at home; then it ran once, its log is whole, its files are
    /// what Jenkins has, and nothing else is left of it.
    pub async fn assert_built_once_and_whole(&self, name: &str) -> BuildRequest {
        let object = self.until_ready(name).await;
        for kind in ["Succeeded", "LogsArchived", "ArtifactsStored"] {
            assert_eq!(
                condition(&object, kind).0,
                "True",
                "{kind}: {}",
                describe(&object)
            );
        }
        let number = self.assert_built_once(name);
        let status = object.status.clone().expect("a status");
        let run = status.run.expect("a run");
        assert_eq!(run.id, Some(number.to_string()), "{name}");
        assert_eq!((run.attempt, status.history.len()), (1, 0), "{name}");
        self.assert_log_is_whole(&object, number).await;
        self.assert_files_are_whole(&object, number).await;
        object
    }

    /// One build by the ledger, and one run; its number.
    pub fn assert_built_once(&self, name: &str) -> u64 {
        let builds = self.builds_for(name);
        let [number] = builds[..] else {
            panic!("builds of {name}: {builds:?}");
        };
        let runs = self.simulator.control().runs(PROJECT);
        let its = runs.iter().filter(|run| {
            let parameters = run["spec"]["parameters"].as_array();
            let mut parameters = parameters.into_iter().flatten();
            parameters.any(|p| p["name"] == "VERSION" && p["value"] == name)
        });
        assert_eq!(its.count(), 1, "PipelineRuns of {name}");
        number
    }

    /// The stored log is the one of Jenkins, byte by byte.
    pub async fn assert_log_is_whole(&self, object: &BuildRequest, number: u64) {
        let name = object.name_any();
        let log = object.status.as_ref().and_then(|s| s.log.clone()).expect("a log");
        assert!(log.complete && !log.truncated, "{name}: {log:?}");
        let mut stored = String::new();
        for map in &log.config_maps {
            stored.push_str(&self.config_map(map, "log").await);
        }
        let whole = remote::console_text(self, "build", number)
            .await
            .replace("\r\n", "\n");
        assert!(
            stored == whole,
            "{name}: {} bytes of {}",
            stored.len(),
            whole.len()
        );
        assert_eq!(log.sha256, Some(hex(stored.as_bytes())), "{name}");
        let maps = self.owned_maps("log", object.metadata.uid.as_deref()).await;
        assert_eq!(maps, log.config_maps.len(), "ConfigMaps with the log of {name}");
    }

    /// The stored files are those of Jenkins, byte by byte.
    pub async fn assert_files_are_whole(&self, object: &BuildRequest, number: u64) {
        let name = format!("{}-artifacts", object.name_any());
        let fetch = self.api::<ArtifactFetch>().get(&name).await.expect("a fetch");
        let told = serde_json::to_value(fetch.status.as_ref().expect("a status")).expect("JSON");
        let map: ConfigMap = self.api().get(&name).await.expect("the files");
        let (text, bytes) = (map.data.unwrap_or_default(), map.binary_data.unwrap_or_default());
        assert_eq!(text.len() + bytes.len(), FILES.len(), "{name}");
        let token = remote::token(self, "admin", "admin-Passw0rd").await;
        for (path, size) in FILES {
            let files = told["files"].as_array();
            let file = files.into_iter().flatten().find(|file| file["path"] == path);
            let key = file.and_then(|file| file["key"].as_str()).unwrap_or_default();
            let stored = match (text.get(key), bytes.get(key)) {
                (Some(text), _) => text.clone().into_bytes(),
                (None, Some(bytes)) => bytes.0.clone(),
                (None, None) => panic!("{path} is not stored: {told}"),
            };
            let what = format!("artifact/{path}");
            let there = remote::jenkins(self, &token, PROJECT, "build", number, &what).await;
            assert!(stored == there && stored.len() == size, "{path} of {name}");
        }
        let maps = self.owned_maps("files", fetch.metadata.uid.as_deref()).await;
        assert_eq!(maps, 1, "ConfigMaps with the files of {name}");
    }

    async fn owned_maps(&self, content: &str, uid: Option<&str>) -> usize {
        let uid = uid.unwrap_or_default();
        let selector = format!("tenantry.dev/content={content},tenantry.dev/owner-uid={uid}");
        let params = ListParams::default().labels(&selector);
        self.api::<ConfigMap>()
            .list(&params)
            .await
            .expect("a list")
            .items
            .len()
    }
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
