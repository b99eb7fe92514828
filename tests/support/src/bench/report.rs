//! Figures, as people and as programs read them.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde::Serialize;

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The value, in its unit.
    ValueAtMost(f64),
    /// Value / baseline.
    RatioAtLeast(f64),
    /// Value / baseline.
    RatioAtMost(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueAtMost(most) => write!(f, "value <= {most}"),
            Self::RatioAtLeast(least) => write!(f, "ratio >= {least}"),
            Self::RatioAtMost(most) => write!(f, "ratio <= {most}"),
        }
    }
}

/// One line of a report.
#[derive(Debug, Clone)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    baseline: Option<f64>,
    target: Option<Target>,
}

impl Figure {
    /// What was measured.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            baseline: None,
            target: None,
        }
    }

    /// What it is compared with: the same of something else, measured in the same run.
    #[must_use]
    pub fn against(mut self, baseline: f64) -> Self {
        self.baseline = Some(baseline);
        self
    }

    /// What is to be reached.
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Value / baseline; `None` where there is no baseline, or one of nothing.
    fn ratio(&self) -> Option<f64> {
        let baseline = self.baseline.filter(|baseline| *baseline > 0.0)?;
        Some(self.value / baseline)
    }

    /// Whether the target is met; `None` where there is none. A ratio that cannot be told meets no target.
    fn met(&self) -> Option<bool> {
        let ratio = self.ratio();
        self.target.map(|target| match target {
            Target::ValueAtMost(most) => self.value <= most,
            Target::RatioAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
            Target::RatioAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
        })
    }

    fn line(&self) -> Line<'_> {
        Line {
            name: &self.name,
            value: rounded(self.value),
            unit: self.unit,
            baseline: self.baseline.map(rounded),
            ratio: self.ratio().map(rounded),
            target: self.target.map(|target| target.to_string()),
            met: self.met(),
        }
    }
}

/// Three digits behind the point are more than was measured.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    value: f64,
    unit: &'a str,
    baseline: Option<f64>,
    ratio: Option<f64>,
    target: Option<String>,
    met: Option<bool>,
}

/// All figures of a bench.
#[derive(Debug, Clone, Default)]
pub struct Report(Vec<Figure>);

impl Report {
    /// One more line.
    pub fn add(&mut self, figure: Figure) {
        self.0.push(figure);
    }

    /// As programs read it: a list of `{name, value, unit, baseline, ratio, target, met}`.
    pub fn json(&self) -> String {
        let lines: Vec<_> = self.0.iter().map(Figure::line).collect();
        // Plain data always serialises.
        serde_json::to_string_pretty(&lines).unwrap_or_default() + "\n"
    }

    /// As people read it, a table in Markdown.
    pub fn table(&self) -> String {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        let mut text = String::from(
            "| what | value | unit | baseline | ratio | target | met |\n|---|--:|---|--:|--:|---|---|\n",
        );
        for figure in &self.0 {
            let met = match figure.met() {
                None => "",
                Some(true) => "yes",
                Some(false) => "NO",
            };
            let target = figure.target.map_or_else(String::new, |t| t.to_string());
            text += &format!(
                "| {} | {:.2} | {} | {} | {} | {target} | {met} |\n",
                figure.name,
                figure.value,
                figure.unit,
                number(figure.baseline),
                number(figure.ratio()),
            );
        }
        text
    }

    /// Names of the figures whose target is missed.
    pub fn missed(&self) -> Vec<&str> {
        let missed = self.0.iter().filter(|figure| figure.met() == Some(false));
        missed.map(|figure| figure.name.as_str()).collect()
    }

    /// Prints the table, writes the JSON to `path` and the table beside it (`.md`, with machine, commit and the command that
    /// `TENANTRY_BENCH_COMMAND` names), and says how the bench has to end.
    pub fn finish(&self, path: &Path) -> anyhow::Result<ExitCode> {
        println!("{}", self.table());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        std::fs::write(path, self.json()).with_context(|| format!("cannot write {}", path.display()))?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let commit = crate::page::commit(&root).unwrap_or_else(|_| "?".into());
        let command = std::env::var("TENANTRY_BENCH_COMMAND").unwrap_or_else(|_| "cargo bench".into());
        let told = format!(
            "`{command}` at commit `{commit}`; {}.\n\n{}",
            super::machine(),
            self.table()
        );
        let page = path.with_extension("md");
        std::fs::write(&page, told).with_context(|| format!("cannot write {}", page.display()))?;
        println!("written to {}", path.display());
        let missed = self.missed();
        if missed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("missed: {}", missed.join("; "));
        Ok(ExitCode::FAILURE)
    }
}

/// Where the report of the bench `name` goes: `bench/NAME.json` in the target directory.
pub fn path(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    target.join("bench").join(format!("{name}.json"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_target_is_met_or_missed_by_the_value_or_by_the_ratio() {
        let figure = |value| Figure::new("x", value, "s");
        for (figure, met) in [
            (figure(1.0), None),
            (figure(1.0).against(2.0), None),
            (figure(32.0).target(Target::ValueAtMost(32.0)), Some(true)),
            (figure(32.1).target(Target::ValueAtMost(32.0)), Some(false)),
            (
                figure(9.0).against(10.0).target(Target::RatioAtLeast(0.9)),
                Some(true),
            ),
            (
                figure(8.9).against(10.0).target(Target::RatioAtLeast(0.9)),
                Some(false),
            ),
            (
                figure(1.0).against(50.0).target(Target::RatioAtMost(0.02)),
                Some(true),
            ),
            (
                figure(2.0).against(50.0).target(Target::RatioAtMost(0.02)),
                Some(false),
            ),
            // What was not measured is not reached.
            (figure(9.0).target(Target::RatioAtLeast(0.9)), Some(false)),
            (
                figure(9.0).against(0.0).target(Target::RatioAtMost(1.0)),
                Some(false),
            ),
            (figure(f64::NAN).target(Target::ValueAtMost(32.0)), Some(false)),
        ] {
            assert_eq!(figure.met(), met, "{figure:?}");
        }
    }

    #[test]
    fn a_report_is_written_as_a_list_and_a_missed_target_ends_in_an_error() {
        let mut report = Report::default();
        report.add(Figure::new("speed", 90.0, "MB/s").against(100.0));
        report.add(Figure::new("peak", 40.0, "MiB").target(Target::ValueAtMost(32.0)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench/x.json");
        let code = report.finish(&path).unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
        let written: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(
            written,
            json!([
                {"name": "speed", "value": 90.0, "unit": "MB/s", "baseline": 100.0, "ratio": 0.9, "target": null, "met": null},
                {"name": "peak", "value": 40.0, "unit": "MiB", "baseline": null, "ratio": null, "target": "value <= 32", "met": false},
            ])
        );
        assert_eq!(report.missed(), ["peak"]);
        let page = std::fs::read_to_string(path.with_extension("md")).unwrap();
        assert!(
            page.contains(" at commit `") && page.ends_with(&report.table()),
            "{page}"
        );
        assert!(
            report
                .table()
                .contains("| peak | 40.00 | MiB |  |  | value <= 32 | NO |"),
            "{}",
            report.table()
        );
    }
}
