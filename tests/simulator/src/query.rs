//! Query strings as Go parses them, and percent-decoding.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What Go's `url.PathEscape` leaves alone.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A parsed query. A parameter that contains a raw `;` is lost, as in Go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = raw
            .split('&')
            .filter(|part| !part.is_empty() && !part.contains(';'))
            .filter_map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                Some((form_decode(key)?, form_decode(value)?))
            })
            .collect();
        Self(pairs)
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The value, or "".
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or_default()
    }

    pub(crate) fn number(&self, key: &str) -> Option<usize> {
        self.get(key)?.parse().ok()
    }

    /// `true` or `1`, as Kubernetes reads booleans.
    pub(crate) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1" | "True" | "TRUE"))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(k, _)| k.as_str())
    }

    /// As ks-devops passes it on to Jenkins.
    pub(crate) fn joined(&self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|(k, v)| format!("{k}={v}")).collect();
        pairs.join("&")
    }

    /// The part of a Jenkins list that is asked for with `start` and `limit`: 100 entries unless told (contract §5.5).
    pub(crate) fn window<T>(&self, items: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        let start = self.number("start").unwrap_or_default();
        items.skip(start).take(self.number("limit").unwrap_or(100))
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }
}

/// Form decoding; `None` for a broken escape (Go drops that parameter).
pub(crate) fn form_decode(text: &str) -> Option<String> {
    go_unescape(&text.replace('+', " ")).ok()
}

/// Go's unescaping: a broken escape is an error that names it.
pub(crate) fn go_unescape(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let good = bytes
                .get(i + 1..i + 3)
                .is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit));
            if !good {
                let end = (i + 3).min(bytes.len());
                return Err(format!(
                    "invalid URL escape \"{}\"",
                    String::from_utf8_lossy(&bytes[i..end])
                ));
            }
            i += 3;
        } else {
            i += 1;
        }
    }
    Ok(percent_decode_str(text).decode_utf8_lossy().into_owned())
}

/// Decodes leniently.
pub(crate) fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// One path segment, escaped.
pub(crate) fn escape_segment(text: &str) -> String {
    utf8_percent_encode(text, PATH_SEGMENT).to_string()
}

/// A branch as Jenkins names its job: branch-api escapes what a URL's path trips over and leaves the rest.
pub(crate) fn branch_job(branch: &str) -> String {
    branch.chars().fold(String::new(), |name, c| match c {
        '#' | '%' | '/' | '?' | '[' | ']' | '\\' => name + &format!("%{:02X}", u32::from(c)),
        c => name + &c.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semicolon_costs_only_its_own_parameter() {
        let q = Query::parse("a=1;b=2&limit=1");
        assert_eq!((q.get("a"), q.get("limit")), (None, Some("1")));
    }

    #[test]
    fn escapes() {
        assert_eq!(go_unescape("%zz"), Err("invalid URL escape \"%zz\"".into()));
        assert_eq!(form_decode("a+b%2Bc").as_deref(), Some("a b+c"));
        assert_eq!(branch_job("feature/x"), "feature%2Fx");
        assert_eq!(branch_job("wip/été#1"), "wip%2Fété%231");
    }
}
