//! The turnstile: under strain the connections of a part of all are read, and the others wait unread.
//!
//! Every connection has a lot; it is read while its lot lies in the part that [`Strain`] leaves. So whoever is read is
//! read for as long as nothing changes, and can finish what was begun. What others say stays in their sockets, where it
//! costs nothing, until the part grows or places of that part are free, which whoever began to wait last gets first. Whoever
//! has waited so long that nobody wants the answers any more is closed instead, and so is whoever waits too long at all:
//! their peers begin anew, here or elsewhere. Answers to what was read before are written meanwhile.
//!
//! Who asks nothing waits for nothing: a connection that has long begun no call, as those of watchers, is read always.
//!
//! How late the server is a task finds out that does nothing but wait for its turn, a few times in each window. What
//! calls it answers in vain its service says ([`Effort`]). It costs a call one store, and a read one load.

mod socket;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::strain::{Felt, Strain, VERY_LATE, WHOLE};
use crate::metric::{Gauge, Metrics};

pub(super) use socket::Turned;

/// How long something is felt before it is decided.
const WINDOW: Duration = Duration::from_millis(100);
/// Turns in a window at least.
const TURNS_MIN: u32 = 2;
/// How far apart turns are waited for, in milliseconds: at random, lest we keep step with whoever shares out the
/// processor.
const TURN_EVERY_MS: std::ops::Range<u64> = 5..35;
/// How late the turn that is waited for must be for a connection to be read a little at a time.
const OVERDUE_US: u64 = 20_000;
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
    ids: AtomicU64,
    inner: Mutex<Inner>,
    read: Gauge,
    wait: Gauge,
    late: Gauge,
}

/// Which part of all a connection belongs to.
type Lot = Arc<AtomicU32>;

#[derive(Debug, Default)]
struct Inner {
    /// Of all connections, with their ids.
    lots: BTreeSet<(u32, u64)>,
    /// By id.
    waiting: HashMap<u64, Waiting>,
}

/// A connection that has something to say and is not read.
#[derive(Debug)]
struct Waiting {
    waker: Waker,
    since: Instant,
    lot: Lot,
}

impl Inner {
    /// Gives the places below `share` that nobody has to those who began to wait last: what they say is young.
    fn fill(&mut self, share: u32) {
        let all = u64::try_from(self.lots.len()).unwrap_or(u64::MAX);
        let meant = all.saturating_mul(share.into()) / u64::from(WHOLE);
        let read = self.lots.range(..(share, 0)).count();
        let free = usize::try_from(meant).unwrap_or(usize::MAX).saturating_sub(read);
        if free == 0 {
            return;
        }
        let waiting = self.waiting.iter().filter(|(_, one)| one.lot.load(Relaxed) >= share);
        let mut outside: Vec<_> =
            waiting.map(|(id, one)| (Reverse(one.since), *id, one.lot.clone())).collect();
        outside.sort_unstable_by_key(|(since, id, _)| (*since, *id));
        for (_, id, lot) in outside.into_iter().take(free) {
            self.put((id, &lot), rand::random_range(0..share.max(1)));
        }
    }

    /// From now on this is the connection's lot.
    fn put(&mut self, (id, lot): (u64, &Lot), now: u32) {
        let before = lot.swap(now, Relaxed);
        self.lots.remove(&(before, id));
        self.lots.insert((now, id));
    }
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
            ids: AtomicU64::new(0),
            inner: Mutex::default(),
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
        let mut inner = self.inner();
        let lot = match self.share.load(Relaxed) {
            WHOLE => rand::random_range(0..WHOLE),
            // Places among those who are read are given away with each window.
            share => rand::random_range(share..WHOLE),
        };
        let id = self.ids.fetch_add(1, Relaxed);
        inner.lots.insert((lot, id));
        Arc::new(Turn {
            stile: self.clone(),
            lot: Arc::new(AtomicU32::new(lot)),
            id,
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
            let connections = self.inner().lots.len();
            self.read_share(strain.feel(felt, connections));
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
        self.share.store(share, Relaxed);
        let window = self.window.fetch_add(1, Relaxed);
        self.read.set(i64::from(share) * 1_000 / i64::from(WHOLE));
        // Those who waited too long have time until the next of these looks.
        let looks = window.is_multiple_of(LOOK_WINDOWS);
        let (now, mut woken) = (Instant::now(), Vec::new());
        let mut inner = self.inner();
        if share < WHOLE {
            inner.fill(share);
        }
        inner.waiting.retain(|_, Waiting { waker, since, lot }| {
            let is_ours = lot.load(Relaxed) < share;
            let goes = is_ours || (looks && now.duration_since(*since) >= WAIT_MAX);
            if goes {
                woken.push(waker.clone());
            }
            !goes
        });
        self.wait.set(i64::try_from(inner.waiting.len()).unwrap_or(i64::MAX));
        drop(inner);
        woken.into_iter().for_each(Waker::wake);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection at the turnstile, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    stile: Arc<Turnstile>,
    lot: Lot,
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

    fn lot(&self) -> u32 {
        self.lot.load(Relaxed)
    }

    fn is_ours(&self) -> bool {
        self.lot() < self.stile.share.load(Relaxed) || {
            let quiet = self.stile.window.load(Relaxed).wrapping_sub(self.called.load(Relaxed));
            quiet > QUIET_WINDOWS
        }
    }

    fn wait(&self, waker: &Waker, since: Instant) {
        let waiting = Waiting { waker: waker.clone(), since, lot: self.lot.clone() };
        self.stile.inner().waiting.insert(self.id, waiting);
    }

    fn go(&self) -> io::Error {
        self.gone.store(true, Relaxed);
        io::Error::other("it waited too long to be read, because there is too much to do")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut inner = self.stile.inner();
        inner.lots.remove(&(self.lot.load(Relaxed), self.id));
        inner.waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
