//! One log on its way home: where it is read, and how it ends.
//!
//! While the build runs, the text comes from the raw Jenkins proxy, where only what is new travels. A tenant without that
//! gets a view from the logs of the steps ([`StepView`]), at the same price; where there are no stages, and so no steps,
//! the whole log is read, ever more rarely. At the end the whole log is read from its start: that is the true text, and
//! what size and digest speak of. Only where Jenkins answers and the whole log still cannot be had (ks-devops gives up
//! on it after 30 s, contract §5.4) is what the steps have written kept instead, and marked as that.

use std::time::{Duration, Instant};

use super::steps::StepView;
use crate::{
    api::{build_request::LogSource, conditions::Reason},
    gateway::{ErrorClass, ErrorKind, GatewayError, LogCursor, LogEnd, LogStream, ProjectScope, RunRef},
    sinks::log::{LogAssembly, Masks},
    trouble::Trouble,
};

/// Looks without any stage before the whole log is read for a live view: they come a little after the build's start.
const STAGELESS: u32 = 3;
/// Longest pause between two reads of the whole log for a live view.
const MAX_PAUSE: Duration = Duration::from_secs(600);
/// Times that the whole log could not be read at the end before the steps are asked. Each costs ks-devops the memory of
/// the whole log.
const WHOLE_TRIES: u32 = 3;

/// A log that is being read.
pub struct Reader {
    max_bytes: usize,
    masks: Masks,
    /// The log as Jenkins has it.
    assembly: LogAssembly,
    cursor: LogCursor,
    /// The view from the steps, where it is used.
    steps: Option<StepView>,
    stageless: u32,
    /// When the whole log was read last for a live view, and how long it is let be from then.
    whole: Option<(Instant, Duration)>,
    /// How often it could not be read at the end.
    failures: u32,
    /// All of it was read.
    finished: bool,
}

/// Why a log could not be read to its end.
struct Unread {
    trouble: Trouble,
    /// Another try, or another way, may help.
    hopeful: bool,
}

impl Reader {
    /// One that has read nothing.
    pub fn new(max_bytes: usize, masks: Masks) -> Self {
        Self {
            max_bytes,
            assembly: LogAssembly::new(max_bytes, masks.clone()),
            masks,
            cursor: LogCursor::default(),
            steps: None,
            stageless: 0,
            whole: None,
            failures: 0,
            finished: false,
        }
    }

    /// One like this that has read nothing.
    pub fn anew(&self) -> Self {
        Self::new(self.max_bytes, self.masks.clone())
    }

    /// The text so far, and what it is.
    pub fn text(&self) -> (&LogAssembly, LogSource) {
        match &self.steps {
            Some(view) => (view.assembly(), LogSource::Steps),
            None => (&self.assembly, LogSource::Run),
        }
    }

    /// Reads what is new while the build runs; whether there was something.
    pub async fn look(
        &mut self,
        project: &ProjectScope,
        run: &RunRef,
        interval: Duration,
    ) -> Result<bool, GatewayError> {
        let before = (self.text().1, self.text().0.bytes());
        if let Some(stream) = project.open_live_log(run, &self.cursor).await? {
            self.steps = None;
            self.take(stream).await?;
        } else if self.cursor.delivered() > 0 || !self.look_at_steps(project, run).await? {
            self.look_at_whole(project, run, interval).await?;
        }
        Ok(before != (self.text().1, self.text().0.bytes()))
    }

    /// Whether the steps are the way to look at this build now.
    async fn look_at_steps(&mut self, project: &ProjectScope, run: &RunRef) -> Result<bool, GatewayError> {
        let mut view = self
            .steps
            .take()
            .unwrap_or_else(|| StepView::new(self.max_bytes, self.masks.clone()));
        let looked = view.look(project, run).await;
        let known = view.assembly().bytes() > 0;
        if known || matches!(&looked, Ok(looked) if looked.stages) {
            self.steps = Some(view);
        }
        let stages = looked?.stages;
        self.stageless += u32::from(!stages);
        Ok(stages || known || self.stageless < STAGELESS)
    }

    async fn look_at_whole(
        &mut self,
        project: &ProjectScope,
        run: &RunRef,
        interval: Duration,
    ) -> Result<(), GatewayError> {
        let pause = match self.whole {
            Some((at, pause)) if at.elapsed() < pause => return Ok(()),
            Some((_, pause)) => (pause * 2).min(MAX_PAUSE),
            None => interval,
        };
        self.whole = Some((Instant::now(), pause));
        let stream = project.open_log(run, &self.cursor).await?;
        self.take(stream).await.map(|_| ())
    }

    /// Reads all of it, of a build that is over.
    pub async fn finish(&mut self, project: &ProjectScope, run: &RunRef) -> Result<(), Trouble> {
        if self.finished {
            return Ok(()); // and could not be stored
        }
        match self.read_to_end(project, run).await {
            Ok(()) => {
                self.assembly.push(self.cursor.held());
                self.assembly.finish();
                self.steps = None;
                self.finished = true;
                Ok(())
            }
            Err(Unread { trouble, hopeful }) => {
                self.failures += u32::from(hopeful);
                if self.failures < WHOLE_TRIES {
                    return Err(trouble);
                }
                let view = self
                    .steps
                    .get_or_insert_with(|| StepView::new(self.max_bytes, self.masks.clone()));
                match view.finish(project, run).await {
                    Ok(true) => {
                        self.finished = true;
                        Ok(())
                    }
                    Ok(false) => {
                        // Something is missing in it: the next one begins anew.
                        self.steps = None;
                        Err(trouble)
                    }
                    Err(_) => Err(trouble),
                }
            }
        }
    }

    /// Reads on until Jenkins says that it is all or, where a rung does not tell, until its last words were read or two
    /// answers in a row bring nothing new: the run is over, and an empty answer alone is never the end (finding H).
    async fn read_to_end(&mut self, project: &ProjectScope, run: &RunRef) -> Result<(), Unread> {
        let mut silent = 0;
        loop {
            let before = self.cursor.delivered();
            let end = match self.read(project, run).await {
                Ok(end) => end,
                Err(error) => return Err(unread(error, before, run)),
            };
            let delivered = self.cursor.delivered();
            silent = if delivered == before { silent + 1 } else { 0 };
            let why = match end {
                LogEnd::Complete => return Ok(()),
                LogEnd::Unknown if silent == 0 && self.says_its_end() => return Ok(()),
                LogEnd::Unknown if silent >= 2 && delivered > 0 => return Ok(()),
                LogEnd::Unknown | LogEnd::Cut if silent >= 3 => format!(
                    "the remote answers with less of the log of {run} than there is: Jenkins may be down, or the log too \
                     large to be sent whole"
                ),
                LogEnd::Growing if silent >= 20 => {
                    format!("the log of {run} is still growing although the build is over")
                }
                LogEnd::Unknown | LogEnd::Cut | LogEnd::Growing => continue,
            };
            return Err(Unread {
                trouble: Trouble::passing(Reason::LogUnavailable, why),
                hopeful: true,
            });
        }
    }

    /// Whether the text ends in the line that Jenkins ends every log with.
    fn says_its_end(&self) -> bool {
        self.assembly.ends_line() && self.assembly.last_lines(1).starts_with("Finished: ")
    }

    async fn read(&mut self, project: &ProjectScope, run: &RunRef) -> Result<LogEnd, GatewayError> {
        let stream = project.open_log(run, &self.cursor).await?;
        self.take(stream).await
    }

    async fn take(&mut self, mut stream: LogStream) -> Result<LogEnd, GatewayError> {
        let mut broken = None;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => self.assembly.push(&piece),
                Err(error) => broken = Some(error),
            }
        }
        // Also where the answer broke off: what was read of it is kept, and not read again.
        let (cursor, end) = stream.finish();
        self.cursor = cursor;
        broken.map_or(Ok(end), Err)
    }
}

fn unread(error: GatewayError, delivered: u64, run: &RunRef) -> Unread {
    let hopeful = matches!(error.class(), ErrorClass::Unavailable | ErrorClass::Bug);
    let trouble = if error.kind() == ErrorKind::NotFound && delivered == 0 {
        Trouble::passing(
            Reason::LogUnavailable,
            format!("the remote has no log of {run}: {error}"),
        )
    } else {
        error.into()
    };
    Unread { trouble, hopeful }
}
