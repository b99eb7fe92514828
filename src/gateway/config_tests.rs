//! Kubeconfigs, and whom we trust.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
};

use base64::Engine as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::gateway::Gateway;

const KUBECONFIG: &str = r"
apiVersion: v1
kind: Config
current-context: alice@ks
clusters:
- name: other
  cluster: {server: 'https://other.example'}
- name: ks
  cluster:
    server: https://ks.example:8443/prefix
    certificate-authority-data: Y2VydA==
contexts:
- {name: other, context: {cluster: other, user: other}}
- {name: alice@ks, context: {cluster: ks, user: alice, namespace: x}}
users:
- {name: other, user: {token: others-token}}
- {name: alice, user: {token: canary-token}}
";

#[test]
fn the_current_contexts_server_ca_and_token_are_taken() {
    let got = Kubeconfig::parse(&KUBECONFIG.into()).unwrap();
    assert_eq!(
        got.server.as_ref().unwrap().as_str(),
        "https://ks.example:8443/prefix"
    );
    assert_eq!(got.ca_pem.as_deref(), Some(b"cert".as_slice()));
    assert_eq!(got.token.expose_secret(), "canary-token");
    assert!(!format!("{got:?}").contains("canary"));
}

#[test]
fn what_is_wrong_with_a_kubeconfig_is_said_without_quoting_it() {
    for (broken, says) in [
        (KUBECONFIG.replace("canary-token", ""), "no inline token"),
        (
            KUBECONFIG.replace("{token: canary-token}", "{exec: {command: canary}}"),
            "no inline token",
        ),
        (
            KUBECONFIG.replace("current-context: alice@ks", "current-context: nobody"),
            "names no context",
        ),
        (
            KUBECONFIG.replace("user: alice,", "user: nobody,"),
            "names no user",
        ),
        (KUBECONFIG.replace("Y2VydA==", "canary!"), "not base64"),
        (
            KUBECONFIG.replace("https://ks.example:8443/prefix", "canary"),
            "not a URL",
        ),
        ("canary: [".to_owned(), "not a kubeconfig"),
        ("canary".to_owned(), "not a kubeconfig"),
    ] {
        let error = Kubeconfig::parse(&broken.as_str().into()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert_eq!(error.kind(), ErrorKind::BadConfig);
        assert!(text.contains(says), "{text} does not say {says:?}");
        assert!(!text.contains("canary"), "{text}");
    }
}

/// A server for 127.0.0.1 whose certificate this CA signed; answers every request with `null`.
fn tls_server() -> (Url, Vec<u8>) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = server.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://{}", listener.local_addr().unwrap())).unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, socket);
            let mut buffer = [0; 4096];
            // A client that does not trust us breaks off here.
            if stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nnull");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    (url, ca_pem.into_bytes())
}

#[tokio::test]
async fn a_server_is_trusted_by_its_ca_or_not_at_all() {
    let (url, ca_pem) = tls_server();
    let (_, other_ca) = tls_server();
    let token = || Credentials::Token("t".into());
    let kubeconfig = Credentials::Kubeconfig(Kubeconfig {
        server: None,
        ca_pem: Some(ca_pem.clone()),
        token: "t".into(),
    });
    let tls = |ca_pem: Option<Vec<u8>>, insecure_skip_verify| TlsOptions {
        ca_pem,
        insecure_skip_verify,
    };
    for (what, credentials, tls, trusted) in [
        ("its CA", token(), tls(Some(ca_pem.clone()), false), true),
        (
            "the CA in the kubeconfig",
            kubeconfig.clone(),
            tls(None, false),
            true,
        ),
        ("another CA", token(), tls(Some(other_ca.clone()), false), false),
        (
            "another CA wins over the kubeconfig's",
            kubeconfig,
            tls(Some(other_ca), false),
            false,
        ),
        ("any certificate", token(), tls(None, true), true),
    ] {
        let config = GatewayConfig {
            tls,
            ..GatewayConfig::new(url.clone(), credentials)
        };
        let result = Gateway::new(config).unwrap().scope(None).projects("acme").await;
        match result {
            Ok(_) => assert!(trusted, "{what}: trusted"),
            Err(error) => {
                assert!(!trusted, "{what}: {error}");
                assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{what}");
                assert!(error.to_string().contains("certificate"), "{what}: {error}");
            }
        }
    }
}

#[test]
fn a_ca_that_is_none_is_refused_at_once() {
    let garbage = base64::engine::general_purpose::STANDARD.encode("no certificate");
    for pem in [
        String::new(),
        garbage.clone(),
        format!("-----BEGIN CERTIFICATE-----\n{garbage}\n-----END CERTIFICATE-----\n"),
    ] {
        let mut config = GatewayConfig::new(
            "https://127.0.0.1:1".parse().unwrap(),
            Credentials::Token("t".into()),
        );
        config.tls.ca_pem = Some(pem.clone().into_bytes());
        let error = Gateway::new(config).err().expect(&pem);
        assert_eq!(error.kind(), ErrorKind::BadConfig, "{pem}");
    }
}
