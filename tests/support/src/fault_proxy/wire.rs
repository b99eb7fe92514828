//! Connections that can be ended by a reset, as by a machine that goes away.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

/// Ends one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scissors(Arc<(AtomicBool, Notify)>);

impl Scissors {
    /// Resets the connection. Whoever waits in [`is_cut`](Self::is_cut) goes on.
    pub(crate) fn cut(&self) {
        self.0.0.store(true, Ordering::SeqCst);
        self.0.1.notify_waiters();
        self.0.1.notify_one();
    }

    /// Waits until the connection is to end.
    pub(crate) async fn is_cut(&self) {
        while !self.0.0.load(Ordering::SeqCst) {
            self.0.1.notified().await;
        }
    }
}

/// A connection that ends with a reset when it was cut.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    pub(crate) scissors: Scissors,
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.scissors.0.0.load(Ordering::SeqCst) {
            // Closing with a zero linger sends RST instead of FIN.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
