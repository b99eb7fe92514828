//! The last step of `make bench`: puts what the benches wrote into the docs, as tables and as plots of how costs grow.
//!
//! Each `<!-- begin bench NAME -->` of docs/performance.md gets the table of `target/bench/NAME.md`; docs/scaling.md and
//! docs/growth-*.svg are made from the figures of all. A bench that was not run leaves its part as it is.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tenantry_test_support::{
    bench::{self, plot::Plot},
    page,
};

/// Figures by name: value and baseline.
type Figures = BTreeMap<String, (f64, Option<f64>)>;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let performance = root.join("docs/performance.md");
    for name in ["follow", "objects", "life", "throughput", "soak"] {
        let Ok(part) = fs::read_to_string(bench::path(name).with_extension("md")) else {
            println!("{name} was not run: its part stays as it is");
            continue;
        };
        page::renew_part(&performance, &format!("bench {name}"), &part)?;
    }
    let (follow, objects) = (figures("follow")?, figures("objects")?);
    let mut text = String::new();
    if !follow.is_empty() {
        text += &crowds(&follow, root)?;
    }
    if !objects.is_empty() {
        text += &finished(&objects, root)?;
    }
    if !text.is_empty() {
        page::renew_part(&root.join("docs/scaling.md"), "growth", &text)?;
    }
    Ok(())
}

/// What a bench wrote; nothing where it was not run.
fn figures(name: &str) -> Result<Figures> {
    let Ok(text) = fs::read_to_string(bench::path(name)) else {
        return Ok(Figures::new());
    };
    let lines: Vec<Value> =
        serde_json::from_str(&text).with_context(|| format!("target/bench/{name}.json"))?;
    let figure = |line: &Value| {
        let name = line["name"].as_str()?.to_owned();
        Some((name, (line["value"].as_f64()?, line["baseline"].as_f64())))
    };
    Ok(lines.iter().filter_map(figure).collect())
}

/// The figures `N builds, WHO: WHAT` as points by N.
fn points(figures: &Figures, unit: &str, who: &str, what: &str) -> Vec<[f64; 2]> {
    let point = |(name, (value, _)): (&String, &(f64, Option<f64>))| {
        let (n, rest) = name.split_once(unit)?;
        (rest == format!("{who}: {what}")).then_some([n.parse().ok()?, *value])
    };
    let mut points: Vec<_> = figures.iter().filter_map(point).collect();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    points
}

/// A table with a column for each number.
fn table(head: &str, rows: &[(String, Vec<[f64; 2]>)]) -> String {
    let mut columns: Vec<f64> = rows
        .iter()
        .flat_map(|(_, points)| points.iter().map(|p| p[0]))
        .collect();
    columns.sort_by(f64::total_cmp);
    columns.dedup();
    let names: Vec<_> = columns.iter().map(|n| format!(" {n} |")).collect();
    let mut text = format!(
        "| {head} |{}\n|---|{}\n",
        names.concat(),
        "--:|".repeat(columns.len())
    );
    for (name, points) in rows {
        let cell = |n: &f64| {
            let value = points.iter().find(|p| p[0] == *n).map(|p| format!("{:.2}", p[1]));
            format!(" {} |", value.unwrap_or_default())
        };
        // Writing into a String cannot fail.
        let _ = writeln!(text, "| {name} |{}", columns.iter().map(cell).collect::<String>());
    }
    text + "\n"
}

fn crowds(follow: &Figures, root: &Path) -> Result<String> {
    let of = |who: &str, what: &str| points(follow, " builds, ", who, what);
    let line = |name: &str, who: &str, what: &str| (name.to_owned(), of(who, what));
    let requests = "requests, start to end of runs";
    let asked = vec![
        line("bash loops", "bash loops", requests),
        line("tenantry, list", "list", requests),
        line("tenantry, watch", "watch", requests),
    ];
    let worked = vec![
        line("bash loops", "bash loops", "CPU"),
        line("tenantry, list", "list", "CPU of the operator"),
        line("tenantry, watch", "watch", "CPU of the operator"),
    ];
    plot(
        root,
        "requests",
        "Gateway requests from start to end of the runs",
        ["builds at the same time", "requests"],
        true,
        &asked,
    )?;
    plot(
        root,
        "cpu",
        "CPU time for all of them",
        ["builds at the same time", "seconds"],
        true,
        &worked,
    )?;
    let mut rows = Vec::new();
    for (label, lines) in [("requests from start to end of runs", asked), ("CPU, s", worked)] {
        rows.extend(
            lines
                .into_iter()
                .map(|(name, points)| (format!("{label}: {name}"), points)),
        );
    }
    for (name, what) in [
        ("peak memory, MiB", "peak memory of the operator (VmHWM)"),
        ("most requests in a second", "most requests in a second"),
        ("end of run to condition, p99, s", "end of run to condition, p99"),
        ("CPU of API server and etcd, s", "CPU of API server and etcd"),
    ] {
        rows.push(line(&format!("{name}: tenantry, watch"), "watch", what));
    }
    let mut text =
        String::from("### With builds\n\n![requests](growth-requests.svg) ![CPU](growth-cpu.svg)\n\n");
    text += &table("builds at the same time, in one project", &rows);
    for (head, unit) in [("projects", " projects, "), ("connections", " connections, ")] {
        let rows: Vec<_> = [
            "requests, start to end of runs",
            "CPU of the operator",
            "peak memory of the operator (VmHWM)",
        ]
        .map(|what| (what.to_owned(), points(follow, unit, "200 builds", what)))
        .into();
        if rows.iter().any(|(_, points)| !points.is_empty()) {
            let _ = write!(
                text,
                "### With {head}\n\n{}",
                table(&format!("{head}, 200 builds over all"), &rows)
            );
        }
    }
    Ok(text)
}

fn finished(objects: &Figures, root: &Path) -> Result<String> {
    let of = |what: &str| points(objects, " finished", "", what);
    let beside = |with: &str| {
        let name = format!(" finished: RSS, against controller-runtime with {with}");
        let mut points: Vec<_> = objects
            .iter()
            .filter_map(|(key, (_, baseline))| Some([key.strip_suffix(&name)?.parse().ok()?, (*baseline)?]))
            .collect();
        points.sort_by(|a: &[f64; 2], b| a[0].total_cmp(&b[0]));
        points
    };
    let lines = vec![
        ("controller-runtime, whole".to_owned(), beside("whole objects")),
        ("controller-runtime, metadata".to_owned(), beside("metadata only")),
        ("tenantry".to_owned(), of("RSS at rest")),
    ];
    plot(
        root,
        "memory",
        "Resident memory at rest",
        ["finished BuildRequests of 5 KB", "MiB"],
        false,
        &lines,
    )?;
    let mut rows: Vec<_> = lines
        .into_iter()
        .map(|(name, points)| (format!("RSS, MiB: {name}"), points))
        .collect();
    for what in [
        "start to ready",
        "CPU of the start",
        "requests to the API server",
        "bytes from the API server",
    ] {
        rows.push((format!("{what}: tenantry"), of(what)));
    }
    Ok(format!(
        "### With objects\n\n![memory](growth-memory.svg)\n\n{}",
        table("finished BuildRequests", &rows)
    ))
}

fn plot(
    root: &Path,
    name: &str,
    title: &str,
    axes: [&str; 2],
    logarithmic: bool,
    lines: &[(String, Vec<[f64; 2]>)],
) -> Result<()> {
    let plot = Plot {
        title: title.into(),
        axes: axes.map(str::to_owned),
        logarithmic,
        lines: lines.to_vec(),
    };
    fs::write(root.join(format!("docs/growth-{name}.svg")), plot.svg())?;
    Ok(())
}
