//! Shapes shared by many answers, and reading that forgives what the remote is known to leave out (finding F-C).

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use super::refusal::Reply;
use crate::gateway::error::{ErrorKind, GatewayError, Result};

/// `{"items": [...], "totalItems": n}`; items may be null (contract §3.1).
#[derive(Debug, Deserialize)]
#[serde(bound = "T: Deserialize<'de>")]
pub(crate) struct Envelope<T> {
    #[serde(default = "Vec::new", deserialize_with = "null_is_default")]
    pub(crate) items: Vec<T>,
    #[serde(default, rename = "totalItems")]
    pub(crate) total_items: u64,
}

/// The parts of Kubernetes metadata that are read. `apiVersion` and `kind` are never needed: some routes drop them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) generate_name: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) namespace: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) uid: String,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) resource_version: String,
    #[serde(deserialize_with = "lenient_time")]
    pub(crate) creation_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "lenient_time")]
    pub(crate) deletion_timestamp: Option<Timestamp>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// Reads null as the type's default.
pub(crate) fn null_is_default<'de, D, T>(de: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(de)?.unwrap_or_default())
}

/// Reads a time in any of the remote's forms; what is no time is None rather than an error.
pub(crate) fn lenient_time<'de, D: Deserializer<'de>>(
    de: D,
) -> std::result::Result<Option<Timestamp>, D::Error> {
    Ok(Option::<serde_json::Value>::deserialize(de)?
        .as_ref()
        .and_then(|v| v.as_str())
        .and_then(parse_time))
}

/// RFC 3339, or Blue Ocean's `2026-03-19T02:50:12.747+0000` (contract §9).
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse()
        .ok()
        .or_else(|| Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text).ok())
}

/// Reads a body as `T`; a body that is not that is [`ErrorKind::Garbled`].
pub(crate) fn read<T: DeserializeOwned>(reply: &Reply<'_>) -> Result<T> {
    if is_crowded(reply.body) {
        return Err(GatewayError::new(ErrorKind::TooLarge, reply.subject)
            .with_status(reply.status)
            .with_remote("far more values than such an answer has")
            .with_ambiguous(reply.subject.write));
    }
    serde_json::from_slice(reply.body).map_err(|_| garbled(reply))
}

/// Whether a body holds far more objects, lists or values than its length allows for. `{},{},…` is three bytes of JSON and
/// hundreds in memory: within the limit of a body that would be gigabytes. Recorded answers have 32 bytes and more for
/// each object or list, and 12 and more for each value.
pub(crate) fn is_crowded(body: &[u8]) -> bool {
    /// So many are always fine.
    const FREE: usize = 2_000;
    const BYTES_PER_CONTAINER: usize = 24;
    const BYTES_PER_VALUE: usize = 6;
    /// More are not read, however long the body.
    const CONTAINERS: usize = 200_000;
    const VALUES: usize = 2_000_000;
    let (mut containers, mut values) = (0_usize, 0_usize);
    let mut in_string = false;
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                containers += 1;
                values += 1;
            }
            b',' if !in_string => values += 1,
            _ => {}
        }
    }
    containers > CONTAINERS.min(FREE + body.len() / BYTES_PER_CONTAINER)
        || values > VALUES.min(FREE + body.len() / BYTES_PER_VALUE)
}

/// The error for a success whose body is not what the route gives; ambiguous after a write, since it was a success.
/// JSON is never quoted, nor is what the parser says about it: it may hold tokens or parameter values.
pub(crate) fn garbled(reply: &Reply<'_>) -> GatewayError {
    let head = String::from_utf8_lossy(&reply.body[..reply.body.len().min(200)]);
    let head = head.trim_start();
    let shown = match head.chars().next() {
        None => "an empty body".into(),
        Some('{' | '[' | '"') => format!(
            "JSON of {} bytes that is cut or of another shape",
            reply.body.len()
        ),
        Some(_) => format!("a body that begins with {head}"),
    };
    GatewayError::new(ErrorKind::Garbled, reply.subject)
        .with_status(reply.status)
        .with_remote(&reply.redact(shown))
        .with_ambiguous(reply.subject.write)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_would_be_far_larger_in_memory_is_not_read() {
        let many = |item: &str, count: usize| format!("[{}0]", format!("{item},").repeat(count));
        for (item, crowded) in [
            ("{}", true),
            ("[]", true),
            ("1", true),
            (r#"{"path":"target/a-file.jar","size":17}"#, false),
            // What is in a string is no value.
            (
                r#""a string, with {braces}, [brackets], \\\", and commas,,,,""#,
                false,
            ),
        ] {
            assert_eq!(is_crowded(many(item, 100_000).as_bytes()), crowded, "{item}");
            assert!(!is_crowded(many(item, 900).as_bytes()), "few of {item}");
        }
    }

    #[test]
    fn times_are_read_in_every_form_the_remote_writes() {
        let whole: Timestamp = "2026-03-19T02:50:12Z".parse().unwrap();
        let milli: Timestamp = "2026-03-19T02:50:12.747Z".parse().unwrap();
        for (text, want) in [
            ("2026-03-19T02:50:12Z", Some(whole)),
            ("2026-03-19T02:50:12.747+0000", Some(milli)),
            ("2026-03-19T04:50:12.747+0200", Some(milli)),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(parse_time(text), want, "{text:?}");
        }
    }
}
