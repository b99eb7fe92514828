use serde_json::json;

use super::*;
use crate::gateway::testing::{Seen, Server, answer, config, forbidden};
use crate::gateway::{Credentials, Gateway, ProjectName};

fn project(name: &str, short: &str) -> Project {
    Project {
        name: ProjectName::new(name).unwrap(),
        short_name: short.into(),
        workspace: Some("acme".into()),
        uid: name.into(),
        deleting: false,
    }
}

#[test]
fn a_full_name_wins_then_a_short_name_that_only_one_has() {
    // One project's full name is another's short name, as an unlucky user may arrange.
    let all = [
        project("shopx7k2p", "shop"),
        project("shop9q1za", "shop"),
        project("web11111", "web"),
        project("shop", "x"),
    ];
    for (wanted, want) in [
        ("shopx7k2p", "shopx7k2p"),
        ("web", "web11111"),
        ("shop", "shop"),
        ("x", "shop"),
    ] {
        assert_eq!(
            resolve_project(&all, wanted).unwrap().name.as_str(),
            want,
            "{wanted}"
        );
    }
    let error = resolve_project(&all[..3], "shop").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"project "shop" matches 2 projects (shop9q1za, shopx7k2p): use one of these full names"#
    );
    let error = resolve_project(&all[2..3], "shop").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"no project "shop" among those this user may see (web11111 (web))"#
    );
    let error = resolve_project(&[], "shop").unwrap_err();
    assert!(error.to_string().ends_with("(there are none)"), "{error}");
}

#[tokio::test]
async fn a_project_that_is_not_listed_is_diagnosed_by_its_own_namespace() {
    let server = Server::start(|seen: &Seen| match seen.target.rsplit('/').next().unwrap() {
        "right" => answer(
            200,
            &[],
            json!({"metadata": {"labels": {"kubesphere.io/workspace": "acme"}}}).to_string(),
        ),
        "moved" => answer(
            200,
            &[],
            json!({"metadata": {"labels": {"kubesphere.io/workspace": "other"}}}).to_string(),
        ),
        "bare" => answer(200, &[], json!({"metadata": {"labels": null}}).to_string()),
        _ => forbidden(),
    })
    .await;
    let scope = Gateway::new(config(&server.url, Credentials::Token("always-good".into())))
        .unwrap()
        .scope(None);
    for (name, want) in [
        ("right", ProjectDiagnosis::NotListed),
        (
            "moved",
            ProjectDiagnosis::LabelMismatch {
                label: Some("other".into()),
            },
        ),
        ("bare", ProjectDiagnosis::LabelMismatch { label: None }),
        ("unknown", ProjectDiagnosis::NotReadable),
        ("Not A Name", ProjectDiagnosis::NotReadable),
    ] {
        assert_eq!(
            scope.diagnose_project("acme", name).await.unwrap(),
            want,
            "{name}"
        );
    }
}
