//! A hand-over: a keeper lets its bucket go in good order. Its stages finish the batches that they have under way; then
//! the bucket's row names the next keeper, who is called at once; and whoever still waits here is told where to ask.
//!
//! That the heir raises the epoch over us without a word would be as safe, and is what happens to a keeper who is silent:
//! but then what is under way is refused, and payments are looked for that nobody had lost.

use super::{Keeper, Queues};
use crate::ledger;
use crate::link::Reply;
use proto::wire::cell::{Elsewhere, answer::Kind};
use std::sync::OnceLock;
use tokio_util::sync::CancellationToken;

/// Whether a keeper is to let its bucket go, and to whom.
#[derive(Debug, Default)]
pub(crate) struct LetGo {
    asked: CancellationToken,
    heir: OnceLock<Option<Box<str>>>,
}

impl Keeper {
    /// Has this keeper let its bucket go, to `heir` if there is one. The first word counts.
    pub(crate) fn let_go(&self, heir: Option<&str>) {
        self.let_go.heir.get_or_init(|| heir.map(Into::into));
        self.let_go.asked.cancel();
    }

    /// Cancelled when this keeper is to let its bucket go.
    pub(super) fn letting_go(&self) -> CancellationToken {
        self.let_go.asked.clone()
    }

    /// Whether its payments are at a point at which another keeper would have to look for them.
    pub(crate) fn is_paying(&self) -> bool {
        self.book().is_paying()
    }
}

/// Ends a reign: hands the bucket over from `epoch` if that was asked for, and tells whoever waits who keeps it now.
pub(super) async fn leave(keeper: &Keeper, queues: &mut Queues, epoch: i64) {
    let (place, ports) = (&keeper.place, &keeper.ports);
    let next = match keeper.let_go.heir.get() {
        Some(Some(heir)) => hand_over(keeper, epoch, heir).await,
        // Nobody else lives; or somebody was faster.
        Some(None) => None,
        None => match ledger::keeper_of(ports.pool(keeper), place.bucket).await {
            Ok(next) => next.filter(|(_, now)| *now > epoch),
            Err(error) => {
                tracing::warn!(%error, sale = %place.sale, "cannot see who keeps a bucket now");
                None
            }
        },
    };
    let Some((process, epoch)) = next.filter(|(process, _)| **process != *ports.process) else {
        return;
    };
    ports.elsewhere.note(&place.sale, place.number, &process, epoch);
    let there = Elsewhere { process, epoch: epoch.cast_unsigned() };
    let count = redirect(queues, &there);
    ports.metrics.elsewhere(count);
}

async fn hand_over(keeper: &Keeper, epoch: i64, heir: &str) -> Option<(String, i64)> {
    let (place, ports) = (&keeper.place, &keeper.ports);
    match ledger::hand_over(ports.pool(keeper), place.bucket, epoch, heir).await {
        Ok(Some(epoch)) => {
            tracing::info!(sale = %place.sale, bucket = place.number, heir, epoch, "hands the bucket over");
            ports.metrics.handed_over();
            Some((heir.into(), epoch))
        }
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(%error, sale = %place.sale, bucket = place.number, heir, "cannot hand a bucket over");
            None
        }
    }
}

/// Tells whoever waits in a queue, of whom nothing was begun, where to ask. Returns how many they were.
fn redirect(queues: &mut Queues, there: &Elsewhere) -> usize {
    let mut count = 0;
    let mut tell = |reply: Reply| {
        reply.send(Kind::Elsewhere(there.clone()));
        count += 1;
    };
    while let Ok(asked) = queues.joins.try_recv() {
        tell(asked.reply);
    }
    while let Ok(asked) = queues.holds.try_recv() {
        tell(asked.reply);
    }
    while let Ok(asked) = queues.lookups.try_recv() {
        tell(asked.reply);
    }
    count
}
