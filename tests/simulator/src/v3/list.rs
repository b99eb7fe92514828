//! Filters and order of kapis lists (contract §3.1).

use serde_json::Value;

use crate::call::page;
use crate::query::Query;
use crate::reply::Reply;
use crate::store::selector::Selector;
use crate::store::{annotation, label, name, namespace};

/// Query keys that are not filters.
const NO_FILTER: [&str; 5] = ["page", "limit", "sortBy", "ascending", "labelSelector"];

/// Whether the query holds a filter, known or not.
pub(crate) fn has_filter(query: &Query) -> bool {
    query.keys().any(|k| !NO_FILTER.contains(&k))
}

/// Whether an object passes the label selector (a broken one passes everything) and all filters.
pub(crate) fn passes(object: &Value, query: &Query) -> bool {
    let selector = Selector::parse(query.text("labelSelector")).unwrap_or_default();
    selector.fits_labels(object) && filters_pass(object, query)
}

/// Whether an object passes all filters; the label selector is not looked at.
pub(crate) fn filters_pass(object: &Value, query: &Query) -> bool {
    query
        .pairs()
        .iter()
        .all(|(key, value)| filter(object, key, value))
}

/// The page of these objects that a query asks for, in its order; `null` or `[]` when nothing is in it (contract §3.1).
pub(crate) fn answer<'a>(
    objects: impl Iterator<Item = &'a Value>,
    query: &Query,
    null_when_empty: bool,
    show: fn(Value) -> Value,
) -> Reply {
    let mut items: Vec<Value> = objects.cloned().map(show).collect();
    sort(&mut items, query);
    let total = items.len();
    super::envelope(page(items, query), total, null_when_empty)
}

fn filter(object: &Value, key: &str, value: &str) -> bool {
    let pair_fits = |get: &dyn Fn(&str) -> Option<String>| {
        let (k, v) = value.split_once('=').unwrap_or((value, ""));
        get(k).is_some_and(|found| v.is_empty() || found == v)
    };
    let owners = || {
        object
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    match key {
        "name" | "nameAndAlias" => {
            name(object).contains(value)
                || annotation(object, "kubesphere.io/alias-name").is_some_and(|a| a.contains(value))
        }
        "names" => value.split(',').any(|n| n == name(object)),
        "uid" => object["metadata"]["uid"] == value,
        "namespace" => namespace(object) == value,
        "ownerReference" => owners().any(|o| o["uid"] == value),
        "ownerKind" => owners().any(|o| o["kind"] == value),
        "annotation" => pair_fits(&|k| annotation(object, k).map(str::to_owned)),
        "label" => pair_fits(&|k| label(object, k).map(str::to_owned)),
        _ => true,
    }
}

/// Newest first, ties by name backwards; `sortBy` knows name and creation time.
pub(crate) fn sort(items: &mut [Value], query: &Query) {
    let created = |o: &Value| {
        o["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let by_name = query.get("sortBy") == Some("name");
    items.sort_by(|a, b| {
        let order = if by_name {
            name(a).cmp(name(b))
        } else {
            created(a).cmp(&created(b)).then_with(|| name(a).cmp(name(b)))
        };
        if query.flag("ascending") {
            order
        } else {
            order.reverse()
        }
    });
}
