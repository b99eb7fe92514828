//! Git repositories: the little that a tenant without webhooks sees (contract §4.8).

use serde_json::{Value, json};

use super::{MANAGER, list as lists, untyped};
use crate::call::Call;
use crate::reply::{Reply, tri};
use crate::store::GIT_REPOSITORIES;

fn missing(name: &str) -> Reply {
    Reply::text_error(
        404,
        &format!("GitRepository.devops.kubesphere.io \"{name}\" not found"),
    )
}

pub(super) fn list(call: &mut Call<'_>, project: &str) -> Reply {
    let query = call.query.clone();
    let objects = call
        .cluster()
        .store
        .list(&GIT_REPOSITORIES, Some(project))
        .filter(|r| lists::passes(r, &query));
    lists::answer(objects, &query, false, std::convert::identity)
}

pub(super) fn get(call: &mut Call<'_>, project: &str, repository: &str) -> Reply {
    match call.cluster().store.get(&GIT_REPOSITORIES, project, repository) {
        Some(object) => Reply::devops_json(object),
        None => missing(repository),
    }
}

pub(super) fn create(call: &mut Call<'_>, project: &str) -> Reply {
    let mut body = tri!(call.json());
    body["metadata"]["namespace"] = Value::from(project);
    body["status"] = json!({});
    match call
        .cluster()
        .store
        .create(&GIT_REPOSITORIES, body, MANAGER, false)
    {
        Ok(object) => Reply::devops_json(&untyped(object)),
        Err(error) => error.text(),
    }
}

pub(super) fn delete(call: &mut Call<'_>, project: &str, repository: &str) -> Reply {
    let now = call.now;
    match call
        .cluster()
        .store
        .delete(&GIT_REPOSITORIES, project, repository, now)
    {
        Ok((object, _)) => Reply::devops_json(&object),
        Err(_) => missing(repository),
    }
}
