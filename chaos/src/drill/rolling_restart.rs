//! `rolling-restart`: the processes of the cell that has a bucket are stopped in good order (SIGTERM) and started again,
//! one after the other, its keeper first, with calls under way there, as whoever brings out a new version does.

use proto::fault::{Reason, Retry};

use super::{Aftermath, Blow, DrillError, Field};
use crate::report::DrillReport;
use crate::told::{Said, Told};
use std::time::Duration;

pub(super) const HYPOTHESIS: &str = "processes that are started anew one after another hand their buckets over: nothing is \
     lost, each grants again within 2 s, and whoever is refused meanwhile may ask again";

/// From the first stop on, which ends when the batches under way are answered; the heir is called at once.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(2);

/// What buyers are told for good in a sale in which nothing happens.
const ORDINARY: [Reason; 8] = [
    Reason::SoldOut,
    Reason::SaleEnded,
    Reason::TicketExpired,
    Reason::TicketSpent,
    Reason::OrderExpired,
    Reason::OrderStateConflict,
    Reason::CardDeclined,
    // A call that came too late changed nothing: it is simply sent again.
    Reason::DeadlinePassed,
];

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let mut session = field.postgres(&cell).await?;
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let Some(keeper) = field.keeper(&mut session, bucket, &cell).await? else { return Ok(None) };
    let stack = field.platform.stack();
    let mut others = Vec::new();
    for name in stack.names() {
        // The cell's stores are no planes.
        let is_process = name.starts_with(&format!("{cell}/"))
            && name != keeper
            && stack.endpoint(&name)?.metrics.is_some();
        others.extend(is_process.then_some(name));
    }
    if others.is_empty() {
        return Err(DrillError::NotHere(format!("{cell} has one process only")));
    }
    let mut blow = aim.blow(format!("started {keeper} anew, then {}", others.join(", ")));
    stack.restart(&keeper).await?;
    for process in others {
        let next = field.keeper(&mut session, bucket, &cell).await?;
        if next.as_ref() == Some(&keeper) {
            blow.found(format!("{keeper} had the bucket again when {process} was stopped"));
        }
        stack.restart(&process).await?;
    }
    Ok(Some(blow.back().again_within(GRANTING_AGAIN_MAX)))
}

/// Weighs what clients were told in the whole sale.
pub(super) fn weigh(aftermath: &Aftermath<'_>, report: &mut DrillReport) {
    let told = &aftermath.evidence.told;
    let later = told.iter().filter(|one| is_refused(one, |reason| reason.retry() == Retry::Later));
    report.findings.push(format!("{} calls were told to ask again", later.count()));
    let for_good = |reason: Reason| reason.retry() == Retry::No && !ORDINARY.contains(&reason);
    let failed: Vec<&Told> =
        told.iter().filter(|one| is_unknown(one) || is_refused(one, for_good)).collect();
    if let Some(first) = failed.first() {
        let count = failed.len();
        report.against.push(format!("{count} calls failed for good, such as {:?}", first.said));
    }
}

fn is_refused(told: &Told, is: impl Fn(Reason) -> bool) -> bool {
    let Said::Refused { reason } = &told.said else { return false };
    Reason::ALL.iter().any(|known| known.label() == reason && is(*known))
}

/// Whether a client was told nothing although it waited.
fn is_unknown(told: &Told) -> bool {
    matches!(&told.said, Said::Unknown { code } if !code.ends_with("hung up"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::{Evidence, judge};
    use crate::load::Samples;

    #[test]
    fn what_is_final_without_need_speaks_against_it() {
        let refused = |reason: Reason| Said::Refused { reason: reason.label().into() };
        let unknown = |code: &'static str| Said::Unknown { code: code.into() };
        let rows = [
            (refused(Reason::BucketMoving), false),
            (refused(Reason::SoldOut), false),
            (unknown("Cancelled: hung up"), false),
            (unknown("Unavailable: the connection broke"), true),
            (refused(Reason::Internal), true),
            (refused(Reason::NotFound), true),
        ];
        for (said, expected) in rows {
            let told = vec![Told { at_us: 1, sale: 0, buyer: Some(1), call: 1, said }];
            let evidence = Evidence { told, ..Evidence::default() };
            let aftermath = Aftermath {
                evidence: &evidence,
                judgement: &judge(&evidence),
                samples: &Samples::new(0),
                patience: 1,
            };
            let mut report = DrillReport::default();
            weigh(&aftermath, &mut report);
            assert_eq!(!report.against.is_empty(), expected, "{:?}", evidence.told);
        }
    }
}
