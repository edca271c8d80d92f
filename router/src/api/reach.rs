//! Reaching whoever keeps a bucket: the process that is known to, the one that it names, and once more whoever keeps it
//! when the link was lost on the way.

use super::asked::{Asked, Edge, moving};
use crate::link::{Asking, Kind, Miss, Process, Repeat};
use crate::states::decided_phase;
use proto::fault::Fault;
use proto::limits::REPEAT_WAIT_MS_MAX;
use proto::wire::cell::{Call, answer};
use proto::wire::storefront::sale_state::Phase;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

impl Edge {
    /// The process that keeps the buyer's bucket; when that is not known, or it cannot be asked, any process of the cell: it
    /// answers for buckets that are at rest, and knows who keeps the others.
    pub(crate) fn keeper(&self, asked: &Asked, kind: Kind) -> Result<(u32, Arc<Process>), Fault> {
        let known = self.bucket(asked);
        if let Ok((bucket, now)) = &known
            && now.keeper.takes(kind)
        {
            return Ok((*bucket, now.keeper.clone()));
        }
        let begun = decided_phase(&asked.sale, self.clock.now_ms()) != Phase::Upcoming;
        let any = asked
            .sale
            .bucket(asked.buyer)
            .filter(|_| begun || known.is_ok())
            .and_then(|bucket| Some((bucket, self.links.any(asked.sale.cell(bucket), kind)?)));
        match any {
            Some(any) => Ok(any),
            None => known.map(|(bucket, now)| (bucket, now.keeper)),
        }
    }

    /// Asks a process for an answer, and repeats the call once if its link was lost. Nobody else in a router repeats a call.
    pub(crate) async fn reach(
        &self,
        asked: &Asked,
        (kind, process): (Kind, Arc<Process>),
        call: &Call,
    ) -> Result<answer::Kind, Fault> {
        let (process, sent) = match self.ask_where_it_is(asked, (kind, process), call).await {
            Ok(answered) => return answered,
            Err(Lost { process, sent }) => (process, sent),
        };
        if !process.may_repeat(call, sent) {
            self.link_metrics.lost(Repeat::NotTried);
            return Err(moving(process.away()));
        }
        let Some(there) = self.there_again(asked, kind, &process).await else {
            self.link_metrics.lost(Repeat::Nobody);
            return Err(moving(process.away()));
        };
        let answered = self.ask_where_it_is(asked, (kind, there), call).await;
        let repeat = if answered.is_ok() { Repeat::Answered } else { Repeat::Failed };
        self.link_metrics.lost(repeat);
        answered.unwrap_or_else(|lost| Err(moving(lost.process.away())))
    }

    /// Asks a process, and once more whoever it says keeps the bucket.
    async fn ask_where_it_is(
        &self,
        asked: &Asked,
        (kind, process): (Kind, Arc<Process>),
        call: &Call,
    ) -> Result<Result<answer::Kind, Fault>, Lost> {
        let asking = Asking { call, org: asked.sale.org_number, deadline: asked.deadline };
        let there = match ask(&process, kind, asking).await? {
            Ok(answer::Kind::Elsewhere(there)) => there,
            answered => return Ok(answered),
        };
        let found = self.links.process(asked.sale.cell(call.bucket), &there.process);
        let other = found.filter(|other| !Arc::ptr_eq(other, &process));
        let takes = other.as_ref().is_some_and(|other| other.takes(kind));
        self.metrics.elsewhere(takes);
        let away = || other.as_ref().map_or(Duration::ZERO, |other| other.away());
        let Some(other) = other.as_ref().filter(|_| takes) else { return Ok(Err(moving(away()))) };
        self.states.moved(asked.sale.id.as_str(), call.bucket, there.epoch, other);
        Ok(match ask(other, kind, asking).await? {
            // Two who send a call to each other would do so for ever.
            Ok(answer::Kind::Elsewhere(_)) => Err(moving(Duration::ZERO)),
            answered => answered,
        })
    }

    /// Whoever keeps the bucket by then, or the process whose link was lost, as soon as one of them can be asked.
    async fn there_again(
        &self,
        asked: &Asked,
        kind: Kind,
        lost: &Arc<Process>,
    ) -> Option<Arc<Process>> {
        let most = Instant::now() + Duration::from_millis(REPEAT_WAIT_MS_MAX);
        let until = asked.deadline.min(most);
        let (mut changed, mut risen) =
            (self.states.watch(asked.sale.id.as_str()), self.links.risen());
        loop {
            changed.borrow_and_update();
            risen.borrow_and_update();
            let keeper = self.bucket(asked).ok().map(|(_, now)| now.keeper);
            let there = keeper.into_iter().chain([lost.clone()]).find(|one| one.takes(kind));
            if there.is_some() {
                return there;
            }
            tokio::select! {
                Ok(()) = changed.changed() => {}
                Ok(()) = risen.changed() => {}
                () = sleep_until(until) => return None,
            }
        }
    }

    /// Sends a probe to a process of a cell, and of any cell when `cell` is empty.
    pub(super) async fn probe(
        &self,
        cell: &str,
        call: &Call,
        deadline: Instant,
    ) -> Result<answer::Kind, Fault> {
        let process = self.links.any(cell, Kind::Flash).ok_or_else(|| moving(Duration::ZERO))?;
        let asking = Asking { call, org: 0, deadline };
        match ask(&process, Kind::Flash, asking).await {
            Ok(answered) => answered,
            Err(Lost { process, .. }) => Err(moving(process.away())),
        }
    }
}

/// A process whose link was lost with a call on it.
pub(super) struct Lost {
    pub(super) process: Arc<Process>,
    /// Whether the call was sent, and may have been carried out.
    sent: bool,
}

/// Sends a call to a process and waits for the answer.
pub(super) async fn ask(
    process: &Arc<Process>,
    kind: Kind,
    asking: Asking<'_>,
) -> Result<Result<answer::Kind, Fault>, Lost> {
    match process.call(kind, asking).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(Miss::Refused(fault)) => Ok(Err(fault)),
        Err(Miss::Down) => Ok(Err(moving(process.away()))),
        Err(Miss::Lost { sent }) => Err(Lost { process: process.clone(), sent }),
    }
}
