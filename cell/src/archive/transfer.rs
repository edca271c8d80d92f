//! Transfers that wait for buckets at rest. Nobody keeps these any more, and any process of the cell may answer for them
//! under their last epoch: they give nothing, and what comes late they accept, to be free for good.

use super::RestedReports;
use super::report::Failed;
use crate::failpoint::{self, Failpoint};
use crate::keeper::Ports;
use crate::ledger::{self, TransferSide};
use crate::transfer::{self, Part, Seen, Step};
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often they are looked for.
const EVERY: Duration = Duration::from_secs(1);

/// Answers for buckets at rest until `end` is cancelled.
pub(crate) async fn rested_transfers(
    ports: Arc<Ports>,
    pool: PgPool,
    reports: Arc<RestedReports>,
    end: CancellationToken,
) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        for seen in ports.transfers.all() {
            if let Err(error) = answer(&ports, &pool, &reports, &seen).await {
                tracing::warn!(%error, sale = seen.record.sale, "a transfer of a bucket at rest must wait");
            }
        }
    }
}

async fn answer(
    ports: &Ports,
    pool: &PgPool,
    reports: &RestedReports,
    seen: &Seen,
) -> Result<(), Failed> {
    let record = &seen.record;
    let sides = [(record.from, record.to), (record.to, record.from)];
    for (number, peer) in sides {
        let Some(number) = number else { continue };
        let Some(part) = transfer::part(record, number) else { continue };
        let Some(bucket) = ports.archive.find(&record.sale, number) else { continue };
        let Some(rested) = ledger::rested(pool, bucket).await? else { continue };
        let epoch = rested.epoch;
        let side = TransferSide { bucket, epoch, transfer: seen.id, peer };
        let written = side.find(pool, part == Part::Accept).await?;
        let told = match transfer::next(record, part, written.as_deref()) {
            Step::Tell(told) => told,
            Step::GiveUp { .. } => transfer::told(record, part, &side.give_up(pool, &[]).await?),
            Step::Accept { units } => {
                let accepted = side.accept(pool, &units);
                let accepted = failpoint::reply(Failpoint::RestedAccepted, accepted).await?;
                transfer::told(record, part, &accepted)
            }
        };
        // The report first: otherwise nothing of the sale would be on its way, and its books would not add up (INV-2).
        if part == Part::Give || reports.tell_of(&record.sale, number, bucket).await? {
            ports.transfers.tell(seen, told);
        }
    }
    Ok(())
}
