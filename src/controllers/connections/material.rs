//! What a connection is made of: which Secrets and ConfigMaps it names, and what their contents come to. Pure but for
//! [`read`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::{
    api::{
        TenantConnectionSpec,
        common::KeyRef,
        conditions::Reason,
        tenant_connection::{
            CaRef, Credentials as CredentialsSpec, KubeconfigCredentials, Limits as LimitsSpec,
            PasswordCredentials, Tls, TokenCredentials,
        },
    },
    gateway::{
        CallObserver, Credentials, GatewayConfig, Kubeconfig, Limits, SessionPolicy, TimeLimits, TlsOptions,
        WriteGate,
    },
    runtime::{Kind, ObjectKey},
    trouble::Trouble,
};

/// The OAuth client secret that every KubeSphere is installed with (contract §1.1).
const SHIPPED_CLIENT_SECRET: &str = "kubesphere";

/// The data of a Secret or ConfigMap. Cannot be printed.
pub struct Data(BTreeMap<String, Vec<u8>>);

/// Reads the data of a Secret or ConfigMap; `None` where there is none.
pub async fn read(client: &Client, kind: Kind, key: &ObjectKey) -> kube::Result<Option<Data>> {
    if kind == Kind::Secret {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
        let secret = secrets.get_opt(&key.name).await?;
        return Ok(secret.map(|s| {
            Data(
                s.data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(k, v)| (k, v.0))
                    .collect(),
            )
        }));
    }
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &key.namespace);
    let map = maps.get_opt(&key.name).await?;
    Ok(map.map(|m| {
        let text = m.data.unwrap_or_default().into_iter();
        Data(text.map(|(k, v)| (k, v.into_bytes())).collect())
    }))
}

/// The Secrets and ConfigMaps that a connection is made from.
pub fn references(spec: &TenantConnectionSpec) -> BTreeSet<(Kind, String)> {
    let CredentialsSpec {
        password,
        token,
        kubeconfig,
    } = &spec.credentials;
    let ca = spec.tls.as_ref().and_then(|tls| tls.ca_ref.as_ref());
    [
        password
            .as_ref()
            .map(|p| (Kind::Secret, p.secret_ref.name.clone())),
        password
            .as_ref()
            .and_then(|p| p.client_secret_ref.as_ref())
            .map(|r| (Kind::Secret, r.name.clone())),
        token.as_ref().map(|t| (Kind::Secret, t.secret_ref.name.clone())),
        kubeconfig
            .as_ref()
            .map(|k| (Kind::Secret, k.secret_ref.name.clone())),
        ca.and_then(|ca| ca.secret.as_ref())
            .map(|r| (Kind::Secret, r.name.clone())),
        ca.and_then(|ca| ca.config_map.as_ref())
            .map(|r| (Kind::ConfigMap, r.name.clone())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What was read of the Secrets and ConfigMaps; `None` for one that does not exist.
#[derive(Default)]
pub struct Material(HashMap<(Kind, String), Option<Data>>);

/// All that a gateway is made of.
pub struct Ingredients {
    endpoint: Url,
    credentials: Credentials,
    tls: TlsOptions,
    limits: Limits,
}

/// Tells one set of ingredients from another. Made with a cryptographic hash, since secrets go into it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Material {
    /// What was read of an object.
    pub fn insert(&mut self, kind: Kind, name: &str, data: Option<Data>) {
        self.0.insert((kind, name.to_owned()), data);
    }

    /// What the contents come to, or which of them is not as it should be.
    pub fn assemble(&self, key: &ObjectKey, spec: &TenantConnectionSpec) -> Result<Ingredients, Trouble> {
        let TenantConnectionSpec {
            endpoint,
            credentials,
            tls,
            limits,
            workspace: _,
            cluster: _,
            poll_interval: _,
            suspend: _,
        } = spec;
        let endpoint = Url::parse(endpoint).map_err(|why| {
            Trouble::user(
                Reason::InvalidSpec,
                format!("spec.endpoint of TenantConnection {key} is not a URL: {why}"),
            )
        })?;
        let LimitsSpec {
            requests_per_second,
            burst,
            concurrent_requests,
            concurrent_runs: _,
        } = limits;
        Ok(Ingredients {
            endpoint,
            credentials: self.credentials(&key.namespace, credentials)?,
            tls: self.tls(&key.namespace, tls.as_ref())?,
            limits: Limits {
                requests_per_second: *requests_per_second,
                burst: *burst,
                concurrent_requests: *concurrent_requests,
            },
        })
    }

    fn credentials(&self, namespace: &str, spec: &CredentialsSpec) -> Result<Credentials, Trouble> {
        match spec {
            CredentialsSpec {
                password: Some(password),
                token: None,
                kubeconfig: None,
            } => self.password(namespace, password),
            CredentialsSpec {
                password: None,
                token: Some(TokenCredentials { secret_ref, key }),
                kubeconfig: None,
            } => Ok(Credentials::Token(
                self.secret_text(namespace, &secret_ref.name, key, "spec.credentials.token.key")?
                    .trim(),
            )),
            CredentialsSpec {
                password: None,
                token: None,
                kubeconfig: Some(KubeconfigCredentials { secret_ref, key }),
            } => {
                let field = "spec.credentials.kubeconfig.key";
                let text = self.secret_text(namespace, &secret_ref.name, key, field)?;
                let kubeconfig = Kubeconfig::parse(&text.whole()).map_err(|error| {
                    Trouble::user(
                        Reason::InvalidSpec,
                        format!(
                            "key {key:?} of Secret {namespace}/{} does not work: {error}",
                            secret_ref.name
                        ),
                    )
                })?;
                Ok(Credentials::Kubeconfig(kubeconfig))
            }
            // The schema does not let this in.
            _ => Err(Trouble::user(
                Reason::InvalidSpec,
                "set exactly one of credentials.password, credentials.token and credentials.kubeconfig",
            )),
        }
    }

    fn password(&self, namespace: &str, spec: &PasswordCredentials) -> Result<Credentials, Trouble> {
        let PasswordCredentials {
            secret_ref,
            username_key,
            password_key,
            client_id,
            client_secret_ref,
        } = spec;
        let get = |key: &str, field: &str| self.secret_text(namespace, &secret_ref.name, key, field);
        let username = get(username_key, "spec.credentials.password.usernameKey")?;
        let password = get(password_key, "spec.credentials.password.passwordKey")?;
        let client_secret = match client_secret_ref {
            Some(KeyRef { name, key }) => self
                .secret_text(namespace, name, key, "spec.credentials.password.clientSecretRef")?
                .trim(),
            None => SHIPPED_CLIENT_SECRET.into(),
        };
        Ok(Credentials::Password {
            username: username.0.trim().to_owned(),
            // As it is: a password may begin or end with a space.
            password: password.whole(),
            client_id: client_id.clone(),
            client_secret,
        })
    }

    fn tls(&self, namespace: &str, spec: Option<&Tls>) -> Result<TlsOptions, Trouble> {
        let Some(Tls {
            ca_ref,
            insecure_skip_verify,
        }) = spec
        else {
            return Ok(TlsOptions::default());
        };
        let source = match ca_ref {
            None => None,
            Some(CaRef {
                secret: Some(KeyRef { name, key }),
                config_map: None,
            }) => Some((Kind::Secret, name, key)),
            Some(CaRef {
                secret: None,
                config_map: Some(KeyRef { name, key }),
            }) => Some((Kind::ConfigMap, name, key)),
            // The schema does not let this in.
            Some(_) => {
                return Err(Trouble::user(
                    Reason::InvalidSpec,
                    "set exactly one of caRef.secret and caRef.configMap",
                ));
            }
        };
        let ca_pem = match source {
            None => None,
            Some((kind, name, key)) => {
                let pem = self.bytes(kind, namespace, name, key, "spec.tls.caRef")?;
                check_pem(pem).map_err(|why| {
                    Trouble::user(
                        Reason::InvalidSpec,
                        format!("key {key:?} of {kind} {namespace}/{name} {why}"),
                    )
                })?;
                Some(pem.to_vec())
            }
        };
        Ok(TlsOptions {
            ca_pem,
            insecure_skip_verify: *insecure_skip_verify,
        })
    }

    fn secret_text(&self, namespace: &str, name: &str, key: &str, field: &str) -> Result<Text<'_>, Trouble> {
        let bytes = self.bytes(Kind::Secret, namespace, name, key, field)?;
        let wrong = |what: &str| {
            Trouble::user(
                Reason::SecretKeyMissing,
                format!("key {key:?} of Secret {namespace}/{name} {what}: correct the Secret"),
            )
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("is not text (UTF-8)"))?;
        if text.trim().is_empty() {
            return Err(wrong("is empty"));
        }
        Ok(Text(text))
    }

    fn bytes(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        key: &str,
        field: &str,
    ) -> Result<&[u8], Trouble> {
        let Some(Data(data)) = self.0.get(&(kind, name.to_owned())).and_then(Option::as_ref) else {
            return Err(Trouble::user(
                Reason::ReferenceNotFound,
                format!(
                    "there is no {kind} {name:?} in namespace {namespace}: create it, or correct {field}"
                ),
            ));
        };
        if let Some(value) = data.get(key) {
            return Ok(value);
        }
        let reason = if kind == Kind::Secret {
            Reason::SecretKeyMissing
        } else {
            Reason::ConfigMapKeyMissing
        };
        let has = if data.is_empty() {
            "it is empty".to_owned()
        } else {
            let keys: Vec<_> = data.keys().map(String::as_str).collect();
            format!("it has {}", keys.join(", "))
        };
        Err(Trouble::user(
            reason,
            format!("{kind} {namespace}/{name} has no key {key:?} ({has}): add it, or correct {field}"),
        ))
    }
}

/// Text out of a Secret. Cannot be printed.
struct Text<'a>(&'a str);

impl Text<'_> {
    fn whole(&self) -> SecretString {
        self.0.into()
    }

    /// Without the line break that files and `echo` put behind it.
    fn trim(&self) -> SecretString {
        self.0.trim().into()
    }
}

fn check_pem(pem: &[u8]) -> Result<(), String> {
    let mut certificates = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        // The parser's own message may quote a line, and what was named by mistake may be a private key.
        certificate.map_err(|_| {
            "is not PEM: it must be certificates, each from its own -----BEGIN CERTIFICATE----- line to its own \
             -----END CERTIFICATE----- line"
        })?;
        certificates += 1;
    }
    if certificates == 0 {
        return Err("holds no certificate: it must be PEM, from -----BEGIN CERTIFICATE----- on".into());
    }
    Ok(())
}

impl Ingredients {
    /// For [`Gateway::new`](crate::gateway::Gateway::new).
    pub fn config(
        self,
        session: SessionPolicy,
        times: TimeLimits,
        observer: Arc<dyn CallObserver>,
        gate: Arc<dyn WriteGate>,
    ) -> GatewayConfig {
        GatewayConfig {
            tls: self.tls,
            limits: self.limits,
            session,
            times,
            observer,
            gate,
            ..GatewayConfig::new(self.endpoint, self.credentials)
        }
    }

    /// The same for the same ingredients.
    pub fn digest(&self) -> Digest {
        let Self {
            endpoint,
            credentials,
            tls: TlsOptions {
                ca_pem,
                insecure_skip_verify,
            },
            limits:
                Limits {
                    requests_per_second,
                    burst,
                    concurrent_requests,
                },
        } = self;
        let mut hash = Sha256::new();
        // Each with its length, so that no two lists of parts look the same.
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(endpoint.as_str().as_bytes());
        match credentials {
            Credentials::Password {
                username,
                password,
                client_id,
                client_secret,
            } => {
                part(b"password");
                part(username.as_bytes());
                part(password.expose_secret().as_bytes());
                part(client_id.as_bytes());
                part(client_secret.expose_secret().as_bytes());
            }
            Credentials::Token(token) => {
                part(b"token");
                part(token.expose_secret().as_bytes());
            }
            Credentials::Kubeconfig(Kubeconfig {
                server,
                ca_pem,
                token,
            }) => {
                part(b"kubeconfig");
                part(server.as_ref().map_or("", Url::as_str).as_bytes());
                part(ca_pem.as_deref().unwrap_or_default());
                part(token.expose_secret().as_bytes());
            }
        }
        part(ca_pem.as_deref().unwrap_or_default());
        part(&[u8::from(*insecure_skip_verify)]);
        part(&requests_per_second.to_le_bytes());
        part(&burst.to_le_bytes());
        part(&concurrent_requests.to_le_bytes());
        Digest(hash.finalize().into())
    }
}

#[cfg(test)]
#[path = "material_tests.rs"]
mod tests;
