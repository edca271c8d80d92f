//! Why a router has closed connections, as its metrics say.

use std::time::Duration;

use local::{LocalError, Stack};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How many connections of its storefront's port it has closed for one of these reasons so far.
pub(super) async fn closed(stack: &Stack, router: &str, why: &[&str]) -> Result<u64, LocalError> {
    let (_, text) = stack.ask_plane(router, "GET", "/metrics").await?;
    Ok(counted(&text, why))
}

/// The same when there are so many, or after a second: a connection is counted just after its peer sees it closed.
pub(super) async fn closed_in_time(
    stack: &Stack,
    router: &str,
    why: &[&str],
    expected: u64,
) -> Result<u64, LocalError> {
    let last = Instant::now() + PATIENCE;
    loop {
        let count = closed(stack, router, why).await?;
        if count >= expected || Instant::now() >= last {
            return Ok(count);
        }
        sleep(ASK_AGAIN).await;
    }
}

fn counted(text: &str, why: &[&str]) -> u64 {
    let line = |why: &&str| {
        let name = "floodgate_connections_closed_total";
        let series = format!("{name}{{port=\"storefront\",why=\"{why}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&*series)?.trim().parse::<u64>().ok())
    };
    why.iter().filter_map(line).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_counted() {
        let text = "floodgate_connections_closed_total{port=\"storefront\",why=\"frame\"} 7\n\
                    floodgate_connections_closed_total{port=\"storefront\",why=\"age\"} 20\n\
                    floodgate_connections_closed_total{port=\"link\",why=\"frame\"} 100\n";
        for (why, count) in [(&["frame"][..], 7), (&["age", "frame"], 27), (&["write"], 0)] {
            assert_eq!(counted(text, why), count, "{why:?}");
        }
    }
}
