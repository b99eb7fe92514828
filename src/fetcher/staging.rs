//! Files that are not whole yet, or not published: `.tenantry/OWNER.d/`, one file each, under a name made from its path.
//!
//! A [`Part`] takes the bytes of one file; a thread of its own writes and digests them, so that neither waits for the
//! network and the other way round. A [`Clerk`] is the one who writes the journal, many lines at a time.

use std::{
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use bytes::Bytes;
use cap_std::fs::File;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::{
    journal::{Journal, Record},
    manifest::Kept,
    outcome::{Failure, FailureKind},
    path::RelativePath,
    progress::Progress,
    volume::{Folder, Stamp},
};
use crate::{gateway::Receiver, sinks::hex};

/// After how many bytes of a large file what there is of it is made safe.
const CHECKPOINT: u64 = 64 << 20;
/// Bytes that wait to be written, of all files together: what the process takes must not grow with their number.
const WAITING: usize = 2 << 20;
/// Pieces of one file that wait; those of a slow network are small.
const PIECES: usize = 64;
/// Lines of the journal that are written at a time.
const BATCH: usize = 256;
/// Bytes read at a time.
const BUFFER: usize = 64 * 1024;

/// The name of a file in the staging directory.
pub fn staged_name(path: &RelativePath) -> String {
    format!("{}.part", hex(&Sha256::digest(path.as_str())[..16]))
}

/// A file that is being received.
pub struct Part {
    path: RelativePath,
    received: u64,
    progress: Arc<Progress>,
    budget: Budget,
    room: Room,
    orders: mpsc::Sender<Order>,
    writer: JoinHandle<Result<Option<Kept>, Failure>>,
}

/// Bytes that files of unknown size may still have together. A file of a known size needs none: its size is counted.
#[derive(Clone, Debug)]
pub enum Budget {
    /// The size is known.
    Listed,
    /// It is not.
    Shared(Arc<AtomicU64>),
}

/// Room for the bytes that wait to be written, shared by all files.
#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WAITING)))
    }
}

impl Room {
    /// Waits until there is room for `bytes`. A piece that is larger than all of it gets all of it.
    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(WAITING)).unwrap_or(u32::MAX);
        // Nobody closes it.
        Arc::clone(&self.0).acquire_many_owned(bytes).await.ok()
    }
}

enum Order {
    Piece(Bytes, Option<OwnedSemaphorePermit>),
    Restart,
    Finish,
}

impl Part {
    /// Opens the staged file of `path` to go on where it ends. Its writer is one of `tracker`, so that everything is safe
    /// when all of these have ended.
    pub fn open(
        staging: &Folder,
        path: &RelativePath,
        budget: Budget,
        room: Room,
        clerk: Clerk,
        progress: Arc<Progress>,
        tracker: &TaskTracker,
    ) -> Result<Self, Failure> {
        let name = staged_name(path);
        let file = staging.write(&name)?;
        let received = file
            .metadata()
            .map_err(|why| staging.failed("look at", &name, &why))?
            .len();
        let (orders, inbox) = mpsc::channel(PIECES);
        let writer = Writer {
            path: path.clone(),
            file,
            digest: Sha256::new(),
            written: 0,
            clerk,
        };
        let mut part = Self {
            path: path.clone(),
            received: 0,
            progress,
            budget,
            room,
            orders,
            writer: tracker.spawn_blocking(move || writer.run(received, inbox)),
        };
        part.count(received)?;
        Ok(part)
    }

    /// Everything came: makes it safe and says what it is.
    pub async fn finish(self) -> Result<Kept, Failure> {
        // Where the writer is gone, its own words say why.
        let _ = self.orders.send(Order::Finish).await;
        drop(self.orders);
        ended(&self.path, self.writer.await)
    }

    fn count(&mut self, bytes: u64) -> Result<(), Failure> {
        if let Budget::Shared(left) = &self.budget {
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
                .map_err(|_| {
                    Failure::new(
                        FailureKind::TooLarge,
                        format!(
                            "{:?}, whose size its run does not list, has more bytes than maxBytes leaves: match fewer files, or \
                             raise it",
                            self.path.as_str()
                        ),
                    )
                })?;
        }
        self.received += bytes;
        self.progress.add_bytes(bytes);
        Ok(())
    }

    async fn order(&mut self, order: Order) -> Result<(), Failure> {
        if self.orders.send(order).await.is_ok() {
            return Ok(());
        }
        match ended(&self.path, (&mut self.writer).await) {
            Err(failure) => Err(failure),
            Ok(_) => Err(lost(&self.path)),
        }
    }
}

impl Receiver for Part {
    type Error = Failure;

    fn received(&self) -> u64 {
        self.received
    }

    async fn restart(&mut self) -> Result<(), Failure> {
        self.progress.take_bytes(self.received);
        if let Budget::Shared(left) = &self.budget {
            left.fetch_add(self.received, Ordering::Relaxed);
        }
        self.received = 0;
        self.order(Order::Restart).await
    }

    async fn take(&mut self, piece: Bytes) -> Result<(), Failure> {
        self.count(piece.len() as u64)?;
        let room = self.room.take(piece.len()).await;
        self.order(Order::Piece(piece, room)).await
    }
}

fn ended(
    path: &RelativePath,
    joined: Result<Result<Option<Kept>, Failure>, tokio::task::JoinError>,
) -> Result<Kept, Failure> {
    joined.map_err(|_| lost(path))??.ok_or_else(|| lost(path))
}

fn lost(path: &RelativePath) -> Failure {
    Failure::new(
        FailureKind::Interrupted,
        format!(
            "{:?} was given up before it was whole; the next try goes on there",
            path.as_str()
        ),
    )
}

struct Writer {
    path: RelativePath,
    file: File,
    digest: Sha256,
    written: u64,
    clerk: Clerk,
}

impl Writer {
    /// Writes what comes, after the `have` bytes that are there. Where nobody says that it is all, it is kept for later.
    fn run(mut self, have: u64, mut inbox: mpsc::Receiver<Order>) -> Result<Option<Kept>, Failure> {
        let path = self.path.clone();
        self.work(have, &mut inbox)
            .map_err(|why| super::volume::failed("write", &format!("{:?}", path.as_str()), &why))
    }

    fn work(&mut self, have: u64, inbox: &mut mpsc::Receiver<Order>) -> io::Result<Option<Kept>> {
        self.read_again(have)?;
        let mut syncer = None;
        let mut safe = self.written;
        let whole = loop {
            match inbox.blocking_recv() {
                Some(Order::Piece(piece, _room)) => {
                    self.file.write_all(&piece)?;
                    self.digest.update(&piece);
                    self.written += piece.len() as u64;
                }
                Some(Order::Restart) => {
                    self.file.set_len(0)?;
                    self.file.rewind()?;
                    (self.digest, self.written, safe) = (Sha256::new(), 0, 0);
                    // What was safe of it is not any more.
                    self.clerk.tell(Record::Partial {
                        path: self.path.clone(),
                        safe: 0,
                    });
                }
                Some(Order::Finish) => break true,
                None => break false,
            }
            if self.written >= safe + CHECKPOINT {
                if syncer.is_none() {
                    syncer = Some(Syncer::start(
                        self.file.try_clone()?,
                        self.path.clone(),
                        self.clerk.clone(),
                    ));
                }
                if syncer
                    .as_ref()
                    .is_some_and(|syncer| syncer.checkpoint(self.written))
                {
                    safe = self.written;
                }
            }
        };
        // An error is told once for a file: here or there.
        syncer.map_or(Ok(()), Syncer::end)?;
        self.file.sync_all()?;
        if !whole {
            self.clerk.tell(Record::Partial {
                path: self.path.clone(),
                safe: self.written,
            });
            return Ok(None);
        }
        let kept = Kept {
            path: self.path.clone(),
            size: self.written,
            sha256: hex(&std::mem::take(&mut self.digest).finalize()),
            stamp: Stamp::of(&self.file)?,
        };
        Ok(Some(kept))
    }

    /// Digests what is there from an earlier try.
    fn read_again(&mut self, have: u64) -> io::Result<()> {
        let mut buffer = vec![0; if have == 0 { 0 } else { BUFFER }];
        while self.written < have {
            let room = usize::try_from(have - self.written).unwrap_or(BUFFER).min(BUFFER);
            match self.file.read(&mut buffer[..room])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    self.digest.update(&buffer[..count]);
                    self.written += count as u64;
                }
            }
        }
        self.file.seek(SeekFrom::Start(have)).map(drop)
    }
}

/// Makes a large file safe while it is still being written.
struct Syncer {
    marks: SyncSender<u64>,
    thread: thread::JoinHandle<io::Result<()>>,
}

impl Syncer {
    fn start(file: File, path: RelativePath, clerk: Clerk) -> Self {
        let (marks, inbox) = sync_channel(0);
        let thread = thread::spawn(move || {
            for safe in inbox {
                file.sync_data()?;
                clerk.tell(Record::Partial {
                    path: path.clone(),
                    safe,
                });
            }
            Ok(())
        });
        Self { marks, thread }
    }

    /// Asks for what was written so far to be made safe, unless it is still at it.
    fn checkpoint(&self, written: u64) -> bool {
        self.marks.try_send(written).is_ok()
    }

    fn end(self) -> io::Result<()> {
        drop(self.marks);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that syncs ended")))
    }
}

/// Ends with the journal and the files that became whole.
pub type Books = JoinHandle<Result<(Journal, Vec<Kept>), Failure>>;

/// Whom to tell what is to be in the journal.
#[derive(Clone, Debug)]
pub struct Clerk(mpsc::UnboundedSender<Record>);

impl Clerk {
    /// Starts one who writes `journal`. It ends when nobody is left who could tell it anything.
    pub fn start(mut journal: Journal, staging: Folder, progress: Arc<Progress>) -> (Self, Books) {
        let (sender, mut inbox) = mpsc::unbounded_channel();
        let desk = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            let mut batch = Vec::with_capacity(BATCH);
            while inbox.blocking_recv_many(&mut batch, BATCH) > 0 {
                let whole = batch.iter().any(|record| matches!(record, Record::Whole(_)));
                if whole {
                    // The names too, before it is said that the files are there.
                    staging.sync()?;
                }
                journal.note(&batch)?;
                if whole {
                    journal.sync()?;
                }
                for record in batch.drain(..) {
                    if let Record::Whole(kept) = record {
                        progress.add_file();
                        all.push(kept);
                    }
                }
            }
            journal.sync()?;
            Ok((journal, all))
        });
        (Self(sender), desk)
    }

    /// Tells it. Where it is gone, that is found out when it is waited for.
    pub fn tell(&self, record: Record) {
        let _ = self.0.send(record);
    }

    /// Whether it is gone.
    pub fn is_gone(&self) -> bool {
        self.0.is_closed()
    }
}
