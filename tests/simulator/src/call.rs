//! One request on its way through the layers, and the small rules of go-restful that all handlers share.

use http::HeaderMap;
use serde_json::Value;

use crate::clock::Millis;
use crate::query::Query;
use crate::reply::Reply;
use crate::server::Shared;
use crate::state::{Cluster, State};

/// A request that is being handled.
pub(crate) struct Call<'a> {
    pub(crate) shared: &'a std::sync::Arc<Shared>,
    pub(crate) state: &'a mut State,
    /// Index of the cluster it is for.
    pub(crate) cluster: usize,
    pub(crate) user: String,
    pub(crate) method: &'a str,
    pub(crate) query: Query,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) now: Millis,
}

impl Call<'_> {
    pub(crate) fn cluster(&mut self) -> &mut Cluster {
        &mut self.state.clusters[self.cluster]
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }

    /// Whether the Accept header lets this content type pass. go-restful compares the declared type, parameters and
    /// all, with what is left of each accepted type when its parameters are cut off (finding F-G).
    pub(crate) fn accepts(&self, produced: &str) -> bool {
        let accept = self.header("accept");
        accept.is_empty()
            || accept.split(',').any(|part| {
                let part = part.split(';').next().unwrap_or_default().trim();
                part == "*/*" || part == produced
            })
    }

    /// 406, or 415 for a request that should have had a body and has none.
    pub(crate) fn not_acceptable(&self, produced: &str) -> Reply {
        let bodyless = matches!(self.method, "POST" | "PUT" | "PATCH") && self.body.is_empty();
        let (code, text) = if bodyless {
            (415, "Unsupported Media Type")
        } else {
            (406, "Not Acceptable")
        };
        Reply::restful(
            code,
            &format!("{code}: {text}\n\nAvailable representations: {produced}"),
        )
    }

    /// The body as ks-devops reads it: JSON, and only if the content type says so.
    pub(crate) fn json(&self) -> Result<Value, Reply> {
        let content_type = self.header("content-type");
        if !content_type.starts_with("application/json") {
            let text = format!("[ServiceError:400] Unable to unmarshal content of type:{content_type}");
            return Err(Reply::text_error(400, &text));
        }
        serde_json::from_slice(self.body)
            .map_err(|_| Reply::text_error(400, &go_json_error(&String::from_utf8_lossy(self.body))))
    }
}

/// What Go's decoder says about JSON that does not parse.
pub(crate) fn go_json_error(text: &str) -> String {
    let text = text.trim_start();
    if text.is_empty() {
        return "EOF".into();
    }
    if let Some(rest) = text.strip_prefix('{') {
        let rest = rest.trim_start();
        match rest.chars().next() {
            None => return "unexpected EOF".into(),
            Some('"' | '}') => {}
            Some(c) => return format!("invalid character '{c}' looking for beginning of object key string"),
        }
    }
    match serde_json::from_str::<Value>(text) {
        Err(error) if error.is_eof() => "unexpected EOF".into(),
        Err(error) => {
            let line = text
                .lines()
                .nth(error.line().saturating_sub(1))
                .unwrap_or_default();
            let c = line.chars().nth(error.column().saturating_sub(1)).unwrap_or('?');
            format!("invalid character '{c}' looking for beginning of value")
        }
        Ok(_) => String::new(),
    }
}

/// Page and limit of a kapis list (contract §3.1): no limit means everything.
pub(crate) fn page<T>(mut items: Vec<T>, query: &Query) -> Vec<T> {
    let Some(limit) = query.number("limit") else {
        return items;
    };
    let page = query.number("page").unwrap_or(1).max(1);
    let start = limit.saturating_mul(page - 1).min(items.len());
    let end = (start + limit).min(items.len());
    items.truncate(end);
    items.split_off(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_words_broken_json_as_recorded() {
        assert_eq!(
            go_json_error("{nope"),
            "invalid character 'n' looking for beginning of object key string"
        );
        assert_eq!(go_json_error("{"), "unexpected EOF");
        assert_eq!(go_json_error(""), "EOF");
    }

    #[test]
    fn pages() {
        let list = |q: &str| page(vec![1, 2, 3], &Query::parse(q));
        assert_eq!(list(""), [1, 2, 3]);
        assert_eq!(list("page=1&limit=2"), [1, 2]);
        assert_eq!(list("page=2&limit=2"), [3]);
        assert_eq!(list("page=9&limit=2"), [] as [i32; 0]);
        assert_eq!(list("limit=0"), [] as [i32; 0]);
    }
}
