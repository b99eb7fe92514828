//! Pages with parts that a suite writes: figures in the docs that name the commit they were measured at.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

/// The commit of the work tree at `root`; `-dirty` where something was changed since.
pub fn commit(root: &Path) -> Result<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .current_dir(root)
        .output()
        .context("git")?;
    ensure!(output.status.success(), "git describe failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Replaces the part between the markers `<!-- begin NAME -->` and `<!-- end NAME -->` of the page.
pub fn renew_part(page: &Path, name: &str, part: &str) -> Result<()> {
    let text = fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let renewed = with_part(&text, name, part).with_context(|| page.display().to_string())?;
    fs::write(page, renewed).with_context(|| page.display().to_string())
}

fn with_part(text: &str, name: &str, part: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let (head, rest) = text.split_once(&begin).with_context(|| format!("no {begin}"))?;
    let (_, tail) = rest.split_once(&end).with_context(|| format!("no {end}"))?;
    Ok(format!("{head}{begin}\n\n{}\n{end}{tail}", part.trim_end()))
}

#[test]
fn a_part_of_the_page_is_replaced_and_nothing_else() {
    let page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n";
    let renewed = with_part(page, "x", "new\n").unwrap();
    assert_eq!(renewed, "a\n<!-- begin x -->\n\nnew\n<!-- end x -->\nb\n");
    assert_eq!(with_part(&renewed, "x", "new").unwrap(), renewed);
    assert!(with_part(page, "y", "new").is_err());
}
