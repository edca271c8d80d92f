//! Bounds on what an input costs: memory that is held at a moment, and allocations, which stand for work. Time itself is
//! the fuzzer's to watch, since a test must not depend on it.

use allocation_counter::measure;

/// Allocations that a byte may cause.
const ALLOCATIONS_A_BYTE: usize = 4;

/// Does something for which `bytes` bytes are the reason: it may hold `times` as many and `more` besides.
pub(crate) fn within<T>(
    bytes: usize,
    (times, more): (usize, usize),
    what: impl FnOnce() -> T,
) -> T {
    let mut done = None;
    let cost = measure(|| done = Some(what()));
    let held = u64::try_from(bytes * times + more).unwrap();
    assert!(cost.bytes_max <= held, "{bytes} bytes make it hold {} at a time", cost.bytes_max);
    let work = u64::try_from(bytes * ALLOCATIONS_A_BYTE + more).unwrap();
    assert!(cost.count_total <= work, "{bytes} bytes make {} allocations", cost.count_total);
    done.unwrap()
}
