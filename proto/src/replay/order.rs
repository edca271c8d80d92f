//! An order as its entries tell it.

use crate::id::OrderId;
use crate::wire::events::{LedgerEntry, ledger_entry::Kind};
use crate::wire::storefront::order::State;
use ring::digest::{SHA256, digest};

/// An order that has units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedOrder {
    /// HELD, PAYING, REVIEW, PAID, or REFUNDED without having given its units back.
    pub state: State,
    /// The buyer's pseudonym.
    pub buyer: [u8; 16],
    /// In rising order.
    pub units: Box<[u32]>,
    /// The rank of the ticket that it spent.
    pub ticket: u64,
    /// The sale's revision.
    pub revision: u32,
    /// Payment attempts so far.
    pub attempt: u32,
    /// The [`intent_mark`] of the last attempt.
    pub intent: u64,
}

/// Orders that ended: how many, and the sum of their digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// How many.
    pub count: u64,
    /// The sum, which does not depend on their order.
    pub sum: u128,
}

impl Ended {
    /// Counts one more.
    pub fn add(&mut self, digest: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(digest);
    }
}

impl ReplayedOrder {
    /// The order that a hold makes. None when it names no buyer or no unit.
    pub(super) fn held(entry: &LedgerEntry) -> Option<ReplayedOrder> {
        let mut units: Box<[u32]> = entry.units.as_slice().into();
        units.sort_unstable();
        let order = ReplayedOrder {
            state: State::Held,
            buyer: entry.buyer[..].try_into().ok()?,
            units,
            ticket: entry.ticket,
            revision: entry.revision,
            attempt: 0,
            intent: intent_mark(""),
        };
        (!order.units.is_empty()).then_some(order)
    }

    /// How many units it has.
    pub fn quantity(&self) -> u64 {
        self.units.len() as u64
    }

    /// A hash of all that is known of the order but its units' numbers.
    pub fn digest(&self, id: OrderId) -> u128 {
        let mut bytes = Vec::with_capacity(80);
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&self.buyer);
        bytes.extend_from_slice(&i32::from(self.state).to_be_bytes());
        bytes.extend_from_slice(&self.quantity().to_be_bytes());
        bytes.extend_from_slice(&self.ticket.to_be_bytes());
        bytes.extend_from_slice(&self.revision.to_be_bytes());
        bytes.extend_from_slice(&self.attempt.to_be_bytes());
        bytes.extend_from_slice(&self.intent.to_be_bytes());
        let mut first = [0; 16];
        first.copy_from_slice(&digest(&SHA256, &bytes).as_ref()[..16]);
        u128::from_be_bytes(first)
    }
}

/// What is remembered of a provider's id of a payment: 8 bytes of its hash, 0 when there is none.
pub fn intent_mark(intent: &str) -> u64 {
    if intent.is_empty() {
        return 0;
    }
    let mut first = [0; 8];
    first.copy_from_slice(&digest(&SHA256, intent.as_bytes()).as_ref()[..8]);
    u64::from_be_bytes(first)
}

/// The state into which `kind` brings an order. None when it cannot happen in `state`.
pub(super) fn next_state(kind: Kind, state: State) -> Option<State> {
    match (kind, state) {
        (Kind::Expired, State::Held | State::Paying | State::Review) => Some(State::Expired),
        (Kind::Cancelled, State::Held) => Some(State::Cancelled),
        (Kind::Paying, State::Held) => Some(State::Paying),
        (Kind::Declined, State::Paying) => Some(State::Held),
        (Kind::Paid, State::Paying | State::Review) => Some(State::Paid),
        (Kind::Review, State::Paying) => Some(State::Review),
        // It will be made, or the provider refuses it; until it is made the order is what it was.
        (Kind::Refunding | Kind::RefundRefused, State::Paid) => Some(State::Paid),
        _ => None,
    }
}
