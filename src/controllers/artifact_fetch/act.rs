//! ACT: brings the files of one run home. Never more in memory than the destination holds.

use std::future::Future;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::{decide::selection_digest, observe::destination, report::Fetched, target::Target};
use crate::{
    api::{ArtifactFetch, conditions::Reason},
    controllers::Context,
    gateway::{ErrorClass, ErrorKind, GatewayError, Known, ProjectScope},
    sinks::{
        ConfigMaps,
        files::{self, CAPACITY, FetchedBytes, Origin},
        hex,
        selection::{RemoteFile, Selection},
    },
    trouble::Trouble,
};

/// How often a transfer that broke is taken up again at once; then the whole fetch is put off.
const RESUMES: usize = 3;

/// Fetches what `object` wants of the run `target` and stores it. Where anything is wrong nothing is stored, and what was
/// stored before stays.
pub async fn fetch(ctx: &Context, object: &ArtifactFetch, target: &Target) -> Result<Fetched, Trouble> {
    let selection = Selection::compile(&object.spec.files, CAPACITY)?;
    let namespace = object.namespace().unwrap_or_default();
    let connected = ctx.connections.get(&namespace, &target.connection).await?;
    let project = connected
        .gateway
        .scope(target.cluster.as_deref())
        .project(&target.project);

    let listed = list(&project, target).await?;
    let picked = selection.pick(&target.revision, &listed)?;
    let mut fetched = Vec::with_capacity(picked.len());
    let mut room = selection.max_bytes();
    // One after the other: on the lower rung the remote holds each file in its memory (finding J).
    for file in &picked {
        let bytes = bring(&project, target, file, room).await?;
        room -= bytes.bytes.len() as u64;
        verify(&selection, &bytes, target)?;
        fetched.push(bytes);
    }

    let maps = ConfigMaps::of(ctx.client.clone(), object)?;
    let name = destination(object);
    let keep = if object.spec.files.prune {
        None
    } else {
        maps.read(&name).await?
    };
    let digest = selection_digest(object, target);
    let origin = Origin {
        revision: &target.revision,
        selection: &digest,
    };
    let files = files::build(&name, &origin, fetched, keep.as_ref())?;
    files::store(&maps, &files).await?;
    Ok(Fetched {
        revision: target.revision.clone(),
        selection: digest,
        config_map: name,
        files: files.files,
    })
}

async fn list(project: &ProjectScope, target: &Target) -> Result<Vec<RemoteFile>, Trouble> {
    let listed = project.artifacts(&target.run).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Trouble::user(
            Reason::RunNotFound,
            format!(
                "Jenkins has no build {} any more: its files cannot be fetched; what was stored before stays. Ask for a rerun, \
                 or name another run",
                target.revision
            ),
        ),
        _ => error.into(),
    })?;
    Ok(listed
        .into_iter()
        .map(|artifact| RemoteFile {
            path: artifact.path,
            size: artifact.size,
        })
        .collect())
}

async fn bring(
    project: &ProjectScope,
    target: &Target,
    file: &RemoteFile,
    room: u64,
) -> Result<FetchedBytes, Trouble> {
    let run_name = target.run_name.as_deref();
    let open = async |offset| {
        let download = project
            .download(&target.run, run_name, &file.path, offset)
            .await?;
        Ok((download.offset, download))
    };
    let received = match receive(file, room, open).await {
        Ok(received) => received,
        Err(Broken::Trouble(trouble)) => return Err(trouble),
        Err(Broken::Remote(error)) => return Err(not_had(project, target, file, error).await),
    };
    Ok(FetchedBytes {
        path: file.path.clone(),
        sha256: hex(&received.digest.finalize()),
        bytes: received.bytes,
    })
}

/// Why a file that was listed could not be had.
async fn not_had(project: &ProjectScope, target: &Target, file: &RemoteFile, error: GatewayError) -> Trouble {
    let refused = matches!(project.capabilities().jenkins_proxy, Known::No { .. });
    let out_of_reach = match &target.run_name {
        None => error.class() == ErrorClass::Denied,
        Some(name) => refused && error.kind() == ErrorKind::NotFound && is_gone(project, name).await,
    };
    let (path, revision) = (&file.path, &target.revision);
    if out_of_reach {
        return Trouble::user(
            Reason::AccessDenied,
            format!(
                "{path:?} of {revision} cannot be fetched: the PipelineRun is gone, and the tenant may not use the raw Jenkins \
                 proxy: ask for the right to get jenkins in project {}, or for a rerun",
                target.project
            ),
        );
    }
    match error.kind() {
        ErrorKind::NotFound => Trouble::passing(
            Reason::RemoteUnavailable,
            format!("{path:?} of {revision} was listed, but is not there: {error}"),
        ),
        _ => error.into(),
    }
}

/// Whether the run object is known to be gone.
async fn is_gone(project: &ProjectScope, run_name: &str) -> bool {
    let answer = project.run(run_name).await;
    answer.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn verify(selection: &Selection, file: &FetchedBytes, target: &Target) -> Result<(), Trouble> {
    match selection.digest_of(&file.path) {
        Some(wanted) if wanted != file.sha256 => Err(Trouble::user(
            Reason::DigestMismatch,
            format!(
                "{:?} of {} has sha256 {}, verify asks for {wanted}: nothing is stored; correct spec.verify, or build again",
                file.path, target.revision, file.sha256
            ),
        )),
        _ => Ok(()),
    }
}

/// What came of a file so far.
#[derive(Default)]
struct Received {
    bytes: Vec<u8>,
    digest: Sha256,
}

/// Why a file did not come.
#[derive(Debug)]
enum Broken {
    Trouble(Trouble),
    Remote(GatewayError),
}

/// Receives one file of at most `room` bytes and of the size that was listed. `open` opens it at an offset and tells
/// where it really begins. A transfer that breaks is taken up where it broke.
async fn receive<S, F>(
    file: &RemoteFile,
    room: u64,
    mut open: impl FnMut(u64) -> F,
) -> Result<Received, Broken>
where
    S: Stream<Item = Result<Bytes, GatewayError>> + Unpin,
    F: Future<Output = Result<(u64, S), GatewayError>>,
{
    // Jenkins does not tell the size of an empty file (contract §5.5).
    let limit = if file.size > 0 { file.size.min(room) } else { room };
    let mut received = Received::default();
    let mut last = None;
    for _ in 0..=RESUMES {
        match transfer(&mut received, limit, &mut open, file).await {
            Ok(()) if received.bytes.len() as u64 >= file.size => return Ok(received),
            Ok(()) => last = None,
            Err(Broken::Remote(error)) if is_broken(&error) => {
                let bytes = received.bytes.len();
                tracing::debug!(
                    path = file.path,
                    bytes,
                    of = file.size,
                    "the transfer broke: {error}"
                );
                last = Some(error);
            }
            Err(other) => return Err(other),
        }
    }
    Err(last.map_or_else(
        || {
            Broken::Trouble(Trouble::passing(
                Reason::RemoteUnavailable,
                format!(
                    "{:?} ended after {} of {} bytes; it is tried again",
                    file.path,
                    received.bytes.len(),
                    file.size
                ),
            ))
        },
        Broken::Remote,
    ))
}

async fn transfer<S, F>(
    received: &mut Received,
    limit: u64,
    open: &mut impl FnMut(u64) -> F,
    file: &RemoteFile,
) -> Result<(), Broken>
where
    S: Stream<Item = Result<Bytes, GatewayError>> + Unpin,
    F: Future<Output = Result<(u64, S), GatewayError>>,
{
    let have = received.bytes.len() as u64;
    let (offset, mut pieces) = open(have).await.map_err(Broken::Remote)?;
    if offset != have {
        // This rung cannot resume.
        *received = Received::default();
    }
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(Broken::Remote)?;
        if (received.bytes.len() + piece.len()) as u64 > limit {
            return Err(Broken::Trouble(Trouble::user(
                Reason::ArtifactsTooLarge,
                format!(
                    "{:?} is larger than the {limit} bytes that its run lists or that are left: it was cut off and nothing is \
                     stored; match fewer files",
                    file.path
                ),
            )));
        }
        received.digest.update(&piece);
        received.bytes.extend_from_slice(&piece);
    }
    Ok(())
}

/// Whether a transfer broke in the middle, so that taking it up again can help at once.
fn is_broken(error: &GatewayError) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque};

    use futures::stream;

    use super::*;

    type Piece = Result<&'static str, ErrorKind>;

    /// What the remote answers: where it begins, and the pieces.
    struct Answers(RefCell<VecDeque<(u64, Vec<Piece>)>>, RefCell<Vec<u64>>);

    impl Answers {
        fn new(answers: impl IntoIterator<Item = (u64, Vec<Piece>)>) -> Self {
            Self(RefCell::new(answers.into_iter().collect()), RefCell::default())
        }

        async fn receive(&self, size: u64, room: u64) -> Result<String, Broken> {
            let file = RemoteFile {
                path: "out/a".into(),
                size,
            };
            let open = async |offset| {
                self.1.borrow_mut().push(offset);
                let (begins, pieces) = self.0.borrow_mut().pop_front().expect("another answer");
                let pieces = pieces.into_iter().map(|piece| {
                    piece
                        .map(|piece| Bytes::from_static(piece.as_bytes()))
                        .map_err(|kind| GatewayError::config(kind, "test"))
                });
                Ok((begins, stream::iter(pieces.collect::<Vec<_>>())))
            };
            let received = receive(&file, room, open).await?;
            assert_eq!(
                hex(&received.digest.finalize()),
                hex(&Sha256::digest(&received.bytes))
            );
            Ok(String::from_utf8(received.bytes).unwrap())
        }

        fn asked(&self) -> Vec<u64> {
            self.1.take()
        }
    }

    const CUT: Piece = Err(ErrorKind::ConnectionLost);

    #[tokio::test]
    async fn a_file_comes_in_pieces() {
        let answers = Answers::new([(0, vec![Ok("hel"), Ok(""), Ok("lo")])]);
        assert_eq!(answers.receive(5, 100).await.unwrap(), "hello");
        assert_eq!(Answers::new([(0, vec![])]).receive(0, 0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn a_broken_transfer_is_taken_up_where_it_broke() {
        let answers = Answers::new([(0, vec![Ok("hel"), CUT]), (3, vec![CUT]), (3, vec![Ok("lo")])]);
        assert_eq!(answers.receive(5, 100).await.unwrap(), "hello");
        assert_eq!(answers.asked(), [0, 3, 3]);
    }

    #[tokio::test]
    async fn where_it_cannot_be_taken_up_it_begins_anew() {
        let answers = Answers::new([(0, vec![Ok("hel"), CUT]), (0, vec![Ok("hello")])]);
        assert_eq!(answers.receive(5, 100).await.unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_transfer_that_ends_early_is_not_the_file() {
        let answers = Answers::new([(0, vec![Ok("hel")]), (3, vec![Ok("lo")])]);
        assert_eq!(answers.receive(5, 100).await.unwrap(), "hello");
        let answers = Answers::new(vec![(0, vec![Ok("h")]), (1, vec![]), (1, vec![]), (1, vec![])]);
        let Err(Broken::Trouble(trouble)) = answers.receive(5, 100).await else {
            panic!("a file")
        };
        assert!(
            !trouble.is_stalled() && trouble.message.contains("1 of 5 bytes"),
            "{trouble}"
        );
    }

    #[tokio::test]
    async fn more_than_was_listed_or_than_fits_is_cut_off() {
        for (size, room) in [(4, 100), (5, 4), (0, 4)] {
            let answers = Answers::new([(0, vec![Ok("hel"), Ok("lo")])]);
            let Err(Broken::Trouble(trouble)) = answers.receive(size, room).await else {
                panic!("a file of {size} in {room}")
            };
            assert_eq!(
                (trouble.reason, trouble.is_stalled()),
                (Reason::ArtifactsTooLarge, true)
            );
        }
    }

    #[tokio::test]
    async fn an_error_that_no_repeat_mends_is_told_at_once() {
        let answers = Answers::new([(0, vec![Err(ErrorKind::Forbidden)])]);
        let Err(Broken::Remote(error)) = answers.receive(5, 100).await else {
            panic!("a file")
        };
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        let answers = Answers::new(vec![(0, vec![CUT]); 4]);
        assert!(matches!(answers.receive(5, 100).await, Err(Broken::Remote(_))));
        assert_eq!(answers.asked().len(), 4);
    }
}
