//! The comparison of both stores with the model, unit by unit.

use std::collections::BTreeMap;

use proto::id::OrderId;
use proto::wire::storefront::order::State;
use redis::AsyncCommands;
use sqlx::Row;
use uuid::Uuid;

use super::UNITS;
use super::keeper::Keeper;
use super::plain::{Model, Order, number_of};
use crate::stores::{FIRST_UNIT, buyer, order};

impl Keeper<'_> {
    /// Both stores, unit by unit, are what the model is.
    pub(super) async fn compare(&self) {
        let (_, granted, live, paid) = self.stores.counts(self.bucket.bucket).await;
        let count = |state: fn(&Order) -> bool| -> usize {
            self.model.orders.values().filter(|one| state(one)).map(|one| one.units.len()).sum()
        };
        assert_eq!(granted, i32::try_from(UNITS).unwrap());
        assert_eq!(usize::try_from(live).unwrap(), count(Order::is_live));
        assert_eq!(usize::try_from(paid).unwrap(), count(|one| one.state == State::Paid));

        let rows = sqlx::query("select unit, id from unit where sale = $1").bind(self.bucket.sale);
        let rows = rows.fetch_all(&self.stores.admin).await.unwrap();
        let owner = |row: &sqlx::postgres::PgRow| {
            let unit = row.get::<i32, _>(0).cast_unsigned();
            (unit - FIRST_UNIT, OrderId(row.get::<Uuid, _>(1).into_bytes()))
        };
        let in_postgres: BTreeMap<u32, OrderId> = rows.iter().map(owner).collect();
        assert_eq!(in_postgres, self.model.owners());
        let rows = sqlx::query(r#"select id, state from "order" where sale = $1"#);
        let rows = rows.bind(self.bucket.sale).fetch_all(&self.stores.admin).await.unwrap();
        let states: BTreeMap<u32, i32> = rows
            .iter()
            .map(|row| {
                (
                    number_of(OrderId(row.get::<Uuid, _>(0).into_bytes())),
                    row.get::<i16, _>(1).into(),
                )
            })
            .collect();
        let wanted: BTreeMap<u32, i32> =
            self.model.orders.iter().map(|(number, one)| (*number, one.state.into())).collect();
        assert_eq!(states, wanted);
        self.compare_redis().await;
    }

    async fn compare_redis(&self) {
        let mut redis = self.stores.redis.clone();
        let keys = &self.at.keys;
        let units: Vec<u8> = redis.get(&keys.units).await.unwrap_or_default();
        let in_redis: BTreeMap<u32, OrderId> = (0..)
            .zip(units.as_chunks::<16>().0)
            .filter(|(_, owner)| **owner != [0; 16])
            .map(|(index, owner)| (index, OrderId(*owner)))
            .collect();
        assert_eq!(in_redis, self.model.owners());
        let returned: Vec<u32> = redis.lrange(&keys.free, 0, -1).await.unwrap();
        assert_eq!(returned, self.model.returned.iter().copied().collect::<Vec<_>>());
        let (next, rank): (u32, u64) = redis.hmget(&keys.rec, &["next", "rank"]).await.unwrap();
        assert_eq!((next, rank), (self.model.next, self.model.next_rank));
        for of in Model::buyers() {
            let value: Option<Vec<u8>> = redis.hget(&keys.buyers, &buyer(of).0[..]).await.unwrap();
            let live = self.model.live_of(of);
            let paid = self.model.paid_by(of);
            let wanted = self.model.spent.get(&of).map(|spent| {
                let held = live.map_or(0, |(_, one)| one.units.len());
                let mut bytes = live.map_or([0; 16], |(number, _)| order(number).0).to_vec();
                bytes.extend([u8::try_from(held).unwrap(), u8::try_from(paid).unwrap()]);
                bytes.extend(spent.to_be_bytes());
                bytes
            });
            assert_eq!(value, wanted, "buyer {of}");
        }
    }
}
