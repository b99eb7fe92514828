//! As much of an API server as ConfigMaps need, in memory, with a ledger: for tests that count calls.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, StatusCode};
use kube::{Client, client::Body, core::Status};
use serde_json::{Value, json};

/// The namespace that everything is in.
pub const NAMESPACE: &str = "team";

/// The server: its objects, and what was asked of it.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    maps: BTreeMap<String, Value>,
    calls: Vec<String>,
    uids: u64,
    refuse: Option<(&'static str, u16, String)>,
}

impl FakeApi {
    pub fn client(&self) -> Client {
        let state = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a whole request");
                Ok::<_, Infallible>(state.answer(&parts.method, &parts.uri, &body))
            }
        });
        Client::new(service, NAMESPACE)
    }

    /// The calls since the last time: `VERB name`.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().calls)
    }

    pub fn get(&self, name: &str) -> Option<Value> {
        self.0.lock().unwrap().maps.get(name).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().maps.keys().cloned().collect()
    }

    /// Puts an object there, as somebody else would.
    pub fn put(&self, name: &str, object: Value) {
        self.0.lock().unwrap().maps.insert(name.into(), object);
    }

    pub fn delete(&self, name: &str) {
        self.0.lock().unwrap().maps.remove(name);
    }

    /// Sets the value of a key by hand; as on a real server, the key is then no longer ours.
    pub fn edit(&self, name: &str, key: &str, value: &str) {
        let mut state = self.0.lock().unwrap();
        let map = state.maps.get_mut(name).expect("the ConfigMap");
        map["data"][key] = json!(value);
        if let Some(keys) = map["metadata"]["managedFields"][0]["fieldsV1"]["f:data"].as_object_mut() {
            keys.remove(&format!("f:{key}"));
        }
    }

    /// From now on answers one method with an error.
    pub fn refuse(&self, method: &'static str, code: u16, message: &str) {
        self.0.lock().unwrap().refuse = Some((method, code, message.into()));
    }

    fn answer(&self, method: &Method, uri: &http::Uri, body: &[u8]) -> Response<Body> {
        let mut state = self.0.lock().unwrap();
        let name = uri
            .path()
            .strip_prefix(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps"))
            .expect("a ConfigMap route")
            .trim_matches('/')
            .to_owned();
        let verb = if name.is_empty() { "LIST" } else { method.as_str() };
        state.calls.push(format!("{verb} {name}").trim().to_owned());
        if let Some((refused, code, message)) = &state.refuse
            && *refused == method.as_str()
        {
            return failure(*code, message);
        }
        match verb {
            "LIST" => json_answer(&state.list(uri.query().unwrap_or_default())),
            "GET" => state
                .maps
                .get(&name)
                .map_or_else(|| failure(404, "not found"), json_answer),
            "DELETE" => match state.maps.remove(&name) {
                Some(gone) => json_answer(&gone),
                None => failure(404, "not found"),
            },
            "PATCH" => state.apply(&name, serde_json::from_slice(body).expect("JSON")),
            other => panic!("{other} is not known here"),
        }
    }
}

impl State {
    fn list(&self, query: &str) -> Value {
        let (_, selector) = url::form_urlencoded::parse(query.as_bytes())
            .find(|(k, _)| k == "labelSelector")
            .expect("a label selector");
        let picked = self.maps.values().filter(|map| {
            selector
                .split(',')
                .filter_map(|term| term.split_once('='))
                .all(|(key, value)| map["metadata"]["labels"][key] == value)
        });
        json!({"metadata": {}, "items": picked.cloned().collect::<Vec<_>>()})
    }

    fn apply(&mut self, name: &str, mut object: Value) -> Response<Body> {
        let current = self.maps.get(name).map(|map| map["metadata"]["uid"].clone());
        let wanted = object["metadata"]["uid"].clone();
        if !wanted.is_null() && Some(&wanted) != current.as_ref() {
            return failure(409, "uid mismatch");
        }
        let fields = |part: &str| {
            let keys = object[part]
                .as_object()
                .into_iter()
                .flat_map(serde_json::Map::keys);
            keys.map(|key| (format!("f:{key}"), json!({})))
                .collect::<serde_json::Map<_, _>>()
        };
        let managed = json!([{
            "manager": "tenantry", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": fields("data"), "f:binaryData": fields("binaryData")},
        }]);
        self.uids += 1;
        object["metadata"]["uid"] = current.unwrap_or_else(|| json!(format!("uid-{}", self.uids)));
        object["metadata"]["managedFields"] = managed;
        self.maps.insert(name.into(), object.clone());
        json_answer(&object)
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    Response::new(Body::from(value.to_string().into_bytes()))
}

fn failure(code: u16, message: &str) -> Response<Body> {
    let reason = if code == 404 { "NotFound" } else { "" };
    let status = Status::failure(message, reason).with_code(code);
    let mut response = json_answer(&serde_json::to_value(status).unwrap());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
