//! REPORT: writes the status, where it differs, and the Event.

use super::decide::Decision;
use crate::{
    api::TenantConnection,
    controllers::{Context, status},
    runtime::{ReconcileError, events::Severity},
};

/// Writes what `decision` says about `object`.
pub async fn report(
    ctx: &Context,
    object: &TenantConnection,
    decision: &Decision,
) -> Result<(), ReconcileError> {
    if object.status.as_ref() != Some(&decision.status) {
        status::write(&ctx.client, object, &decision.status).await?;
    }
    match &decision.event {
        Some((Severity::Warning, reason, note)) => ctx.announcer.warning(object, *reason, note).await,
        Some((Severity::Normal, reason, note)) => ctx.announcer.normal(object, *reason, note).await,
        None => {}
    }
    Ok(())
}
