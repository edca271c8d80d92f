//! What becomes of orders: they end, or are paid for, or refunded, and Redis follows.

use std::collections::BTreeMap;

use floodgate_cell::inventory::{InventoryError, Settled, What};
use floodgate_cell::ledger::{Move, Refund, SettleBatch};
use proto::wire::events::ledger_entry::Kind;
use proto::wire::storefront::order::State;
use uuid::Uuid;

use super::Fate;
use super::keeper::Keeper;
use super::plain::number_of;
use crate::stores::order;

impl Keeper<'_> {
    pub(super) async fn settle(&mut self, fates: &[(usize, Fate)], follow: bool, twice: bool) {
        let chosen = self.chosen(fates);
        self.open_payments(&chosen).await;
        let mut followed = self.move_on(&chosen).await;
        for (number, fate) in chosen {
            if matches!(fate, Fate::Refund | Fate::BeginRefund)
                && self.model.orders[&number].state == State::Paid
            {
                followed.extend(self.refund(number, fate == Fate::Refund).await);
            }
        }
        if !follow {
            // Redis never hears of it: that is what take-overs are for.
            self.take_over(false).await;
        } else if !followed.is_empty() {
            self.follow(followed, twice).await;
        }
    }

    /// Some of the orders that have units, each with one fate.
    fn chosen(&self, fates: &[(usize, Fate)]) -> BTreeMap<u32, Fate> {
        let with_units = self.model.orders.iter().filter(|(_, one)| !one.units.is_empty());
        let orders: Vec<u32> = with_units.map(|(number, _)| *number).collect();
        let mut chosen = BTreeMap::new();
        for (place, fate) in fates {
            if let Some(number) = orders.get(place % orders.len().max(1)) {
                chosen.entry(*number).or_insert(*fate);
            }
        }
        chosen
    }

    /// Whoever is to be paid for, or declined, is PAYING first.
    async fn open_payments(&mut self, chosen: &BTreeMap<u32, Fate>) {
        let opening: Vec<Move> = chosen
            .iter()
            .filter(|(number, fate)| {
                !matches!(fate, Fate::Cancel | Fate::Expire)
                    && self.model.orders[number].state == State::Held
            })
            .map(|(number, _)| self.a_move(*number, Kind::Paying))
            .collect();
        self.commit(&opening).await;
        for step in &opening {
            let one = self.model.orders.get_mut(&number_of(step.order)).unwrap();
            (one.state, one.attempts) = (State::Paying, step.attempt);
        }
    }

    /// Commits what happens to live orders. Returns what Redis is to hear of it.
    async fn move_on(&mut self, chosen: &BTreeMap<u32, Fate>) -> Vec<Settled> {
        let (mut moves, mut followed) = (Vec::new(), Vec::new());
        for (&number, fate) in chosen {
            let kind = match (fate, self.model.orders[&number].state) {
                (Fate::Cancel, State::Held) => Kind::Cancelled,
                (Fate::Expire, State::Held | State::Paying) => Kind::Expired,
                (Fate::Pay | Fate::Refund | Fate::BeginRefund, State::Paying) => Kind::Paid,
                (Fate::Decline, State::Paying) => Kind::Declined,
                _ => continue,
            };
            if kind == Kind::Expired {
                self.make_overdue(number).await;
            }
            moves.push(self.a_move(number, kind));
            match kind {
                Kind::Declined => {}
                Kind::Paid => followed.push(self.settled(What::Paid, number)),
                _ => followed.push(self.settled(What::Returned, number)),
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
        followed
    }

    fn a_move(&self, number: u32, kind: Kind) -> Move {
        let one = &self.model.orders[&number];
        let frees = matches!(kind, Kind::Expired | Kind::Cancelled);
        let units = if frees { one.units.clone() } else { Vec::new() };
        let attempt = one.attempts + u32::from(kind == Kind::Paying);
        let intent = Some(intent(number, attempt));
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

    /// The money of a paid order goes back; or that is only written down to come.
    async fn refund(&mut self, number: u32, is_ended: bool) -> Option<Settled> {
        let refund = self.refund_of(number);
        let (pool, bucket) = (&self.stores.pool, self.bucket.bucket);
        refund.begin(pool, bucket, self.bucket.epoch).await.unwrap();
        self.model.orders.get_mut(&number).unwrap().refunding = true;
        if !is_ended {
            return None;
        }
        refund.end(pool, bucket, self.bucket.epoch).await.unwrap();
        let settled = self.settled(What::Refunded, number);
        self.model.give_back(number, State::Refunded);
        self.last.refund = Some(refund);
        Some(settled)
    }

    pub(super) fn refund_of(&self, number: u32) -> Refund {
        let one = &self.model.orders[&number];
        Refund {
            order: order(number),
            intent: intent(number, one.attempts),
            amount_minor: 1_999,
            currency: "EUR".into(),
            units: one.units.clone(),
        }
    }

    /// Redis hears of what Postgres has committed; or hears all of it twice, in one batch.
    pub(super) async fn follow(&mut self, all: Vec<Settled>, twice: bool) {
        let given_back = all.iter().filter(|one| one.what != What::Paid);
        let expected: usize = given_back.map(|one| one.indices.len()).sum();
        let all = if twice { [&all[..], &all[..]].concat() } else { all };
        self.batches.settles += 1;
        let freed = self.settle_as((self.bucket.epoch, self.batches.settles), &all).await.unwrap();
        assert_eq!(usize::try_from(freed).unwrap(), expected, "{all:?}");
        (self.last.followed, self.last.freed) = (all, freed);
    }

    pub(super) async fn settle_as(
        &self,
        of: (i64, i64),
        all: &[Settled],
    ) -> Result<u32, InventoryError> {
        self.stores.inventory.settle(&self.at.run, &self.at.keys, of, all).await
    }
}

/// The provider's name for an order's payment.
fn intent(number: u32, attempt: u32) -> String {
    format!("pi_{number}_{attempt}")
}
