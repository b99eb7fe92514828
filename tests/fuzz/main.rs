//! Every parser that meets bytes of strangers, fed with what strangers send: recorded answers of a real system that are cut,
//! flipped, spliced, repeated, nested and blown up.
//!
//! A target takes any bytes. It must not panic, must not keep more than its limits allow, must let nothing out of a sink,
//! and must hold to laws of its own. `cargo test --test fuzz` runs a bounded number of cases from a fixed start;
//! `make fuzz` runs from a fresh start for as long as it is told. An input that fails is made as small as possible
//! and written to `target/fuzz/TARGET/`: moved into `tests/fuzz/corpus/TARGET/`, it is tried by every later run.

mod mutate;
mod replies;
mod seeds;
mod sinks;
mod sockets;
mod volume;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// How long to try each target, in seconds, from a fresh start.
const SECONDS: &str = "TENANTRY_FUZZ_SECONDS";
/// How many cases are tried of each target where no time is given.
const CASES: u32 = 1_500;

/// A parser and its laws: panics where one is broken.
type Target = fn(&[u8]);

/// Where its inputs begin.
type Seeds = fn() -> Vec<Vec<u8>>;

/// Every target, by the name of its folder in the corpus.
const TARGETS: [(&str, Target, Seeds); 10] = [
    ("answer", replies::answer, seeds::exchanges),
    ("watch", replies::watch, seeds::watches),
    ("token", replies::token, seeds::tokens),
    ("kubeconfig", replies::kubeconfig, seeds::kubeconfigs),
    ("names", replies::names, seeds::names),
    ("outcome", volume::outcome, seeds::outcomes),
    ("volume", volume::read_back, seeds::volumes),
    ("log", sinks::log, seeds::logs),
    ("files", sinks::files, seeds::listings),
    ("http", sockets::http, seeds::raw_answers),
];

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name)
}

/// What is in the corpus of a target, with the names of the files.
fn kept(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(corpus(name)) else {
        return vec![];
    };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).expect("a file of the corpus")))
        .collect()
}

/// Whether the target takes these bytes; else what it said.
fn holds(target: Target, bytes: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| target(bytes))).map_err(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "a panic without words".into())
    })
}

fn fuzz(name: &str) {
    let (_, target, seeds) = TARGETS
        .iter()
        .find(|(known, ..)| *known == name)
        .expect("a target");
    let mut seeds = seeds();
    assert!(!seeds.is_empty(), "{name} has no seeds");
    for seed in &seeds {
        if let Err(why) = holds(*target, seed) {
            panic!("{name}: a seed fails: {why}\n{}", String::from_utf8_lossy(seed));
        }
    }
    seeds.extend(kept(name).into_iter().map(|(_, bytes)| bytes));

    let time = std::env::var(SECONDS)
        .ok()
        .and_then(|text| text.parse().ok())
        .map(Duration::from_secs);
    let begun = Instant::now();
    let config = Config {
        cases: match name {
            // Sockets, and text that is put together twice.
            "http" => CASES / 15,
            "log" => CASES / 10,
            _ => CASES,
        },
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Config::default()
    };
    let mut tried = 0;
    loop {
        let random = match time {
            Some(_) => TestRng::from_seed(RngAlgorithm::ChaCha, &fresh_seed()),
            None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
        };
        let mut runner = TestRunner::new_with_rng(config.clone(), random);
        let result = runner.run(&mutate::plans(), |plan| {
            let bytes = plan.apply(&seeds);
            holds(*target, &bytes).map_err(TestCaseError::fail)
        });
        tried += config.cases;
        match result {
            Ok(()) => {}
            Err(TestError::Fail(why, plan)) => {
                let path = keep(name, &plan.apply(&seeds));
                panic!(
                    "{name}: {why}\nthe input is in {}: move it to {}",
                    path.display(),
                    corpus(name).display()
                );
            }
            Err(TestError::Abort(why)) => panic!("{name}: {why}"),
        }
        if time.is_none_or(|time| begun.elapsed() >= time) {
            break;
        }
    }
    println!(
        "{name}: {tried} cases from {} seeds in {:?}",
        seeds.len(),
        begun.elapsed()
    );
}

fn fresh_seed() -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock");
    Sha256::digest(format!("{now:?} {}", std::process::id())).into()
}

/// Writes an input that failed to where it can be taken from.
fn keep(name: &str, bytes: &[u8]) -> PathBuf {
    use sha2::{Digest as _, Sha256};
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("target/fuzz")
        .join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let digest: String = Sha256::digest(bytes)
        .iter()
        .take(6)
        .map(|b| format!("{b:02x}"))
        .collect();
    let path = folder.join(digest);
    fs::write(&path, bytes).expect("written");
    path
}

macro_rules! fuzzed {
    ($($test:ident: $name:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            fuzz($name);
        }
    )*};
}
fuzzed! {
    answers_of_every_route: "answer",
    watches_that_are_cut_anywhere: "watch",
    tokens_and_their_claims: "token",
    kubeconfigs: "kubeconfig",
    names_and_branches: "names",
    what_a_fetch_pod_tells: "outcome",
    what_is_read_back_from_a_volume: "volume",
    logs_with_broken_text: "log",
    lists_and_names_of_files: "files",
    http_and_its_headers: "http",
}

/// What once failed does not fail again.
#[test]
fn every_input_of_the_corpus_is_taken() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (name, target, _) in TARGETS {
        for (path, bytes) in kept(name) {
            count += 1;
            if let Err(why) = holds(target, &bytes) {
                wrong.push(format!("{}: {why}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count >= 10, "the corpus has {count} inputs only");
}

/// A parser that slices by bytes, as a careless one would, is found out: or nothing above proves anything.
#[test]
fn a_broken_parser_is_found() {
    fn careless(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        if let Some(at) = text.find("\"id\":\"") {
            let _ = &text[at + 6..at + 8];
        }
    }
    let seeds = seeds::exchanges();
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = runner.run(&mutate::plans(), |plan| {
        holds(careless, &plan.apply(&seeds)).map_err(TestCaseError::fail)
    });
    std::panic::set_hook(quiet);
    assert!(matches!(result, Err(TestError::Fail(..))), "{result:?}");
}
