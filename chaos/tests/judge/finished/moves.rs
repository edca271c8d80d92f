//! What a bucket does beside selling: units leave and come, money goes back.

use floodgate_chaos::told::{Ask, OrderState, Said};
use proto::wire::events::LedgerEntry;
use proto::wire::events::ledger_entry::Kind;
use sqlx::PgConnection;
use uuid::Uuid;

use super::PRICE;
use super::bucket::{BucketBook, batch};
use super::notes::Notes;

/// An entry about one unit that moves.
pub fn moved(kind: Kind, transfer: [u8; 16], peer: Option<u32>, unit: u32) -> LedgerEntry {
    LedgerEntry {
        kind: kind.into(),
        units: vec![unit, unit],
        transfer: transfer.to_vec(),
        peer,
        ..LedgerEntry::default()
    }
}

/// Adds a row to the ledger of the only bucket of a Postgres, and changes nothing else.
pub async fn append(session: &mut PgConnection, entry: &LedgerEntry) {
    let (entries, root) = batch(std::slice::from_ref(entry));
    let at_us: i64 = sqlx::query_scalar("select now_us(b) from bucket b")
        .fetch_one(&mut *session)
        .await
        .unwrap();
    let head: Vec<u8> = sqlx::query_scalar("select append_ledger(b, $1, $2, $3) from bucket b")
        .bind(at_us)
        .bind(entries)
        .bind(root)
        .fetch_one(&mut *session)
        .await
        .unwrap();
    let update = sqlx::query("update bucket set seq = seq + 1, head = $1, at_us = $2");
    update.bind(head).bind(at_us).execute(session).await.unwrap();
}

impl BucketBook {
    /// Gives a unit up that was never granted.
    pub async fn give_up(&mut self, transfer: [u8; 16], peer: Option<u32>, unit: u32) {
        append(&mut self.session, &moved(Kind::GivenUp, transfer, peer, unit)).await;
        self.shares.retain(|one| *one != unit);
        self.left.push((unit, transfer));
        self.write_shares().await;
    }

    /// Accepts a unit.
    pub async fn accept(&mut self, transfer: [u8; 16], peer: Option<u32>, unit: u32) {
        append(&mut self.session, &moved(Kind::Accepted, transfer, peer, unit)).await;
        self.shares.push(unit);
        self.indices.push(unit);
        self.write_shares().await;
    }

    /// Sends the money for an order back: its units are free.
    pub async fn refund(&mut self, notes: &mut Notes, place: usize) {
        let order = self.orders[place].clone();
        let (entries, root) = batch(&[order.entry(Kind::Refunding)]);
        sqlx::query("select begin_refund($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(self.aliases.0)
            .bind(self.aliases.1)
            .bind(i32::try_from(self.number).unwrap())
            .bind(self.epoch)
            .bind(Uuid::from_bytes(order.id.0))
            .bind(order.intent())
            .bind(entries)
            .bind(root)
            .execute(&mut self.session)
            .await
            .unwrap();
        notes.provider(&order, "refunded", PRICE * 2);
        let units: Vec<i32> =
            order.units.iter().map(|unit| i32::try_from(*unit).unwrap()).collect();
        let (entries, root) = batch(&[order.entry(Kind::Refunded)]);
        sqlx::query("select end_refund($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(self.aliases.0)
            .bind(self.aliases.1)
            .bind(i32::try_from(self.number).unwrap())
            .bind(self.epoch)
            .bind(Uuid::from_bytes(order.id.0))
            .bind(units)
            .bind(entries)
            .bind(root)
            .execute(&mut self.session)
            .await
            .unwrap();
        self.orders[place].state = OrderState::Refunded;
        let order = self.orders[place].clone();
        notes.asked(&order, Ask::GetOrder { order: order.id });
        notes.said(&order, Said::Order(order.told()));
    }

    /// Units as shares of one unit each: what is one range by its numbers may well be several rows.
    async fn write_shares(&mut self) {
        let delete = sqlx::query("delete from share");
        delete.execute(&mut self.session).await.unwrap();
        let units: Vec<i32> =
            self.shares.iter().map(|unit| i32::try_from(*unit).unwrap()).collect();
        sqlx::query("insert into share (org, sale, first_unit, units, bucket) select $1, $2, u, 1, $3 from unnest($4) u")
            .bind(self.aliases.0)
            .bind(self.aliases.1)
            .bind(i32::try_from(self.number).unwrap())
            .bind(&units)
            .execute(&mut self.session)
            .await
            .unwrap();
        let update = sqlx::query("update bucket set granted = $1");
        let granted = i32::try_from(units.len()).unwrap();
        update.bind(granted).execute(&mut self.session).await.unwrap();
    }
}
