//! How a secret value may look where a text shows it. Pure; knows nothing else of the crate.
//!
//! Programs print what they are given, but seldom as it is: inside JSON, in a URL, in a trace of the shell, in an
//! `Authorization` header. The set is the one that Jenkins itself masks for its credentials (as it is, quoted for a shell,
//! in base64 at any offset), and what HTTP and JSON make of a value. What a build does beyond that (reverse it, encrypt it,
//! break it into lines) nobody can undo.

use base64::{Engine as _, engine::general_purpose as base64_as};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longer values, in bytes, are known as they are and inside JSON only: the automaton that looks for them has a state a byte.
const MAX_ENCODED: usize = 4096;
/// Shorter pieces of base64 would be found in any text.
const MIN_BASE64: usize = 6;

/// What a URL's path or query leaves as it is (RFC 3986).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What a form leaves as it is; its spaces are `+`.
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'*')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b' ');

/// The value as it is, and in every disguise that is looked for; some may be equal.
pub fn forms(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned(), in_json(value)];
    if value.len() <= MAX_ENCODED {
        forms.extend(in_url(value));
        forms.extend(in_shell(value));
        forms.extend(in_base64(value.as_bytes()));
    }
    forms
}

fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// With upper and lower case digits: RFC 3986 wants the one, some libraries write the other.
fn in_url(text: &str) -> [String; 4] {
    let upper = [
        utf8_percent_encode(text, UNRESERVED).to_string(),
        utf8_percent_encode(text, FORM).to_string().replace(' ', "+"),
    ];
    let lower = upper.clone().map(|text| lower_escapes(&text));
    let [[a, b], [c, d]] = [upper, lower];
    [a, b, c, d]
}

fn lower_escapes(text: &str) -> String {
    let mut digits = 0;
    text.chars()
        .map(|c| {
            if c == '%' {
                digits = 2;
                return c;
            }
            if digits > 0 {
                digits -= 1;
                return c.to_ascii_lowercase();
            }
            c
        })
        .collect()
}

/// In single quotes, two ways to write one of them; in double quotes; and with every odd character escaped.
fn in_shell(text: &str) -> [String; 4] {
    let escaped = |odd: &dyn Fn(char) -> bool| {
        let mut out = String::with_capacity(text.len() + 8);
        for c in text.chars() {
            if odd(c) {
                out.push('\\');
            }
            out.push(c);
        }
        out
    };
    [
        text.replace('\'', r"'\''"),
        text.replace('\'', r#"'"'"'"#),
        escaped(&|c| matches!(c, '"' | '$' | '`' | '\\')),
        escaped(&|c| c.is_ascii() && !c.is_ascii_alphanumeric() && !"_-./:=+,@%".contains(c)),
    ]
}

/// The value inside of some longer text that was encoded as a whole: where it begins at each of the three offsets, the
/// characters that come from it alone.
fn in_base64(value: &[u8]) -> impl Iterator<Item = String> {
    (0..3_usize).flat_map(move |before| {
        let mut text = vec![0; before];
        text.extend_from_slice(value);
        let (from, to) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
        [
            base64_as::STANDARD_NO_PAD.encode(&text),
            base64_as::URL_SAFE_NO_PAD.encode(&text),
        ]
        .into_iter()
        .map(move |encoded| encoded[from..to].to_owned())
        .filter(|piece| piece.len() >= MIN_BASE64)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(value: &str, text: &str) -> bool {
        forms(value).iter().any(|form| text.contains(form.as_str()))
    }

    #[test]
    fn a_value_is_found_however_programs_print_it() {
        let value = r#"p@ss w'rd/"$x"?ö"#;
        for text in [
            r#"p@ss w'rd/"$x"?ö"#,
            r#"{"password": "p@ss w'rd/\"$x\"?ö"}"#,
            "password=p%40ss+w%27rd%2F%22%24x%22%3F%C3%B6&x=1",
            "https://robo:p%40ss%20w%27rd%2F%22%24x%22%3F%C3%B6@host/",
            "password=p%40ss+w%27rd%2f%22%24x%22%3f%c3%b6&x=1",
            r#"+ curl -u 'robo:p@ss w'\''rd/"$x"?ö'"#,
            r#"+ curl -u 'robo:p@ss w'"'"'rd/"$x"?ö'"#,
            r#"+ curl -u "robo:p@ss w'rd/\"\$x\"?ö""#,
            r#"+ curl -u robo:p@ss\ w\'rd/\"\$x\"\?ö"#,
        ] {
            assert!(found(value, text), "{text}");
        }
        assert!(!found(value, "some other text"));
    }

    proptest! {
        #[test]
        fn a_value_is_found_in_base64_of_whatever_surrounds_it(
            value in "[ -~]{5,40}", before in "[ -~]{0,9}", after in "[ -~]{0,9}",
        ) {
            let all = format!("{before}{value}{after}");
            for encoded in [base64_as::STANDARD.encode(&all), base64_as::URL_SAFE_NO_PAD.encode(&all)] {
                prop_assert!(found(&value, &encoded), "{encoded}");
            }
        }

        #[test]
        fn no_form_of_a_value_is_empty(value in ".{1,40}") {
            prop_assert!(forms(&value).iter().all(|form| !form.is_empty()));
        }
    }
}
