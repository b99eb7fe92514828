//! Stored objects that do not parse: people are told, and such an object can still be deleted.

use kube::{
    Api,
    api::{Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde_json::json;
use tokio::time::timeout;

use super::{
    ReconcileError, Reconciler, let_go_refused,
    run::{READ_LIMIT, Worker},
};
use crate::{
    api::{FINALIZER, conditions::Reason},
    runtime::kind::{ObjectKey, Watched},
};

impl<R: Reconciler> Worker<R> {
    /// Tells people about an object that does not parse. One that is being deleted is let go, since nobody else would.
    pub(super) async fn report_invalid(
        &self,
        meta: &PartialObjectMeta<R::Kind>,
        why: &str,
    ) -> Result<(), ReconcileError> {
        let key = ObjectKey::of(meta);
        tracing::warn!(kind = %R::Kind::KIND, object = %key, "stored object cannot be read: {why}");
        let deleting = meta.metadata.deletion_timestamp.is_some();
        let advice = if deleting {
            "it is deleted without a clean-up"
        } else {
            "correct it or delete it"
        };
        self.env
            .announcer
            .warning(
                meta,
                Reason::InvalidSpec,
                format!("this stored object cannot be read ({why}): {advice}"),
            )
            .await;
        let finalizers = meta.metadata.finalizers.clone().unwrap_or_default();
        if !deleting || !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(());
        }
        let left: Vec<_> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
        let patch = Patch::Merge(json!({"metadata": {
            "finalizers": left,
            "resourceVersion": meta.metadata.resource_version,
        }}));
        let api: Api<PartialObjectMeta<R::Kind>> = Api::namespaced(self.env.client.clone(), &key.namespace);
        let what = format!("let go {} {key}", R::Kind::KIND);
        let params = PatchParams::default();
        let error = match timeout(READ_LIMIT, api.patch_metadata(&key.name, &params, &patch)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => return Ok(()),
            Ok(Err(error)) => ReconcileError::api(what)(error),
            Err(_) => ReconcileError::Other(format!("{what}: the API server did not answer in time")),
        };
        if let Some(words) = error.refusal() {
            self.env
                .announcer
                .warning(meta, Reason::InvalidSpec, let_go_refused(words))
                .await;
        }
        Err(error)
    }
}
