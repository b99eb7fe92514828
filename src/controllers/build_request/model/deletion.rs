//! Stops, removals, finalizer and clean-up in the made-up world: what is decided is the operator's own code.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{
    super::{cleanup, cycle::Edges as _, decide::find::Found},
    breaks::Break,
    edges::{Failed, Hands, passing},
};
use crate::{
    api::{
        FINALIZER,
        build_request::{BuildRequest, CurrentRun},
        conditions::Reason,
    },
    controllers::Tunables,
    runtime::ObjectKey,
    trouble::Trouble,
};

/// Hands that clean up after an object.
struct Cleaner<'a> {
    hands: &'a Hands<'a>,
    object: &'a Arc<BuildRequest>,
}

impl cleanup::Hands for Cleaner<'_> {
    fn object(&self) -> &BuildRequest {
        self.object
    }

    fn now(&self) -> Timestamp {
        self.hands.now()
    }

    fn tunables(&self) -> &Tunables {
        self.hands.tunables()
    }

    async fn find(&self, run: &CurrentRun) -> Result<Found, Trouble> {
        self.hands.find(self.object, run).await
    }

    async fn stop(&self, run: &CurrentRun) -> Result<(), Trouble> {
        if self.hands.world.breaks(Break::DeletionDoesNotWaitForTheStop) {
            let _ = self.hands.stop(run).await;
            return Ok(());
        }
        self.hands.stop(run).await.map(|_| ()).map_err(Trouble::from)
    }

    async fn remove(&self, run: &CurrentRun) -> Result<(), Trouble> {
        self.hands.delete_run(run).await
    }
}

impl Hands<'_> {
    /// Deletes the run object; that it is gone already is fine.
    pub async fn delete_run(&self, run: &CurrentRun) -> Result<(), Trouble> {
        let Some(name) = run.name.clone() else {
            return Ok(());
        };
        let by_name = self.world.breaks(Break::RemovedByNameAlone);
        let uid = run.uid.as_deref().filter(|_| !by_name);
        let may = self.world.lock().setup.may_create;
        self.change(|remote| {
            if !may {
                return Err(Trouble::user(Reason::AccessDenied, "may not delete"));
            }
            remote.delete(&name, uid);
            Ok(())
        })
        .await
        .map_err(Trouble::from)
    }

    /// Stops a build. False: there is none.
    pub async fn stop(&self, run: &CurrentRun) -> Result<bool, Failed> {
        let id = run.id.clone().unwrap_or_default();
        self.change(|remote| {
            if remote.jenkins_down {
                return Err(passing("Jenkins is down"));
            }
            Ok(remote.stop(&run.pipeline, &id))
        })
        .await
    }

    /// As the reconciler does it.
    pub async fn finalizer(&self, object: Arc<BuildRequest>) -> Option<Arc<BuildRequest>> {
        let has = object.finalizers().iter().any(|f| f == FINALIZER);
        if has == cleanup::needs_finalizer(&object) {
            return Some(object);
        }
        self.set_finalizer(&object, !has).await.map(Arc::new)
    }

    async fn set_finalizer(&self, object: &BuildRequest, wanted: bool) -> Option<BuildRequest> {
        self.world.point(false).await;
        let mut next = object.clone();
        next.metadata.finalizers = wanted.then(|| vec![FINALIZER.to_owned()]);
        let written = self.world.lock().replace(next);
        self.world.point(true).await;
        written
    }

    /// As the reconciler does it.
    pub async fn clean_up(&self, object: &Arc<BuildRequest>) -> Result<Option<Duration>, ()> {
        if object.finalizers().is_empty() {
            return Ok(None);
        }
        let (key, now) = (ObjectKey::of(object.as_ref()), self.now());
        self.world
            .lock()
            .cleaning
            .entry(object.uid().unwrap_or_default())
            .or_insert(now);
        let mut begun = self.world.memory().begun.cleaning_up(&key, object.uid(), now);
        if self.world.breaks(Break::DeletionsExpireWhileNobodyIsThere) {
            begun = Timestamp::MIN;
        }
        let cleanup = cleanup::decide(object, begun, now, self.tunables());
        let cleaner = Cleaner { hands: self, object };
        let run = object.status.as_ref().and_then(|s| s.run.as_ref());
        if let Some(run) = run.filter(|_| !self.world.breaks(Break::FinalizerGoesFirst)) {
            match cleanup::carry_out(&cleaner, cleanup, begun, run).await {
                Ok(true) => {}
                Ok(false) => return Ok(Some(Duration::from_secs(1))),
                Err(_) => return Ok(Some(Duration::from_secs(10))),
            }
        }
        self.set_finalizer(object, false).await.ok_or(())?;
        self.world.gone(&key);
        Ok(None)
    }
}
