//! What a peer that speaks HTTP/1.1 may do: how much it may ask without waiting for an answer, how long a request may take
//! to come, and how long it may leave an answer lying.
//!
//! There is one call at a time, so there is nothing to count off the bytes, and nothing to look at now and then: a timer
//! runs only while a call or a write waits. How long headers may take is the library's to keep; how often somebody may ask
//! who waits for each answer is for quotas to bound.

use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};

use super::frames::Flood;
use super::pulse::{Patience, Why};

/// What looks after one connection.
#[derive(Debug)]
pub(super) struct Guard {
    requests_at_once_max: u32,
    patience: Patience,
    /// Requests since bytes came last: all but the first came before the answer to the one before.
    at_once: AtomicU32,
    why: OnceLock<Why>,
    given_up: Notify,
}

impl Guard {
    /// Of a connection that has asked for nothing yet.
    pub(super) fn new(requests_at_once_max: u32, patience: Patience) -> Guard {
        let (why, given_up) = (OnceLock::new(), Notify::new());
        Guard { requests_at_once_max, patience, at_once: AtomicU32::new(0), why, given_up }
    }

    /// Waits until the connection has to be closed, and says why.
    pub(super) async fn broken(&self) -> Why {
        loop {
            let given_up = self.given_up.notified();
            if let Some(why) = self.why.get() {
                return *why;
            }
            given_up.await;
        }
    }

    /// Counts a request and waits for its answer, which needs all of it; for ever when that takes too long.
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = T>) -> T {
        if self.at_once.fetch_add(1, Relaxed) >= self.requests_at_once_max {
            self.give_up(Why::Flood(Flood::Requests));
        } else if let Ok(answer) = timeout(self.patience.request, pin!(answer)).await {
            return answer;
        } else {
            self.give_up(Why::Request);
        }
        std::future::pending().await
    }

    fn give_up(&self, why: Why) {
        self.why.get_or_init(|| why);
        self.given_up.notify_one();
    }
}

/// A connection's bytes: whoever takes none of what is written is given up.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    io: T,
    guard: Option<Arc<Guard>>,
    /// Runs while nothing can be written.
    blocked: Option<Pin<Box<Sleep>>>,
}

impl<T> Guarded<T> {
    /// The bytes of a connection with this guard; they just pass where there is none.
    pub(super) fn new(io: T, guard: Option<Arc<Guard>>) -> Guarded<T> {
        Guarded { io, guard, blocked: None }
    }

    fn wrote<R>(
        &mut self,
        written: Poll<io::Result<R>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<R>> {
        let Some(guard) = self.guard.as_ref().filter(|_| written.is_pending()) else {
            self.blocked = None;
            return written;
        };
        let stall = guard.patience.stall;
        let blocked = self.blocked.get_or_insert_with(|| Box::pin(sleep(stall)));
        if blocked.as_mut().poll(context).is_ready() {
            guard.give_up(Why::Write);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if let Some(guard) = self.guard.as_ref().filter(|_| buffer.filled().len() > before) {
            guard.at_once.store(0, Relaxed);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.wrote(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn guard(requests_at_once_max: u32) -> Arc<Guard> {
        let [preface, stall, request] = [1, 4, 30].map(Duration::from_secs);
        Arc::new(Guard::new(requests_at_once_max, Patience { preface, stall, request }))
    }

    async fn given_up(guard: &Guard) -> Option<Why> {
        timeout(Duration::from_millis(1), guard.broken()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_may_send_so_many_requests_in_one_go() {
        let guard = guard(3);
        let (ours, mut theirs) = duplex(8);
        let mut ours = Guarded::new(ours, Some(guard.clone()));
        for round in 0..3 {
            theirs.write_all(b"GET").await.unwrap();
            ours.read_exact(&mut [0; 3]).await.unwrap();
            for number in 0..3 {
                assert_eq!(guard.answer(async { number }).await, number, "round {round}");
            }
        }
        assert_eq!(given_up(&guard).await, None);
        let once_more = timeout(Duration::from_secs(1), guard.answer(async {})).await;
        assert!(once_more.is_err(), "it is answered");
        assert_eq!(given_up(&guard).await, Some(Why::Flood(Flood::Requests)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_to_its_end_ends_its_connection() {
        let guard = guard(100);
        let slow = guard.answer(sleep(Duration::from_secs(29)));
        slow.await;
        assert_eq!(given_up(&guard).await, None);
        let never = guard.answer(std::future::pending::<()>());
        let why = tokio::select! {
            () = never => None,
            why = guard.broken() => Some(why),
        };
        assert_eq!(why, Some(Why::Request));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_nothing_is_given_up_and_whoever_is_slow_is_not() {
        let guard = guard(100);
        let (ours, mut theirs) = duplex(8);
        let mut ours = Guarded::new(ours, Some(guard.clone()));
        let writing = tokio::spawn(async move { ours.write_all(&[0; 64]).await });
        // A byte every three seconds, for a while.
        for _ in 0..20 {
            sleep(Duration::from_secs(3)).await;
            theirs.read_u8().await.unwrap();
        }
        assert!(!writing.is_finished());
        let ended = writing.await.unwrap().map_err(|error| error.kind());
        assert_eq!(ended, Err(io::ErrorKind::TimedOut));
        assert_eq!(given_up(&guard).await, Some(Why::Write));
    }
}
