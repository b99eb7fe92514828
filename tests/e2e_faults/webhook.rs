//! An admission webhook as a cluster may have it: registered with the API server, served over TLS under a CA of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{Json, Router, extract::State, routing::post, serve::Listener};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::stage::Behind;

/// What is refused.
type Rule = Arc<dyn Fn(&Review) -> bool + Send + Sync>;

/// A request for admission.
#[derive(Clone, Debug)]
pub struct Review {
    /// The resource, with its subresource: `buildrequests/status`.
    pub resource: String,
    /// The object as it would be.
    pub object: Value,
}

/// The webhook. It lets everything pass until it is told otherwise; dropped, it is registered no more.
pub struct Webhook {
    desk: Desk,
    name: String,
    registered: kube::Api<kube::core::DynamicObject>,
    /// Who serves it.
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Default)]
struct Desk(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    rule: Option<Rule>,
    refused: usize,
    /// The probe came by: the API server asks.
    asked: bool,
}

/// The words that it refuses with.
pub const WORDS: &str = "nothing of this kind is written during the audit";
const PROBE: &str = "webhook-probe";

impl Webhook {
    /// Registers one for what the operator writes into the namespace of the stage, and waits until it is asked.
    pub async fn register(stage: &Behind) -> Self {
        let (ca, tls) = certificates();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = tcp.local_addr().expect("an address").port();
        let desk = Desk::default();
        let router = Router::new().route("/", post(review)).with_state(desk.clone());
        let listener = Tls { tcp, tls };
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let name = format!("audit-{}", &*stage.namespace);
        let rule = |groups: &str, resources: &[&str]| {
            json!({
                "apiGroups": [groups], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"],
                "resources": resources, "scope": "Namespaced",
            })
        };
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": name},
            "webhooks": [{
                "name": "audit.example.org",
                "clientConfig": {"url": format!("https://127.0.0.1:{port}/"), "caBundle": base64(&ca)},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": &*stage.namespace}},
                "rules": [
                    rule("tenantry.dev", &["buildrequests/status", "artifactfetches", "artifactfetches/status"]),
                    rule("", &["configmaps"]),
                    rule("batch", &["jobs"]),
                ],
                "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 10,
            }],
        });
        let kind = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingWebhookConfiguration",
        ));
        let registered = kube::Api::all_with(stage.client.clone(), &kind);
        let object = serde_json::from_value(configuration).expect("an object");
        registered
            .create(&Default::default(), &object)
            .await
            .expect("registered");
        let webhook = Self {
            desk,
            name,
            registered,
            server,
        };
        webhook.until_asked(stage).await;
        webhook
    }

    /// The API server takes a registration up a moment after it was stored.
    async fn until_asked(&self, stage: &Behind) {
        let maps = stage.api::<k8s_openapi::api::core::v1::ConfigMap>();
        let what = "the webhook to be asked";
        let asked = tenantry_test_support::wait_for(what, tenantry_test_support::PATIENCE, async || {
            let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": PROBE}});
            let params = kube::api::PostParams {
                dry_run: true,
                ..Default::default()
            };
            let object = serde_json::from_value(probe)?;
            maps.create(&params, &object).await?;
            let asked = self.desk.book().asked;
            Ok(tenantry_test_support::Seen::when(asked, || {
                "it is not".to_owned()
            }))
        });
        asked.await.unwrap_or_else(|e| panic!("{e:#}"));
    }

    /// From now on refuses what `rule` holds for, and nothing else.
    pub fn refuse(&self, rule: impl Fn(&Review) -> bool + Send + Sync + 'static) {
        let mut book = self.desk.book();
        book.rule = Some(Arc::new(rule));
        book.refused = 0;
    }

    /// Lets everything pass again.
    pub fn let_pass(&self) {
        self.desk.book().rule = None;
    }

    /// How much it has refused by its present rule.
    pub fn refused(&self) -> usize {
        self.desk.book().refused
    }

    /// Takes it away.
    pub async fn unregister(self) {
        self.registered
            .delete(&self.name, &Default::default())
            .await
            .expect("it was registered");
        self.server.abort();
    }
}

impl Desk {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn review(State(desk): State<Desk>, Json(asked): Json<Value>) -> Json<Value> {
    let request = &asked["request"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = match request["subResource"].as_str() {
        Some(sub) if !sub.is_empty() => format!("{}/{sub}", word(&request["resource"]["resource"])),
        _ => word(&request["resource"]["resource"]),
    };
    let review = Review {
        resource,
        object: request["object"].clone(),
    };
    let mut book = desk.book();
    book.asked |= review.object["metadata"]["name"] == PROBE;
    let refused = book.rule.as_ref().is_some_and(|rule| rule(&review));
    book.refused += usize::from(refused);
    let mut response = json!({"uid": request["uid"], "allowed": !refused});
    if refused {
        response["status"] = json!({"message": WORDS});
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

/// A CA as PEM, and who speaks under it for 127.0.0.1.
fn certificates() -> (String, TlsAcceptor) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a CA").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a key that fits");
    (ca, TlsAcceptor::from(Arc::new(config)))
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// TLS on a TCP listener, for axum.
struct Tls {
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // Whoever fails at either tries again; there is one client only.
            if let Ok((stream, address)) = self.tcp.accept().await
                && let Ok(stream) = self.tls.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}
