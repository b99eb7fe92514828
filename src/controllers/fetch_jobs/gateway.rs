//! What a pod is told of the TenantConnection, and which keys of which Secrets it is given as files. Pure.

use k8s_openapi::api::core::v1::{ConfigMapProjection, KeyToPath, SecretProjection, VolumeProjection};
use url::Url;

use crate::{
    api::{
        TenantConnectionSpec,
        common::KeyRef,
        conditions::Reason,
        tenant_connection::{
            CaRef, Credentials, KubeconfigCredentials, Limits, PasswordCredentials, Tls, TokenCredentials,
        },
    },
    fetcher::plan::{
        CA_FILE, CLIENT_SECRET_FILE, CredentialsPlan, GatewayPlan, KUBECONFIG_FILE, LimitsPlan,
        PASSWORD_FILE, TOKEN_FILE, TlsPlan, USERNAME_FILE,
    },
    trouble::Trouble,
};

/// How the pod reaches the gateway, and the files that it needs for that.
pub fn access(spec: &TenantConnectionSpec) -> Result<(GatewayPlan, Vec<VolumeProjection>), Trouble> {
    // A new field has to be decided on here.
    let TenantConnectionSpec {
        endpoint,
        workspace: _,
        cluster: _,
        credentials,
        tls,
        limits:
            Limits {
                requests_per_second,
                burst,
                concurrent_requests,
                concurrent_runs: _,
            },
        poll_interval: _,
        suspend: _,
    } = spec;
    let endpoint = Url::parse(endpoint).map_err(|why| {
        Trouble::user(
            Reason::InvalidSpec,
            format!("spec.endpoint of the TenantConnection is not a URL: {why}"),
        )
    })?;
    let (credentials, mut files) = login(credentials)?;
    let ca = tls.as_ref().and_then(|tls| tls.ca_ref.as_ref());
    files.extend(ca.map(authority).transpose()?);
    let plan = GatewayPlan {
        endpoint,
        credentials,
        tls: TlsPlan {
            ca_file: ca.is_some(),
            insecure_skip_verify: tls.as_ref().is_some_and(
                |Tls {
                     ca_ref: _,
                     insecure_skip_verify,
                 }| *insecure_skip_verify,
            ),
        },
        limits: LimitsPlan {
            requests_per_second: *requests_per_second,
            burst: *burst,
            concurrent_requests: *concurrent_requests,
        },
    };
    Ok((plan, files))
}

fn login(credentials: &Credentials) -> Result<(CredentialsPlan, Vec<VolumeProjection>), Trouble> {
    match credentials {
        Credentials {
            password: Some(password),
            token: None,
            kubeconfig: None,
        } => {
            let PasswordCredentials {
                secret_ref,
                username_key,
                password_key,
                client_id,
                client_secret_ref,
            } = password;
            let items = [(username_key, USERNAME_FILE), (password_key, PASSWORD_FILE)];
            let mut files = vec![secret(&secret_ref.name, &items)];
            if let Some(KeyRef { name, key }) = client_secret_ref {
                files.push(secret(name, &[(key, CLIENT_SECRET_FILE)]));
            }
            let plan = CredentialsPlan::Password {
                client_id: client_id.clone(),
                client_secret_file: client_secret_ref.is_some(),
            };
            Ok((plan, files))
        }
        Credentials {
            password: None,
            token: Some(TokenCredentials { secret_ref, key }),
            kubeconfig: None,
        } => Ok((
            CredentialsPlan::Token,
            vec![secret(&secret_ref.name, &[(key, TOKEN_FILE)])],
        )),
        Credentials {
            password: None,
            token: None,
            kubeconfig: Some(KubeconfigCredentials { secret_ref, key }),
        } => Ok((
            CredentialsPlan::Kubeconfig,
            vec![secret(&secret_ref.name, &[(key, KUBECONFIG_FILE)])],
        )),
        // The schema does not let this in.
        _ => Err(Trouble::user(
            Reason::InvalidSpec,
            "set exactly one of credentials.password, credentials.token and credentials.kubeconfig",
        )),
    }
}

fn authority(ca: &CaRef) -> Result<VolumeProjection, Trouble> {
    match ca {
        CaRef {
            secret: Some(KeyRef { name, key }),
            config_map: None,
        } => Ok(secret(name, &[(key, CA_FILE)])),
        CaRef {
            secret: None,
            config_map: Some(KeyRef { name, key }),
        } => Ok(VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: name.clone(),
                items: Some(vec![item(key, CA_FILE)]),
                optional: None,
            }),
            ..VolumeProjection::default()
        }),
        // The schema does not let this in.
        _ => Err(Trouble::user(
            Reason::InvalidSpec,
            "set exactly one of caRef.secret and caRef.configMap",
        )),
    }
}

/// The file with a value that a log must not show.
pub fn masked(KeyRef { name, key }: &KeyRef, file: &str) -> VolumeProjection {
    secret(name, &[(key, file)])
}

fn secret(name: &str, items: &[(&String, &str)]) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: name.to_owned(),
            items: Some(items.iter().map(|(key, path)| item(key, path)).collect()),
            optional: None,
        }),
        ..VolumeProjection::default()
    }
}

fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath {
        key: key.into(),
        path: path.into(),
        mode: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn access_of(more: &Value) -> (GatewayPlan, Value) {
        let mut spec = json!({"endpoint": "https://ks.example.org", "workspace": "acme"});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let spec: TenantConnectionSpec = serde_json::from_value(spec).unwrap();
        let (plan, files) = access(&spec).unwrap();
        (plan, serde_json::to_value(files).unwrap())
    }

    /// The paths that are mapped.
    fn paths(files: &Value) -> Vec<String> {
        let sources = files.as_array().unwrap().iter();
        let items = sources.flat_map(|source| {
            let object = source.as_object().unwrap().values().next().unwrap();
            object["items"].as_array().unwrap().clone()
        });
        items
            .map(|item| item["path"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_file_that_the_plan_asks_for_is_mapped_and_no_other() {
        let password = json!({"password": {"secretRef": {"name": "s"}}});
        let client =
            json!({"password": {"secretRef": {"name": "s"}, "clientSecretRef": {"name": "c", "key": "k"}}});
        let token = json!({"token": {"secretRef": {"name": "s"}}});
        let kubeconfig = json!({"kubeconfig": {"secretRef": {"name": "s"}}});
        let secret_ca = json!({"caRef": {"secret": {"name": "ca", "key": "tls.crt"}}});
        let map_ca = json!({"caRef": {"configMap": {"name": "ca", "key": "tls.crt"}}});
        for credentials in [password, client, token, kubeconfig] {
            for tls in [json!({}), secret_ca.clone(), map_ca.clone()] {
                let (plan, files) = access_of(&json!({"credentials": credentials, "tls": tls}));
                assert_eq!(paths(&files), plan.files(), "{credentials} {tls}");
            }
        }
    }

    #[test]
    fn keys_are_mapped_from_where_the_connection_has_them() {
        let (plan, files) = access_of(&json!({
            "credentials": {"password": {
                "secretRef": {"name": "login"}, "usernameKey": "user", "passwordKey": "pass", "clientId": "mine",
            }},
            "tls": {"caRef": {"configMap": {"name": "ca", "key": "root.pem"}}},
            "limits": {"requestsPerSecond": 7, "burst": 9, "concurrentRequests": 16},
        }));
        assert_eq!(
            files,
            json!([
                {"secret": {"name": "login", "items": [
                    {"key": "user", "path": "username"}, {"key": "pass", "path": "password"},
                ]}},
                {"configMap": {"name": "ca", "items": [{"key": "root.pem", "path": "ca.crt"}]}},
            ])
        );
        assert_eq!(
            serde_json::to_value(plan).unwrap(),
            json!({
                "endpoint": "https://ks.example.org/",
                "credentials": {"password": {"clientId": "mine", "clientSecretFile": false}},
                "tls": {"caFile": true, "insecureSkipVerify": false},
                "limits": {"requestsPerSecond": 7, "burst": 9, "concurrentRequests": 16},
            })
        );
    }
}
