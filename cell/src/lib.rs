//! A cell: one self-contained stack that sells. One Redis, one Postgres, and several processes of this crate, any of
//! which may die.
//!
//! ```text
//! router ══ frames ══▶ link ─▶ keeper::take ─┬─ Join ─────▶ admission  line, gate            (Redis, ranks in Postgres)
//!                                            ├─ Reserve ──▶ keeper::hold ─▶ inventory  Redis grants
//!                                            │                           └▶ ledger     Postgres commits, then the answer
//!                                            ├─ Checkout ─▶ checkout ─▶ payment ─▶ provider
//!                                            │                 └──────▶ keeper::settle  commits, then Redis follows
//!                                            └─ Show, repeats ─▶ keeper::lookup
//! ```
//!
//! - [`link`] reads frames and writes answers; [`keeper`] drives a bucket, one process at a time.
//! - [`admission`] keeps the waiting room, [`inventory`] the buckets in Redis, [`ledger`] all that counts in Postgres.
//! - [`checkout`] is an order's way through [`payment`], which is the provider behind a bulkhead.
//! - [`refund`] is a paid order's way back, when its merchant asks for it.
//! - [`audit`] replays every ledger while sales run, compares it with everything else, and signs its heads.
//! - [`archive`] answers for buckets that are at rest, which nobody keeps any more.
//! - [`claim`] decides which buckets this process should keep; [`sales`] follows what the control plane has decided;
//!   [`report`] tells it what is warm and what is at rest.
//! - [`fitness`] is whether the stores are set up to keep what is promised; [`prepare`] sees to it at the start.
//! - [`line`](mod@line) keeps the lines before other cells' lines, in an overflow cell.
//! - [`transfer`] decides how units move between buckets; keepers carry it out.
//! - [`failpoint`] and [`seeded`] are what drills get at; nothing of either is in what is released.
//! - [`time`] is Postgres' clock, and doubts it when clocks part; [`workers`] are the threads that each class of sales works
//!   on; [`stack`] puts everything together.

mod admission;
mod archive;
mod audit;
mod checkout;
mod claim;
pub mod config;
mod failpoint;
pub mod fitness;
pub mod inventory;
mod keeper;
pub mod ledger;
mod line;
mod link;
mod metrics;
mod payment;
mod prepare;
mod refund;
mod report;
mod sales;
pub mod seeded;
pub mod stack;
mod time;
pub mod transfer;
mod workers;
