//! The comparison of both stores with the model of a bucket, unit by unit.

use std::collections::BTreeMap;

use proto::id::OrderId;
use proto::wire::storefront::order::State;
use redis::AsyncCommands;
use sqlx::Row;
use uuid::Uuid;

use super::BUYERS;
use super::keeper::Keeper;
use super::plain::{Order, number_of};
use crate::stores::{buyer, order};

impl Keeper<'_> {
    /// Both stores, unit by unit, are what the model is. Returns the bucket's units as Postgres has them.
    pub(super) async fn compare(&self) -> Vec<u32> {
        let units = self.compare_stock().await;
        self.compare_orders().await;
        self.compare_redis().await;
        units
    }

    async fn compare_stock(&self) -> Vec<u32> {
        let (_, granted, live, paid) = self.stores.counts(self.bucket.bucket).await;
        let count = |state: fn(&Order) -> bool| -> usize {
            self.model.orders.values().filter(|one| state(one)).map(|one| one.units.len()).sum()
        };
        assert_eq!(usize::try_from(granted).unwrap(), self.model.units().len());
        assert_eq!(usize::try_from(live).unwrap(), count(Order::is_live));
        assert_eq!(usize::try_from(paid).unwrap(), count(|one| one.state == State::Paid));

        let shares = self.rows("select first_unit, units from share").await;
        let range = |row: &sqlx::postgres::PgRow| {
            let [first, units] = [0, 1].map(|at| row.get::<i32, _>(at).cast_unsigned());
            first..first + units
        };
        let mut units: Vec<u32> = shares.iter().flat_map(range).collect();
        units.sort_unstable();
        assert_eq!(units, self.model.units().into_iter().collect::<Vec<_>>());
        units
    }

    async fn compare_orders(&self) {
        let rows = self.rows("select unit, id, buyer, slot from unit").await;
        let mut slots: BTreeMap<Uuid, Vec<i16>> = BTreeMap::new();
        let mut owners: BTreeMap<u32, OrderId> = BTreeMap::new();
        for row in &rows {
            owners.insert(row.get::<i32, _>(0).cast_unsigned(), id_at(row, 1));
            slots.entry(row.get(2)).or_default().push(row.get(3));
        }
        assert_eq!(owners, self.model.owners());
        for (buyer, mut slots) in slots {
            slots.sort_unstable();
            let expected: Vec<i16> = (0..).take(slots.len()).collect();
            assert_eq!(slots, expected, "slots of buyer {buyer} (INV-4)");
        }
        let rows = self.rows(r#"select id, state, refunding from "order""#).await;
        let state = |row: &sqlx::postgres::PgRow| {
            let state = i32::from(row.get::<i16, _>(1));
            (number_of(id_at(row, 0)), (state, row.get::<bool, _>(2)))
        };
        let states: BTreeMap<u32, (i32, bool)> = rows.iter().map(state).collect();
        let expected = self.model.orders.iter();
        let expected: BTreeMap<u32, (i32, bool)> =
            expected.map(|(number, one)| (*number, (one.state.into(), one.refunding))).collect();
        assert_eq!(states, expected);
    }

    /// The bucket's rows of a table.
    async fn rows(&self, select: &str) -> Vec<sqlx::postgres::PgRow> {
        let select = format!("{select} where sale = $1 and bucket = $2");
        let rows = sqlx::query(sqlx::AssertSqlSafe(select));
        let rows = rows.bind(self.bucket.sale).bind(self.bucket.bucket.bucket);
        rows.fetch_all(&self.stores.admin).await.unwrap()
    }

    async fn compare_redis(&self) {
        let (mut redis, model) = (self.stores.redis.clone(), &self.model);
        let keys = &self.at.keys;
        let units: Vec<u8> = redis.get(&keys.units).await.unwrap_or_default();
        let in_redis: BTreeMap<u32, [u8; 16]> = (0..)
            .zip(units.as_chunks::<16>().0)
            .filter(|(_, owner)| **owner != [0; 16])
            .map(|(index, owner)| (index, *owner))
            .collect();
        let mut expected: BTreeMap<u32, [u8; 16]> =
            model.left.iter().map(|(index, transfer)| (*index, transfer.0)).collect();
        let owned = model.owners().into_iter();
        expected.extend(owned.map(|(unit, order)| (model.indices(&[unit])[0], order.0)));
        assert_eq!(in_redis, expected);
        let returned: Vec<u32> = redis.lrange(&keys.free, 0, -1).await.unwrap();
        assert_eq!(returned, model.returned.iter().copied().collect::<Vec<_>>());
        let fields = ["granted", "next", "rank"];
        let (granted, next, rank): (u32, u32, u64) = redis.hmget(&keys.rec, &fields).await.unwrap();
        assert_eq!((granted, next, rank), (model.end(), model.next, model.next_rank));
        for of in (0..BUYERS).map(|n| self.number_of_buyer(n)) {
            let value: Option<Vec<u8>> = redis.hget(&keys.buyers, &buyer(of).0[..]).await.unwrap();
            let (live, paid) = (model.live_of(of), model.paid_by(of));
            let expected = model.spent.get(&of).map(|spent| {
                let held = live.map_or(0, |(_, one)| one.units.len());
                let mut bytes = live.map_or([0; 16], |(number, _)| order(number).0).to_vec();
                bytes.extend([u8::try_from(held).unwrap(), u8::try_from(paid).unwrap()]);
                bytes.extend(spent.to_be_bytes());
                bytes
            });
            assert_eq!(value, expected, "buyer {of}");
        }
    }
}

fn id_at(row: &sqlx::postgres::PgRow, column: usize) -> OrderId {
    OrderId(row.get::<Uuid, _>(column).into_bytes())
}
