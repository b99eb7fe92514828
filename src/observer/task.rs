//! The observer at work: it watches or lists, tells the board, and rings. The only part that does I/O.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Post, State, Times,
    ladder::{Ladder, Need, Rung},
    pace,
};
use crate::{
    gateway::{ErrorKind, GatewayError, ProjectScope, RowEvent, RowWatch, Rows, RunRow},
    runtime::{Bell, ObjectKey},
};

/// A watch that ended sooner was cut off.
const CUT_OFF: Duration = Duration::from_secs(1);
/// So many watches in a row may come to nothing.
const GIVE_UP: u32 = 5;
/// How many of a pipeline's newest runs a list asks for. Who follows an older one looks after it alone.
const NEWEST: u32 = 100;

/// Starts an observer.
pub(super) fn start(project: ProjectScope, post: Arc<Post>, bell: Bell, times: Times) -> JoinHandle<()> {
    let worker = Worker {
        project,
        post,
        bell,
        times,
    };
    tokio::spawn(worker.run())
}

struct Worker {
    project: ProjectScope,
    post: Arc<Post>,
    bell: Bell,
    times: Times,
}

/// Why a rung does not stand.
struct Fallen {
    /// The right that it needed.
    need: Need,
    error: GatewayError,
}

/// How a watch ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It can go on where it stood.
    Resumable,
    /// What it stood on is no ground any more.
    ListIsDue,
    /// It fell silent, or broke before its first line.
    ToldNothing,
}

fn without(need: Need) -> impl FnOnce(GatewayError) -> Fallen {
    move |error| Fallen { need, error }
}

impl Worker {
    async fn run(self) {
        let mut ladder = Ladder::default();
        let (mut failures, mut barren) = (0, 0);
        loop {
            let rung = ladder.rung(self.post.lock().board.pipelines().into_values(), Instant::now());
            self.steps_on(rung);
            let end = match rung {
                Rung::Watch => self.watch(&mut barren).await,
                Rung::List => self.list().await,
                Rung::Pipelines => self.list_pipelines().await,
                Rung::Alone => {
                    self.company(&ladder).await;
                    Ok(())
                }
            };
            let Err(Fallen { need, error }) = end else {
                failures = 0;
                self.give_up(&mut ladder, &mut barren);
                continue;
            };
            let project = self.project.name();
            if is_refused(&error) && rung != Rung::Pipelines {
                tracing::info!(%project, rung = rung.label(), "down a rung for an hour: {error}");
                ladder.refused(need, Instant::now());
                continue;
            }
            if let Some(wait) = error.held_back() {
                self.falls();
                sleep(wait).await;
                continue;
            }
            failures += 1;
            barren += u32::from(need == Need::Watch);
            self.give_up(&mut ladder, &mut barren);
            let pause = pace::pause(failures, fastrand::f64()).max(error.retry_after().unwrap_or_default());
            tracing::debug!(%project, rung = rung.label(), ?pause, "builds look after themselves: {error}");
            self.falls();
            sleep(pause).await;
        }
    }

    /// Where something between here and there lets lists through and no watch, lists are the better way.
    fn give_up(&self, ladder: &mut Ladder, barren: &mut u32) {
        if *barren >= GIVE_UP {
            tracing::info!(project = %self.project.name(), "no watch comes to anything: lists for a while");
            ladder.no_watch(Instant::now());
            *barren = 0;
        }
    }

    /// Lists, and watches from there on. Ends where another list is due. `barren` counts the watches in a row that came to
    /// nothing.
    async fn watch(&self, barren: &mut u32) -> Result<(), Fallen> {
        let rows = self.project.run_rows().await.map_err(without(Need::List))?;
        let Rows {
            rows,
            mut version,
            columns,
        } = rows;
        // May somebody list and not watch, this is the first word on the rung below.
        self.hear(|state| state.board.all(&rows));
        drop(rows);
        loop {
            let opened = Instant::now();
            let life = self.times.watch_life;
            let watch = self.project.watch_run_rows(&version, columns, life).await;
            let end = self
                .read(watch.map_err(without(Need::Watch))?, &mut version)
                .await;
            if opened.elapsed() >= CUT_OFF && end != End::ToldNothing {
                *barren = 0;
            } else {
                *barren += 1;
                sleep(pace::pause(*barren, fastrand::f64())).await;
                // Where it stood may be what it cannot get over: a list does.
                return Ok(());
            }
            if end == End::ListIsDue {
                return Ok(());
            }
        }
    }

    /// Reads a watch to its end, and `version` on.
    async fn read(&self, mut watch: RowWatch, version: &mut String) -> End {
        let mut told = false;
        loop {
            // A connection that died without a word is known by its silence.
            let silent = self.times.watch_life + self.times.grace;
            let Ok(next) = timeout(silent, watch.next()).await else {
                return End::ToldNothing;
            };
            let line = match next {
                Ok(Some(line)) => line,
                Ok(None) => return End::Resumable,
                Err(error) => {
                    tracing::debug!(project = %self.project.name(), "the watch broke off: {error}");
                    return match error.kind() {
                        _ if !told => End::ToldNothing,
                        // Nothing that was read wrongly is gone on from.
                        ErrorKind::Garbled | ErrorKind::TooLarge => End::ListIsDue,
                        _ => End::Resumable,
                    };
                }
            };
            told = true;
            if let Some(now) = line.version {
                *version = now;
            }
            match line.event {
                RowEvent::Changed(row) => self.hear(|state| state.board.changed(&row)),
                RowEvent::Gone(run) => self.hear(|state| state.board.gone(&run)),
                RowEvent::Bookmark => self.hear(|_| Vec::new()),
                RowEvent::Over(_) => return End::ListIsDue,
            }
        }
    }

    /// One list of the project, and the wait for the next.
    async fn list(&self) -> Result<(), Fallen> {
        let rows = self.project.run_rows().await.map_err(without(Need::List))?;
        self.hear(|state| state.board.all(&rows.rows));
        drop(rows);
        self.tick().await;
        Ok(())
    }

    /// One list of each pipeline of which several runs are followed, and the wait for the next.
    async fn list_pipelines(&self) -> Result<(), Fallen> {
        let pipelines = self.post.lock().board.pipelines();
        for (pipeline, _) in pipelines.into_iter().filter(|(_, followers)| *followers > 1) {
            let page = self.project.runs(&pipeline, 1, NEWEST).await;
            let page = page.map_err(without(Need::List))?;
            let complete = page.total <= page.items.len() as u64;
            let rows: Vec<RunRow> = page.items.iter().map(RunRow::from).collect();
            drop(page);
            self.hear(|state| state.board.newest(&pipeline, &rows, complete));
        }
        self.tick().await;
        Ok(())
    }

    /// Waits until the next list is due; sooner where somebody joins whose run is new.
    async fn tick(&self) {
        let (listed, random) = (Instant::now(), fastrand::f64());
        loop {
            let due = {
                let state = self.post.lock();
                listed + pace::tick(state.board.ages(listed), state.poll, random)
            };
            tokio::select! {
                () = sleep_until(due) => return,
                () = self.post.joined.notified() => {}
            }
        }
    }

    /// Waits until there may be a rung to stand on.
    async fn company(&self, ladder: &Ladder) {
        let retry = ladder.retry_at(Instant::now());
        tokio::select! {
            () = self.post.joined.notified() => {}
            () = async { sleep_until(retry.unwrap_or_else(Instant::now)).await }, if retry.is_some() => {}
        }
    }

    fn steps_on(&self, rung: Rung) {
        let wake = {
            let mut state = self.post.lock();
            if state.rung != rung {
                state.rung = rung;
                self.post.tell(&state);
            }
            // Who relies on a rung that looks after him no more is told so.
            match rung {
                Rung::Watch | Rung::List => Vec::new(),
                Rung::Pipelines => state.board.rouse(1),
                Rung::Alone => {
                    state.stands = false;
                    state.board.rouse(usize::MAX)
                }
            }
        };
        self.ring(wake);
    }

    /// The remote has spoken: the rung stands. Wakes whom it concerns.
    fn hear(&self, take: impl FnOnce(&mut State) -> Vec<ObjectKey>) {
        let wake = {
            let mut state = self.post.lock();
            state.heard = Instant::now();
            state.stands = true;
            let wake = take(&mut state);
            self.post.tell(&state);
            wake
        };
        self.ring(wake);
    }

    /// The rung does not stand any more: everybody looks after his own run until it does.
    fn falls(&self) {
        let wake = {
            let mut state = self.post.lock();
            state.stands = false;
            state.board.rouse(usize::MAX)
        };
        self.ring(wake);
    }

    fn ring(&self, keys: Vec<ObjectKey>) {
        for key in keys {
            self.bell.ring(key);
        }
    }
}

/// Whether asking again soon would be answered the same: it may not be done, or there is no such route.
fn is_refused(error: &GatewayError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Forbidden | ErrorKind::RouteMissing | ErrorKind::NotFound
    )
}
