//! REPORT: writes the status, where it differs, and the Event.

use super::decide::Decision;
use crate::{
    api::TenantConnection,
    controllers::{Context, status},
    crash_points::Write,
    runtime::{ReconcileError, events::Severity},
};

/// Writes what `decision` says about `object`.
pub async fn report(
    ctx: &Context,
    object: &TenantConnection,
    decision: &Decision,
) -> Result<(), ReconcileError> {
    if object.status.as_ref() != Some(&decision.status) {
        let status = Some(decision.status.clone());
        match status::replace(&ctx.client, object, Write::ConnectionStatus, |next| {
            next.status.clone_from(&status);
        })
        .await
        {
            // Deleted meanwhile: nobody is left to be told.
            Err(error) if error.is_gone() => return Ok(()),
            written => written?,
        };
    }
    match &decision.event {
        Some((Severity::Warning, reason, note)) => ctx.announcer.warning(object, *reason, note).await,
        Some((Severity::Normal, reason, note)) => ctx.announcer.normal(object, *reason, note).await,
        None => {}
    }
    Ok(())
}
