//! What was asked of the gateway, cut by the life of each run: before it began, while it ran, after it had ended.

use std::collections::{BTreeMap, HashMap};

use tenantry_simulator::{Ledger, RequestRecord};
use tenantry_test_support::bench::Samples;

use super::count;

/// The life of one run.
#[derive(Clone, Copy, Debug)]
struct Span {
    index: usize,
    began: i64,
    ended: i64,
}

/// Requests, counted.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Logins, lookups, starts, and what was asked of a run before it ran.
    pub start: usize,
    /// What was asked of runs between their start and their end, and lists and watches meanwhile.
    pub follow: usize,
    /// What was asked of each run after its end, mean and most.
    pub fetch: Samples,
    /// All of them.
    pub all: usize,
    /// Bytes of all answers.
    pub bytes: u64,
    /// Most requests within any second.
    pub busiest: usize,
    /// What was asked while runs ran, by class.
    pub follow_classes: BTreeMap<&'static str, usize>,
    /// What was asked after their ends, by class.
    pub fetch_classes: BTreeMap<&'static str, usize>,
}

/// Counts all that is in the ledger.
pub fn tally(ledger: &Ledger) -> Tally {
    let spans = spans(ledger);
    let began = spans.values().map(|s| s.began).min().unwrap_or_default();
    let ended = spans.values().map(|s| s.ended).max().unwrap_or_default();
    let mut tally = Tally::default();
    let mut fetched: HashMap<usize, usize> = HashMap::new();
    let requests = ledger.requests("*");
    for request in &requests {
        tally.bytes += request.bytes_out;
        let run = run_of(&request.path).and_then(|name| spans.get(&name));
        let follows = match run {
            Some(span) if request.at > span.ended => {
                *fetched.entry(span.index).or_default() += 1;
                *tally.fetch_classes.entry(request.class).or_default() += 1;
                continue;
            }
            Some(span) => request.at >= span.began,
            None => watches(request) && (began..=ended).contains(&request.at),
        };
        if follows {
            tally.follow += 1;
            *tally.follow_classes.entry(request.class).or_default() += 1;
        } else {
            tally.start += 1;
        }
    }
    tally.all = requests.len();
    tally.fetch = fetched.into_values().map(count).collect();
    tally.busiest = busiest(&requests);
    tally
}

/// Lists, watches and Events: what is for several runs.
fn watches(request: &RequestRecord) -> bool {
    request.class.ends_with(".list")
        && !request.class.contains("project")
        && !request.class.contains("workspace")
        || request.class.ends_with(".watch")
}

/// The lives of all runs, by what a path names them: the PipelineRun, and pipeline and number.
fn spans(ledger: &Ledger) -> HashMap<String, Span> {
    let ends: HashMap<String, i64> = ledger
        .actions("run-ended")
        .into_iter()
        .map(|action| (action.subject, action.at))
        .collect();
    let mut all = HashMap::new();
    for (index, start) in ledger.actions("run-started").into_iter().enumerate() {
        let ended = ends.get(&start.subject).copied().unwrap_or(i64::MAX);
        let span = Span {
            index,
            began: start.at,
            ended,
        };
        // `PROJECT/RUN PIPELINE #NUMBER`
        let mut words = start.subject.split(' ');
        let run = words
            .next()
            .and_then(|name| name.split_once('/'))
            .map_or("", |(_, run)| run);
        let (pipeline, number) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        all.insert(run.to_owned(), span);
        all.insert(format!("{pipeline} {number}"), span);
    }
    all
}

/// How a path names a run: `…/pipelineruns/RUN…`, `…/pipelines/P/runs/N…`, `…/jenkins/job/PROJECT/job/P/N/…`, or the
/// ConfigMap of a run.
fn run_of(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('?').next()?.split('/').collect();
    let after = |what: &str| {
        let at = parts.iter().position(|part| *part == what)?;
        parts.get(at + 1).copied().filter(|name| !name.is_empty())
    };
    if let Some(run) = after("pipelineruns").or_else(|| after("configmaps")) {
        return Some(run.to_owned());
    }
    if let Some(number) = after("runs") {
        return Some(format!("{} #{number}", after("pipelines")?));
    }
    let job = parts.windows(5).find(|w| w[0] == "job" && w[2] == "job")?;
    Some(format!("{} #{}", job[3], job[4]))
}

/// The most requests within any second.
fn busiest(requests: &[RequestRecord]) -> usize {
    let mut times: Vec<i64> = requests.iter().map(|r| r.at).collect();
    times.sort_unstable();
    let within = |(n, at): (usize, &i64)| times.partition_point(|time| *time < at + 1000) - n;
    times.iter().enumerate().map(within).max().unwrap_or_default()
}

#[test]
fn a_path_names_its_run_in_each_of_its_forms() {
    let base = "/kapis/devops.kubesphere.io/v1alpha3/namespaces/shopx7k2p";
    for (path, run) in [
        (format!("{base}/pipelineruns/t-1/nodedetails"), Some("t-1")),
        (format!("{base}/pipelines/p0/pipelineruns?limit=5"), None),
        (format!("{base}/pipelines/p0/runs/7/log/?start=0"), Some("p0 #7")),
        (
            format!("{base}/jenkins/job/shopx7k2p/job/p0/7/logText/progressiveText"),
            Some("p0 #7"),
        ),
        (
            "/clusters/host/api/v1/namespaces/shopx7k2p/configmaps/t-1".to_owned(),
            Some("t-1"),
        ),
        (format!("{base}/pipelines/p0"), None),
        ("/oauth/token".to_owned(), None),
    ] {
        assert_eq!(run_of(&path).as_deref(), run, "{path}");
    }
}
