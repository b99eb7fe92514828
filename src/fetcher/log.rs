//! The build log of a run, onto the volume: whole, whatever its length, as UTF-8 with LF line ends.

use std::{
    collections::VecDeque,
    io::{BufWriter, Write as _},
    sync::Arc,
};

use bytes::Bytes;
use cap_std::fs::File;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    artifacts::{blocking, gone, stoppable},
    desk::Desk,
    outcome::{Failure, FailureKind, Outcome, Stored, Success},
    path::RelativePath,
    plan::{LogTask, Plan},
    progress::Progress,
    publish::in_the_way,
    start::bad_path,
    volume::{Found, refused},
};
use crate::{
    gateway::{ErrorKind, Gateway, GatewayError, LogCursor, LogEnd, ProjectScope, RunRef},
    runtime::shutdown::Shutdown,
    sinks::{
        hex,
        log::{MAX_LINES, Masker, Masks, Normaliser, last_lines},
    },
    trouble::Trouble,
};

/// The name in the staging directory.
const STAGED: &str = "log.part";
/// Pieces that wait to be written.
const WAITING: usize = 4;
/// Bytes of the end that are remembered, for the last lines.
const RING: usize = 2 * MAX_LINES;
/// Bytes that are remembered of the last line.
const LINE: usize = 256;
/// How often in a row the log may break off without getting on.
const RESUMES: u32 = 3;

/// Brings the log home.
pub async fn run(
    plan: &Plan,
    task: &LogTask,
    gateway: &Gateway,
    masks: Masks,
    progress: &Arc<Progress>,
    shutdown: &Shutdown,
) -> Result<Outcome, Failure> {
    // A new field has to be decided on here.
    let LogTask {
        file_name,
        tail_lines,
        masks: _,
    } = task;
    let place = plan
        .target
        .sub_path
        .join(file_name.as_str())
        .map_err(|why| bad_path(&why))?;
    let (desk, file) = {
        let (target, owner, place) = (plan.target.clone(), plan.owner.clone(), place.clone());
        blocking(move || {
            let desk = Desk::open(&target, &owner)?;
            let file = open(&desk, &place)?;
            Ok((desk, file))
        })
        .await?
    };
    progress.expect(1, 0);
    let project = gateway
        .scope(plan.run.cluster.as_deref())
        .project(&plan.run.project);
    let (pieces, inbox) = mpsc::channel(WAITING);
    let writer = {
        let progress = Arc::clone(progress);
        tokio::task::spawn_blocking(move || write(file, inbox, masks, &progress))
    };
    let reader = Reader {
        project,
        run: plan.run.run_ref(),
        revision: plan.revision.clone(),
        pieces,
        end: Vec::new(),
    };
    let read = stoppable(shutdown, reader.read()).await;
    let written = writer.await.map_err(|_| gone())?;
    let result = match (written, read) {
        // What stops the writer stops the reader: the writer knows why.
        (Err(failure), _) | (Ok(_), Err(failure)) => Err(failure),
        (Ok(written), Ok(())) => Ok(written),
    };
    progress.add_file();
    let (revision, tail_lines) = (plan.revision.clone(), *tail_lines as usize);
    blocking(move || match result {
        Ok(written) => {
            put_in_place(&desk, &place)?;
            let tail = Vec::from(written.ring);
            Ok(Outcome::Succeeded(Success {
                revision,
                files: 1,
                bytes: written.bytes,
                stored: Stored::Log {
                    path: place.to_string(),
                    sha256: hex(&written.digest.finalize()),
                    last_lines: last_lines(&String::from_utf8_lossy(&tail), tail_lines),
                },
            }))
        }
        Err(failure) => {
            // The next one reads it from its start.
            desk.clear_staging()?;
            Err(failure)
        }
    })
    .await
}

/// Opens the staged file, and looks whether its place is free.
fn open(desk: &Desk, place: &RelativePath) -> Result<File, Failure> {
    match desk.volume.look(place)? {
        Found::Nothing | Found::File { .. } => {}
        other => return Err(refused(place.as_str(), in_the_way(other))),
    }
    desk.clear_staging()?;
    desk.staging.write(STAGED)
}

fn put_in_place(desk: &Desk, place: &RelativePath) -> Result<(), Failure> {
    let _lock = desk.publishing()?;
    let (parent, name) = place.split();
    let mut above = Vec::new();
    let folder = desk.volume.make_folder(parent, |path| {
        above.push(path.rsplit_once('/').map(|(above, _)| above.to_owned()));
        Ok(())
    })?;
    match folder.look(name)? {
        Found::Nothing | Found::File { .. } => {}
        other => return Err(refused(place.as_str(), in_the_way(other))),
    }
    desk.staging.move_file(STAGED, &folder, name)?;
    folder.sync()?;
    for path in above {
        if let Some(folder) = desk.volume.folder(path.as_deref())? {
            folder.sync()?;
        }
    }
    desk.tidy()
}

/// Reads the log until Jenkins says that it is all.
struct Reader {
    project: ProjectScope,
    run: RunRef,
    revision: String,
    pieces: mpsc::Sender<Bytes>,
    /// The last bytes, where they are no more than a line.
    end: Vec<u8>,
}

impl Reader {
    /// Where a rung does not tell the end, its last words do, or two answers in a row that bring nothing new: the run is
    /// over, and an empty answer alone is never the end (finding F-H).
    async fn read(mut self) -> Result<(), Failure> {
        let mut cursor = LogCursor::default();
        let mut silent = 0;
        loop {
            let before = cursor.delivered();
            let (next, result) = self.read_once(cursor).await?;
            cursor = next;
            silent = if cursor.delivered() > before {
                0
            } else {
                silent + 1
            };
            let end = match result {
                Ok(end) => end,
                Err(error) if is_broken(&error) && silent < RESUMES => continue,
                Err(error) => return Err(self.not_had(error, cursor.delivered())),
            };
            let why = match end {
                LogEnd::Complete => break,
                LogEnd::Unknown if silent == 0 && self.says_its_end() => break,
                LogEnd::Unknown if silent >= 2 && cursor.delivered() > 0 => break,
                LogEnd::Unknown | LogEnd::Cut if silent >= 3 => {
                    "is sent in part only: Jenkins may be down, or the log too large to be sent whole"
                }
                LogEnd::Growing if silent >= 20 => "is still growing although the build is over",
                LogEnd::Unknown | LogEnd::Cut | LogEnd::Growing => continue,
            };
            return Err(Failure::new(
                FailureKind::RemoteUnavailable,
                format!("the log of {} {why}; it is tried again", self.revision),
            ));
        }
        self.hand_on(Bytes::from_static(cursor.held())).await
    }

    /// One answer. What was read of one that broke off is kept, and not read again.
    async fn read_once(
        &mut self,
        cursor: LogCursor,
    ) -> Result<(LogCursor, Result<LogEnd, GatewayError>), Failure> {
        let mut stream = match self.project.open_log(&self.run, &cursor).await {
            Ok(stream) => stream,
            Err(error) => return Ok((cursor, Err(error))),
        };
        let mut broken = None;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => self.hand_on(piece).await?,
                Err(error) => broken = Some(error),
            }
        }
        let (cursor, end) = stream.finish();
        Ok((cursor, broken.map_or(Ok(end), Err)))
    }

    async fn hand_on(&mut self, piece: Bytes) -> Result<(), Failure> {
        self.end
            .extend_from_slice(&piece[piece.len().saturating_sub(LINE)..]);
        self.end.drain(..self.end.len().saturating_sub(LINE));
        self.pieces.send(piece).await.map_err(|_| gone())
    }

    /// Whether the text ends in the line that Jenkins ends every log with.
    fn says_its_end(&self) -> bool {
        let Some(text) = self.end.strip_suffix(b"\n") else {
            return false;
        };
        let line = text.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        line.len() < text.len() && line.starts_with(b"Finished: ")
    }

    fn not_had(&self, error: GatewayError, delivered: u64) -> Failure {
        if error.kind() == ErrorKind::NotFound && delivered == 0 {
            return Failure::new(
                FailureKind::RunNotFound,
                format!("the remote has no log of {}: {error}", self.revision),
            );
        }
        Trouble::from(error).into()
    }
}

/// Writes what comes, until nobody is left who could send more or it cannot be written, and makes it safe.
fn write(
    file: File,
    mut inbox: mpsc::Receiver<Bytes>,
    masks: Masks,
    progress: &Progress,
) -> Result<Written, Failure> {
    let mut sheet = Sheet {
        out: BufWriter::with_capacity(64 * 1024, &file),
        failed: None,
        written: Written {
            bytes: 0,
            digest: Sha256::new(),
            ring: VecDeque::with_capacity(RING),
        },
    };
    let (mut normaliser, mut masker) = (Normaliser::default(), Masker::new(masks));
    while sheet.failed.is_none()
        && let Some(piece) = inbox.blocking_recv()
    {
        let before = sheet.written.bytes;
        normaliser.push(&piece, |text| {
            masker.push(text.as_bytes(), &mut |text| sheet.take(text));
        });
        progress.add_bytes(sheet.written.bytes - before);
    }
    normaliser.finish(|text| masker.push(text.as_bytes(), &mut |text| sheet.take(text)));
    masker.finish(&mut |text| sheet.take(text));
    let Sheet {
        mut out,
        failed,
        written,
    } = sheet;
    failed
        .map_or_else(|| out.flush(), Err)
        .and_then(|()| file.sync_all())
        .map_err(|why| super::volume::failed("write", &"the log", &why))?;
    Ok(written)
}

/// What is written to.
struct Sheet<'a> {
    out: BufWriter<&'a File>,
    failed: Option<std::io::Error>,
    written: Written,
}

/// Whether it broke off in the middle.
fn is_broken(error: &GatewayError) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::TimedOut)
}

/// What was written.
struct Written {
    bytes: u64,
    digest: Sha256,
    ring: VecDeque<u8>,
}

impl Sheet<'_> {
    fn take(&mut self, text: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.out.write_all(text).err();
        }
        let Written { bytes, digest, ring } = &mut self.written;
        *bytes += text.len() as u64;
        digest.update(text);
        let text = &text[text.len().saturating_sub(RING)..];
        let surplus = (ring.len() + text.len()).saturating_sub(RING);
        ring.drain(..surplus);
        ring.extend(text);
    }
}
