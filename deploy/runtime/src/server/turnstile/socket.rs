//! A connection's socket, which is read when it is its turn, and a little at once while the server is late.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Turn, WAIT_MAX};

/// What a connection reads in one go while the server is late; then others have their turn. So a crowd that comes at once
/// is noticed before all that it has said is read.
const BYTES_AT_ONCE: usize = 4 * 1_024;
/// What has waited longer is not worth an answer.
pub(super) const STALE: Duration = Duration::from_millis(250);

/// A socket that is read when it is its turn.
#[derive(Debug)]
pub(in super::super) struct Turned {
    stream: TcpStream,
    /// None: it is read always.
    turn: Option<Arc<Turn>>,
    /// Since when it waits with something to say.
    since: Option<Instant>,
    /// What was read in one go.
    bytes: usize,
}

impl Turned {
    /// A socket, and its connection's turn.
    pub(in super::super) fn new(stream: TcpStream, turn: Option<Arc<Turn>>) -> Turned {
        Turned { stream, turn, since: None, bytes: 0 }
    }

    /// The socket itself.
    pub(in super::super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits until it is read, or never will be.
    ///
    /// # Errors
    /// When it has waited too long.
    pub(in super::super) async fn turn(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_turn(context)).await
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(turn) = &self.turn else { return Poll::Ready(Ok(())) };
        if turn.is_ours() {
            return Poll::Ready(match self.since.take() {
                Some(since) if since.elapsed() > STALE => {
                    // What it says now was said long ago.
                    Err(turn.go())
                }
                _ => Ok(()),
            });
        }
        if self.since.is_none() {
            // Who has nothing to say, or has left, waits for nothing.
            let mut byte = [0];
            match ready!(self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte))) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(())),
                Ok(_) => {}
            }
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() >= WAIT_MAX {
            return Poll::Ready(Err(turn.go()));
        }
        turn.wait(context.waker(), since);
        Poll::Pending
    }
}

impl AsyncRead for Turned {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_turn(context))?;
        if self.bytes >= BYTES_AT_ONCE {
            self.bytes = 0;
            if self.turn.as_ref().is_some_and(|turn| turn.stile.is_overdue()) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.bytes = if read.is_ready() { self.bytes + buffer.filled().len() - before } else { 0 };
        read
    }
}

impl AsyncWrite for Turned {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
