//! The keeper that the test plays.

use std::collections::BTreeMap;

use floodgate_cell::inventory::{Grant, HoldTry, InventoryError, Joined, Settled, What, forget};
use floodgate_cell::ledger::{self, GateRow, Hold, LedgerError, Move, SettleBatch};
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use uuid::Uuid;

use super::plain::{Model, number_of};
use super::{CAP, Fate, Step, Try, UNITS};
use crate::stores::{Bucket, FIRST_UNIT, InRedis, KEEPER, Stores, buyer, order};

/// Ranks that are committed at a time.
const BLOCK: u64 = 8;

/// A batch with its answer, to be sent again.
#[derive(Default)]
struct Last {
    tries: Vec<HoldTry>,
    grants: Vec<Grant>,
    held: Vec<Hold>,
    held_at_us: i64,
    moves: Vec<Move>,
    moved_at_us: i64,
    followed: Vec<Settled>,
    freed: u32,
    joiners: Vec<u32>,
    joined: Vec<Joined>,
}

pub(super) struct Keeper<'a> {
    pub(super) stores: &'a Stores,
    pub(super) bucket: Bucket,
    pub(super) at: InRedis,
    pub(super) model: Model,
    /// Batches that Redis has seen under this epoch.
    holds: i64,
    settles: i64,
    joins: i64,
    orders: u32,
    requests: BTreeMap<u32, u32>,
    last: Last,
}

impl Keeper<'_> {
    pub(super) async fn begin<'a>(stores: &'a Stores, sale: &str) -> Keeper<'a> {
        let bucket = stores.bucket(sale, UNITS, CAP).await;
        let at = stores.load(&bucket).await;
        Keeper {
            stores,
            bucket,
            at,
            model: Model::default(),
            holds: 0,
            settles: 0,
            joins: 0,
            orders: 0,
            requests: BTreeMap::new(),
            last: Last::default(),
        }
    }

    pub(super) async fn step(&mut self, step: &Step) {
        match step {
            Step::Join(joiners) => self.join(joiners).await,
            Step::Hold(tries) => self.hold(tries).await,
            Step::Undo(one) => self.undo(one).await,
            Step::Settle { orders, follow } => self.settle(orders, *follow).await,
            Step::Again => self.again().await,
            Step::Stale => self.stale().await,
            Step::TakeOver { wipe } => self.take_over(*wipe).await,
        }
    }

    async fn join(&mut self, joiners: &[u32]) {
        let joined = self.ask_ranks(joiners).await;
        if joined.contains(&Joined::NoRank) {
            self.model.ranks_end += BLOCK;
            let row = GateRow { ranks: self.model.ranks_end, tail: 0, cursor: 0, gate_us: 0 };
            let (pool, bucket) = (&self.stores.pool, self.bucket.bucket);
            ledger::set_gate(pool, bucket, self.bucket.epoch, row).await.unwrap();
            self.ask_ranks(joiners).await;
        }
    }

    async fn ask_ranks(&mut self, joiners: &[u32]) -> Vec<Joined> {
        let expected: Vec<Joined> =
            joiners.iter().map(|&joiner| self.expect_rank(joiner)).collect();
        self.joins += 1;
        let joined = self.join_as((self.bucket.epoch, self.joins), joiners).await.unwrap();
        assert_eq!(joined, expected, "ranks of {joiners:?}");
        (self.last.joiners, self.last.joined) = (joiners.to_vec(), joined.clone());
        joined
    }

    fn expect_rank(&mut self, joiner: u32) -> Joined {
        let model = &mut self.model;
        let is_of_use =
            |rank: &u64| model.live_of(joiner).is_some() || !model.is_spent(joiner, *rank);
        if let Some(rank) = model.ranks.get(&joiner).copied().filter(is_of_use) {
            return Joined::Rank(rank);
        }
        if model.paid_by(joiner) >= CAP {
            return Joined::OverCap;
        }
        if model.next_rank >= model.ranks_end {
            return Joined::NoRank;
        }
        model.ranks.insert(joiner, model.next_rank);
        model.next_rank += 1;
        Joined::Rank(model.next_rank - 1)
    }

    async fn join_as(
        &self,
        of: (i64, i64),
        joiners: &[u32],
    ) -> Result<Vec<Joined>, InventoryError> {
        let joiners: Vec<_> = joiners.iter().map(|&n| buyer(n)).collect();
        let gate = (0, self.model.ranks_end, CAP);
        self.stores.inventory.join(&self.at.run, &self.at.keys, of, gate, &joiners).await
    }

    /// The batch's entries with their orders' numbers. Who never joined tries with a ticket far off.
    fn tries(&mut self, tries: &[Try]) -> Vec<(u32, u32, HoldTry)> {
        let mut made = Vec::new();
        for one in tries {
            let before = self.requests.get(&one.buyer).copied();
            // An order's id that was used up stays used up: the ledger remembers it, as its own test shows.
            let number =
                before.filter(|number| one.again && self.is_live(*number)).unwrap_or_else(|| {
                    self.orders += 1;
                    self.orders
                });
            self.requests.insert(one.buyer, number);
            let rank =
                self.model.ranks.get(&one.buyer).copied().unwrap_or(1_000 + u64::from(number));
            let (buyer, order) = (buyer(one.buyer), order(number));
            let entry = HoldTry { buyer, order, rank, quantity: one.quantity };
            made.push((number, one.buyer, entry));
        }
        made
    }

    fn is_live(&self, number: u32) -> bool {
        self.model.orders.get(&number).is_some_and(super::plain::Order::is_live)
    }

    async fn hold(&mut self, tries: &[Try]) {
        let batch = self.tries(tries);
        let expected: Vec<Grant> = batch
            .iter()
            .map(|(number, of, entry)| self.model.hold(*number, *of, entry.rank, entry.quantity))
            .collect();
        let entries: Vec<HoldTry> = batch.iter().map(|(.., entry)| *entry).collect();
        let grants = self.grant(&entries).await;
        assert_eq!(grants, expected, "{tries:?}");
        let holds: Vec<Hold> = entries
            .iter()
            .zip(&grants)
            .filter_map(|(entry, grant)| hold_of(entry, grant))
            .collect();
        if !holds.is_empty() {
            self.last.held_at_us = self.bucket.hold(&self.stores.pool, &holds).await.unwrap();
            self.last.held = holds;
        }
    }

    async fn grant(&mut self, entries: &[HoldTry]) -> Vec<Grant> {
        self.holds += 1;
        let grants = self.hold_as((self.bucket.epoch, self.holds), entries).await.unwrap();
        (self.last.tries, self.last.grants) = (entries.to_vec(), grants.clone());
        grants
    }

    async fn hold_as(
        &self,
        of: (i64, i64),
        entries: &[HoldTry],
    ) -> Result<Vec<Grant>, InventoryError> {
        self.stores.inventory.hold(&self.at.run, &self.at.keys, of, CAP, entries).await
    }

    async fn undo(&mut self, one: &Try) {
        let batch = self.tries(std::slice::from_ref(one));
        let [(number, of, entry)] = batch[..] else { panic!("one entry") };
        let expected = self.model.hold(number, of, entry.rank, entry.quantity);
        let grants = self.grant(&[entry]).await;
        assert_eq!(grants, [expected]);
        let Grant::Granted { indices, .. } = &grants[0] else { return };
        let undone = self.settled(What::Undone, number, indices.clone());
        self.follow(vec![undone]).await;
        self.model.give_back(number, State::Expired);
        self.model.spent.insert(of, entry.rank);
        self.model.orders.remove(&number);
        self.requests.remove(&of);
    }

    fn settled(&self, what: What, number: u32, indices: Vec<u32>) -> Settled {
        let one = &self.model.orders[&number];
        Settled { what, buyer: buyer(one.buyer), order: order(number), rank: one.ticket, indices }
    }

    async fn follow(&mut self, all: Vec<Settled>) {
        self.settles += 1;
        let freed = self.settle_as((self.bucket.epoch, self.settles), &all).await.unwrap();
        let given_back = all.iter().filter(|one| one.what != What::Paid);
        let expected: usize = given_back.map(|one| one.indices.len()).sum();
        assert_eq!(usize::try_from(freed).unwrap(), expected);
        (self.last.followed, self.last.freed) = (all, freed);
    }

    async fn settle_as(&self, of: (i64, i64), all: &[Settled]) -> Result<u32, InventoryError> {
        self.stores.inventory.settle(&self.at.run, &self.at.keys, of, all).await
    }

    async fn settle(&mut self, fates: &[(usize, Fate)], follow: bool) {
        let live: Vec<u32> =
            self.model.orders.iter().filter(|(_, one)| one.is_live()).map(|(n, _)| *n).collect();
        if live.is_empty() {
            return;
        }
        let mut chosen = BTreeMap::new();
        for (place, fate) in fates {
            chosen.entry(live[place % live.len()]).or_insert(*fate);
        }
        // Whoever is to be paid for, or declined, is PAYING first.
        let opening: Vec<Move> = chosen
            .iter()
            .filter(|(number, fate)| {
                matches!(fate, Fate::Pay | Fate::Decline | Fate::Pending)
                    && self.model.orders[number].state == State::Held
            })
            .map(|(number, _)| self.a_move(*number, Kind::Paying))
            .collect();
        self.commit(&opening).await;
        for step in &opening {
            let one = self.model.orders.get_mut(&number_of(step.order)).unwrap();
            (one.state, one.attempts) = (State::Paying, step.attempt);
        }
        let mut moves = Vec::new();
        let mut followed = Vec::new();
        for (number, fate) in chosen {
            let one = &self.model.orders[&number];
            let kind = match (fate, one.state) {
                (Fate::Cancel, State::Held) => Kind::Cancelled,
                (Fate::Expire, _) => Kind::Expired,
                (Fate::Pay, _) => Kind::Paid,
                (Fate::Decline, _) => Kind::Declined,
                (Fate::Cancel | Fate::Pending, _) => continue,
            };
            if kind == Kind::Expired {
                self.make_overdue(number).await;
            }
            moves.push(self.a_move(number, kind));
            let units = one.units.clone();
            match kind {
                Kind::Declined => {}
                Kind::Paid => followed.push(self.settled(What::Paid, number, units)),
                _ => followed.push(self.settled(What::Returned, number, units)),
            }
        }
        self.commit(&moves).await;
        for step in &moves {
            let number = number_of(step.order);
            match step.kind {
                Kind::Declined => self.model.orders.get_mut(&number).unwrap().state = State::Held,
                Kind::Paid => self.model.orders.get_mut(&number).unwrap().state = State::Paid,
                Kind::Expired => self.model.give_back(number, State::Expired),
                _ => self.model.give_back(number, State::Cancelled),
            }
        }
        if !follow {
            // Redis never hears of it: that is what take-overs are for.
            self.take_over(false).await;
        } else if !followed.is_empty() {
            self.follow(followed).await;
        }
    }

    fn a_move(&self, number: u32, kind: Kind) -> Move {
        let one = &self.model.orders[&number];
        let frees = matches!(kind, Kind::Expired | Kind::Cancelled);
        let units = one.units.iter().filter(|_| frees).map(|index| FIRST_UNIT + index).collect();
        let attempt = one.attempts + u32::from(kind == Kind::Paying);
        let intent = Some(format!("pi_{number}_{attempt}"));
        Move { attempt, intent, ..Move::plain(order(number), kind, units) }
    }

    async fn commit(&mut self, moves: &[Move]) {
        if moves.is_empty() {
            return;
        }
        let batch = self.bucket.settle_batch + 1;
        let batch = SettleBatch { bucket: self.bucket.bucket, epoch: self.bucket.epoch, batch };
        self.last.moved_at_us = batch.commit(&self.stores.pool, moves).await.unwrap();
        self.last.moves = moves.to_vec();
        self.bucket.settle_batch += 1;
    }

    async fn make_overdue(&self, number: u32) {
        sqlx::query(
            r#"update "order" set deadline = now() - interval '1 s' where sale = $1 and id = $2"#,
        )
        .bind(self.bucket.sale)
        .bind(Uuid::from_bytes(order(number).0))
        .execute(&self.stores.admin)
        .await
        .unwrap();
    }

    /// The last batch of every stage, sent again, has the answer that it had.
    async fn again(&mut self) {
        let epoch = self.bucket.epoch;
        if self.holds > 0 {
            let grants = self.hold_as((epoch, self.holds), &self.last.tries).await.unwrap();
            assert_eq!(grants, self.last.grants);
        }
        if self.settles > 0 {
            let freed = self.settle_as((epoch, self.settles), &self.last.followed).await.unwrap();
            assert_eq!(freed, self.last.freed);
        }
        if self.joins > 0 {
            let joined = self.join_as((epoch, self.joins), &self.last.joiners).await.unwrap();
            assert_eq!(joined, self.last.joined);
        }
        if self.bucket.hold_batch > 0 {
            let of = (epoch, self.bucket.hold_batch);
            let at_us = self.bucket.hold_as(&self.stores.pool, of, &self.last.held).await.unwrap();
            assert_eq!(at_us, self.last.held_at_us);
        }
        if self.bucket.settle_batch > 0 {
            let (bucket, batch) = (self.bucket.bucket, self.bucket.settle_batch);
            let batch = SettleBatch { bucket, epoch, batch };
            let at_us = batch.commit(&self.stores.pool, &self.last.moves).await.unwrap();
            assert_eq!(at_us, self.last.moved_at_us);
        }
    }

    /// Whoever still acts under the epoch before is refused everywhere, and nothing changes.
    async fn stale(&mut self) {
        let epoch = self.bucket.epoch - 1;
        let entry = HoldTry { buyer: buyer(0), order: order(9_999), rank: 5_000, quantity: 1 };
        let hold = Hold {
            order: order(9_999),
            buyer: buyer(0),
            ticket: 5_000,
            units: vec![FIRST_UNIT],
            first_slot: 0,
            amount_minor: 1,
        };
        let refused = self.hold_as((epoch, self.holds + 1), &[entry]).await;
        assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");
        let refused = self.settle_as((epoch, self.settles + 1), &[]).await;
        assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");
        let refused = self.join_as((epoch, self.joins + 1), &[0]).await;
        assert!(matches!(refused, Err(InventoryError::Stale(_))), "{refused:?}");
        let of = (epoch, self.bucket.hold_batch + 1);
        let refused = self.bucket.hold_as(&self.stores.pool, of, &[hold]).await;
        assert!(matches!(refused, Err(LedgerError::Stale(_))), "{refused:?}");
        let batch = self.bucket.settle_batch + 1;
        let batch = SettleBatch { bucket: self.bucket.bucket, epoch, batch };
        let refused = batch.commit(&self.stores.pool, &[]).await;
        assert!(matches!(refused, Err(LedgerError::Stale(_))), "{refused:?}");
    }

    async fn take_over(&mut self, wipe: bool) {
        if wipe {
            let mut redis = self.stores.redis.clone();
            let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.unwrap();
        }
        let (pool, bucket) = (&self.stores.pool, self.bucket.bucket);
        let taken = ledger::take_over(pool, bucket, self.bucket.epoch, KEEPER).await.unwrap();
        self.bucket.epoch = taken.unwrap();
        let loaded = ledger::load(pool, bucket, self.bucket.epoch).await.unwrap();
        assert_eq!(loaded.hold_batch, self.bucket.hold_batch);
        assert_eq!(loaded.settle_batch, self.bucket.settle_batch);
        assert_eq!(loaded.ranks, self.model.ranks_end);
        self.at = self.stores.load_as(&self.bucket, &loaded).await;
        let now = (&self.at.keys, self.at.epoch);
        forget(&self.stores.inventory, &self.at.run, now, self.at.epoch - 1).await.unwrap();
        self.model.take_over(wipe);
        (self.holds, self.settles, self.joins) = (0, 0, 0);
        assert_eq!(self.at.free, self.model.free());
    }
}

fn hold_of(entry: &HoldTry, grant: &Grant) -> Option<Hold> {
    let Grant::Granted { paid, indices } = grant else { return None };
    Some(Hold {
        order: entry.order,
        buyer: entry.buyer,
        ticket: entry.rank,
        units: indices.iter().map(|index| FIRST_UNIT + index).collect(),
        first_slot: *paid,
        amount_minor: 1_999 * i64::from(entry.quantity),
    })
}
