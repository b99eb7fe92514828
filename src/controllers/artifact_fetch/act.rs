//! ACT: brings the files of one run home. Never more in memory than the destination holds.

use std::convert::Infallible;

use bytes::Bytes;
use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::{
    decide::selection_digest,
    observe::destination,
    report::{Fetched, Place},
    target::Target,
};
use crate::{
    api::ArtifactFetch,
    controllers::Context,
    fetcher::remote::{self, RemoteRun},
    gateway::{Class, Purpose, Receiver, TransferError, transfer},
    runtime::ObjectKey,
    sinks::{
        ConfigMaps,
        files::{self, CAPACITY, FetchedBytes, Origin},
        hex,
        selection::{RemoteFile, Selection},
    },
    trouble::Trouble,
};

/// Fetches what `object` wants of the run `target` and stores it. Where anything is wrong nothing is stored, and what was
/// stored before stays.
pub async fn fetch(ctx: &Context, object: &ArtifactFetch, target: &Target) -> Result<Fetched, Trouble> {
    let selection = Selection::compile(&object.spec.files, CAPACITY)?;
    let namespace = object.namespace().unwrap_or_default();
    let connected = ctx.connections.get(&namespace, &target.connection).await?;
    let purpose = Purpose::new(ObjectKey::of(object), Class::Background);
    let connected = connected.on_behalf_of(purpose);
    let project = connected
        .gateway
        .scope(target.cluster.as_deref())
        .project(&target.project);

    let run = RemoteRun {
        project: &project,
        run: &target.run,
        name: target.run_name.as_deref(),
        revision: &target.revision,
    };
    let listed = run.list().await?;
    let picked = selection.pick(&target.revision, &listed)?;
    let mut fetched = Vec::with_capacity(picked.len());
    let mut room = selection.max_bytes();
    // One after the other: on the lower rung the remote holds each file in its memory (finding J).
    for file in &picked {
        let bytes = bring(&run, file, room).await?;
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
        place: Place::ConfigMap(name),
        count: i64::try_from(files.files.len()).unwrap_or(i64::MAX),
        bytes: files.files.iter().map(|file| file.size).sum(),
        files: files.files,
    })
}

async fn bring(run: &RemoteRun<'_>, file: &RemoteFile, room: u64) -> Result<FetchedBytes, Trouble> {
    let path = &file.path;
    let open = async |offset| {
        let download = run.project.download(run.run, run.name, path, offset).await?;
        Ok((download.offset, download))
    };
    let mut memory = Memory::default();
    match transfer(&mut memory, file.size, room, open).await {
        Ok(()) => Ok(FetchedBytes {
            path: path.clone(),
            sha256: hex(&memory.digest.finalize()),
            bytes: memory.bytes,
        }),
        Err(TransferError::Remote(error)) => Err(run.not_had(path, error).await),
        Err(TransferError::Short { received, listed }) => Err(remote::short(path, received, listed)),
        Err(TransferError::TooLong { limit }) => Err(remote::too_long(path, limit)),
        Err(TransferError::Receiver(never)) => match never {},
    }
}

fn verify(selection: &Selection, file: &FetchedBytes, target: &Target) -> Result<(), Trouble> {
    match selection.digest_of(&file.path) {
        Some(wanted) if wanted != file.sha256 => Err(remote::other_digest(
            &file.path,
            &target.revision,
            &file.sha256,
            wanted,
        )),
        _ => Ok(()),
    }
}

/// A file in memory, and its digest.
#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    digest: Sha256,
}

impl Receiver for Memory {
    type Error = Infallible;

    fn received(&self) -> u64 {
        self.bytes.len() as u64
    }

    async fn restart(&mut self) -> Result<(), Infallible> {
        *self = Self::default();
        Ok(())
    }

    async fn take(&mut self, piece: Bytes) -> Result<(), Infallible> {
        self.digest.update(&piece);
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_in_memory_has_its_digest_also_after_a_new_beginning() {
        let mut memory = Memory::default();
        for piece in ["x", "y"] {
            memory.take(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        memory.restart().await.unwrap();
        assert_eq!(memory.received(), 0);
        memory.take(Bytes::from_static(b"hello")).await.unwrap();
        assert_eq!((memory.bytes.as_slice(), memory.received()), (&b"hello"[..], 5));
        assert_eq!(hex(&memory.digest.finalize()), hex(&Sha256::digest("hello")));
    }
}
