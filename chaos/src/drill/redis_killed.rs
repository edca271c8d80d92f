//! `redis-killed`: kill -9 of the Redis of one of the sale's cells while calls are under way in its bucket. It is
//! started again at once, empty, as a supervisor would.

use std::time::Duration;

use local::LocalError;

use super::{Field, now_us, share_of};
use crate::judge::{Judgement, Move};
use crate::report::DrillReport;

/// A cell must grant again in this time.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(2);

/// What was done.
#[derive(Clone, Debug)]
pub struct Blow {
    bucket: u32,
    cell: String,
    units_told: u64,
    units: u32,
    cap: u32,
    in_flight: u64,
    killed_us: u64,
    back_us: u64,
}

/// Whether the bucket granted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// So long after what is said.
    After(Duration, &'static str),
    /// It had nothing to grant.
    NothingFree,
    /// It did not.
    Never,
}

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, LocalError> {
    let place = field.victim % field.buckets.len().max(1);
    let Some((bucket, cell, units)) = field.buckets.get(place).cloned() else { return Ok(None) };
    let wanted = share_of(units, field.moment);
    let came = field
        .moment(|sale| sale.units_told_of(bucket) >= wanted && sale.reserves_in_flight(bucket) > 0)
        .await;
    let Some(sale) = field.sale().filter(|_| came) else { return Ok(None) };
    let stack = field.platform.stack();
    let redis = format!("{cell}/redis");
    let (units_told, in_flight) = (sale.units_told_of(bucket), sale.reserves_in_flight(bucket));
    let killed_us = now_us();
    stack.kill(&redis).await?;
    stack.restart(&redis).await?;
    let back_us = now_us();
    let cap = field.cap;
    Ok(Some(Blow { bucket, cell, units_told, units, cap, in_flight, killed_us, back_us }))
}

impl Blow {
    pub(super) fn report(&self, judgement: &Judgement) -> DrillReport {
        let mut report = DrillReport::default();
        report.findings.push(format!(
            "killed {}/redis at {} of {} units held there, {} Reserves under way; empty and back \
             after {} ms",
            self.cell,
            self.units_told,
            self.units,
            self.in_flight,
            self.back_us.saturating_sub(self.killed_us) / 1_000
        ));
        if self.in_flight == 0 {
            report.void.push("no call was under way in the bucket when its Redis died".to_owned());
        }
        let moves = judgement.moves.first().map_or(&[][..], Vec::as_slice);
        match self.granting_again(moves) {
            Again::After(took, since) => {
                report
                    .findings
                    .push(format!("granting again {} ms after {since}", took.as_millis()));
                if took > GRANTING_AGAIN_MAX {
                    report.against.push(format!("that is more than {GRANTING_AGAIN_MAX:?}"));
                }
            }
            Again::Never => report.against.push("nothing was granted there any more".to_owned()),
            Again::NothingFree => {
                report.void.push("no unit of the bucket was free again".to_owned())
            }
        }
        report
    }

    /// How long the bucket took to grant again, and since when: from the kill, or from when units were free again if
    /// all of them were held. Fewer units than a buyer may want count as none.
    ///
    /// What was granted before the kill may still be committed after it; nothing of it is once the new Redis is up.
    fn granting_again(&self, moves: &[Move]) -> Again {
        let units = i64::from(self.units) - i64::from(self.cap);
        let (mut taken, mut free_since_us) = (0, Some((self.killed_us, "the kill")));
        for one in moves.iter().filter(|one| one.bucket == self.bucket) {
            let at_us = u64::try_from(one.at_us).unwrap_or(0);
            if one.is_hold && at_us > self.back_us {
                let (since_us, since) = free_since_us.unwrap_or((at_us, "it had to"));
                return Again::After(Duration::from_micros(at_us.saturating_sub(since_us)), since);
            }
            taken += one.live + one.paid;
            if taken > units {
                free_since_us = None;
            } else if free_since_us.is_none() {
                free_since_us = Some(if at_us <= self.killed_us {
                    (self.killed_us, "the kill")
                } else {
                    (at_us, "units returned; all were held")
                });
            }
        }
        if free_since_us.is_some() { Again::Never } else { Again::NothingFree }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blow() -> Blow {
        Blow {
            bucket: 1,
            cell: "cell-1".into(),
            units_told: 4,
            units: 5,
            cap: 2,
            in_flight: 1,
            killed_us: 1_000,
            back_us: 2_000,
        }
    }

    #[test]
    fn granting_again_counts_from_when_it_could() {
        let hold = |at_us, live| Move { at_us, live, paid: 0, is_hold: true, bucket: 1 };
        let back =
            |at_us, live: i64| Move { at_us, live: -live, paid: 0, is_hold: false, bucket: 1 };
        let other = Move { at_us: 2_100, live: 1, paid: 0, is_hold: true, bucket: 0 };
        let after_kill = Again::After(Duration::from_micros(1_500), "the kill");
        let after_return =
            Again::After(Duration::from_micros(100), "units returned; all were held");
        let rows: [(&[Move], _); 5] = [
            (&[hold(500, 2), hold(1_900, 1), other, hold(2_500, 1)], after_kill),
            (&[hold(500, 4), back(900, 1), hold(2_500, 1)], after_kill),
            (&[hold(500, 4), back(2_400, 1), hold(2_500, 1)], after_return),
            (&[hold(500, 4), other], Again::NothingFree),
            (&[hold(500, 3), other], Again::Never),
        ];
        for (moves, expected) in rows {
            assert_eq!(blow().granting_again(moves), expected, "{moves:?}");
        }
    }
}
