//! GET and LIST, with selectors, paging by continue tokens, and the table form.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Ask, table};
use crate::call::Call;
use crate::query::Query;
use crate::reply::Reply;
use crate::store::selector::Selector;
use crate::store::{EVENTS, Kind, StoreError, name, namespace};

/// Both selectors of a request.
pub(super) struct Selectors {
    labels: Selector,
    fields: Selector,
}

impl Selectors {
    pub(super) fn new(kind: &Kind, query: &Query) -> Result<Self, StoreError> {
        let labels = Selector::parse(query.text("labelSelector")).map_err(|part| {
            StoreError::bad_request(format!(
                "unable to parse requirement: found '{part}', expected: ',' or 'end of string'"
            ))
        })?;
        let fields = Selector::parse(query.text("fieldSelector")).map_err(|part| {
            StoreError::bad_request(format!("invalid selector: '{part}'; can't understand '{part}'"))
        })?;
        for key in fields.keys() {
            let known = matches!(key, "metadata.name" | "metadata.namespace")
                || (*kind == EVENTS
                    && (key.starts_with("involvedObject.") || matches!(key, "reason" | "type")))
                || (key == "type" && kind.plural == "secrets");
            if !known {
                return Err(StoreError::bad_request(format!(
                    "Unable to find \"{}, Resource={}\" that match label selector \"\", field selector \"{}\": field \
                     label not supported: {key}",
                    kind.api_version(),
                    kind.plural,
                    query.text("fieldSelector"),
                )));
            }
        }
        Ok(Self { labels, fields })
    }

    pub(super) fn fit(&self, object: &Value) -> bool {
        self.labels.fits_labels(object) && self.fields.fits_fields(object)
    }
}

pub(super) fn get(call: &mut Call<'_>, ask: &Ask<'_>, name: &str) -> Result<Reply, StoreError> {
    let as_table = table::wanted(call)?;
    let store = &call.cluster().store;
    let object = store
        .get(ask.kind, ask.namespace.unwrap_or_default(), name)
        .ok_or_else(|| StoreError::not_found(ask.kind, name))?;
    if let Some(table) = as_table {
        return Ok(Reply::line(200, &table.event(ask.kind, object)));
    }
    Ok(Reply::line(200, object))
}

/// Where a page ends: version of the list and the last name that was given.
struct Continue {
    version: u64,
    start: String,
}

impl Continue {
    fn encode(&self) -> String {
        let token =
            json!({"v": "meta.k8s.io/v1", "rv": self.version, "start": format!("{}\u{0}", self.start)});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn decode(text: &str) -> Result<Self, StoreError> {
        let bad = || StoreError::bad_request("continue key is not valid: illegal base64 data".into());
        let token: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?).map_err(|_| bad())?;
        Ok(Self {
            version: token["rv"].as_u64().ok_or_else(bad)?,
            start: token["start"]
                .as_str()
                .ok_or_else(bad)?
                .trim_end_matches('\u{0}')
                .to_owned(),
        })
    }
}

fn place(object: &Value) -> String {
    format!("{}/{}", namespace(object), name(object))
}

pub(super) fn list(call: &mut Call<'_>, ask: &Ask<'_>) -> Result<Reply, StoreError> {
    let selectors = Selectors::new(ask.kind, &call.query)?;
    let query = call.query.clone();
    let as_table = table::wanted(call)?;
    let limit = query.number("limit").filter(|l| *l > 0);
    let token = match query.text("continue") {
        "" => None,
        text => Some(Continue::decode(text)?),
    };
    let store = &call.cluster().store;
    let version = token.as_ref().map_or(store.version(), |t| t.version);
    if token.is_some() && version < store.compacted() {
        let text = "The provided continue parameter is too old to display a consistent list result. You can start a \
                    new list without the continue parameter, or use the continue token in this response to retrieve \
                    the remainder of the results. Continuing with the provided token results in an inconsistent list - \
                    objects that were created, modified, or deleted between the time the first chunk was returned and \
                    now may show up in the list.";
        return Ok(Reply::status(410, "Expired", text, None));
    }
    let mut items: Vec<&Value> = store
        .list(ask.kind, ask.namespace)
        .filter(|o| token.as_ref().is_none_or(|t| place(o) > t.start))
        .filter(|o| selectors.fit(o))
        .collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if ask.kind.is_custom() {
        metadata["continue"] = Value::from("");
    }
    if let Some(limit) = limit
        && items.len() > limit
    {
        let remaining = items.len() - limit;
        items.truncate(limit);
        let start = items.last().map(|o| place(o)).unwrap_or_default();
        metadata["continue"] = Value::from(Continue { version, start }.encode());
        if query.text("labelSelector").is_empty() && query.text("fieldSelector").is_empty() {
            metadata["remainingItemCount"] = Value::from(remaining);
        }
    }
    let mut items: Vec<Value> = items.into_iter().cloned().collect();
    if let Some(table) = as_table {
        return Ok(Reply::line(200, &table.of(ask.kind, &items, &metadata)));
    }
    if !ask.kind.is_custom() {
        // Items of built-in lists do not repeat their type.
        for map in items.iter_mut().filter_map(Value::as_object_mut) {
            map.remove("kind");
            map.remove("apiVersion");
        }
    }
    let list = json!({
        "apiVersion": ask.kind.api_version(), "kind": format!("{}List", ask.kind.kind), "metadata": metadata,
        "items": items,
    });
    Ok(Reply::line(200, &list))
}
