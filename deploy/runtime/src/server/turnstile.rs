//! The turnstile: under strain the connections of a part of all are read, and the others wait unread.
//!
//! Every connection has a lot; it is read while its lot lies in the part that [`Strain`] leaves. So whoever is read is
//! read for as long as nothing changes, and can finish what was begun. What others say stays in their sockets, where it
//! costs nothing, until the part grows. Whoever has waited so long that nobody wants the answers any more is closed
//! instead, and so is whoever waits too long at all: their peers begin anew, here or elsewhere, and as many of them are
//! read at once as were closed because it was their turn. Answers to what was read before are written meanwhile.
//!
//! Who asks nothing waits for nothing: a connection that has long begun no call, as those of watchers, is read always.
//!
//! How late the server is a task finds out that does nothing but wait for its turn, a few times in each window. What
//! calls it answers in vain its service says ([`Effort`]). It costs a call one store, and a read one load.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::strain::{Felt, Strain, VERY_LATE, WHOLE};
use crate::metric::{Gauge, Metrics};

/// How long something is felt before it is decided.
const WINDOW: Duration = Duration::from_millis(100);
/// Turns in a window at least.
const TURNS_MIN: u32 = 2;
/// How far apart turns are waited for, in milliseconds: at random, lest we keep step with whoever shares out the
/// processor.
const TURN_EVERY_MS: std::ops::Range<u64> = 5..35;
/// What a connection reads in one go while the server is late; then others have their turn. So a crowd that comes at once
/// is noticed before all that it has said is read.
const BYTES_AT_ONCE: usize = 4 * 1_024;
/// How late the turn that is waited for must be for that.
const OVERDUE_US: u64 = 20_000;
/// What has waited longer is not worth an answer.
const STALE: Duration = Duration::from_millis(250);
/// Nobody waits longer: in less time than a frame may stand still.
const WAIT_MAX: Duration = Duration::from_millis(2_500);
/// Windows between two looks at who waited too long.
const LOOK_WINDOWS: u32 = 5;
/// Windows after which a connection that began no call is read whatever its lot.
const QUIET_WINDOWS: u32 = 100;

/// What became of calls, for the server that serves them.
#[derive(Clone)]
pub struct Effort {
    read: Arc<dyn Fn() -> Done + Send + Sync>,
    lateness: Lateness,
}

/// How late a server is: how long what is ready waits for its turn in it, as felt last. Clones share it. Whoever measures
/// how long others take to answer takes it off, lest it holds them responsible.
#[derive(Clone, Debug, Default)]
pub struct Lateness(Arc<AtomicU64>);

impl Lateness {
    /// In microseconds, on average.
    pub fn us(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// As it was felt, in microseconds.
    pub fn set(&self, us: u64) {
        self.0.store(us, Relaxed);
    }
}

/// Calls since the begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Those that were answered.
    pub answers: u64,
    /// Of these, those refused for want of room or time: who asked too much by themselves is not meant.
    pub in_vain: u64,
}

impl Effort {
    /// As `read` tells it whenever it is asked, ten times a second; how late the server is goes into `lateness`.
    pub fn new(lateness: Lateness, read: impl Fn() -> Done + Send + Sync + 'static) -> Effort {
        Effort { read: Arc::new(read), lateness }
    }
}

impl fmt::Debug for Effort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Effort").field(&(self.read)()).finish()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Turnstile {
    effort: Effort,
    /// The lots below it are read.
    share: AtomicU32,
    /// Windows so far. It wraps.
    window: AtomicU32,
    begin: Instant,
    /// When the turn that is waited for is due, in microseconds since the begin.
    due_us: AtomicU64,
    /// Newcomers whose turn it is, because as many were closed when it was theirs.
    successors: AtomicUsize,
    connections: AtomicUsize,
    ids: AtomicU64,
    waiting: Mutex<BTreeMap<(u32, u64), Waiting>>,
    read: Gauge,
    wait: Gauge,
    late: Gauge,
}

/// A connection that has something to say and is not read.
#[derive(Debug)]
struct Waiting {
    waker: Waker,
    since: Instant,
}

impl Turnstile {
    /// Everybody is read.
    pub(super) fn new(effort: Effort, port: &'static str, metrics: &Metrics) -> Turnstile {
        let gauge = |name, help| Gauge::new(metrics, name, help, &[("port", port)]);
        let read = gauge(
            "floodgate_connections_read_permille",
            "The part of connections that is read; the others wait, because there is too much to do",
        );
        read.set(1_000);
        Turnstile {
            effort,
            share: AtomicU32::new(WHOLE),
            window: AtomicU32::new(0),
            begin: Instant::now(),
            due_us: AtomicU64::new(u64::MAX),
            successors: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            ids: AtomicU64::new(0),
            waiting: Mutex::default(),
            read,
            wait: gauge(
                "floodgate_connections_waiting",
                "Connections that have something to say and are not read",
            ),
            late: gauge(
                "floodgate_server_late_us",
                "How long what is ready waits for its turn here, on average",
            ),
        }
    }

    /// A connection's turn.
    pub(super) fn turn(self: &Arc<Self>) -> Arc<Turn> {
        self.connections.fetch_add(1, Relaxed);
        let share = self.share.load(Relaxed);
        let succeeds = self.successors.fetch_update(Relaxed, Relaxed, |some| some.checked_sub(1));
        let lots = match (share, succeeds) {
            (WHOLE, _) => 0..WHOLE,
            (share, Ok(_)) => 0..share.max(1),
            (share, Err(_)) => share..WHOLE,
        };
        Arc::new(Turn {
            stile: self.clone(),
            lot: rand::random_range(lots),
            id: self.ids.fetch_add(1, Relaxed),
            called: AtomicU32::new(self.window.load(Relaxed)),
            gone: AtomicBool::new(false),
        })
    }

    /// Feels strain, and lets in as many as fit, until `end`; from then on all.
    pub(super) async fn keep(self: Arc<Self>, end: CancellationToken) {
        let mut strain = Strain::new();
        let mut before = (self.effort.read)();
        while let Some((took, least, mean)) = self.wait_for_turns(&end).await {
            let now = (self.effort.read)();
            let felt = Felt {
                took,
                least,
                mean,
                answers: now.answers.saturating_sub(before.answers),
                in_vain: now.in_vain.saturating_sub(before.in_vain),
            };
            before = now;
            let late_us = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX);
            self.effort.lateness.set(late_us);
            self.late.set(i64::try_from(late_us).unwrap_or(i64::MAX));
            self.read_share(strain.feel(felt, self.connections.load(Relaxed)));
        }
        self.due_us.store(u64::MAX, Relaxed);
        self.read_share(WHOLE);
    }

    fn us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begin);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Whether a turn is late at this moment.
    fn is_overdue(&self) -> bool {
        self.us(Instant::now()).saturating_sub(self.due_us.load(Relaxed)) > OVERDUE_US
    }

    /// How long a window took, and our turns were late in it, at least and on average. None: it has ended.
    async fn wait_for_turns(
        &self,
        end: &CancellationToken,
    ) -> Option<(Duration, Duration, Duration)> {
        let began = Instant::now();
        let (mut least, mut all, mut turns) = (Duration::ZERO, Duration::ZERO, 0_u32);
        // One alone says little: after a pause of ours it is late, and the next one is not.
        while began.elapsed() < WINDOW || (turns < TURNS_MIN && least < VERY_LATE) {
            let due = Instant::now() + Duration::from_millis(rand::random_range(TURN_EVERY_MS));
            self.due_us.store(self.us(due), Relaxed);
            tokio::select! {
                () = sleep_until(due) => {}
                () = end.cancelled() => return None,
            }
            let late = due.elapsed();
            least = if turns == 0 { late } else { least.min(late) };
            (all, turns) = (all + late, turns + 1);
        }
        Some((began.elapsed(), least, all / turns.max(1)))
    }

    /// From now on the lots below `share` are read. A new window begins.
    fn read_share(&self, share: u32) {
        let before = self.share.swap(share, Relaxed);
        if share < before || share == WHOLE {
            self.successors.store(0, Relaxed);
        }
        let window = self.window.fetch_add(1, Relaxed);
        self.read.set(i64::from(share) * 1_000 / i64::from(WHOLE));
        let mut waiting = self.waiting();
        let others = waiting.split_off(&(share, 0));
        let theirs = std::mem::replace(&mut *waiting, others);
        let mut woken: Vec<Waker> = theirs.into_values().map(|one| one.waker).collect();
        // Those who waited too long have time until the next of these looks.
        if window.is_multiple_of(LOOK_WINDOWS) {
            let now = Instant::now();
            let too_long = |one: &Waiting| now.duration_since(one.since) >= WAIT_MAX;
            let tired = waiting.extract_if(.., |_, one| too_long(one));
            woken.extend(tired.map(|(_, one)| one.waker));
        }
        self.wait.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
        drop(waiting);
        woken.into_iter().for_each(Waker::wake);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(u32, u64), Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection at the turnstile, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    stile: Arc<Turnstile>,
    lot: u32,
    id: u64,
    /// The window in which it began its last call, or came.
    called: AtomicU32,
    /// Whether it was closed because it waited too long.
    gone: AtomicBool,
}

impl Turn {
    /// A call begins.
    pub(super) fn called(&self) {
        self.called.store(self.stile.window.load(Relaxed), Relaxed);
    }

    /// Whether it was closed because it waited too long.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    fn is_ours(&self) -> bool {
        self.lot < self.stile.share.load(Relaxed) || {
            let quiet = self.stile.window.load(Relaxed).wrapping_sub(self.called.load(Relaxed));
            quiet > QUIET_WINDOWS
        }
    }

    fn wait(&self, waker: &Waker, since: Instant) {
        let waiting = Waiting { waker: waker.clone(), since };
        self.stile.waiting().insert((self.lot, self.id), waiting);
    }

    fn go(&self) -> io::Error {
        self.gone.store(true, Relaxed);
        io::Error::other("it waited too long to be read, because there is too much to do")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.stile.connections.fetch_sub(1, Relaxed);
        self.stile.waiting().remove(&(self.lot, self.id));
    }
}

/// A socket that is read when it is its turn.
#[derive(Debug)]
pub(super) struct Turned {
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
    pub(super) fn new(stream: TcpStream, turn: Option<Arc<Turn>>) -> Turned {
        Turned { stream, turn, since: None, bytes: 0 }
    }

    /// The socket itself.
    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits until it is read, or never will be.
    ///
    /// # Errors
    /// When it has waited too long.
    pub(super) async fn turn(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_turn(context)).await
    }

    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(turn) = &self.turn else { return Poll::Ready(Ok(())) };
        if turn.is_ours() {
            return Poll::Ready(match self.since.take() {
                Some(since) if since.elapsed() > STALE => {
                    // What it says now was said long ago.
                    turn.stile.successors.fetch_add(1, Relaxed);
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

#[cfg(test)]
mod tests;
