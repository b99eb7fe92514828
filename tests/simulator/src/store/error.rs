//! What the store refuses, with the texts of kube-apiserver.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Kind;
use super::managed::Conflict;
use crate::reply::Reply;

/// One reason why an object is invalid.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Cause {
    pub(crate) fn required(field: &str, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {why}")
        };
        Self {
            reason: "FieldValueRequired",
            message,
            field: field.into(),
        }
    }

    pub(crate) fn invalid(field: &str, message: String) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message,
            field: field.into(),
        }
    }

    pub(crate) fn wrong_type(field: &str, is: &str, must: &str) -> Self {
        Self {
            reason: "FieldValueTypeInvalid",
            message: format!("Invalid value: \"{is}\": {field} in body must be of type {must}: \"{is}\""),
            field: field.into(),
        }
    }
}

/// A refusal.
#[derive(Debug, Clone)]
pub(crate) struct StoreError {
    pub(crate) code: u16,
    pub(crate) message: String,
    reason: &'static str,
    details: Value,
}

impl StoreError {
    fn new(code: u16, reason: &'static str, kind: &Kind, name: &str, message: String) -> Self {
        let mut details = json!({"name": name, "kind": kind.plural});
        if kind.is_custom() {
            details["group"] = Value::from(kind.group);
        }
        Self {
            code,
            message,
            reason,
            details,
        }
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.qualified());
        Self::new(404, "NotFound", kind, name, message)
    }

    pub(crate) fn exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.qualified());
        Self::new(409, "AlreadyExists", kind, name, message)
    }

    pub(crate) fn conflict(kind: &Kind, name: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": the object has been modified; please apply your changes \
             to the latest version and try again",
            kind.qualified()
        );
        Self::new(409, "Conflict", kind, name, message)
    }

    /// A precondition of a delete does not hold.
    pub(crate) fn precondition(kind: &Kind, name: &str, what: &str, sent: &str, is: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{name}\": Precondition failed: {what} in precondition: {sent}, \
             {what} in object meta: {is}",
            kind.qualified()
        );
        Self::new(409, "Conflict", kind, name, message)
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message))
            .collect();
        let list = if list.len() == 1 {
            list[0].clone()
        } else {
            format!("[{}]", list.join(", "))
        };
        let subject = if kind.is_custom() {
            format!("{}.{}", kind.kind, kind.group)
        } else {
            kind.kind.into()
        };
        let mut error = Self::new(
            422,
            "Invalid",
            kind,
            name,
            format!("{subject} \"{name}\" is invalid: {list}"),
        );
        error.details["kind"] = Value::from(kind.kind);
        error.details["causes"] = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        error
    }

    /// Server-side apply of fields that others set to other values.
    pub(crate) fn contested(conflicts: &[Conflict]) -> Self {
        let message = if let [one] = conflicts {
            format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                one.manager, one.path
            )
        } else {
            let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for conflict in conflicts {
                by_manager
                    .entry(&conflict.manager)
                    .or_default()
                    .push(&conflict.path);
            }
            let lines: Vec<String> = by_manager
                .into_iter()
                .flat_map(|(manager, paths)| {
                    let paths = paths.into_iter().map(|path| format!("- {path}"));
                    std::iter::once(format!("conflicts with {manager}:")).chain(paths)
                })
                .collect();
            format!(
                "Apply failed with {} conflicts: {}",
                conflicts.len(),
                lines.join("\n")
            )
        };
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|c| {
                json!({
                    "reason": "FieldManagerConflict", "message": format!("conflict with {}", c.manager),
                    "field": c.path,
                })
            })
            .collect();
        Self {
            code: 409,
            message,
            reason: "Conflict",
            details: json!({"causes": causes}),
        }
    }

    pub(crate) fn bad_request(message: String) -> Self {
        Self {
            code: 400,
            message,
            reason: "BadRequest",
            details: Value::Null,
        }
    }

    /// As a Kubernetes Status.
    pub(crate) fn status(&self) -> Reply {
        let details = (!self.details.is_null()).then(|| self.details.clone());
        Reply::status(self.code, self.reason, &self.message, details)
    }

    /// As v1alpha3's run and branch handlers tell it: the true code, one line of text.
    pub(crate) fn text(&self) -> Reply {
        Reply::text_error(self.code, &self.message)
    }

    /// As v1alpha3's project, pipeline and credential handlers tell it: 404, or else 400 (contract §4.0).
    pub(crate) fn text_400(&self) -> Reply {
        Reply::text_error(if self.code == 404 { 404 } else { 400 }, &self.message)
    }
}

const RFC_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Object names are RFC 1123 subdomains.
pub(crate) fn check_name(kind: &Kind, name: &str) -> Result<(), StoreError> {
    let alnum = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |l: &str| {
        let b = l.as_bytes();
        !b.is_empty() && alnum(b[0]) && alnum(b[b.len() - 1]) && b.iter().all(|&c| alnum(c) || c == b'-')
    };
    if name.split('.').all(label) && name.len() <= 253 {
        return Ok(());
    }
    let message = format!("Invalid value: \"{name}\": {RFC_1123}");
    Err(StoreError::invalid(
        kind,
        name,
        vec![Cause::invalid("metadata.name", message)],
    ))
}
