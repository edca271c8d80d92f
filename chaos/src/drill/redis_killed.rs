//! `redis-killed`: kill -9 of the Redis of one of the sale's cells while calls are under way in its bucket. It is
//! started again at once, empty, as a supervisor would.

use std::time::Duration;

use local::LocalError;

use super::{Field, now_us, share_of};
use crate::judge::Judgement;
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
    in_flight: u64,
    killed_us: u64,
    back_us: u64,
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
    Ok(Some(Blow { bucket, cell, units_told, units, in_flight, killed_us, back_us }))
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
        // What was granted before may still be committed after the kill; nothing of it is after the new one is up.
        let moves = judgement.moves.first().map_or(&[][..], Vec::as_slice);
        let again_us = moves
            .iter()
            .filter(|one| one.is_hold && one.bucket == self.bucket)
            .filter_map(|one| u64::try_from(one.at_us).ok())
            .find(|at_us| *at_us > self.back_us);
        match again_us {
            Some(again_us) => {
                let took = Duration::from_micros(again_us - self.killed_us);
                report
                    .findings
                    .push(format!("granting again {} ms after the kill", took.as_millis()));
                if took > GRANTING_AGAIN_MAX {
                    report.against.push(format!("that is more than {GRANTING_AGAIN_MAX:?}"));
                }
            }
            None => report.against.push("nothing was granted there any more".to_owned()),
        }
        report
    }
}
