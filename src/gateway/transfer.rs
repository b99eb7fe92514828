//! Receiving one file, whatever it is received into: bounded, checked against its listed size, taken up where it broke.

use std::future::Future;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

use super::error::{ErrorKind, GatewayError};

/// How often in a row a transfer that broke without getting on is taken up again at once.
const RESUMES: usize = 3;
/// Bytes that count as getting on, so that a long transfer may break more often than that.
const HEADWAY: u64 = 1 << 20;

/// What takes the bytes of a file.
pub trait Receiver: Send {
    /// Why it cannot take them.
    type Error: Send;

    /// Bytes taken so far: where the transfer goes on.
    fn received(&self) -> u64;

    /// Forgets them all: the transfer begins anew, because the rung cannot resume.
    fn restart(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Takes the next piece.
    fn take(&mut self, piece: Bytes) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Why a file did not come.
#[derive(Debug)]
pub enum TransferError<E> {
    /// The remote did not give it.
    Remote(GatewayError),
    /// It ended before its listed size, again and again.
    Short {
        /// Bytes that came.
        received: u64,
        /// Bytes that were listed.
        listed: u64,
    },
    /// More came than may.
    TooLong {
        /// What may come.
        limit: u64,
    },
    /// The receiver could not take it.
    Receiver(E),
}

/// Receives one file of the listed size and of at most `limit` bytes. `open` opens it at an offset and tells where it
/// really begins. What the receiver has already is not asked for again where the rung can resume.
pub async fn transfer<R, S, F>(
    receiver: &mut R,
    listed: u64,
    limit: u64,
    mut open: impl FnMut(u64) -> F,
) -> Result<(), TransferError<R::Error>>
where
    R: Receiver,
    S: Stream<Item = Result<Bytes, GatewayError>> + Unpin,
    F: Future<Output = Result<(u64, S), GatewayError>>,
{
    // Jenkins does not tell the size of an empty file (contract §5.5).
    let limit = if listed > 0 { listed.min(limit) } else { limit };
    let mut reached = receiver.received();
    // All of it may be here from an earlier try; asking for what follows the last byte would be an error.
    if listed > 0 && reached == listed {
        return Ok(());
    }
    let mut failures = 0;
    loop {
        let broken = match once(receiver, limit, &mut open).await {
            Ok(()) if receiver.received() >= listed => return Ok(()),
            Ok(()) => None,
            Err(TransferError::Remote(error)) if is_broken(&error) => Some(error),
            Err(other) => return Err(other),
        };
        let received = receiver.received();
        if listed > 0 && received == listed {
            return Ok(());
        }
        if received >= reached.saturating_add(HEADWAY) {
            reached = received;
            failures = 0;
        }
        failures += 1;
        if failures > RESUMES {
            return Err(broken.map_or(TransferError::Short { received, listed }, TransferError::Remote));
        }
        tracing::debug!(received, listed, ?broken, "the transfer broke");
    }
}

async fn once<R, S, F>(
    receiver: &mut R,
    limit: u64,
    open: &mut impl FnMut(u64) -> F,
) -> Result<(), TransferError<R::Error>>
where
    R: Receiver,
    S: Stream<Item = Result<Bytes, GatewayError>> + Unpin,
    F: Future<Output = Result<(u64, S), GatewayError>>,
{
    let have = receiver.received();
    let (offset, mut pieces) = open(have).await.map_err(TransferError::Remote)?;
    if offset != have {
        // This rung cannot resume.
        receiver.restart().await.map_err(TransferError::Receiver)?;
    }
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(TransferError::Remote)?;
        if receiver.received() + piece.len() as u64 > limit {
            return Err(TransferError::TooLong { limit });
        }
        receiver.take(piece).await.map_err(TransferError::Receiver)?;
    }
    Ok(())
}

/// Whether a transfer broke in the middle, so that taking it up again can help at once.
fn is_broken(error: &GatewayError) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::TimedOut)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque, convert::Infallible};

    use futures::stream;

    use super::*;

    type Piece = Result<&'static str, ErrorKind>;
    const CUT: Piece = Err(ErrorKind::ConnectionLost);

    #[derive(Default)]
    struct Memory(Vec<u8>);

    impl Receiver for Memory {
        type Error = Infallible;
        fn received(&self) -> u64 {
            self.0.len() as u64
        }
        async fn restart(&mut self) -> Result<(), Infallible> {
            self.0.clear();
            Ok(())
        }
        async fn take(&mut self, piece: Bytes) -> Result<(), Infallible> {
            self.0.extend_from_slice(&piece);
            Ok(())
        }
    }

    /// What the remote answers: where it begins, and the pieces.
    struct Answers(RefCell<VecDeque<(u64, Vec<Piece>)>>, RefCell<Vec<u64>>);

    impl Answers {
        fn new(answers: impl IntoIterator<Item = (u64, Vec<Piece>)>) -> Self {
            Self(RefCell::new(answers.into_iter().collect()), RefCell::default())
        }

        async fn receive_into(
            &self,
            memory: &mut Memory,
            listed: u64,
            limit: u64,
        ) -> Result<(), TransferError<Infallible>> {
            transfer(memory, listed, limit, async |offset| {
                self.1.borrow_mut().push(offset);
                let (begins, pieces) = self.0.borrow_mut().pop_front().expect("another answer");
                let pieces = pieces.into_iter().map(|piece| {
                    piece
                        .map(|piece| Bytes::from_static(piece.as_bytes()))
                        .map_err(|kind| GatewayError::config(kind, "test"))
                });
                Ok((begins, stream::iter(pieces.collect::<Vec<_>>())))
            })
            .await
        }

        async fn receive(&self, listed: u64, limit: u64) -> Result<String, TransferError<Infallible>> {
            let mut memory = Memory::default();
            self.receive_into(&mut memory, listed, limit).await?;
            Ok(String::from_utf8(memory.0).unwrap())
        }

        fn asked(&self) -> Vec<u64> {
            self.1.take()
        }
    }

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
    async fn what_is_there_from_an_earlier_try_is_not_asked_for_again() {
        let answers = Answers::new([(3, vec![Ok("lo")])]);
        let mut memory = Memory(b"hel".into());
        answers.receive_into(&mut memory, 5, 100).await.unwrap();
        assert_eq!((memory.0.as_slice(), answers.asked()), (&b"hello"[..], vec![3]));
        answers.receive_into(&mut memory, 5, 100).await.unwrap();
        assert_eq!(answers.asked(), [0_u64; 0], "it is whole");
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
        let error = answers.receive(5, 100).await.expect_err("a file");
        assert!(
            matches!(
                error,
                TransferError::Short {
                    received: 1,
                    listed: 5
                }
            ),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn more_than_was_listed_or_than_fits_is_cut_off() {
        for (listed, limit, cut_at) in [(4, 100, 4), (5, 4, 4), (0, 4, 4)] {
            let answers = Answers::new([(0, vec![Ok("hel"), Ok("lo")])]);
            let error = answers.receive(listed, limit).await.expect_err("a file");
            assert!(
                matches!(error, TransferError::TooLong { limit } if limit == cut_at),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_error_that_no_repeat_mends_is_told_at_once() {
        let answers = Answers::new([(0, vec![Err(ErrorKind::Forbidden)])]);
        let Err(TransferError::Remote(error)) = answers.receive(5, 100).await else {
            panic!("a file")
        };
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        let answers = Answers::new(vec![(0, vec![CUT]); 4]);
        assert!(matches!(
            answers.receive(5, 100).await,
            Err(TransferError::Remote(_))
        ));
        assert_eq!(answers.asked().len(), 4);
    }

    #[tokio::test]
    async fn a_long_transfer_may_break_often_as_long_as_it_gets_on() {
        static PIECE: std::sync::LazyLock<String> =
            std::sync::LazyLock::new(|| "x".repeat(usize::try_from(HEADWAY).unwrap_or_default()));
        let answers = Answers::new((0..10).map(|n| (n * HEADWAY, vec![Ok(PIECE.as_str()), CUT])));
        let got = answers.receive(10 * HEADWAY, u64::MAX).await.unwrap();
        assert_eq!(got.len() as u64, 10 * HEADWAY);
    }
}
