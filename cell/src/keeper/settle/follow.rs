//! Redis follows what was committed: one batch at a time, in the order of the commits; then whoever waits is told.

use super::Committed;
use crate::failpoint::{self, Failpoint};
use crate::inventory::Settled;
use crate::keeper::protocol::{self, Next};
use crate::keeper::{End, Keeper, Reign};
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

/// See the module.
pub(super) struct Follower<'a> {
    keeper: &'a Keeper,
    reign: &'a Reign,
    /// The last batch that Redis has.
    followed: i64,
}

impl<'a> Follower<'a> {
    pub(super) fn new(keeper: &'a Keeper, reign: &'a Reign) -> Follower<'a> {
        Follower { keeper, reign, followed: 0 }
    }

    /// Follows until nothing is committed any more. Stops those who commit when Redis does not follow.
    pub(super) async fn serve(
        mut self,
        mut batches: Receiver<Committed>,
        stop: &CancellationToken,
    ) -> End {
        let mut end = End::Stopped;
        while let Some(batch) = batches.recv().await {
            // Behind a gap nothing may follow: the next take-over loads what is true.
            if end == End::Stopped
                && let Err(why) = self.follow(&batch.follow).await
            {
                end = why;
                stop.cancel();
            }
            for reply in batch.told {
                // Whoever asked may have gone: the move stands all the same.
                drop(reply.send(Ok(())));
            }
        }
        end
    }

    async fn follow(&mut self, settled: &[Settled]) -> Result<(), End> {
        if settled.is_empty() {
            return Ok(());
        }
        let inventory = self.keeper.ports.inventory(self.keeper);
        let batch = (self.reign.epoch, self.followed + 1);
        let mut tries = 1;
        failpoint::reach(Failpoint::SettleNoted).await;
        loop {
            let done = inventory.settle(&self.reign.run, &self.reign.keys, batch, settled);
            let done = failpoint::reply(Failpoint::SettleFollowed, done).await;
            match self.keeper.ports.metrics.refused_late("settle", done) {
                Ok(_) => {
                    self.followed += 1;
                    return Ok(());
                }
                Err(error) => {
                    tracing::warn!(%error, tries, "a batch of returns has no answer");
                    match protocol::after(protocol::said_by_redis(&error), tries) {
                        Next::Repeat => tries += 1,
                        Next::Refused | Next::Doubt => return Err(End::Doubt),
                    }
                }
            }
        }
    }
}
