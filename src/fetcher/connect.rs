//! From the plan and the mounted files to a gateway. The only place in the pod that reads secrets.

use std::{fs, io::ErrorKind, path::Path};

use secrecy::{ExposeSecret, SecretString};

use super::{
    outcome::{Failure, FailureKind},
    plan::{
        CA_FILE, CLIENT_SECRET_FILE, CredentialsPlan, GatewayPlan, KUBECONFIG_FILE, LimitsPlan,
        PASSWORD_FILE, TOKEN_FILE, TlsPlan, USERNAME_FILE, mask_file,
    },
};
use crate::{
    gateway::{Class, Credentials, Gateway, GatewayConfig, Kubeconfig, Limits, Purpose, TlsOptions},
    sinks::log::Masks,
};

/// The OAuth client secret that every KubeSphere is installed with (contract §1.1).
const SHIPPED_CLIENT_SECRET: &str = "kubesphere";

/// Sets up the connection; nothing is sent yet.
pub fn connect(plan: &GatewayPlan, directory: &Path) -> Result<Gateway, Failure> {
    // A new field has to be decided on here.
    let GatewayPlan {
        endpoint,
        credentials,
        tls: TlsPlan {
            ca_file,
            insecure_skip_verify,
        },
        limits:
            LimitsPlan {
                requests_per_second,
                burst,
                concurrent_requests,
            },
    } = plan;
    let files = Files(directory);
    let config = GatewayConfig {
        tls: TlsOptions {
            ca_pem: ca_file.then(|| files.bytes(CA_FILE)).transpose()?,
            insecure_skip_verify: *insecure_skip_verify,
        },
        limits: Limits {
            requests_per_second: *requests_per_second,
            burst: *burst,
            concurrent_requests: *concurrent_requests,
        },
        ..GatewayConfig::new(endpoint.clone(), files.credentials(credentials)?)
    };
    let gateway = Gateway::new(config).map_err(|error| {
        Failure::new(
            FailureKind::InvalidPlan,
            format!("the TenantConnection cannot work: {error}"),
        )
    })?;
    // The pod has a budget of its own, and one thing to do.
    Ok(gateway.on_behalf_of(Purpose::new("this pod", Class::Background)))
}

/// Reads the values that must not show in a log.
pub fn masks(count: u16, directory: &Path) -> Result<Masks, Failure> {
    let files = Files(directory);
    let values: Vec<SecretString> = (0..count)
        .map(|number| {
            let name = mask_file(number);
            let text = String::from_utf8(files.bytes(&name)?);
            text.map(SecretString::from)
                .map_err(|_| files.wrong(&name, "is not text (UTF-8)"))
        })
        .collect::<Result<_, _>>()?;
    Ok(Masks::of(values.iter().map(ExposeSecret::expose_secret))?)
}

/// The mounted files.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn credentials(&self, plan: &CredentialsPlan) -> Result<Credentials, Failure> {
        match plan {
            CredentialsPlan::Password {
                client_id,
                client_secret_file,
            } => Ok(Credentials::Password {
                username: self.text(USERNAME_FILE)?.trim().to_owned(),
                // As it is: a password may begin or end with a space.
                password: self.text(PASSWORD_FILE)?.into(),
                client_id: client_id.clone(),
                client_secret: if *client_secret_file {
                    self.trimmed(CLIENT_SECRET_FILE)?
                } else {
                    SHIPPED_CLIENT_SECRET.into()
                },
            }),
            CredentialsPlan::Token => Ok(Credentials::Token(self.trimmed(TOKEN_FILE)?)),
            CredentialsPlan::Kubeconfig => Kubeconfig::parse(&self.text(KUBECONFIG_FILE)?.into())
                .map(Credentials::Kubeconfig)
                .map_err(|error| self.wrong(KUBECONFIG_FILE, &format!("does not work: {error}"))),
        }
    }

    fn trimmed(&self, name: &str) -> Result<SecretString, Failure> {
        Ok(self.text(name)?.trim().into())
    }

    fn text(&self, name: &str) -> Result<String, Failure> {
        let text =
            String::from_utf8(self.bytes(name)?).map_err(|_| self.wrong(name, "is not text (UTF-8)"))?;
        if text.trim().is_empty() {
            return Err(self.wrong(name, "is empty"));
        }
        Ok(text)
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, Failure> {
        fs::read(self.0.join(name)).map_err(|why| match why.kind() {
            ErrorKind::NotFound => self.wrong(name, "is not mounted"),
            _ => self.wrong(name, &format!("cannot be read: {why}")),
        })
    }

    fn wrong(&self, name: &str, what: &str) -> Failure {
        Failure::new(
            FailureKind::CredentialsMissing,
            format!(
                "{} {what}: correct the Secret that it comes from",
                self.0.join(name).display()
            ),
        )
    }
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    fn plan(credentials: CredentialsPlan, ca_file: bool) -> GatewayPlan {
        GatewayPlan {
            endpoint: Url::parse("http://127.0.0.1:1").unwrap(),
            credentials,
            tls: TlsPlan {
                ca_file,
                insecure_skip_verify: false,
            },
            limits: LimitsPlan {
                requests_per_second: 1,
                burst: 1,
                concurrent_requests: 1,
            },
        }
    }

    #[test]
    fn every_sort_of_credentials_is_read_from_its_files() {
        let password = |client_secret_file| CredentialsPlan::Password {
            client_id: "kubesphere".into(),
            client_secret_file,
        };
        let kubeconfig = "current-context: a\ncontexts: [{name: a, context: {user: u, cluster: c}}]\n\
                          users: [{name: u, user: {token: t0p}}]\nclusters: []\n";
        for (credentials, files) in [
            (
                password(false),
                vec![(USERNAME_FILE, "dev\n"), (PASSWORD_FILE, " pw ")],
            ),
            (
                password(true),
                vec![
                    (USERNAME_FILE, "dev"),
                    (PASSWORD_FILE, "pw"),
                    (CLIENT_SECRET_FILE, "s"),
                ],
            ),
            (CredentialsPlan::Token, vec![(TOKEN_FILE, "t0p\n")]),
            (CredentialsPlan::Kubeconfig, vec![(KUBECONFIG_FILE, kubeconfig)]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let plan = plan(credentials, false);
            let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
            assert_eq!(plan.files(), names);
            for (name, content) in &files {
                let failure = connect(&plan, folder.path()).err().expect("a file is missing");
                assert_eq!(failure.kind, FailureKind::CredentialsMissing);
                assert!(failure.message.contains(name), "{failure}");
                fs::write(folder.path().join(name), " ").unwrap();
                let failure = connect(&plan, folder.path()).err().expect("a file is empty");
                assert!(failure.message.contains(name), "{failure}");
                fs::write(folder.path().join(name), content).unwrap();
            }
            connect(&plan, folder.path()).map(drop).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_never_shows_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(KUBECONFIG_FILE), "users: [{hunter2").unwrap();
        let failure = connect(&plan(CredentialsPlan::Kubeconfig, false), folder.path())
            .err()
            .expect("a refusal");
        assert!(!failure.message.contains("hunter2"), "{failure}");
        fs::write(folder.path().join(TOKEN_FILE), "hunter2").unwrap();
        fs::write(folder.path().join(CA_FILE), "hunter2").unwrap();
        let failure = connect(&plan(CredentialsPlan::Token, true), folder.path())
            .err()
            .expect("a refusal");
        assert_eq!(failure.kind, FailureKind::InvalidPlan);
        assert!(!failure.message.contains("hunter2"), "{failure}");
    }
}
