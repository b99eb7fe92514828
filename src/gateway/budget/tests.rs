use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use tokio::task::{JoinHandle, yield_now};

use super::*;
use crate::gateway::{
    Credentials, ErrorKind, Gateway, GatewayError, ProjectName, ProjectScope, Purpose,
    testing::{Seen, Server, answer, build, config},
};

fn limits(requests_per_second: u32, burst: u32, concurrent_requests: u32) -> Limits {
    Limits {
        requests_per_second,
        burst,
        concurrent_requests,
    }
}

/// A budget whose bucket never makes a test wait.
fn places(count: u32) -> Arc<Budget> {
    Arc::new(Budget::new(limits(100_000, 100_000, count)))
}

fn object(name: &str) -> Arc<str> {
    name.into()
}

/// Somebody who comes and waits; done when let in.
async fn waits(budget: &Arc<Budget>, class: Class, who: &str) -> JoinHandle<Place> {
    let before = budget.waiting();
    let (other, who) = (budget.clone(), object(who));
    let task = tokio::spawn(async move { other.enter(class, &who).await.unwrap() });
    while budget.waiting() == before && !task.is_finished() {
        yield_now().await;
    }
    task
}

/// Lets the others get as far as they can without time.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

impl Budget {
    fn in_flight(&self) -> usize {
        self.0.lock().in_flight
    }

    fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }
}

#[tokio::test]
async fn no_more_are_in_flight_than_there_are_places() {
    let budget = places(2);
    let first = budget.enter(Class::Interactive, &object("a")).await;
    let _second = budget.enter(Class::Interactive, &object("a")).await;
    let third = waits(&budget, Class::Interactive, "a").await;
    settle().await;
    assert!(!third.is_finished());
    drop(first);
    let _third = third.await.unwrap();
    assert_eq!((budget.in_flight(), budget.waiting()), (2, 0));
}

/// One build with 500 files does not hold up another's start.
#[tokio::test]
async fn the_most_urgent_goes_first_however_long_others_wait() {
    let budget = places(1);
    let busy = budget.enter(Class::Interactive, &object("x")).await;
    let mut files = Vec::new();
    for _ in 0..500 {
        files.push(waits(&budget, Class::Background, "files").await);
    }
    let look = waits(&budget, Class::Following, "a").await;
    let start = waits(&budget, Class::Interactive, "b").await;
    drop(busy);
    let start = start.await.unwrap();
    settle().await;
    assert!(!look.is_finished() && !files.iter().any(JoinHandle::is_finished));
    drop(start);
    drop(look.await.unwrap());
    for file in files {
        drop(file.await.unwrap());
    }
    assert_eq!((budget.in_flight(), budget.waiting()), (0, 0));
}

#[tokio::test]
async fn downloads_never_take_all_places() {
    for (count, background) in [(1, 1), (2, 1), (4, 3), (16, 12), (256, 192)] {
        let budget = places(count);
        let mut held = Vec::new();
        for _ in 0..background {
            held.push(budget.enter(Class::Background, &object("files")).await);
        }
        let further = waits(&budget, Class::Background, "files").await;
        settle().await;
        assert!(!further.is_finished(), "{count}");
        if count > 1 {
            let start = budget.enter(Class::Interactive, &object("a")).await;
            drop(start);
        }
        settle().await;
        assert!(
            !further.is_finished(),
            "{count}: the place of a start is not theirs"
        );
        held.pop();
        further.await.unwrap();
        // With one place only, what comes piece by piece gives it back at once.
        assert_eq!(budget.keeps(Limit::Artifact), count > 1);
        assert!(budget.keeps(Limit::Json) && !budget.keeps(Limit::Watch));
    }
}

#[tokio::test]
async fn who_leaves_the_queue_leaves_no_hole() {
    let budget = places(1);
    let busy = budget.enter(Class::Interactive, &object("x")).await;
    let mut gone = Vec::new();
    for class in Class::ALL {
        for _ in 0..10 {
            gone.push(waits(&budget, class, "gone").await);
        }
    }
    let stays = waits(&budget, Class::Background, "stays").await;
    for task in &gone {
        task.abort();
    }
    for task in gone {
        assert!(task.await.is_err_and(|error| error.is_cancelled()));
    }
    assert_eq!(budget.waiting(), 1);
    drop(busy);
    drop(stays.await.unwrap());
    assert_eq!((budget.in_flight(), budget.waiting()), (0, 0));
}

/// One who was let in and goes away before it notices gives its place back.
#[tokio::test]
async fn a_place_that_nobody_takes_is_not_lost() {
    let budget = places(1);
    let busy = budget.enter(Class::Interactive, &object("x")).await;
    let name = object("late");
    let mut late = Box::pin(budget.enter(Class::Interactive, &name));
    assert!(futures::poll!(late.as_mut()).is_pending());
    drop(busy);
    settle().await; // let in, and does not know yet
    assert_eq!((budget.in_flight(), budget.waiting()), (1, 0));
    let next = waits(&budget, Class::Interactive, "next").await;
    drop(late);
    next.await.unwrap();
}

#[tokio::test]
async fn requests_go_out_no_faster_than_the_bucket_gives_tokens() {
    let budget = Arc::new(Budget::new(limits(50, 5, 256)));
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..30 {
        let (budget, who) = (budget.clone(), object(&n.to_string()));
        tasks.push(tokio::spawn(async move {
            drop(budget.enter(Class::Following, &who).await);
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // The first five at once, the others every 20 ms.
    assert!(
        begun.elapsed() >= Duration::from_millis(480),
        "{:?}",
        begun.elapsed()
    );
}

/// A project of which `who` asks something, behind a gateway with these limits.
fn of(gateway: &Gateway, who: &str) -> ProjectScope {
    let gateway = gateway.on_behalf_of(Purpose::new(who, Class::Following));
    gateway.scope(None).project(&ProjectName::new("demo").unwrap())
}

fn gateway(server: &Server, limits: Limits) -> Gateway {
    let mut config = config(&server.url, Credentials::Token("always-good".into()));
    config.limits = limits;
    Gateway::new(config).unwrap()
}

#[tokio::test]
async fn a_start_is_sent_while_another_still_has_hundreds_of_requests_to_send() {
    let server = Server::start(|_: &Seen| answer(200, &[], "null")).await;
    let gateway = gateway(&server, limits(40, 1, 4));
    let files = of(&gateway, "files");
    let listings = (0..400).map(|_| {
        let files = files.clone();
        tokio::spawn(async move { files.artifacts(&build()).await.map(drop) })
    });
    let listings: Vec<_> = listings.collect();
    while server.seen().len() < 4 {
        yield_now().await;
    }
    let before = server.seen().len();
    // What it answers does not matter here.
    let _ = of(&gateway, "urgent").post_run("p", None, &[]).await;
    let sent = server.seen();
    assert!(sent.iter().any(|seen| seen.method == "POST"));
    assert!(
        sent.len() <= before + 4,
        "{} were sent before it",
        sent.len() - before
    );
    assert!(listings.iter().filter(|task| !task.is_finished()).count() > 300);
}

#[tokio::test]
async fn a_download_keeps_its_place_to_its_last_byte_and_a_watch_none() {
    let server = Server::start(|seen: &Seen| {
        let endless =
            futures::stream::iter([Ok("x")]).chain(futures::stream::pending::<Result<_, Infallible>>());
        let body = axum::body::Body::from_stream(endless);
        match () {
            () if seen.target.contains("/jenkins/") => answer(200, &[("x-jenkins", "2")], body),
            () if seen.target.contains("watch=true") => {
                answer(200, &[("content-type", "application/json")], body)
            }
            () => answer(200, &[("content-type", "application/json")], "null"),
        }
    })
    .await;
    let gateway = gateway(&server, limits(10_000, 10_000, 2));
    let project = of(&gateway, "a");
    let life = Duration::from_secs(60);
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(project.watch_run_rows("1", None, life).await.unwrap());
    }
    let (run, other) = (build(), of(&gateway, "b"));
    let first = project.download(&run, "p-1", "a.bin", 0).await.unwrap();
    let mut second = Box::pin(other.download(&run, "p-1", "b.bin", 0));
    let asked = project.trigger_failure("p-1", "u");
    tokio::select! {
        biased;
        _ = &mut second => panic!("two downloads, where one place is kept for the rest"),
        answered = asked => drop(answered), // the other place is free
    }
    assert!(futures::poll!(second.as_mut()).is_pending());
    drop(first);
    second.await.unwrap();
}

fn refusing(after: &str) -> axum::response::Response {
    answer(429, &[("retry-after", after)], "slow down")
}

const EVENTS: &str = r#"{"kind":"EventList","items":[]}"#;

/// Asks for the events of a run.
async fn ask(project: ProjectScope) -> Result<()> {
    project.trigger_failure("p-1", "u").await.map(drop)
}

async fn ask_all(project: &ProjectScope) -> Vec<Result<()>> {
    futures::future::join_all((0..20).map(|_| ask(project.clone()))).await
}

#[tokio::test]
async fn while_a_gateway_wants_to_be_left_alone_one_at_a_time_asks_whether_it_still_does() {
    let well = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let well = well.clone();
        move |_: &Seen| {
            if well.load(Ordering::SeqCst) {
                answer(200, &[("content-type", "application/json")], EVENTS)
            } else {
                refusing("1")
            }
        }
    })
    .await;
    let gateway = gateway(&server, limits(10_000, 10_000, 64));
    let project = of(&gateway, "a");
    let told = ask(project.clone()).await.unwrap_err();
    assert_eq!(told.held_back(), None, "this one was sent");
    for round in 1..3 {
        let refusals: Vec<_> = ask_all(&project)
            .await
            .into_iter()
            .map(Result::unwrap_err)
            .collect();
        assert_eq!(server.seen().len(), round, "nothing is sent");
        for refusal in &refusals {
            assert_eq!(refusal.kind(), ErrorKind::Throttled);
            assert!(refusal.held_back().is_some());
            assert!(
                refusal.to_string().contains("events of run demo/p-1"),
                "{refusal}"
            );
        }
        tokio::time::sleep(refusals.iter().filter_map(GatewayError::held_back).max().unwrap()).await;
        well.store(round == 2, Ordering::SeqCst);
        let asked = ask_all(&project).await;
        if round == 1 {
            assert_eq!(
                server.seen().len(),
                2,
                "one probe; who waited for it hears what came of it"
            );
            assert_eq!(
                asked
                    .iter()
                    .filter(|r| r.as_ref().is_err_and(|e| e.held_back().is_none()))
                    .count(),
                1
            );
        } else {
            assert!(asked.iter().all(Result::is_ok), "{asked:?}");
        }
    }
}

/// What a login finds held back is no lockout: as soon as requests are let out again, so is the login.
#[tokio::test]
async fn a_login_that_is_held_back_is_not_kept_quiet_for_longer() {
    let well = Arc::new(AtomicBool::new(false));
    let server = Server::start({
        let well = well.clone();
        move |seen: &Seen| match seen.target.as_str() {
            "/oauth/token" => {
                // Each is over as soon as it was issued.
                let body = r#"{"access_token":"t","token_type":"Bearer","expires_in":0}"#;
                answer(200, &[("content-type", "application/json")], body)
            }
            _ if well.load(Ordering::SeqCst) => answer(200, &[("content-type", "application/json")], EVENTS),
            _ => refusing("1"),
        }
    })
    .await;
    let project = of(&server.gateway(), "a");
    ask(project.clone()).await.unwrap_err();
    let held = ask(project.clone()).await.unwrap_err();
    assert_eq!(server.count("/oauth/token"), 1, "{held:?}");
    tokio::time::sleep(held.held_back().expect("held back")).await;
    well.store(true, Ordering::SeqCst);
    ask(project).await.unwrap();
}
