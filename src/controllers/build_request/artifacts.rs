//! The ArtifactFetch that a BuildRequest owns: made from its template, looked at for its own end.

use kube::{Api, Resource, ResourceExt, api::PostParams};

use super::decide::{collect::FetchState, title};
use crate::{
    api::{
        ArtifactFetch, ArtifactFetchSpec, SETTLED,
        artifact_fetch::Source,
        build_request::{ArtifactTemplate, BuildRequest, CurrentRun},
        common::LocalRef,
        conditions::{ConditionType, Reason, find},
    },
    controllers::{
        Context,
        artifact_fetch::decide::is_final_reason,
        cluster::{get_opt, write},
    },
    crash_points::{Write, around},
    runtime::{ReconcileError, Shard, settled, shard::Labels},
    trouble::Trouble,
};

/// The longest name of an object.
const MAX_NAME: usize = 253;

/// The name of the ArtifactFetch that `object` owns.
pub fn name(object: &BuildRequest) -> String {
    const SUFFIX: &str = "-artifacts";
    let mut head = object.name_any();
    head.truncate(MAX_NAME - SUFFIX.len());
    format!("{}{SUFFIX}", head.trim_end_matches(['-', '.']))
}

/// The ArtifactFetch that `object` asks for.
fn wanted(object: &BuildRequest, template: &ArtifactTemplate) -> ArtifactFetchSpec {
    let ArtifactTemplate { files } = template.clone();
    ArtifactFetchSpec {
        source: Source {
            build_request_ref: Some(LocalRef {
                name: object.name_any(),
            }),
            run: None,
        },
        files,
        suspend: false,
    }
}

/// The labels that the ArtifactFetch needs to be looked after by whoever looks after `object`.
fn labels(object: &BuildRequest, shard: &Shard) -> Labels {
    shard.inherited(object.metadata.labels.as_ref())
}

fn is_labelled(fetch: &ArtifactFetch, labels: &Labels) -> bool {
    let has = fetch.labels();
    labels.iter().all(|(key, value)| has.get(key) == Some(value))
}

/// Whether it is at rest since it saw another run, and waits for us to tell it of this one.
fn rests(fetch: &ArtifactFetch, run: &CurrentRun) -> bool {
    let attempted = fetch
        .status
        .as_ref()
        .and_then(|status| status.last_attempted_revision.as_ref());
    settled::of(&fetch.metadata).is_some() && attempted != Some(&title(run))
}

fn is_ours(fetch: &ArtifactFetch, object: &BuildRequest) -> bool {
    fetch
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| owner.controller == Some(true) && Some(&owner.uid) == object.metadata.uid.as_ref())
}

fn taken(name: &str) -> Trouble {
    Trouble::user(
        Reason::DestinationConflict,
        format!("ArtifactFetch {name:?} exists and is not owned by this BuildRequest: rename or delete it"),
    )
}

/// How the owned ArtifactFetch stands, for `run`, and its name where there is one.
pub async fn look(
    ctx: &Context,
    object: &BuildRequest,
    run: &CurrentRun,
) -> Result<(FetchState, Option<LocalRef>), Trouble> {
    let Some(template) = &object.spec.artifacts else {
        return Ok((FetchState::Outdated, None));
    };
    let name = name(object);
    let api: Api<ArtifactFetch> =
        Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let Some(fetch) = get_opt(&api, &name, &format!("ArtifactFetch {name:?}")).await? else {
        return Ok((FetchState::Outdated, None));
    };
    if !is_ours(&fetch, object) {
        return Ok((FetchState::Failed(taken(&name).message), None));
    }
    let is_current =
        fetch.spec == wanted(object, template) && is_labelled(&fetch, &labels(object, &ctx.shard));
    let state = if is_current && !rests(&fetch, run) {
        state(&fetch, run)
    } else {
        FetchState::Outdated
    };
    Ok((state, Some(LocalRef { name })))
}

/// How `fetch` stands, seen against `run`. What it says of another run or another generation is not said of this one.
fn state(fetch: &ArtifactFetch, run: &CurrentRun) -> FetchState {
    let Some(status) = &fetch.status else {
        return FetchState::Working("not looked at yet".into());
    };
    let ready = find(&status.conditions, ConditionType::Ready);
    let message = ready.map(|c| c.message.clone()).unwrap_or_default();
    let attempted = status.last_attempted_revision.as_ref() == Some(&title(run));
    if status.observed_generation != fetch.metadata.generation || !attempted {
        return FetchState::Working(message);
    }
    if ready.is_some_and(|c| c.status == "True") {
        return FetchState::Stored(message);
    }
    match find(&status.conditions, ConditionType::Stalled) {
        Some(stalled) if stalled.status == "True" => {
            let (name, reason) = (fetch.name_any(), stalled.reason.as_str());
            let message = format!("ArtifactFetch {name:?}: {reason}: {}", stalled.message);
            if is_final_reason(reason) {
                FetchState::Failed(message)
            } else {
                FetchState::Held(message)
            }
        }
        _ => FetchState::Working(message),
    }
}

/// Creates or updates the owned ArtifactFetch. Returns its name.
pub async fn ensure(ctx: &Context, object: &BuildRequest) -> Result<Option<LocalRef>, Trouble> {
    let Some(template) = &object.spec.artifacts else {
        return Ok(None);
    };
    let name = name(object);
    let api: Api<ArtifactFetch> =
        Api::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
    let what = format!("ArtifactFetch {name:?}");
    let failed = |error: ReconcileError| match error {
        ReconcileError::Api {
            source: kube::Error::Api(status),
            ..
        } if status.code == 422 => Trouble::user(
            Reason::InvalidSpec,
            format!(
                "spec.artifacts: the API server refuses the ArtifactFetch made from it: {}",
                status.message
            ),
        ),
        other if other.news().is_some() => {
            Trouble::user(Reason::StorageUnavailable, other.news().unwrap_or_default())
        }
        other => Trouble::passing(Reason::StorageUnavailable, format!("could not {other}")),
    };
    let spec = wanted(object, template);
    let labels = labels(object, &ctx.shard);
    let run = object.status.as_ref().and_then(|status| status.run.as_ref());
    let rested = |fetch: &ArtifactFetch| run.is_some_and(|run| rests(fetch, run));
    match get_opt(&api, &name, &what).await? {
        None => {
            let mut fetch = ArtifactFetch::new(&name, spec);
            fetch.metadata.labels = (!labels.is_empty()).then_some(labels);
            fetch.metadata.owner_references = object.controller_owner_ref(&()).map(|owner| vec![owner]);
            let params = PostParams::default();
            write(
                format!("create {what}"),
                around(Write::Artifacts, api.create(&params, &fetch)),
            )
            .await
            .map_err(failed)?;
        }
        Some(fetch) if !is_ours(&fetch, object) => return Err(taken(&name)),
        Some(fetch) if fetch.spec == spec && is_labelled(&fetch, &labels) && !rested(&fetch) => {}
        Some(mut fetch) => {
            fetch.spec = spec;
            fetch.labels_mut().extend(labels);
            fetch.labels_mut().remove(SETTLED);
            let params = PostParams::default();
            write(
                format!("update {what}"),
                around(Write::Artifacts, api.replace(&name, &params, &fetch)),
            )
            .await
            .map_err(failed)?;
        }
    }
    Ok(Some(LocalRef { name }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{
            build_request::RunState,
            conditions::{Fact, replace},
        },
        controllers::build_request::decide::testing::{ago, object, run_in},
    };

    #[test]
    fn what_a_fetch_says_of_another_run_or_generation_is_not_said_of_this_one() {
        let run = run_in(&object(), RunState::Ended);
        let fetch = |revision: Option<&str>, seen: i64, facts: &[Fact]| {
            let mut fetch = ArtifactFetch::new(
                "b-artifacts",
                serde_json::from_value(serde_json::json!({
                    "source": {"buildRequestRef": {"name": "b"}}
                }))
                .unwrap(),
            );
            fetch.metadata.generation = Some(2);
            let mut status = crate::api::ArtifactFetchStatus {
                last_attempted_revision: revision.map(Into::into),
                observed_generation: Some(seen),
                ..Default::default()
            };
            replace(&mut status.conditions, facts, Some(seen), &ago(0));
            fetch.status = Some(status);
            fetch
        };
        let good = [Fact::yes(
            ConditionType::Ready,
            Reason::ArtifactsStored,
            "3 files",
        )];
        let bad = [
            Fact::no(ConditionType::Ready, Reason::NoMatch, "nothing"),
            Fact::yes(ConditionType::Stalled, Reason::NoMatch, "nothing"),
        ];
        let this = "shopx7k2p/build/main#7";
        assert_eq!(title(&run), this);
        assert_eq!(
            state(&fetch(Some(this), 2, &good), &run),
            FetchState::Stored("3 files".into())
        );
        assert!(
            matches!(state(&fetch(Some(this), 2, &bad), &run), FetchState::Failed(m) if m.contains("NoMatch"))
        );
        let full = [
            Fact::no(ConditionType::Ready, Reason::VolumeFull, "make room"),
            Fact::yes(ConditionType::Stalled, Reason::VolumeFull, "make room"),
        ];
        assert!(
            matches!(state(&fetch(Some(this), 2, &full), &run), FetchState::Held(m) if m.contains("make room"))
        );
        for other in [
            fetch(Some("shopx7k2p/build/main#6"), 2, &good),
            fetch(Some(this), 1, &bad),
            fetch(None, 2, &[]),
        ] {
            assert!(matches!(state(&other, &run), FetchState::Working(_)));
        }
    }
}
