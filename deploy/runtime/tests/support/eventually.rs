//! Waiting for what must come true, without guessing how long it takes.

use std::time::{Duration, Instant};

/// Asks `holds` again and again until it is true; fails the test when `limit` is over.
pub(crate) async fn eventually(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
