//! One child process: spawned, signalled as a whole tree, reaped.
//!
//! Children die with their owner, even when the owner is SIGKILLed: `setpriv --pdeathsig KILL` asks the
//! kernel for that. The kernel ties it to the *thread* that spawned the child, so one thread that lives
//! as long as the stack does all the spawning. A second thread for each child waits for its end; a
//! signal is sent only while the child is not reaped, so it never hits a stranger with the same number.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::sync::{mpsc, oneshot, watch};

use crate::LocalError;
use crate::tree::{Seen, descendants};

/// Spawn requests that may wait at a time.
const SPAWN_QUEUE_MAX: usize = 16;

/// A killed tree is gone within this time unless the machine is stuck.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// How often a dying tree is looked at.
const GONE_POLL: Duration = Duration::from_millis(2);

/// A tree that is stopped from its root down grows no more after a few rounds.
const FREEZE_ROUNDS_MAX: u32 = 10;

type SpawnReply = oneshot::Sender<io::Result<Child>>;

/// The thread that spawns. When it is dropped the thread ends, and with it every child.
#[derive(Debug)]
pub(crate) struct Spawner {
    requests: mpsc::Sender<(Command, SpawnReply)>,
}

impl Spawner {
    pub(crate) fn new() -> Result<Self, LocalError> {
        let (requests, mut queue) = mpsc::channel::<(Command, SpawnReply)>(SPAWN_QUEUE_MAX);
        let work = move || {
            while let Some((mut command, reply)) = queue.blocking_recv() {
                // The asker is gone: nobody else will ever stop this child.
                if let Err(Ok(mut orphan)) = reply.send(command.spawn()) {
                    orphan.kill().and_then(|()| orphan.wait()).ok();
                }
            }
        };
        thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(work)
            .map_err(LocalError::io("start the spawning thread"))?;
        Ok(Self { requests })
    }

    /// Spawns a command; `on_exit` runs once when a process that is being watched ends.
    pub(crate) async fn spawn(
        &self,
        name: &str,
        command: Command,
        on_exit: impl FnOnce(u32, ExitStatus) + Send + 'static,
    ) -> Result<Arc<Process>, LocalError> {
        let doing = || LocalError::io(format!("spawn {name}"));
        let stopped = || io::Error::other("the spawning thread has ended");
        let (reply, answer) = oneshot::channel();
        self.requests.send((command, reply)).await.map_err(|_| doing()(stopped()))?;
        let child = answer.await.map_err(|_| doing()(stopped()))?.map_err(doing())?;
        Process::adopt(name, child, on_exit)
    }
}

/// What the waiting thread and the senders of signals share.
#[derive(Debug, Default)]
struct Life {
    ended: Option<ExitStatus>,
    /// Whether an end is news: set once it is ready, unset before we end it ourselves.
    watched: bool,
}

/// A running or ended child.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    life: Mutex<Life>,
    ended: watch::Sender<Option<ExitStatus>>,
}

impl Process {
    fn adopt(
        name: &str,
        child: Child,
        on_exit: impl FnOnce(u32, ExitStatus) + Send + 'static,
    ) -> Result<Arc<Self>, LocalError> {
        let number = i32::try_from(child.id())
            .map_err(|_| LocalError::Input(format!("{name} has no usable process number")))?;
        let process = Arc::new(Self {
            pid: Pid::from_raw(number),
            life: Mutex::default(),
            ended: watch::Sender::new(None),
        });
        let waiting = Arc::clone(&process);
        thread::Builder::new()
            .name(format!("wait {name}"))
            .spawn(move || waiting.wait_and_reap(child, on_exit))
            .map_err(LocalError::io("start a waiting thread"))?;
        Ok(process)
    }

    /// The number of the process; the server itself, since every wrapper execs.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How it ended, if it did.
    pub(crate) fn exit(&self) -> Option<ExitStatus> {
        self.life().ended
    }

    /// Whether it ended although nobody here asked for that.
    pub(crate) fn unexpected_exit(&self) -> Option<ExitStatus> {
        let life = self.life();
        life.ended.filter(|_| life.watched)
    }

    /// From now on an end is news, or no longer. Returns how it ended if it already did.
    pub(crate) fn set_watched(&self, watched: bool) -> Option<ExitStatus> {
        let mut life = self.life();
        if life.ended.is_none() {
            life.watched = watched;
        }
        life.ended
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        let mut end = self.ended.subscribe();
        // The sender lives in `self`, so waiting fails never.
        end.wait_for(Option::is_some).await.map(drop).ok();
    }

    /// Sends a signal to the process alone; does nothing once it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        let life = self.life();
        if life.ended.is_none() {
            kill(self.pid, signal).ok();
        }
    }

    /// Stops the whole tree in its tracks, children after parents, until none is left running.
    pub(crate) fn freeze(&self) {
        self.frozen_descendants();
    }

    /// Lets a frozen tree go on, children before parents.
    pub(crate) fn thaw(&self) {
        let mut tree = self.descendants();
        tree.reverse();
        signal_all(&tree, Signal::SIGCONT);
        self.signal(Signal::SIGCONT);
    }

    /// Kills the whole tree at one moment, as a power cut would: nothing of it runs on to finish what it
    /// had begun. Returns what must still vanish.
    pub(crate) fn kill_tree(&self) -> Dying {
        self.set_watched(false);
        let rest = self.frozen_descendants();
        let root = Seen::look_up(self.pid.as_raw()).filter(|_| self.exit().is_none());
        self.signal(Signal::SIGKILL);
        signal_all(&rest, Signal::SIGKILL);
        Dying { left: root.into_iter().chain(rest).collect() }
    }

    fn frozen_descendants(&self) -> Vec<Seen> {
        self.signal(Signal::SIGSTOP);
        let mut frozen = Vec::new();
        for _ in 0..FREEZE_ROUNDS_MAX {
            let mut fresh = self.descendants();
            fresh.retain(|seen| !frozen.contains(seen));
            if fresh.is_empty() {
                break;
            }
            signal_all(&fresh, Signal::SIGSTOP);
            frozen.append(&mut fresh);
        }
        frozen
    }

    fn descendants(&self) -> Vec<Seen> {
        if self.exit().is_some() { Vec::new() } else { descendants(self.pid.as_raw()) }
    }

    fn life(&self) -> std::sync::MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_and_reap(&self, mut child: Child, on_exit: impl FnOnce(u32, ExitStatus)) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(self.pid), flags) == Err(Errno::EINTR) {}
        let mut life = self.life();
        // It has ended, so this returns at once; only now is its number free for others.
        let status = child.wait().unwrap_or_default();
        life.ended = Some(status);
        let news = life.watched;
        drop(life);
        self.ended.send_replace(Some(status));
        if news {
            on_exit(self.pid(), status);
        }
    }
}

/// Processes that were sent SIGKILL and have not all vanished yet.
#[derive(Debug)]
#[must_use]
pub(crate) struct Dying {
    left: Vec<Seen>,
}

impl Dying {
    /// Kills what is given; the caller knows that it is ours.
    pub(crate) fn strike(left: Vec<Seen>) -> Self {
        signal_all(&left, Signal::SIGKILL);
        Self { left }
    }

    /// Waits until all are gone; `false` when some stay (uninterruptible I/O).
    pub(crate) async fn gone(mut self) -> bool {
        let deadline = Instant::now() + GONE_LIMIT;
        while self.some_left() {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(GONE_POLL).await;
        }
        true
    }

    /// The same for callers that cannot wait asynchronously, such as `Drop`.
    pub(crate) fn gone_blocking(mut self) -> bool {
        let deadline = Instant::now() + GONE_LIMIT;
        while self.some_left() {
            if Instant::now() > deadline {
                return false;
            }
            thread::park_timeout(GONE_POLL);
        }
        true
    }

    fn some_left(&mut self) -> bool {
        self.left.retain(Seen::is_alive);
        !self.left.is_empty()
    }
}

fn signal_all(seen: &[Seen], signal: Signal) {
    for one in seen {
        if one.is_alive() {
            kill(Pid::from_raw(one.pid), signal).ok();
        }
    }
}
