use serde_json::{Value, json};

use super::*;

const PASSWORD: &str = "correct-horse";

fn spec(patch: Value) -> TenantConnectionSpec {
    let mut spec = json!({
        "endpoint": "https://ks.example.org",
        "workspace": "demo",
        "credentials": {"password": {"secretRef": {"name": "ks"}}},
    });
    for (key, value) in patch.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    serde_json::from_value(spec).expect("a spec")
}

fn data(entries: &[(&str, &str)]) -> Data {
    let entries = entries.iter();
    Data(
        entries
            .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
            .collect(),
    )
}

fn secret(name: &str, entries: &[(&str, &str)]) -> Material {
    let mut material = Material::default();
    material.insert(Kind::Secret, name, Some(data(entries)));
    material
}

fn assemble(material: &Material, spec: &TenantConnectionSpec) -> Result<Ingredients, Trouble> {
    material.assemble(&ObjectKey::new("team", "conn"), spec)
}

fn digest(material: &Material, spec: &TenantConnectionSpec) -> Digest {
    match assemble(material, spec) {
        Ok(ingredients) => ingredients.digest(),
        Err(trouble) => panic!("{trouble}"),
    }
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_its_values() {
    let token = json!({"credentials": {"token": {"secretRef": {"name": "ks"}}}});
    let kubeconfig = json!({"credentials": {"kubeconfig": {"secretRef": {"name": "ks"}}}});
    let cases = [
        (
            json!({}),
            Material::default(),
            Reason::ReferenceNotFound,
            r#"no Secret "ks" in namespace team"#,
        ),
        (
            json!({}),
            secret("ks", &[("username", "alice"), ("pass", PASSWORD)]),
            Reason::SecretKeyMissing,
            r#"Secret team/ks has no key "password" (it has pass, username)"#,
        ),
        (
            json!({}),
            secret("ks", &[]),
            Reason::SecretKeyMissing,
            "it is empty",
        ),
        (
            json!({}),
            secret("ks", &[("username", " \n"), ("password", PASSWORD)]),
            Reason::SecretKeyMissing,
            r#"key "username" of Secret team/ks is empty"#,
        ),
        (
            token,
            secret("ks", &[("password", PASSWORD)]),
            Reason::SecretKeyMissing,
            "spec.credentials.token.key",
        ),
        (
            kubeconfig,
            secret("ks", &[("kubeconfig", &format!("users: [{PASSWORD}"))]),
            Reason::InvalidSpec,
            "kubeconfig",
        ),
    ];
    for (patch, material, reason, says) in cases {
        let Err(trouble) = assemble(&material, &spec(patch.clone())) else {
            panic!("{patch} was taken")
        };
        assert_eq!(trouble.reason, reason, "{trouble}");
        assert!(trouble.is_stalled(), "{trouble}");
        assert!(trouble.message.contains(says), "{says:?} not in: {trouble}");
        assert!(
            !trouble.message.contains(PASSWORD),
            "a secret is in the message: {trouble}"
        );
    }
}

#[test]
fn a_value_that_is_no_text_is_said_to_be_none() {
    let mut material = Material::default();
    let mut entries = data(&[("username", "alice")]);
    entries.0.insert("password".into(), vec![0xff, 0xfe]);
    material.insert(Kind::Secret, "ks", Some(entries));
    let trouble = assemble(&material, &spec(json!({}))).err().expect("refused");
    assert_eq!(trouble.reason, Reason::SecretKeyMissing);
    assert!(trouble.message.contains("not text"), "{trouble}");
}

#[test]
fn a_token_loses_its_line_break_and_a_password_keeps_its_spaces() {
    let material = secret("ks", &[("token", "abc\n")]);
    let patch = json!({"credentials": {"token": {"secretRef": {"name": "ks"}}}});
    match assemble(&material, &spec(patch)).expect("good").credentials {
        Credentials::Token(token) => assert_eq!(token.expose_secret(), "abc"),
        other => panic!("{other:?}"),
    }
    let material = secret("ks", &[("username", "alice\n"), ("password", " p ")]);
    match assemble(&material, &spec(json!({}))).expect("good").credentials {
        Credentials::Password {
            username, password, ..
        } => {
            assert_eq!((username.as_str(), password.expose_secret()), ("alice", " p "));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ca_must_hold_certificates() {
    let with = |pem: &str| {
        let mut material = secret("ks", &[("username", "alice"), ("password", PASSWORD)]);
        material.insert(Kind::ConfigMap, "ca", Some(data(&[("ca.crt", pem)])));
        let ca = json!({"tls": {"caRef": {"configMap": {"name": "ca", "key": "ca.crt"}}}});
        assemble(&material, &spec(ca)).map(|_| ())
    };
    // Whether the certificate itself makes sense is the TLS library's to say.
    assert_eq!(
        with("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Ok(())
    );
    for (bad, says) in [
        ("", "no certificate"),
        ("hello", "no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
            "PEM",
        ),
    ] {
        let trouble = with(bad).expect_err(bad);
        assert_eq!(trouble.reason, Reason::InvalidSpec);
        assert!(trouble.message.contains(says), "{trouble}");
    }
    // A key whose line breaks were lost, named by mistake: nothing of it is quoted, in no form.
    let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    let trouble = with(&format!("-----BEGIN PRIVATE KEY {key}")).expect_err("no PEM");
    let bytes = format!("{:?}", key.as_bytes());
    for form in [key, bytes.trim_matches(['[', ']'])] {
        assert!(!trouble.message.contains(form), "{trouble}");
    }
    let mut material = secret("ks", &[("username", "alice"), ("password", PASSWORD)]);
    material.insert(Kind::ConfigMap, "ca", Some(data(&[])));
    let ca = json!({"tls": {"caRef": {"configMap": {"name": "ca", "key": "ca.crt"}}}});
    let trouble = assemble(&material, &spec(ca)).err().expect("refused");
    assert_eq!(trouble.reason, Reason::ConfigMapKeyMissing);
}

#[test]
fn a_new_session_is_begun_for_new_ingredients_only() {
    let material = |password: &str| secret("ks", &[("username", "alice"), ("password", password)]);
    let first = digest(&material("a"), &spec(json!({})));
    for same in [
        json!({"workspace": "other"}),
        json!({"cluster": "member"}),
        json!({"pollInterval": "1m"}),
        json!({"limits": {"concurrentRuns": 3}}),
    ] {
        assert!(
            digest(&material("a"), &spec(same.clone())) == first,
            "{same} needs no new session"
        );
    }
    for other in [
        json!({"endpoint": "https://other.example.org"}),
        json!({"limits": {"requestsPerSecond": 1}}),
        json!({"limits": {"burst": 1}}),
        json!({"tls": {"insecureSkipVerify": true}}),
        json!({"credentials": {"password": {"secretRef": {"name": "ks"}, "clientId": "x"}}}),
    ] {
        assert!(
            digest(&material("a"), &spec(other.clone())) != first,
            "{other} needs a new session"
        );
    }
    assert!(digest(&material("b"), &spec(json!({}))) != first);
}

#[test]
fn every_source_is_named_once() {
    let all = spec(json!({
        "credentials": {"password": {
            "secretRef": {"name": "ks"}, "clientSecretRef": {"name": "client", "key": "k"},
        }},
        "tls": {"caRef": {"configMap": {"name": "ca", "key": "ca.crt"}}},
    }));
    assert_eq!(
        references(&all).into_iter().collect::<Vec<_>>(),
        [
            (Kind::Secret, "client".to_owned()),
            (Kind::Secret, "ks".to_owned()),
            (Kind::ConfigMap, "ca".to_owned())
        ]
    );
}
