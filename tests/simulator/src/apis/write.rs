//! Create, update, patch, delete.

use serde_json::{Value, json};

use super::{Ask, validate};
use crate::call::Call;
use crate::reply::Reply;
use crate::store::{Kind, Part, SECRETS, StoreError, Writer, managed, name, namespace, patch};

/// Field manager of requests that name none.
const UNKNOWN: &str = "unknown";

struct Options {
    dry_run: bool,
    strict: bool,
    warn: bool,
    manager: String,
}

fn options(call: &Call<'_>) -> Options {
    let validation = call.query.get("fieldValidation").unwrap_or("Warn");
    let strict = validation == "Strict" || call.state.context.quirks.strict_fields;
    Options {
        dry_run: call.query.get("dryRun") == Some("All"),
        strict,
        warn: validation == "Warn" && !strict,
        manager: call.query.get("fieldManager").unwrap_or(UNKNOWN).to_owned(),
    }
}

fn decode(call: &Call<'_>, kind: &Kind) -> Result<Value, StoreError> {
    let yaml = call.header("content-type").contains("yaml");
    let text = String::from_utf8_lossy(call.body);
    let parsed: Option<Value> = if yaml {
        serde_yaml_ng::from_str(&text).ok()
    } else {
        serde_json::from_str(&text).ok()
    };
    let body = parsed.filter(Value::is_object).ok_or_else(|| {
        StoreError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse \
             error: {}",
            kind.kind,
            crate::call::go_json_error(&text)
        ))
    })?;
    Ok(body)
}

/// Checks type, name and namespace of what was sent against the path, and fills in what may be left out.
fn fit(ask: &Ask<'_>, object: &mut Value, wanted: Option<&str>) -> Result<(), StoreError> {
    for (field, expected) in [
        ("apiVersion", ask.kind.api_version()),
        ("kind", ask.kind.kind.to_owned()),
    ] {
        let sent = object[field].as_str().unwrap_or_default();
        if !sent.is_empty() && sent != expected {
            return Err(StoreError::bad_request(format!(
                "{field} in the data ({sent}) does not match the expected {field} ({expected})"
            )));
        }
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    let sent = namespace(object).to_owned();
    let expected = ask.namespace.unwrap_or_default();
    if !sent.is_empty() && sent != expected {
        return Err(StoreError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request".into(),
        ));
    }
    if ask.kind.namespaced {
        object["metadata"]["namespace"] = Value::from(expected);
    }
    if let Some(wanted) = wanted {
        let sent = name(object).to_owned();
        if !sent.is_empty() && sent != wanted {
            return Err(StoreError::bad_request(format!(
                "the name of the object ({sent}) does not match the name on the URL ({wanted})"
            )));
        }
        object["metadata"]["name"] = Value::from(wanted);
    }
    if *ask.kind == SECRETS
        && let Some(plain) = object.as_object_mut().and_then(|o| o.remove("stringData"))
    {
        use base64::Engine as _;
        for (key, value) in plain.as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or_default();
            object["data"][key] = Value::from(base64::engine::general_purpose::STANDARD.encode(text));
        }
    }
    Ok(())
}

/// Applies the rules for unknown fields; returns the Warning headers.
fn prune(kind: &'static Kind, object: &mut Value, options: &Options) -> Result<Vec<String>, StoreError> {
    let unknown = validate::prune(kind, object);
    if unknown.is_empty() {
        return Ok(Vec::new());
    }
    let list: Vec<String> = unknown.iter().map(|f| format!("unknown field \"{f}\"")).collect();
    if options.strict {
        return Err(StoreError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            kind.kind,
            kind.version,
            kind.kind,
            list.join(", ")
        )));
    }
    Ok(if options.warn { list } else { Vec::new() })
}

fn with_warnings(mut reply: Reply, warnings: &[String]) -> Reply {
    for warning in warnings {
        let text = format!("299 - \"{}\"", warning.replace('"', "\\\""));
        if let Ok(value) = http::HeaderValue::from_str(&text) {
            reply.headers.append(http::header::WARNING, value);
        }
    }
    reply
}

pub(super) fn create(call: &mut Call<'_>, ask: &Ask<'_>) -> Result<Reply, StoreError> {
    let options = options(call);
    let mut object = decode(call, ask.kind)?;
    fit(ask, &mut object, None)?;
    let warnings = prune(ask.kind, &mut object, &options)?;
    validate::check(ask.kind, &object)?;
    let created = call
        .cluster()
        .store
        .create(ask.kind, object, &options.manager, options.dry_run)?;
    Ok(with_warnings(Reply::line(201, &created), &warnings))
}

fn writer<'a>(ask: &Ask<'_>, options: &'a Options, operation: &'static str) -> Writer<'a> {
    let part = if ask.subresource == Some("status") {
        Part::Status
    } else {
        Part::Main
    };
    Writer {
        manager: &options.manager,
        operation,
        part,
        dry_run: options.dry_run,
        applied: None,
    }
}

pub(super) fn update(call: &mut Call<'_>, ask: &Ask<'_>, wanted: &str) -> Result<Reply, StoreError> {
    let options = options(call);
    let mut object = decode(call, ask.kind)?;
    fit(ask, &mut object, Some(wanted))?;
    let warnings = prune(ask.kind, &mut object, &options)?;
    validate::check(ask.kind, &object)?;
    let writer = writer(ask, &options, "Update");
    let updated = call.cluster().store.update(ask.kind, object, writer)?;
    Ok(with_warnings(Reply::line(200, &updated), &warnings))
}

pub(super) fn patch(call: &mut Call<'_>, ask: &Ask<'_>, wanted: &str) -> Result<Reply, StoreError> {
    let content_type = call
        .header("content-type")
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    if content_type == "application/apply-patch+yaml" {
        return apply(call, ask, wanted);
    }
    let options = options(call);
    let space = ask.namespace.unwrap_or_default();
    let stored = call.cluster().store.get(ask.kind, space, wanted).cloned();
    let mut object = stored.ok_or_else(|| StoreError::not_found(ask.kind, wanted))?;
    let sent: Value = serde_json::from_slice(call.body).map_err(|_| {
        let text = crate::call::go_json_error(&String::from_utf8_lossy(call.body));
        StoreError::bad_request(format!("error decoding patch: {text}"))
    })?;
    let version = object["metadata"]["resourceVersion"].clone();
    match (content_type.as_str(), ask.kind.is_custom()) {
        ("application/merge-patch+json", _) | ("application/strategic-merge-patch+json", false) => {
            patch::merge(&mut object, &sent);
        }
        ("application/json-patch+json", _) => patch::json(&mut object, &sent).map_err(|message| {
            StoreError::bad_request(format!(
                "the server rejected our request due to an error in our request: {message}"
            ))
        })?,
        _ => {
            let text = "the body of the request was in an unknown format - accepted media types include: \
                        application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
            return Ok(Reply::status(415, "UnsupportedMediaType", text, Some(json!({}))));
        }
    }
    if object["metadata"]["resourceVersion"] == version {
        // The patch names no version of its own: nobody can have been faster under the lock.
        object["metadata"]["resourceVersion"] = version;
    }
    fit(ask, &mut object, Some(wanted))?;
    let warnings = prune(ask.kind, &mut object, &options)?;
    validate::check(ask.kind, &object)?;
    let writer = writer(ask, &options, "Update");
    let updated = call.cluster().store.update(ask.kind, object, writer)?;
    Ok(with_warnings(Reply::line(200, &updated), &warnings))
}

/// Server-side apply: creates what does not exist.
fn apply(call: &mut Call<'_>, ask: &Ask<'_>, wanted: &str) -> Result<Reply, StoreError> {
    let mut options = options(call);
    if call.query.get("fieldManager").is_none() {
        return Err(StoreError::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: \
            is required for apply patch"
                .into(),
        ));
    }
    let force = call.query.flag("force");
    let mut applied = decode(call, ask.kind)?;
    if applied["metadata"]
        .get("managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(StoreError::bad_request(
            "metadata.managedFields must be nil".into(),
        ));
    }
    fit(ask, &mut applied, Some(wanted))?;
    let warnings = prune(ask.kind, &mut applied, &options)?;
    let space = ask.namespace.unwrap_or_default().to_owned();
    let manager = std::mem::take(&mut options.manager);
    options.manager.clone_from(&manager);
    let store = &mut call.cluster().store;
    let memory = (ask.kind.plural, space.clone(), wanted.to_owned(), manager);
    let stored = store.get(ask.kind, &space, wanted).cloned();
    let (status, object) = match stored {
        None => {
            validate::check(ask.kind, &applied)?;
            let writer = writer(ask, &options, "Apply");
            (201, store.create_by(ask.kind, applied.clone(), writer)?)
        }
        Some(mut object) => {
            let contested = managed::conflicts(&object, &applied, &options.manager);
            if !force && !contested.is_empty() {
                return Err(StoreError::contested(&contested));
            }
            patch::apply(&mut object, store.applied.get(&memory), &applied);
            validate::check(ask.kind, &object)?;
            let writer = Writer {
                applied: Some(&applied),
                ..writer(ask, &options, "Apply")
            };
            (200, store.update(ask.kind, object, writer)?)
        }
    };
    if !options.dry_run {
        store.applied.insert(memory, applied);
    }
    Ok(with_warnings(Reply::line(status, &object), &warnings))
}

pub(super) fn delete(call: &mut Call<'_>, ask: &Ask<'_>, wanted: &str) -> Result<Reply, StoreError> {
    let body: Value = serde_json::from_slice(call.body).unwrap_or_default();
    let dry_run = call.query.get("dryRun") == Some("All") || body["dryRun"] == json!(["All"]);
    let now = call.now;
    let store = &mut call.cluster().store;
    let space = ask.namespace.unwrap_or_default();
    let object = store
        .get(ask.kind, space, wanted)
        .ok_or_else(|| StoreError::not_found(ask.kind, wanted))?;
    for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (sent, is) = (&body["preconditions"][field], &object["metadata"][field]);
        if let Some(sent) = sent.as_str()
            && is != sent
        {
            let is = is.as_str().unwrap_or_default();
            return Err(StoreError::precondition(ask.kind, wanted, what, sent, is));
        }
    }
    if dry_run {
        return Ok(Reply::line(200, object));
    }
    let uid = object["metadata"]["uid"].clone();
    let (object, gone) = store.delete(ask.kind, space, wanted, now)?;
    if !gone {
        return Ok(Reply::line(200, &object));
    }
    let mut details = json!({"name": wanted, "kind": ask.kind.plural, "uid": uid});
    if ask.kind.is_custom() {
        details["group"] = Value::from(ask.kind.group);
    }
    Ok(Reply::line(
        200,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}),
    ))
}

/// DELETE of a collection.
pub(super) fn delete_all(call: &mut Call<'_>, ask: &Ask<'_>) -> Result<Reply, StoreError> {
    let selectors = super::list::Selectors::new(ask.kind, &call.query)?;
    let now = call.now;
    let store = &mut call.cluster().store;
    let victims: Vec<Value> = store
        .list(ask.kind, ask.namespace)
        .filter(|o| selectors.fit(o))
        .cloned()
        .collect();
    for object in &victims {
        let _ = store.delete(ask.kind, namespace(object), name(object), now);
    }
    let metadata = json!({"resourceVersion": store.version().to_string(), "continue": ""});
    Ok(Reply::line(
        200,
        &json!({
            "apiVersion": ask.kind.api_version(), "kind": format!("{}List", ask.kind.kind), "metadata": metadata,
            "items": victims,
        }),
    ))
}
