//! One bucket while it is being filled: its keeper's part, through the cell's own SQL functions, and what Redis would
//! hold in the end.

use std::path::Path;

use floodgate_chaos::id::{BuyerKey, OrderId, RequestId};
use floodgate_chaos::told::{Ask, OrderState, Said};
use prost::Message;
use proto::wire::events::ledger_entry::Kind;
use proto::wire::events::{LedgerBatch, LedgerEntry};
use proto::{id, merkle};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use uuid::Uuid;

use super::notes::Notes;
use super::order::Order;
use super::{ORG, PRICE, SALE, UNITS_PER_CELL};

/// One bucket while it is being filled.
pub struct BucketBook {
    pub session: PgConnection,
    pub redis_url: String,
    pub(super) number: u32,
    pub(super) aliases: (i32, i32),
    pub(super) epoch: i64,
    batches: [i64; 2],
    pub orders: Vec<Order>,
    next_rank: u64,
    /// Units that it may sell.
    pub(super) shares: Vec<u32>,
    /// The unit at each local index.
    pub(super) indices: Vec<u32>,
    /// Units that left, and their transfers.
    pub(super) left: Vec<(u32, [u8; 16])>,
}

impl BucketBook {
    pub async fn open(number: u32, postgres_url: &str, redis_url: String) -> BucketBook {
        let mut session = PgConnection::connect(postgres_url).await.unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cell/migrations");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let text = std::fs::read_to_string(file).unwrap();
            session.execute(AssertSqlSafe(text)).await.unwrap();
        }
        let units = [number * UNITS_PER_CELL, (number + 1) * UNITS_PER_CELL - 1];
        let grant =
            LedgerEntry { kind: Kind::Granted.into(), units: units.to_vec(), ..Default::default() };
        let (entries, root) = batch(&[grant]);
        let aliases: (i32, i32) =
            sqlx::query_as("select * from accept($1, $2, 1::smallint, $3, $4, $5, $6, $7)")
                .bind(ORG)
                .bind(SALE)
                .bind(i32::try_from(number).unwrap())
                .bind(i32::try_from(units[0]).unwrap())
                .bind(i32::try_from(UNITS_PER_CELL).unwrap())
                .bind(entries)
                .bind(root)
                .fetch_one(&mut session)
                .await
                .unwrap();
        let open =
            "select set_sale($1, $2, 1, now() - interval '1 second', now() + interval '1 hour',
                                    false, false, 1, $3, 'eur', 2, 60000)";
        let open = sqlx::query(open).bind(aliases.0).bind(aliases.1).bind(PRICE);
        open.execute(&mut session).await.unwrap();
        let (orders, batches, epoch, next_rank) = (Vec::new(), [0, 0], 0, 0);
        let (shares, indices, left) = ((units[0]..=units[1]).collect(), Vec::new(), Vec::new());
        let mut book = BucketBook {
            session,
            redis_url,
            number,
            aliases,
            epoch,
            batches,
            orders,
            next_rank,
            shares,
            indices,
            left,
        };
        book.take_over().await;
        let gate = "select set_gate($1, $2, $3, $4, 100, 0, 60, 1)";
        let gate = sqlx::query(gate).bind(aliases.0).bind(aliases.1);
        let gate = gate.bind(i32::try_from(number).unwrap()).bind(book.epoch);
        gate.execute(&mut book.session).await.unwrap();
        book
    }

    pub async fn take_over(&mut self) {
        let raise = sqlx::query_scalar("select epoch from take_over($1, $2, $3, $4, 'p1')");
        let raise = raise.bind(self.aliases.0).bind(self.aliases.1);
        let raise = raise.bind(i32::try_from(self.number).unwrap()).bind(self.epoch);
        self.epoch = raise.fetch_one(&mut self.session).await.unwrap();
        self.indices.clone_from(&self.shares);
    }

    /// Two units for each buyer, in one batch: those that are free with the lowest numbers.
    pub async fn hold(&mut self, notes: &mut Notes, buyers: &[u32], request: u8) {
        let taken: Vec<u32> = self.held().flat_map(|order| order.units.clone()).collect();
        let shares = self.shares.clone();
        let mut free = shares.into_iter().filter(|unit| !taken.contains(unit));
        let mut orders = Vec::new();
        for &number in buyers {
            let buyer = BuyerKey([u8::try_from(number).unwrap() + 1; 16]);
            let request = RequestId([request; 16]);
            let id = id::OrderId::derive(SALE, id::BuyerKey(buyer.0), request.0);
            let rank = self.next_rank;
            self.next_rank += 1;
            orders.push(Order {
                buyer_number: number,
                id: OrderId(id.0),
                buyer,
                request,
                rank,
                units: free.by_ref().take(2).collect(),
                state: OrderState::Held,
                attempts: 0,
            });
        }
        let entries: Vec<LedgerEntry> =
            orders.iter().map(|order| order.entry(Kind::Held)).collect();
        let (entries, root) = batch(&entries);
        self.batches[0] += 1;
        let uuids =
            |bytes: Vec<[u8; 16]>| bytes.into_iter().map(Uuid::from_bytes).collect::<Vec<_>>();
        let each_unit =
            || orders.iter().flat_map(|order| order.units.iter().map(move |unit| (order, *unit)));
        let call =
            "select hold($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
        sqlx::query(call)
            .bind(self.aliases.0)
            .bind(self.aliases.1)
            .bind(i32::try_from(self.number).unwrap())
            .bind(self.epoch)
            .bind(self.batches[0])
            .bind(uuids(orders.iter().map(|order| order.id.0).collect()))
            .bind(uuids(orders.iter().map(|order| order.buyer.0).collect()))
            .bind(vec![2_i16; orders.len()])
            .bind(orders.iter().map(|order| i64::try_from(order.rank).unwrap()).collect::<Vec<_>>())
            .bind(uuids(each_unit().map(|(order, _)| order.id.0).collect()))
            .bind(uuids(each_unit().map(|(order, _)| order.buyer.0).collect()))
            .bind(each_unit().map(|(_, unit)| i32::try_from(unit).unwrap()).collect::<Vec<_>>())
            .bind(each_unit().map(|(_, unit)| i16::try_from(unit % 2).unwrap()).collect::<Vec<_>>())
            .bind(entries)
            .bind(root)
            .execute(&mut self.session)
            .await
            .unwrap();
        for order in orders {
            notes.joined(self.number, &order);
            notes.asked(&order, Ask::Reserve { request: order.request, quantity: 2 });
            notes.said(&order, Said::Order(order.told()));
            self.orders.push(order);
        }
    }

    /// Opens a payment attempt for each.
    pub async fn paying(&mut self, notes: &mut Notes, which: std::ops::Range<usize>) {
        for place in which {
            self.orders[place].attempts += 1;
            let order = self.orders[place].clone();
            notes.provider(&order, "created", PRICE * 2);
            self.settle(notes, place, Kind::Paying).await;
        }
    }

    pub async fn pay(&mut self, notes: &mut Notes, which: std::ops::Range<usize>) {
        for place in which {
            self.paying(notes, place..place + 1).await;
            let order = self.orders[place].clone();
            notes.provider(&order, "captured", PRICE * 2);
            self.settle(notes, place, Kind::Paid).await;
        }
    }

    pub async fn decline(&mut self, notes: &mut Notes, place: usize) {
        self.paying(notes, place..place + 1).await;
        let order = self.orders[place].clone();
        notes.provider(&order, "declined", PRICE * 2);
        notes.provider(&order, "canceled", PRICE * 2);
        self.settle(notes, place, Kind::Declined).await;
    }

    pub async fn settle(&mut self, notes: &mut Notes, place: usize, kind: Kind) {
        let ends = matches!(kind, Kind::Expired | Kind::Cancelled);
        let before = self.orders[place].clone();
        if kind == Kind::Expired {
            let late = "update \"order\" set deadline = now() - interval '1 second' where id = $1";
            let late = sqlx::query(late).bind(Uuid::from_bytes(before.id.0));
            late.execute(&mut self.session).await.unwrap();
        }
        let (entries, root) = batch(&[before.entry(kind)]);
        self.batches[1] += 1;
        let units: Vec<i32> = if ends {
            before.units.iter().map(|unit| i32::try_from(*unit).unwrap()).collect()
        } else {
            Vec::new()
        };
        let intent = (kind == Kind::Paying).then(|| before.intent());
        sqlx::query("select settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)")
            .bind(self.aliases.0)
            .bind(self.aliases.1)
            .bind(i32::try_from(self.number).unwrap())
            .bind(self.epoch)
            .bind(self.batches[1])
            .bind(vec![Uuid::from_bytes(before.id.0)])
            .bind(vec![i16::try_from(i32::from(kind)).unwrap()])
            .bind(vec![i16::try_from(before.attempts).unwrap()])
            .bind(vec![intent])
            .bind(vec![Uuid::from_bytes(before.id.0); units.len()])
            .bind(units)
            .bind(entries)
            .bind(root)
            .execute(&mut self.session)
            .await
            .unwrap();
        let order = &mut self.orders[place];
        order.state = match kind {
            Kind::Expired => OrderState::Expired,
            Kind::Cancelled => OrderState::Cancelled,
            Kind::Paying => OrderState::Paying,
            Kind::Paid => OrderState::Paid,
            _ => OrderState::Held,
        };
        let (ask, told) = match kind {
            Kind::Cancelled => (Ask::CancelOrder { order: order.id }, Said::Order(order.told())),
            Kind::Expired => (Ask::GetOrder { order: order.id }, Said::Order(order.told())),
            Kind::Declined => (
                Ask::Checkout { order: order.id },
                Said::Refused { reason: "CARD_DECLINED".into() },
            ),
            Kind::Paying if place == 1 => {
                (Ask::Checkout { order: order.id }, Said::Unknown { code: "hung up".into() })
            }
            _ => (Ask::Checkout { order: order.id }, Said::Order(order.told())),
        };
        let order = order.clone();
        notes.asked(&order, ask);
        notes.said(&order, told);
    }

    fn held(&self) -> impl Iterator<Item = &Order> {
        use OrderState::{Cancelled, Expired, Refunded};
        let ended = |state| matches!(state, Expired | Cancelled | Refunded);
        self.orders.iter().filter(move |order| !ended(order.state))
    }

    /// Writes what a keeper's Redis would hold now; what was there is gone.
    pub async fn fill_redis(&self) {
        let client = redis::Client::open(&*self.redis_url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let tag = format!("fg:{{{ORG}:{SALE}:{}}}", self.number);
        let folder = format!("{tag}:e{}", self.epoch);
        let index = |unit: &u32| self.indices.iter().position(|one| one == unit).unwrap();
        let mut names = vec![0_u8; self.indices.len() * 16];
        let held = self.orders.iter().flat_map(|order| &order.units);
        let left = self.left.iter().map(|(unit, _)| unit);
        let next = held.chain(left).map(|unit| index(unit) + 1).max().unwrap();
        for (unit, transfer) in &self.left {
            names[index(unit) * 16..][..16].copy_from_slice(transfer);
        }
        let mut pipe = redis::pipe();
        for order in self.held() {
            for unit in &order.units {
                names[index(unit) * 16..][..16].copy_from_slice(&order.id.0);
            }
        }
        for order in &self.orders {
            let paid = if self.held().any(|held| held.id == order.id) { 2 } else { 0 };
            let spent = (order.rank + 1).to_be_bytes();
            let value = [&[0; 16][..], &[0, paid], &spent[..]].concat();
            pipe.hset(format!("{folder}:b"), &order.buyer.0, value).ignore();
        }
        let free = |index: &usize| names[*index * 16..][..16].iter().all(|byte| *byte == 0);
        for index in (0..next).filter(free) {
            pipe.rpush(format!("{folder}:f"), index).ignore();
        }
        pipe.set(format!("{folder}:u"), &names[..next * 16]).ignore();
        let record = [
            ("epoch", self.epoch),
            ("open", 1),
            ("granted", i64::try_from(self.indices.len()).unwrap()),
            ("next", i64::try_from(next).unwrap()),
        ];
        pipe.hset_multiple(format!("{tag}:rec"), &record).ignore();
        redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.unwrap();
        pipe.query_async::<()>(&mut connection).await.unwrap();
    }
}

pub(super) fn batch(entries: &[LedgerEntry]) -> (Vec<u8>, Vec<u8>) {
    let leaves: Vec<_> = entries.iter().map(|entry| merkle::leaf(&entry.encode_to_vec())).collect();
    let batch = LedgerBatch { entries: entries.to_vec() };
    (batch.encode_to_vec(), merkle::root(&leaves).to_vec())
}
