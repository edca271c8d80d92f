//! One stack on which one failpoint after another is hit, each in a small sale of its own.

use std::sync::Arc;

use local::{Failpoint, FailpointAction, FailpointKind, ServerState};
use proto::wire::cell::{BucketPlan, SaleRecord, sale_record};
use sqlx::Row;

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, name_of, seed, until};
use crate::sale::record;
use crate::storm::Told;

/// Units of a bucket: more than its buyers can want, so that nobody waits for one.
const UNITS: u32 = 60;
/// Sales that are audited together.
const SALES_MAX: usize = 12;
/// Times that a process reached the reply which must be lost first.
const ONCE: u32 = 1;

/// See the module.
pub(crate) struct Play {
    pub(crate) cell: Arc<CellUnderTest>,
    pub(crate) seed: u64,
    processes: &'static [&'static str],
    sales: u32,
    /// Sales whose buyers have gone, with what these were told.
    over: Vec<(SaleRecord, Told)>,
}

impl Play {
    pub(crate) async fn start(processes: &'static [&'static str]) -> Play {
        let seed = seed();
        let cell = CellUnderTest::start(processes).await;
        Play { cell, seed, processes, sales: 0, over: Vec::new() }
    }

    /// Where a process of this build can be held or crashed, and, among those, where a reply can be lost.
    pub(crate) async fn points(&self) -> Vec<Failpoint> {
        let points = self.cell.stack.failpoints(&name_of(self.processes[0])).unwrap();
        let points = points.list().await.unwrap();
        let points: Vec<_> =
            points.into_iter().filter(|point| point.kind != FailpointKind::Wait).collect();
        assert!(points.len() > 30, "the list has become short: {points:?}");
        points
    }

    /// The processes' names.
    pub(crate) fn processes(&self) -> &'static [&'static str] {
        self.processes
    }

    /// Opens another sale over so many buckets.
    pub(crate) async fn next_sale(&mut self, buckets: u32) -> SaleRecord {
        self.sales += 1;
        let one = record(&format!("s{:03}", self.sales), UNITS, 2);
        let plan = |bucket| {
            let first_unit = one.buckets[0].first_unit + bucket * UNITS;
            BucketPlan { first_unit, ..one.buckets[0].clone() }
        };
        let sale = SaleRecord {
            stock: buckets * UNITS,
            buckets: (0..buckets).map(plan).collect(),
            hold_ttl_ms: 1_500,
            keeping_ms: 1_000,
            ..one
        };
        self.cell.decide(&sale).await;
        for bucket in 0..buckets {
            self.cell.keeper_of(&sale, bucket, 0).await;
        }
        sale
    }

    /// A seed for the buyers of the sale under way.
    pub(crate) fn luck(&self) -> u64 {
        self.seed.wrapping_add(u64::from(self.sales) << 32)
    }

    /// Arms a failpoint wherever it may be reached.
    pub(crate) async fn arm(&self, point: &Failpoint, action: FailpointAction) {
        for process in self.processes {
            let points = self.cell.stack.failpoints(&name_of(process)).unwrap();
            if let Some(needs) = &point.needs {
                points.arm(needs, FailpointAction::Lose, ONCE).await.unwrap();
            }
            points.arm(&point.name, action, ONCE).await.unwrap();
        }
    }

    /// Waits until the failpoint is hit, and does what follows from that.
    pub(crate) async fn hit(&self, point: &Failpoint, action: FailpointAction, sale: &SaleRecord) {
        match action {
            FailpointAction::Crash => self.revive(point).await,
            FailpointAction::Pause => self.relieve(point, sale).await,
            FailpointAction::Lose | FailpointAction::Delay(_) => {
                self.at(point, |point| point.hits > 0).await;
                self.disarm(point, "").await;
            }
        }
    }

    /// A process has died of it, and is started again.
    async fn revive(&self, point: &Failpoint) {
        let name = until(DEADLINE, async || {
            let exited = self.cell.stack.exited().into_iter().next();
            exited.map(|(name, _)| name).ok_or_else(|| "no process died".to_owned())
        });
        let name = name.await;
        let log = std::fs::read_to_string(self.cell.stack.log_path(&name).unwrap()).unwrap();
        let last = log.lines().rfind(|line| line.contains("a failpoint is hit"));
        assert!(last.is_some_and(|line| line.contains(&point.name)), "{name} died of {last:?}");
        self.cell.stack.restart(&name).await.unwrap();
    }

    /// A process is held, and whatever it keeps is taken over by another before it is released.
    async fn relieve(&self, point: &Failpoint, sale: &SaleRecord) {
        let held = self.at(point, |point| point.waiting > 0).await;
        self.disarm(point, held).await;
        let heir = self.other_than(held);
        let epoch = self.row(sale).await.0;
        let bucket = self.cell.bucket(&sale.sale).await;
        sqlx::query(
            "update bucket set epoch = epoch + 1, keeper = $1 where keeper = $2 or sale = $3",
        )
        .bind(heir)
        .bind(held)
        .bind(bucket.sale)
        .execute(&self.cell.pool)
        .await
        .unwrap();
        until(DEADLINE, async || {
            let told = self.cell.told(&sale.sale).map_or(0, |(_, epoch)| epoch);
            let (now, settled) = self.row(sale).await;
            // Somebody raised it here, and the heir after that, who may have handed it on before it said anything.
            if settled || told >= epoch + 2 || now > epoch + 2 {
                Ok(())
            } else {
                Err(format!("{epoch}, {now}, {told}"))
            }
        })
        .await;
        let points = self.cell.stack.failpoints(&name_of(held)).unwrap();
        points.release(&point.name).await.unwrap();
    }

    /// The process at which a failpoint looks so.
    async fn at(&self, point: &Failpoint, so: impl Fn(&Failpoint) -> bool) -> &'static str {
        until(DEADLINE, async || {
            for process in self.processes {
                let points = self.cell.stack.failpoints(&name_of(process)).unwrap();
                let now = points.look(&point.name).await.map_err(|error| error.to_string())?;
                if so(&now) {
                    return Ok(*process);
                }
            }
            Err(format!("{} was not hit", point.name))
        })
        .await
    }

    /// Lets everybody pass again, except at `held`.
    async fn disarm(&self, point: &Failpoint, held: &str) {
        for process in self.processes.iter().filter(|process| **process != held) {
            let points = self.cell.stack.failpoints(&name_of(process)).unwrap();
            for name in point.needs.iter().chain([&point.name]) {
                points.release(name).await.unwrap();
            }
        }
    }

    fn other_than(&self, process: &str) -> &'static str {
        let other = self.processes.iter().find(|other| **other != process);
        other.copied().unwrap_or(self.processes[0])
    }

    /// Deposes a sale's keeper in favour of another process, if there is one.
    pub(crate) async fn depose(&self, sale: &SaleRecord) {
        let (keeper, _) = self.cell.keeper_after(sale, 0).await;
        let bucket = self.cell.bucket(&sale.sale).await;
        sqlx::query("update bucket set epoch = epoch + 1, keeper = $1 where sale = $2")
            .bind(self.other_than(&keeper))
            .bind(bucket.sale)
            .execute(&self.cell.pool)
            .await
            .unwrap();
    }

    /// The epoch of a sale's first bucket, and whether it is at rest.
    pub(crate) async fn row(&self, sale: &SaleRecord) -> (u64, bool) {
        let row = sqlx::query(
            "select b.epoch, b.settled from bucket b join sale s using (org, sale)
             where s.id = $1 and b.bucket = 0",
        );
        let row = row.bind(&sale.sale).fetch_one(&self.cell.pool).await.unwrap();
        (row.get::<i64, _>(0).cast_unsigned(), row.get(1))
    }

    /// The sale's buyers have gone.
    pub(crate) async fn is_over(&mut self, sale: SaleRecord, told: Told) {
        self.over.push((sale, told));
        if self.over.len() >= SALES_MAX {
            self.audit().await;
        }
    }

    /// Audits the sales that are over, and calls them off, so that their buckets come to rest.
    pub(crate) async fn audit(&mut self) {
        let over = std::mem::take(&mut self.over);
        let audits = over.iter().map(|(sale, told)| audit(&self.cell, sale, told));
        futures_util::future::join_all(audits).await;
        for (sale, _) in &over {
            self.cell.decide(&called_off(sale)).await;
        }
    }

    /// Audits what is left, and makes sure that no process has seen a promise broken or died by itself.
    pub(crate) async fn end(mut self) {
        self.audit().await;
        for process in self.processes {
            let name = name_of(process);
            assert!(
                matches!(self.cell.stack.state(&name).unwrap(), ServerState::Running),
                "{name}"
            );
            let log = std::fs::read_to_string(self.cell.stack.log_path(&name).unwrap()).unwrap();
            let broken = log.lines().find(|line| line.contains("a promise is broken"));
            assert_eq!(broken, None, "{name} has seen that");
        }
    }
}

/// The sale, called off.
pub(crate) fn called_off(sale: &SaleRecord) -> SaleRecord {
    let state = sale_record::State::Cancelled.into();
    SaleRecord { state, update_ms: sale.update_ms + 1, ..sale.clone() }
}
