//! One order of the sale, with what the ledger and its buyer hear of it.

use floodgate_chaos::id::{BuyerKey, OrderId, RequestId};
use floodgate_chaos::told::{OrderState, OrderTold};
use proto::wire::events::LedgerEntry;
use proto::wire::events::ledger_entry::Kind;

use super::PRICE;

#[derive(Clone)]
pub struct Order {
    pub buyer_number: u32,
    pub id: OrderId,
    pub buyer: BuyerKey,
    pub request: RequestId,
    pub rank: u64,
    pub units: Vec<u32>,
    pub state: OrderState,
    pub attempts: u32,
}

impl Order {
    pub fn intent(&self) -> String {
        format!("pi_{}_{}", self.id, self.attempts)
    }

    pub fn entry(&self, kind: Kind) -> LedgerEntry {
        let units = matches!(kind, Kind::Held | Kind::Expired | Kind::Cancelled | Kind::Refunded);
        let payment = !matches!(kind, Kind::Held | Kind::Expired | Kind::Cancelled);
        LedgerEntry {
            kind: kind.into(),
            order: self.id.0.to_vec(),
            buyer: if kind == Kind::Held { self.buyer.0.to_vec() } else { Vec::new() },
            units: if units { self.units.clone() } else { Vec::new() },
            ticket: if kind == Kind::Held { self.rank } else { 0 },
            amount_minor: PRICE * 2,
            currency: "EUR".into(),
            revision: 1,
            intent: if payment { self.intent() } else { String::new() },
            attempt: if payment { self.attempts } else { 0 },
            ..LedgerEntry::default()
        }
    }

    pub fn told(&self) -> OrderTold {
        let (order, state, units) = (self.id, self.state, self.units.clone());
        OrderTold { order, state, units, amount_minor: PRICE * 2 }
    }
}
