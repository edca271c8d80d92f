//! How many watch in which way, as far as files may be open: each socket is one, in the router and here.

use anyhow::{Result, ensure};
use proto::limits::WATCHERS_PER_CONNECTION_MAX;

/// Files that both have open besides: links, logs, etcd, and one more watcher.
const OTHER_FILES: u64 = 150;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Clients of events, on a socket each.
    pub(super) sse: usize,
    /// Streams of gRPC.
    pub(super) streams: usize,
    /// And the connections they share.
    pub(super) connections: usize,
}

impl Plan {
    /// For so many watchers, `sse` of them over events if so many files may be open.
    pub(super) fn new(watchers: usize, sse: usize, files: u64) -> Result<Plan> {
        let shared = WATCHERS_PER_CONNECTION_MAX as usize;
        let sockets = usize::try_from(files.saturating_sub(OTHER_FILES))?;
        // Each socket for events leaves one less to be shared: the most for which all find a place.
        let most = (sockets * shared).saturating_sub(watchers) / (shared - 1);
        let sse = sse.min(watchers).min(most);
        let streams = watchers - sse;
        let connections = streams.div_ceil(shared);
        ensure!(
            sse + connections <= sockets,
            "{files} open files do not do for {watchers} watchers"
        );
        Ok(Plan { sse, streams, connections })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_sockets_as_files_allow() {
        let plan = |sse, streams, connections| Plan { sse, streams, connections };
        let rows = [
            ((100_000, 20_000, 1 << 20), Some(plan(20_000, 80_000, 800))),
            ((100_000, 20_000, 20_000), Some(plan(19_040, 80_960, 810))),
            ((200, 60, 20_000), Some(plan(60, 140, 2))),
            ((200, 300, 20_000), Some(plan(200, 0, 0))),
            ((100_000, 20_000, 1_150), Some(plan(0, 100_000, 1_000))),
            ((100_000, 20_000, 1_024), None),
        ];
        for ((watchers, sse, files), expected) in rows {
            let made = Plan::new(watchers, sse, files).ok();
            assert_eq!(made, expected, "{watchers} {sse} {files}");
            if let Some(made) = made {
                assert!(made.sse + made.connections + 150 <= usize::try_from(files).unwrap());
            }
        }
    }
}
