//! A view of a log that is put together from the logs of the steps: what a tenant without the raw Jenkins proxy gets to
//! see while the build runs, and in the end where the whole log cannot be had.
//!
//! One look costs one request for the stages, one per stage that is not over, and one per step in it that is: only new
//! text travels, and what is over and read is not asked for again. A look is bounded by [`BUDGET`]; what it leaves is for
//! the next. The text says of itself that it is put together: what Jenkins writes outside of steps is missing, and
//! parallel steps come as they were read, under a line that names them.

use std::collections::{HashMap, HashSet};

use crate::{
    gateway::{ErrorKind, GatewayError, JenkinsState, LogCursor, LogEnd, ProjectScope, RunRef, Stage, Step},
    sinks::log::{LogAssembly, Masker, Masks, Normaliser},
};

/// Requests of one look while the build runs.
const BUDGET: usize = 24;
/// Looks at a step that is over and does not say so before it is let be.
const TRIES: u32 = 5;
/// A line that is longer is handed on in parts.
const LONG_LINE: usize = 64 * 1024;
/// The first line, so that nobody takes the text for the whole log.
const NOTICE: &str = "[tenantry] put together from the logs of the steps: what Jenkins itself writes between them is missing\n";

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Looked {
    /// There are stages; without any nothing can be read this way.
    pub stages: bool,
    /// Everything that was begun is over and was read to its end.
    pub complete: bool,
}

/// The text so far, and how far each step was read.
pub struct StepView {
    masks: Masks,
    assembly: LogAssembly,
    /// Stages and steps that are over and read.
    stages_done: HashSet<String>,
    steps_done: HashSet<String>,
    /// Steps that are being read.
    open: HashMap<String, StepText>,
    /// A step that is over was let be before it said that it was read to its end.
    gaps: bool,
    /// The step whose text came last.
    writer: Option<String>,
    /// The text ends in the middle of a line.
    in_line: bool,
}

/// One step's text on its way: each has its own, so that nothing of it mixes with another's before it is masked.
struct StepText {
    cursor: LogCursor,
    normaliser: Normaliser,
    masker: Masker,
    line: Vec<u8>,
    tries: u32,
}

impl StepText {
    fn new(masks: &Masks) -> Self {
        Self {
            cursor: LogCursor::default(),
            normaliser: Normaliser::default(),
            masker: Masker::new(masks.clone()),
            line: Vec::new(),
            tries: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let Self {
            normaliser,
            masker,
            line,
            ..
        } = self;
        normaliser.push(bytes, |text| {
            masker.push(text.as_bytes(), &mut |piece| line.extend_from_slice(piece));
        });
    }

    fn finish(&mut self) {
        self.push(self.cursor.held());
        let Self {
            normaliser,
            masker,
            line,
            ..
        } = self;
        normaliser.finish(|text| masker.push(text.as_bytes(), &mut |piece| line.extend_from_slice(piece)));
        masker.finish(&mut |piece| line.extend_from_slice(piece));
    }

    /// Whole lines, or all of it where it is over or one line is too long to be waited for.
    fn take(&mut self, over: bool) -> Vec<u8> {
        let end = match self.line.iter().rposition(|byte| *byte == b'\n') {
            _ if over => self.line.len(),
            Some(at) => at + 1,
            None if self.line.len() > LONG_LINE => {
                let text = &self.line;
                std::str::from_utf8(text).map_or_else(|e| e.valid_up_to(), str::len)
            }
            None => 0,
        };
        self.line.drain(..end).collect()
    }
}

/// What a read of a step means for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is asked again at the next look.
    Again,
    /// It was read to its end, or has no log.
    Done,
    /// It is let be, and something of it may be missing.
    GivenUp,
}

/// Whether a step is asked again. `same` says that it was read from its start, and brought what was known and no more.
fn then(over: bool, end: LogEnd, same: bool, tries: u32) -> Then {
    match end {
        _ if !over => Then::Again,
        LogEnd::Complete => Then::Done,
        // Where the headers got lost, two reads that agree are the end; an empty answer never is (finding H).
        LogEnd::Unknown if same => Then::Done,
        LogEnd::Unknown | LogEnd::Growing | LogEnd::Cut if tries < TRIES => Then::Again,
        LogEnd::Unknown | LogEnd::Growing | LogEnd::Cut => Then::GivenUp,
    }
}

/// Whether a stage or step has something to be read, or will have none.
fn is_over(state: Option<&JenkinsState>) -> bool {
    matches!(
        state,
        Some(JenkinsState::Finished | JenkinsState::Skipped | JenkinsState::NotBuilt)
    )
}

fn has_begun(state: Option<&JenkinsState>) -> bool {
    !matches!(
        state,
        None | Some(JenkinsState::Queued | JenkinsState::Skipped | JenkinsState::NotBuilt)
    )
}

impl StepView {
    /// An empty view.
    pub fn new(max_bytes: usize, masks: Masks) -> Self {
        Self {
            // Each step's text comes masked.
            assembly: LogAssembly::new(max_bytes, Masks::default()),
            masks,
            stages_done: HashSet::new(),
            steps_done: HashSet::new(),
            open: HashMap::new(),
            gaps: false,
            writer: None,
            in_line: false,
        }
    }

    /// The text so far.
    pub fn assembly(&self) -> &LogAssembly {
        &self.assembly
    }

    /// Reads what is new, within the budget.
    pub async fn look(&mut self, project: &ProjectScope, run: &RunRef) -> Result<Looked, GatewayError> {
        self.read(project, run, BUDGET).await
    }

    /// Reads all that is left, of a build that is over. False where something cannot be read to its end.
    pub async fn finish(&mut self, project: &ProjectScope, run: &RunRef) -> Result<bool, GatewayError> {
        for _ in 0..=TRIES {
            let looked = self.read(project, run, usize::MAX).await?;
            if !looked.stages || self.gaps {
                return Ok(false);
            }
            if looked.complete {
                self.assembly.finish();
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read(
        &mut self,
        project: &ProjectScope,
        run: &RunRef,
        mut budget: usize,
    ) -> Result<Looked, GatewayError> {
        let stages = project.nodes(run).await?;
        let mut looked = Looked {
            stages: !stages.is_empty(),
            complete: true,
        };
        for stage in &stages {
            if !has_begun(stage.state.as_ref()) || self.stages_done.contains(&stage.id) {
                continue;
            }
            if budget == 0 {
                looked.complete = false;
                break;
            }
            budget -= 1;
            let mut all_done = is_over(stage.state.as_ref());
            for step in project.steps(run, &stage.id).await? {
                if self.steps_done.contains(&step.id) {
                    continue;
                }
                all_done &= is_over(step.state.as_ref());
                if !has_begun(step.state.as_ref()) {
                    continue;
                }
                if budget == 0 {
                    all_done = false;
                    break;
                }
                budget -= 1;
                all_done &= self.read_step(project, run, stage, &step).await?;
            }
            looked.complete &= all_done;
            if all_done {
                self.stages_done.insert(stage.id.clone());
            }
        }
        Ok(looked)
    }

    /// Reads on in a step; whether it is done with.
    async fn read_step(
        &mut self,
        project: &ProjectScope,
        run: &RunRef,
        stage: &Stage,
        step: &Step,
    ) -> Result<bool, GatewayError> {
        let over = is_over(step.state.as_ref());
        let mut text = self
            .open
            .remove(&step.id)
            .unwrap_or_else(|| StepText::new(&self.masks));
        let opened = project
            .open_step_log(run, &stage.id, &step.id, &text.cursor)
            .await;
        let next = match opened {
            Ok(mut stream) => {
                let before = text.cursor.clone();
                let mut broken = None;
                while let Some(piece) = stream.next().await {
                    match piece {
                        Ok(piece) => {
                            text.push(&piece);
                            // Handed on as it comes: a step's log may be of any length.
                            if text.line.len() > LONG_LINE {
                                let lines = text.take(false);
                                self.write(stage, step, &lines);
                            }
                        }
                        Err(error) => broken = Some(error),
                    }
                }
                let (cursor, end) = stream.finish();
                text.cursor = cursor;
                if let Some(error) = broken {
                    self.open.insert(step.id.clone(), text);
                    return Err(error);
                }
                text.tries += u32::from(over);
                let known = before.delivered();
                let same = before.is_from_start() && known > 0 && known == text.cursor.delivered();
                then(over, end, same, text.tries)
            }
            // A step that has written nothing has no log (contract §5.4).
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if over {
                    Then::Done
                } else {
                    Then::Again
                }
            }
            Err(error) => {
                self.open.insert(step.id.clone(), text);
                return Err(error);
            }
        };
        if next != Then::Again {
            text.finish();
        }
        let lines = text.take(next != Then::Again);
        self.write(stage, step, &lines);
        match next {
            Then::Again => {
                self.open.insert(step.id.clone(), text);
                return Ok(false);
            }
            Then::GivenUp => self.gaps = true,
            Then::Done => {}
        }
        self.steps_done.insert(step.id.clone());
        Ok(true)
    }

    /// Puts a step's lines into the text, under a line that names it where another's came before.
    fn write(&mut self, stage: &Stage, step: &Step, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if self.writer.as_ref() != Some(&step.id) {
            let mut title = String::new();
            if self.in_line {
                title.push('\n');
            }
            if self.writer.is_none() {
                title.push_str(NOTICE);
            }
            title.push_str(&format!(
                "[tenantry] stage {:?}, step {:?}\n",
                self.masks.apply(&stage.name),
                self.masks.apply(&step.name)
            ));
            self.assembly.push(title.as_bytes());
            self.writer = Some(step.id.clone());
        }
        self.assembly.push(lines);
        self.in_line = lines.last() != Some(&b'\n');
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;
