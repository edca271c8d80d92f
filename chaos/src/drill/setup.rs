//! What a drill needs before it can strike: the platform, the sale, and who comes.

use std::time::Duration;

use local::Faults;

use crate::plan::Habits;

/// What a platform has only for a drill that needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// Nothing.
    #[default]
    None,
    /// Relays between routers and cells' processes.
    Relays,
    /// A small file system for the log of every Postgres, of so many bytes.
    SmallWal(u64),
    /// Postgres' clocks can be set.
    Clocks,
}

/// See the module. The default does for most drills.
#[derive(Clone, Debug, PartialEq)]
pub struct Setup {
    /// Cells of the platform.
    pub cells: u32,
    /// Processes in each.
    pub processes: u32,
    /// Routers before them.
    pub routers: u32,
    /// What the platform has besides.
    pub special: Special,
    /// Units that the crowd buys.
    pub stock: u32,
    /// Units a buyer.
    pub cap: u32,
    /// Buyers of the crowd.
    pub buyers: u32,
    /// They arrive within this time.
    pub arrive_within: Duration,
    /// Instead of a crowd so many buyers come every second of that time, and pay for one unit each; 0: a crowd. There is
    /// more than they want.
    pub steady_per_s: u32,
    /// For how long nothing happens, where what happens then is compared with that.
    pub lead: Duration,
    /// How they behave.
    pub habits: Habits,
    /// Tickets admitted a second.
    pub admission_rate: u32,
    /// How long a hold lasts.
    pub hold_ttl: Duration,
    /// Buyers who come before the crowd: each holds a unit beyond the crowd's and never comes back.
    pub live_orders: u32,
    /// So many of them come a second.
    pub live_orders_per_s: u32,
    /// What the provider does wrong.
    pub faults: Faults,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            cells: 2,
            processes: 2,
            routers: 1,
            special: Special::None,
            stock: 300,
            cap: 2,
            buyers: 350,
            arrive_within: Duration::from_millis(1_200),
            steady_per_s: 0,
            lead: Duration::ZERO,
            habits: Habits {
                abandon: 0.05,
                cancel: 0.05,
                bad_card: 0.05,
                twice: 0.05,
                hang_up: 0.05,
            },
            admission_rate: 200,
            hold_ttl: Duration::from_millis(1_500),
            live_orders: 0,
            live_orders_per_s: 4_000,
            faults: Faults {
                latency_ms: 50,
                latency_jitter_ms: 20,
                error_rate: 0.01,
                lost_reply_rate: 0.01,
                ..Faults::default()
            },
        }
    }
}

impl Setup {
    /// Whether buyers come for every unit, so that none may be left.
    pub(crate) fn sells_out(&self) -> bool {
        self.live_orders == 0 && self.steady_per_s == 0
    }

    /// How long it takes those to come who come before the crowd.
    pub fn fill_time(&self) -> Duration {
        let per_s = self.live_orders_per_s.max(1);
        Duration::from_millis(u64::from(self.live_orders) * 1_000 / u64::from(per_s))
    }
}
