//! Checks parameters against what the pipeline or branch declares, before a run is started (contract §6.5): Jenkins
//! would refuse the trigger and the remote would try it for ever, with nothing in the run's status (finding A4).

use crate::{
    api::conditions::Reason,
    gateway::{DeclaredParameter, Parameter, ParameterKind},
    trouble::Trouble,
};

/// How many declared parameters or choices a message lists.
const LISTED: usize = 20;

/// Checks `given` against `declared`. All mistakes are told at once.
pub fn check(pipeline: &str, declared: &[DeclaredParameter], given: &[Parameter]) -> Result<(), Trouble> {
    let mut mistakes = Vec::new();
    for parameter in given {
        match declared.iter().find(|d| d.name == parameter.name) {
            None => mistakes.push(format!("{:?} is not declared", parameter.name)),
            Some(declared) => mistakes.extend(mistake(declared, &parameter.value)),
        }
    }
    for parameter in declared {
        let is_given = given.iter().any(|g| g.name == parameter.name);
        if !is_given && needs_value(parameter) {
            mistakes.push(format!("{:?} needs a value, it has no default", parameter.name));
        }
    }
    if mistakes.is_empty() {
        return Ok(());
    }
    Err(Trouble::user(
        Reason::ParametersInvalid,
        format!(
            "parameters of pipeline {pipeline:?}: {}; it declares {}",
            mistakes.join("; "),
            describe(declared)
        ),
    ))
}

/// A choice without a default takes its first choice; anything else without one must be given (contract §6.5). A text
/// that the pipeline's spec declares without a default has the empty one, and the gateway module says so.
fn needs_value(declared: &DeclaredParameter) -> bool {
    declared.default.is_none() && (declared.kind != ParameterKind::Choice || declared.choices.is_empty())
}

fn mistake(declared: &DeclaredParameter, value: &str) -> Option<String> {
    let name = &declared.name;
    match &declared.kind {
        ParameterKind::Choice
            if !declared.choices.is_empty() && !declared.choices.iter().any(|c| c == value) =>
        {
            Some(format!(
                "{name:?} must be one of {}",
                list(declared.choices.iter().map(String::as_str))
            ))
        }
        ParameterKind::Boolean if !matches!(value, "true" | "false") => {
            Some(format!("{name:?} must be \"true\" or \"false\""))
        }
        ParameterKind::File => Some(format!(
            "{name:?} is a file, which cannot be given through the gateway"
        )),
        ParameterKind::Choice
        | ParameterKind::Boolean
        | ParameterKind::String
        | ParameterKind::Text
        | ParameterKind::Password
        | ParameterKind::Other(_) => None,
    }
}

fn describe(declared: &[DeclaredParameter]) -> String {
    if declared.is_empty() {
        return "none".into();
    }
    list(declared.iter().map(|d| match d.choices.as_slice() {
        [] => d.name.clone(),
        choices => format!(
                "{} ({})",
                d.name,
                choices
                    .iter()
                    .take(LISTED)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join("|")
            ),
    }))
}

fn list<T: Into<String>>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let mut text = items
        .take(LISTED)
        .map(Into::into)
        .collect::<Vec<String>>()
        .join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared(
        name: &str,
        kind: ParameterKind,
        default: Option<&str>,
        choices: &[&str],
    ) -> DeclaredParameter {
        DeclaredParameter {
            name: name.into(),
            kind,
            default: default.map(Into::into),
            choices: choices.iter().map(|c| (*c).into()).collect(),
            description: None,
        }
    }

    fn given(name: &str, value: &str) -> Parameter {
        Parameter {
            name: name.into(),
            value: value.into(),
        }
    }

    #[test]
    fn every_kind_of_mistake_is_told_with_what_is_declared() {
        let all = [
            declared("VERSION", ParameterKind::String, Some("1"), &[]),
            declared(
                "TARGET",
                ParameterKind::Choice,
                Some("staging"),
                &["staging", "production"],
            ),
            declared("DRY", ParameterKind::Boolean, Some("false"), &[]),
            declared("UPLOAD", ParameterKind::File, Some(""), &[]),
        ];
        let required = [declared("NAME", ParameterKind::String, None, &[])];
        assert!(check("build", &required, &[given("NAME", "")]).is_ok());
        let missing = check("build", &required, &[]).unwrap_err();
        assert!(
            missing.message.contains("\"NAME\" needs a value"),
            "{}",
            missing.message
        );
        let cases: &[(&[Parameter], &[&str])] = &[
            (&[], &[]),
            (
                &[
                    given("VERSION", "2"),
                    given("TARGET", "production"),
                    given("DRY", "true"),
                ],
                &[],
            ),
            (
                &[given("VERSOIN", "2")],
                &[
                    "\"VERSOIN\" is not declared",
                    "VERSION, TARGET (staging|production), DRY",
                ],
            ),
            (
                &[given("TARGET", "prod")],
                &["\"TARGET\" must be one of staging, production"],
            ),
            (&[given("DRY", "yes")], &["\"DRY\" must be \"true\" or \"false\""]),
            (&[given("UPLOAD", "x")], &["\"UPLOAD\" is a file"]),
            (
                &[given("X", "1"), given("TARGET", "prod")],
                &["\"X\" is not declared", "\"TARGET\" must be one of"],
            ),
        ];
        for (given, words) in cases {
            match (check("build", &all, given), words.is_empty()) {
                (Ok(()), true) => {}
                (Err(trouble), false) => {
                    assert!(trouble.is_stalled());
                    assert_eq!(trouble.reason, Reason::ParametersInvalid);
                    for word in *words {
                        assert!(
                            trouble.message.contains(word),
                            "{word:?} is not in {:?}",
                            trouble.message
                        );
                    }
                }
                (other, _) => panic!("{given:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_value_is_never_in_the_message() {
        let all = [declared("TOKEN", ParameterKind::Choice, None, &["a"])];
        let trouble = check(
            "build",
            &all,
            &[given("TOKEN", "s3cret"), given("OTHER", "s3cret")],
        )
        .unwrap_err();
        assert!(!trouble.message.contains("s3cret"), "{}", trouble.message);
    }

    #[test]
    fn long_lists_are_cut() {
        let all: Vec<_> = (0..50)
            .map(|n| declared(&format!("P{n}"), ParameterKind::String, Some(""), &[]))
            .collect();
        let trouble = check("build", &all, &[given("X", "")]).unwrap_err();
        assert!(
            trouble.message.contains("and 30 more") && trouble.message.len() < 1000,
            "{}",
            trouble.message
        );
    }
}
