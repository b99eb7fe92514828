use http::{HeaderMap, HeaderValue, header};
use proptest::prelude::*;

use super::*;
use crate::gateway::error::Subject;

fn error(kind: ErrorKind, after: Option<u64>) -> GatewayError {
    GatewayError::config(kind, "test").with_retry_after(after.map(Duration::from_secs))
}

fn down() -> Word {
    Word::Down(error(ErrorKind::ConnectFailed, None))
}

fn hold(seconds: u64) -> Word {
    Word::Hold(error(ErrorKind::Throttled, Some(seconds)))
}

/// A breaker at a made-up time.
struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            breaker: Breaker::default(),
            now: Instant::now(),
        }
    }

    /// Sends a request, of which this comes at once.
    fn send(&mut self, word: Word) -> Option<Turn> {
        let pass = self.breaker.begin();
        self.breaker.hear(&pass, word, self.now, 1.0)
    }

    fn stance(&self) -> Stance {
        self.breaker.stance(self.now)
    }

    #[track_caller]
    fn assert_refuses(&self, seconds: u64) {
        assert_eq!(self.stance(), Stance::Refuse(Duration::from_secs(seconds)));
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

#[test]
fn it_opens_after_failures_in_a_row_and_not_after_some_now_and_then() {
    let mut bench = Bench::new();
    for _ in 0..10 {
        assert_eq!(bench.send(down()), None);
        assert_eq!(bench.send(down()), None);
        assert_eq!(bench.send(Word::Nothing), None);
        assert_eq!(bench.send(Word::Alive), None);
        assert_eq!(bench.stance(), Stance::Go);
    }
    assert_eq!(
        [(); 3].map(|()| bench.send(down())),
        [None, None, Some(Turn::Opened)]
    );
    bench.assert_refuses(1);
}

#[test]
fn one_probe_at_a_time_and_each_failure_doubles_the_pause() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.send(down());
    }
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        bench.assert_refuses(seconds);
        bench.pass(seconds);
        assert_eq!(bench.stance(), Stance::Probe);
        let probe = bench.breaker.begin();
        assert_eq!(bench.stance(), Stance::Wait, "one at a time");
        assert_eq!(bench.breaker.hear(&probe, down(), bench.now, 1.0), None);
    }
    bench.pass(60);
    assert_eq!(bench.send(Word::Alive), Some(Turn::Closed));
    assert_eq!(bench.stance(), Stance::Go);
    for _ in 0..3 {
        bench.send(down());
    }
    bench.assert_refuses(1);
}

#[test]
fn what_the_gateway_asks_for_is_obeyed_at_once_and_never_cut_short() {
    for random in [0.0, 0.5, 1.0] {
        let mut bench = Bench::new();
        let pass = bench.breaker.begin();
        let turn = bench.breaker.hear(&pass, hold(300), bench.now, random);
        assert_eq!(turn, Some(Turn::Opened));
        bench.pass(299);
        assert!(matches!(bench.stance(), Stance::Refuse(_)), "{random}");
        bench.pass(2);
        assert_eq!(bench.stance(), Stance::Probe, "{random}");
        // The probe may be told to wait again.
        bench.send(hold(300));
        bench.pass(299);
        assert!(matches!(bench.stance(), Stance::Refuse(_)), "{random}");
    }
    // Nothing, or no time, asked for: the own pause.
    let mut bench = Bench::new();
    bench.send(hold(0));
    bench.assert_refuses(1);
}

#[test]
fn what_was_sent_before_it_opened_neither_closes_it_nor_opens_it_further() {
    let mut bench = Bench::new();
    let early: Vec<_> = (0..5).map(|_| bench.breaker.begin()).collect();
    bench.send(hold(5));
    let Stance::Refuse(wait) = bench.stance() else {
        panic!()
    };
    for (pass, word) in early
        .iter()
        .zip([Word::Alive, down(), down(), down(), Word::Nothing])
    {
        assert_eq!(bench.breaker.hear(pass, word, bench.now, 1.0), None);
        assert_eq!(bench.stance(), Stance::Refuse(wait));
    }
    bench.breaker.hear(&early[0], hold(60), bench.now, 1.0);
    bench.assert_refuses(60);
}

#[test]
fn a_probe_of_which_nothing_comes_makes_room_for_another() {
    let mut bench = Bench::new();
    bench.send(hold(5));
    bench.pass(6);
    let probe = bench.breaker.begin();
    bench.breaker.abandoned(&probe, bench.now);
    assert_eq!(bench.stance(), Stance::Probe);
    assert_eq!(bench.send(Word::Nothing), None);
    assert_eq!(bench.stance(), Stance::Probe);
    bench.breaker.abandoned(&probe, bench.now);
    assert_eq!(bench.send(Word::Alive), Some(Turn::Closed));
    bench.breaker.abandoned(&probe, bench.now);
    assert_eq!(bench.stance(), Stance::Go);
}

#[test]
fn a_refusal_says_why_how_long_and_that_nothing_was_sent() {
    let mut bench = Bench::new();
    assert!(bench.breaker.refusal(bench.now).is_none());
    let why = error(ErrorKind::TimedOut, None).with_ambiguous(true);
    for _ in 0..3 {
        bench.send(Word::Down(why.share()));
    }
    let refusal = bench.breaker.refusal(bench.now).expect("a refusal");
    assert_eq!(refusal.kind(), ErrorKind::TimedOut);
    assert_eq!(refusal.held_back(), Some(Duration::from_secs(1)));
    assert!(!refusal.ambiguous());
    assert!(refusal.to_string().contains("nothing is sent"), "{refusal}");
}

#[test]
fn only_what_comes_from_the_gateway_itself_counts() {
    const STATUS: &str = r#"{"kind":"Status","message":"error trying to reach service","code":503}"#;
    const WRAPPED: &str = r#"{"ErrStatus":{"message":"cluster west is not ready","code":503}}"#;
    const HTML: &str = "<html><h1>502 Bad Gateway</h1>nginx</html>";
    const JENKINS: (&str, &str) = ("x-jenkins", "2.4");
    const AFTER: (&str, &str) = ("retry-after", "7");
    // Route, status, headers, body, and what that tells.
    type Row = (
        RouteClass,
        u16,
        &'static [(&'static str, &'static str)],
        &'static str,
        &'static str,
    );
    let table: [Row; 20] = [
        (RouteClass::RunGet, 429, &[AFTER], "slow down", "hold"),
        (RouteClass::RunGet, 429, &[], "", "hold"),
        (RouteClass::Kubernetes, 429, &[AFTER], STATUS, "hold"),
        (
            RouteClass::Token,
            429,
            &[],
            r#"{"error":"invalid_grant"}"#,
            "alive",
        ),
        (RouteClass::RunGet, 503, &[AFTER], HTML, "hold"),
        (RouteClass::RunGet, 503, &[AFTER], WRAPPED, "alive"),
        (RouteClass::RunGet, 502, &[], HTML, "down"),
        (RouteClass::RunGet, 503, &[], "", "down"),
        (RouteClass::RunGet, 504, &[], "upstream request timeout", "down"),
        (RouteClass::Token, 503, &[], HTML, "down"),
        (RouteClass::RunGet, 502, &[], WRAPPED, "alive"),
        (RouteClass::Kubernetes, 503, &[], STATUS, "alive"),
        (RouteClass::RunGet, 500, &[], "boom", "alive"),
        (RouteClass::RunGet, 404, &[], "", "alive"),
        (RouteClass::RunGet, 401, &[], STATUS, "alive"),
        (RouteClass::JenkinsRun, 500, &[], HTML, "alive"),
        (RouteClass::LogProxy, 503, &[JENKINS], HTML, "nothing"),
        (RouteClass::LogProxy, 503, &[AFTER], HTML, "nothing"),
        (RouteClass::Log, 504, &[], HTML, "nothing"),
        (RouteClass::DownloadProxy, 429, &[AFTER, JENKINS], "", "nothing"),
    ];
    for (route, status, pairs, body, expected) in table {
        let subject = Subject {
            route,
            what: "test".into(),
            write: false,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = header::HeaderName::from_static(name);
            headers.insert(name, HeaderValue::from_static(value));
        }
        let reply = Reply {
            subject: &subject,
            status,
            headers: &headers,
            body: body.as_bytes(),
            secrets: &[],
        };
        let got = of_refusal(&reply, || crate::gateway::wire::refusal::refusal(&reply));
        assert_eq!(label(&got), expected, "{route:?} {status} {pairs:?} {body}");
    }
    let on = |route, kind| label(&word(route, &Err(error(kind, None))));
    for kind in ErrorKind::ALL {
        let (plain, jenkins) = match kind {
            ErrorKind::ConnectFailed => ("down", "down"),
            ErrorKind::TimedOut | ErrorKind::ConnectionLost => ("down", "nothing"),
            _ => ("nothing", "nothing"),
        };
        assert_eq!(on(RouteClass::RunGet, kind), plain, "{kind:?}");
        assert_eq!(on(RouteClass::Log, kind), jenkins, "{kind:?}");
    }
}

fn label(word: &Word) -> &'static str {
    match word {
        Word::Alive => "alive",
        Word::Nothing => "nothing",
        Word::Down(_) => "down",
        Word::Hold(_) => "hold",
    }
}

proptest! {
    /// Whatever happens in whatever order: while it is not closed at most one request is out that was sent since, nothing
    /// keeps it from being asked again after its longest pause, and it closes by a probe only.
    #[test]
    fn never_two_probes_and_never_stuck(moves in proptest::collection::vec((0..5u8, 0..90u64, 0.0..1.0f64), 1..100)) {
        let mut bench = Bench::new();
        let mut out: Vec<Pass> = Vec::new();
        for (what, number, random) in moves {
            match what {
                0 => bench.pass(number),
                1 => if matches!(bench.stance(), Stance::Go | Stance::Probe) {
                    out.push(bench.breaker.begin());
                },
                _ if out.is_empty() => {}
                2 => {
                    let at = usize::try_from(number).unwrap() % out.len();
                    bench.breaker.abandoned(&out.swap_remove(at), bench.now);
                }
                _ => {
                    let at = usize::try_from(number).unwrap() % out.len();
                    let pass = out.swap_remove(at);
                    let word = match number % 4 { 0 => Word::Alive, 1 => down(), 2 => hold(number), _ => Word::Nothing };
                    let probed = pass.probe && pass.turn == bench.breaker.turns;
                    let turn = bench.breaker.hear(&pass, word, bench.now, random);
                    prop_assert!(turn != Some(Turn::Closed) || probed);
                }
            }
            let current = out.iter().filter(|p| p.turn == bench.breaker.turns).count();
            if bench.stance() != Stance::Go {
                prop_assert!(out.iter().filter(|p| p.probe && p.turn == bench.breaker.turns).count() <= 1);
                prop_assert!(current <= 1);
            }
            prop_assert_eq!(bench.stance() == Stance::Wait, out.iter().any(|p| p.probe && p.turn == bench.breaker.turns));
        }
        for pass in out.drain(..) {
            bench.breaker.abandoned(&pass, bench.now);
        }
        bench.pass(200);
        prop_assert!(matches!(bench.stance(), Stance::Go | Stance::Probe));
    }
}
