//! A cell's stores without a cell: a real Redis and a real Postgres, and buckets in them.

use std::ops::Deref;
use std::sync::Arc;

use floodgate_cell::inventory::{BucketKeys, Inventory, LoadPlan, load};
use floodgate_cell::ledger::{self, BucketRef, Hold, HoldBatch, LedgerError, Loaded, Share};
use local::{Stack, StackOptions};
use proto::id::{BuyerKey, OrderId};
use proto::wire::cell::SaleRecord;
use proto::wire::events::LedgerEntry;
use sqlx::{PgPool, Row};

use crate::chain::checked_ledger;
pub(crate) use crate::sale::{FIRST_UNIT, record};

/// The process that takes buckets over here.
pub(crate) const KEEPER: &str = "p1";

/// A running Redis and Postgres with the cell's schema.
pub(crate) struct Stores {
    pub(crate) stack: Stack,
    /// As the role that cells work as.
    pub(crate) pool: PgPool,
    /// As the superuser, who sees and may damage everything.
    pub(crate) admin: PgPool,
    /// As the user that cells work as.
    pub(crate) inventory: Inventory,
    /// As the user who may do everything.
    pub(crate) redis: redis::aio::MultiplexedConnection,
}

impl Stores {
    pub(crate) async fn start() -> Stores {
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let (redis, postgres) =
            tokio::try_join!(stack.start_redis("cell-1"), stack.start_postgres("cell-1")).unwrap();
        let pool = ledger::open(&postgres.url, "flash").unwrap();
        let owner = ledger::open_owner(&stack.postgres_owner_url("cell-1").unwrap()).unwrap();
        ledger::migrate(&owner).await.unwrap();
        owner.close().await;
        let admin = PgPool::connect_lazy(&stack.postgres_admin_url("cell-1").unwrap()).unwrap();
        let client = redis::Client::open(stack.redis_admin_url("cell-1").unwrap()).unwrap();
        Stores {
            stack,
            pool,
            admin,
            inventory: Inventory::new(&redis.url).unwrap(),
            redis: client.get_multiplexed_async_connection().await.unwrap(),
        }
    }

    /// A new sale that is open now, with one bucket of `units` units, taken over once.
    pub(crate) async fn bucket(&self, sale: &str, units: u32, cap: u32) -> Bucket {
        let record = record(sale, units, cap);
        let share = Share { first_unit: FIRST_UNIT, units };
        let aliases = ledger::accept(&self.pool, &record, 0, share).await.unwrap();
        let bucket = BucketRef { org: aliases.org, sale: aliases.sale, bucket: 0 };
        ledger::set_sale(&self.pool, bucket, &record).await.unwrap();
        let epoch = ledger::take_over(&self.pool, bucket, 0, KEEPER).await.unwrap();
        Bucket { bucket, record, epoch: epoch.unwrap(), hold_batch: 0, settle_batch: 0 }
    }

    /// Loads a bucket into Redis under its epoch, as a take-over does.
    pub(crate) async fn load(&self, bucket: &Bucket) -> InRedis {
        let loaded = ledger::load(&self.pool, bucket.bucket, bucket.epoch).await.unwrap();
        self.load_as(bucket, &loaded).await
    }

    /// Loads what is given.
    pub(crate) async fn load_as(&self, bucket: &Bucket, loaded: &Loaded) -> InRedis {
        let run = self.inventory.run().await.unwrap();
        let (org, sale) = (&bucket.record.org, &bucket.record.sale);
        let keys = BucketKeys::new(org, sale, 0, loaded.epoch);
        let plan = LoadPlan::new(loaded, |unit| unit.checked_sub(FIRST_UNIT));
        load(&self.inventory, &run, &keys, loaded, &plan).await.unwrap();
        InRedis { run, keys, epoch: loaded.epoch, free: plan.free_units() }
    }

    /// The bucket's row: seq, granted, live, paid.
    pub(crate) async fn counts(&self, bucket: BucketRef) -> (i64, i32, i32, i32) {
        let row = sqlx::query(
            "select seq, granted, live, paid from bucket where org = $1 and sale = $2 and bucket = $3",
        );
        let row = row.bind(bucket.org).bind(bucket.sale).bind(bucket.bucket);
        let row = row.fetch_one(&self.admin).await.unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3))
    }

    /// Everything in the bucket's ledger, after its chain was checked.
    pub(crate) async fn ledger(&self, bucket: BucketRef) -> Vec<LedgerEntry> {
        checked_ledger(&self.admin, bucket)
            .await
            .into_iter()
            .flat_map(|(_, entries)| entries)
            .collect()
    }
}

/// A bucket as its keeper knows it.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) bucket: BucketRef,
    pub(crate) record: SaleRecord,
    pub(crate) epoch: i64,
    pub(crate) hold_batch: i64,
    pub(crate) settle_batch: i64,
}

impl Bucket {
    /// Commits holds as the next batch, which counts when it was applied.
    pub(crate) async fn hold(&mut self, pool: &PgPool, holds: &[Hold]) -> Result<i64, LedgerError> {
        let at_us = self.hold_as(pool, (self.epoch, self.hold_batch + 1), holds).await?;
        self.hold_batch += 1;
        Ok(at_us)
    }

    /// Commits holds under a given epoch and number.
    pub(crate) async fn hold_as(
        &self,
        pool: &PgPool,
        (epoch, batch): (i64, i64),
        holds: &[Hold],
    ) -> Result<i64, LedgerError> {
        let record = &self.record;
        let (revision, currency) = (record.revision, record.currency.as_str());
        let batch = HoldBatch { bucket: self.bucket, epoch, batch, revision, currency };
        batch.commit(pool, holds).await
    }
}

/// A bucket in Redis.
#[derive(Clone, Debug)]
pub(crate) struct InRedis {
    pub(crate) run: Arc<str>,
    pub(crate) keys: BucketKeys,
    pub(crate) epoch: i64,
    pub(crate) free: u32,
}

/// Buyer number `n`.
pub(crate) fn buyer(n: u32) -> BuyerKey {
    let mut key = [0xb0; 16];
    key[..4].copy_from_slice(&n.to_be_bytes());
    key[14..].copy_from_slice(&u16::try_from(n % 65_536).unwrap().to_be_bytes());
    BuyerKey(key)
}

/// Order number `n`.
pub(crate) fn order(n: u32) -> OrderId {
    let mut id = [0x0d; 16];
    id[..4].copy_from_slice(&n.to_be_bytes());
    OrderId(id)
}

/// Order `n` of buyer `n` by ticket `n`, for the units at `indices`.
pub(crate) fn hold(n: u32, indices: &[u32]) -> Hold {
    Hold {
        order: order(n),
        buyer: buyer(n),
        ticket: n.into(),
        units: indices.iter().map(|index| FIRST_UNIT + index).collect(),
        first_slot: 0,
        amount_minor: 1_999,
    }
}

impl Deref for Bucket {
    type Target = BucketRef;

    fn deref(&self) -> &BucketRef {
        &self.bucket
    }
}
