//! A number spread over cache lines, so that threads that add to it do not wait for one another.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More shards than this cost memory and help nobody.
const SHARDS_MAX: usize = 16;

/// One shard on cache lines of its own (128 bytes: processors prefetch lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// A sum that many threads add to.
#[derive(Debug)]
pub(super) struct Shards(Box<[Padded]>);

impl Shards {
    pub(super) fn new() -> Self {
        Self((0..count()).map(|_| Padded::default()).collect())
    }

    pub(super) fn add(&self, n: u64) {
        self.0[mine()].0.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().fold(0, |sum, shard| sum.wrapping_add(shard.0.load(Ordering::Relaxed)))
    }
}

/// How many shards everything has: a power of two near the number of processors.
pub(super) fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        processors.next_power_of_two().min(SHARDS_MAX)
    })
}

/// The shard of the calling thread, below [`count`].
pub(super) fn mine() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    MINE.with(|mine| {
        if mine.get() == usize::MAX {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed) & (count() - 1));
        }
        mine.get()
    })
}
