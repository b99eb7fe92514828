//! Exactly once and nothing lost: at every write of a build's life the operator is killed before and after, or the write
//! ends as badly as it can; then all is left to settle, and the ledger, the outcome, the log and the files are looked at.
//!
//! `make crash-points` tries every cell and renews `docs/reliability.md`. Without `TENANTRY_RELIABILITY=long` a part of
//! them is tried (see [`plan::short`]). `TENANTRY_CELLS` names cells to try alone, by any part of their names
//! (`post/build/post-correlated/answer lost`); nothing is written down then.

#[path = "../common/mod.rs"]
mod common;
mod ground;
mod limits;
mod plan;
mod table;
mod verdict;

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Mutex};

use anyhow::Result;
use futures::{FutureExt as _, future::join_all};

use ground::Ground;
use plan::{Cell, Rung, does_not_apply};
use table::{Came, Form, balance, tell};

/// How many grounds are worked on at once: they wait more than they compute. Two of three rungs post.
const GROUNDS: [(Rung, usize); 2] = [(Rung::ChosenName, 3), (Rung::Plain, 5)];

type Queue = Mutex<VecDeque<(usize, Cell)>>;

#[tokio::test]
async fn whatever_a_write_ends_in_there_is_one_build_and_all_of_it_comes_home() {
    let seed = std::env::var("TENANTRY_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let form = match std::env::var("TENANTRY_RELIABILITY").as_deref() {
        Ok("long") => Form::Long,
        _ => Form::Short {
            seed: seed.unwrap_or(1),
        },
    };
    let only = std::env::var("TENANTRY_CELLS").ok();
    let cells = match form {
        Form::Long => plan::long(),
        Form::Short { .. } if only.is_some() => plan::long(),
        Form::Short { seed } => plan::short(seed),
    };
    let mut results = Vec::new();
    let (mut named, mut posted) = (VecDeque::new(), VecDeque::new());
    for (number, cell) in cells.into_iter().enumerate() {
        if only
            .as_ref()
            .is_some_and(|only| !cell.to_string().contains(only.as_str()))
        {
            continue;
        }
        match does_not_apply(&cell) {
            Some(why) => results.push((cell, Came::DoesNotApply(why))),
            None if cell.rung == Rung::ChosenName => named.push_back((number, cell)),
            None => posted.push_back((number, cell)),
        }
    }
    let queues: [Queue; 2] = [Mutex::new(named), Mutex::new(posted)];
    let workers = GROUNDS
        .iter()
        .zip(&queues)
        .flat_map(|((rung, grounds), queue)| (0..*grounds).map(move |_| work(*rung, queue)));
    for done in join_all(workers).await {
        results.extend(done);
    }
    results.sort_by_key(|(cell, _)| (cell.write, cell.rung, cell.end, cell.hit));
    println!("{}", balance(&results));
    if only.is_none() {
        tell(form, &results).expect("the results are written down");
    }
    let bad: Vec<_> = results
        .iter()
        .filter_map(|(cell, came)| match came {
            Came::Failed(why) => Some(format!("{cell}: {why}")),
            // Where a write comes more than once, how often depends on the pace.
            Came::NotReached if cell.hit == 1 => Some(format!("{cell}: not reached")),
            _ => None,
        })
        .collect();
    assert!(bad.is_empty(), "{}\n{}", balance(&results), bad.join("\n"));
}

/// Tries the cells of a queue on a ground of its own, which is left where a cell has failed on it.
async fn work(rung: Rung, queue: &Queue) -> Vec<(Cell, Came)> {
    let mut results: Vec<(Cell, Came)> = Vec::new();
    let mut ground: Option<Ground> = None;
    // What was right when it was looked at has to be right in the end.
    let mut settled: Vec<(usize, String)> = Vec::new();
    loop {
        let next = queue.lock().expect("no cell panics with it").pop_front();
        let Some((number, cell)) = next else { break };
        let name = format!("c{number:04}");
        let tried = AssertUnwindSafe(tried(&mut ground, rung, &cell, &name))
            .catch_unwind()
            .await;
        let came = match tried {
            Ok(Ok(came)) => came,
            Ok(Err(error)) => Came::Failed(format!("{error:#}")),
            Err(panic) => Came::Failed(said(&*panic)),
        };
        println!("{cell}: {came:?}");
        if matches!(came, Came::Failed(_)) {
            if let Some(operator) = ground.as_ref().and_then(|ground| ground.stage.operator.as_ref()) {
                let log = operator.logs().unwrap_or_default();
                let end: Vec<_> = log.lines().rev().take(60).collect();
                println!(
                    "the end of the operator's log:\n{}",
                    end.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            (ground, settled) = (None, Vec::new());
        } else {
            settled.push((results.len(), name));
        }
        results.push((cell, came));
        if let Some(ground) = &ground {
            for (at, name) in &settled {
                let (cell, came) = &mut results[*at];
                let builds = ground.builds(name).len();
                if builds != cell.scenario.builds() {
                    *came = Came::Failed(format!("{builds} builds in the end"));
                }
            }
        }
    }
    results
}

async fn tried(ground: &mut Option<Ground>, rung: Rung, cell: &Cell, name: &str) -> Result<Came> {
    let ground = match ground {
        Some(ground) => ground,
        none => none.insert(Ground::new(rung).await?),
    };
    ground.arm(cell)?;
    let played = ground.play(cell, name).await;
    if played.is_ok() && cell.hit == 1 {
        ground.until_struck(cell).await?;
    }
    let struck = ground.disarm(cell);
    played?;
    verdict::judge(ground, cell, name).await?;
    Ok(if struck { Came::Passed } else { Came::NotReached })
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}
