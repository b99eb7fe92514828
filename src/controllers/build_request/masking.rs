//! Which values must show nowhere: those that parameters of a run took from Secrets.
//!
//! Their names are in the status of the run (`secretParameters`), the values never: they are what was *sent*, which the
//! run object on the remote still says when the Secret has been rotated. Where that object is gone, the Secrets are asked.
//! What cannot be known is not guessed: then no log is stored.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use kube::Client;

use super::{decide::follow::Followed, local};
use crate::{
    api::{
        build_request::{BuildRequest, BuildRequestSpec, CurrentRun},
        conditions::Reason,
    },
    gateway::{ErrorKind, Parameter, ProjectScope, Run, Stage, StageInput},
    runtime::ObjectKey,
    sinks::log::{Masks, is_too_short},
    trouble::Trouble,
};

/// The names of the parameters that take their value from a Secret.
pub fn secret_names(spec: &BuildRequestSpec) -> Vec<String> {
    let from_secret = |p: &&crate::api::build_request::Parameter| {
        p.value_from
            .as_ref()
            .is_some_and(|from| from.secret_key_ref.is_some())
    };
    spec.parameters
        .iter()
        .filter(from_secret)
        .map(|p| p.name.clone())
        .collect()
}

/// Those of `names` whose values are too short to be masked.
pub fn unmaskable(names: &[String], values: &[Parameter]) -> Vec<String> {
    values
        .iter()
        .filter(|p| names.contains(&p.name) && is_too_short(&p.value))
        .map(|p| p.name.clone())
        .collect()
}

/// What is to be masked, for each BuildRequest the latest run. In memory only.
#[derive(Default)]
pub struct SecretValues(Mutex<HashMap<ObjectKey, (String, Masks)>>);

impl SecretValues {
    /// Forgets what was known for `key`.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }

    /// What must not show of `run`, asked for where it is not known yet.
    pub async fn of(
        &self,
        client: &Client,
        project: &ProjectScope,
        object: &BuildRequest,
        run: &CurrentRun,
    ) -> Result<Masks, Trouble> {
        let key = ObjectKey::of(object);
        if let Some(masks) = self.known(&key, run) {
            return Ok(masks);
        }
        let mut values = match &run.name {
            Some(name) => match project.run(name).await {
                Ok(seen) => sent(run, &seen),
                Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
                Err(error) => return Err(error.into()),
            },
            None => BTreeMap::new(),
        };
        let missing = missing(run, &values);
        if !missing.is_empty() {
            values.extend(local::secret_values(client, object, &missing).await?);
        }
        self.keep(key, run, &values)
    }

    /// The same, where the run object was just seen.
    pub fn of_seen(&self, object: &BuildRequest, run: &CurrentRun, seen: &Run) -> Result<Masks, Trouble> {
        let key = ObjectKey::of(object);
        match self.known(&key, run) {
            Some(masks) => Ok(masks),
            None => self.keep(key, run, &sent(run, seen)),
        }
    }

    fn known(&self, key: &ObjectKey, run: &CurrentRun) -> Option<Masks> {
        if run.secret_parameters.is_empty() {
            return Some(Masks::default());
        }
        let all = self.lock();
        let (token, masks) = all.get(key)?;
        (*token == run.token).then(|| masks.clone())
    }

    fn keep(
        &self,
        key: ObjectKey,
        run: &CurrentRun,
        values: &BTreeMap<String, String>,
    ) -> Result<Masks, Trouble> {
        if let Some(name) = missing(run, values).first() {
            return Err(Trouble::passing(
                Reason::LogUnavailable,
                format!(
                    "the log is not stored, because the value of parameter {name:?} must not be in it and is not known any \
                     more: the run object on the remote and the Secret are gone. Make the Secret again"
                ),
            ));
        }
        let masks = Masks::of(values.values().map(String::as_str))?;
        self.lock().insert(key, (run.token.clone(), masks.clone()));
        Ok(masks)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, (String, Masks)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secret values that a run object says were sent.
pub fn sent(run: &CurrentRun, seen: &Run) -> BTreeMap<String, String> {
    let names: BTreeSet<&str> = run.secret_parameters.iter().map(String::as_str).collect();
    seen.parameters
        .iter()
        .filter(|p| names.contains(p.name.as_str()))
        .map(|p| (p.name.clone(), p.value.clone()))
        .collect()
}

fn missing(run: &CurrentRun, values: &BTreeMap<String, String>) -> Vec<String> {
    run.secret_parameters
        .iter()
        .filter(|name| !values.contains_key(*name))
        .cloned()
        .collect()
}

/// Masks what the remote said of a run and a status may show.
pub fn conceal(masks: &Masks, followed: &mut Followed) {
    if masks.is_empty() {
        return;
    }
    if let Some(said) = &mut followed.trigger_failure {
        *said = masks.apply(said);
    }
    conceal_stages(masks, followed.stages.as_deref_mut().unwrap_or_default());
}

/// Masks what stages and their steps say: the description of a step may hold the command that it runs.
pub fn conceal_stages(masks: &Masks, stages: &mut [Stage]) {
    if masks.is_empty() {
        return;
    }
    let conceal = |text: &mut String| *text = masks.apply(text);
    for stage in stages {
        conceal(&mut stage.name);
        for step in &mut stage.steps {
            conceal(&mut step.name);
            step.description.iter_mut().for_each(conceal);
            if let Some(StageInput {
                id: _,
                message,
                ok,
                submitter: _,
                parameters,
            }) = &mut step.input
            {
                conceal(message);
                ok.iter_mut().for_each(conceal);
                for parameter in parameters {
                    parameter.default.iter_mut().for_each(conceal);
                    parameter.choices.iter_mut().for_each(conceal);
                    parameter.description.iter_mut().for_each(conceal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::build_request::RunState,
        controllers::build_request::decide::testing::{object_in, run_in},
        gateway::wire::run::run_from_value,
    };

    fn secret_run() -> (BuildRequest, CurrentRun) {
        let object = object_in(RunState::Started);
        let mut run = run_in(&object, RunState::Started);
        run.secret_parameters = vec!["TOKEN".into()];
        (object, run)
    }

    fn seen(parameters: serde_json::Value) -> Run {
        run_from_value(json!({"metadata": {"name": "r"}, "spec": {"parameters": parameters}})).unwrap()
    }

    #[test]
    fn only_parameters_from_secrets_are_secret() {
        let spec: BuildRequestSpec = serde_json::from_value(json!({
            "connectionRef": {"name": "c"}, "project": "p", "pipeline": "p",
            "parameters": [
                {"name": "PLAIN", "value": "x"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "PIN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pin"}}},
                {"name": "SETTING", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}},
            ],
        }))
        .unwrap();
        let names = secret_names(&spec);
        assert_eq!(names, ["TOKEN", "PIN"]);
        let value = |name: &str, value: &str| Parameter {
            name: name.into(),
            value: value.into(),
        };
        let values = [value("PLAIN", "1"), value("TOKEN", "hunter2"), value("PIN", "42")];
        assert_eq!(unmaskable(&names, &values), ["PIN"]);
    }

    #[test]
    fn what_was_sent_is_remembered_for_this_run_only() {
        let secrets = SecretValues::default();
        let (object, mut run) = secret_run();
        let sent = json!([{"name": "TOKEN", "value": "hunter2"}, {"name": "VERSION", "value": "1.2.3"}]);
        let masks = secrets.of_seen(&object, &run, &seen(sent)).unwrap();
        assert_eq!(masks.apply("hunter2 1.2.3"), "**** 1.2.3");
        // Whatever a later look says: it is the same run.
        let masks = secrets.of_seen(&object, &run, &seen(json!([]))).unwrap();
        assert_eq!(masks.apply("hunter2"), "****");
        run.token = "another".into();
        let trouble = secrets.of_seen(&object, &run, &seen(json!([]))).unwrap_err();
        assert_eq!(trouble.reason, Reason::LogUnavailable);
        assert!(trouble.message.contains("\"TOKEN\""), "{trouble}");
    }

    #[test]
    fn stages_inputs_and_trigger_failures_show_no_secret() {
        let node = json!([{
            "id": "6", "displayName": "deploy with hunter2", "steps": [{
                "id": "7", "displayName": "echo hunter2", "displayDescription": "curl -u robo:hunter2 x", "state": "PAUSED",
                "input": {"id": "Ok", "message": "is hunter2 fine?", "parameters": [
                    {"name": "P", "defaultParameterValue": {"value": "hunter2"}, "choices": ["hunter2", "b"], "description": "not hunter2"},
                ]},
            }],
        }]);
        let mut followed = Followed {
            stages: crate::gateway::wire::stage::stages_from_annotation(&node.to_string()),
            trigger_failure: Some("invalid value hunter2".into()),
            ..Followed::default()
        };
        assert!(format!("{followed:?}").contains("hunter2"));
        conceal(&Masks::of(["hunter2"]).unwrap(), &mut followed);
        let shown = format!("{followed:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.matches("****").count(), 8, "{shown}");
    }
}
