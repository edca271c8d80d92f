//! The told log: what clients asked and what they were told, in their own order.
//!
//! What is about to be asked is written down before it is sent, so that an answer that never came is seen as unknown
//! and not as never asked. It is one of the four ledgers that the judge compares. In a run folder it lies as JSON
//! lines.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::id::{BuyerKey, OrderId, RequestId};

/// One line: something asked, or the answer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Unix microseconds, by the client's clock.
    pub at_us: u64,
    /// Which of the run's sales, counted from 0.
    pub sale: u8,
    /// Which of the sale's buyers, by their number in the plan; none for what its page showed to all.
    pub buyer: Option<u32>,
    /// Which call of the run: what was asked and the answer to it bear the same.
    pub call: u64,
    /// What was said.
    #[serde(flatten)]
    pub said: Said,
}

/// What a line of the told log says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// About to be sent.
    Asked(Ask),
    /// Told: this is where the buyer stands in line.
    Ticket(TicketTold),
    /// Told: this is what became of the order.
    Order(OrderTold),
    /// Told: no, and nothing was changed.
    Refused {
        /// The reason's label.
        reason: Cow<'static, str>,
    },
    /// Not told: the call may have been done or not.
    Unknown {
        /// The gRPC code, or how the client gave up.
        code: Cow<'static, str>,
    },
    /// Shown to everybody on the sale's page.
    Page(PageTold),
}

/// A call that is about to be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// A place in line.
    Join,
    /// Where the ticket stands.
    GetTicket,
    /// Units to hold.
    Reserve {
        /// The same one again is the same call.
        request: RequestId,
        /// How many units.
        quantity: u32,
    },
    /// To pay.
    Checkout {
        /// Which order.
        order: OrderId,
    },
    /// To give back.
    CancelOrder {
        /// Which order.
        order: OrderId,
    },
    /// What became of an order.
    GetOrder {
        /// Which order.
        order: OrderId,
    },
}

/// A place in line, as its ticket says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketTold {
    /// The bucket's number.
    pub bucket: u32,
    /// The rank within the bucket.
    pub rank: u64,
    /// The buyer's pseudonym.
    pub pseudonym: BuyerKey,
    /// Whether it may reserve.
    pub admitted: bool,
}

/// An order, as an answer says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderTold {
    /// Which order.
    pub order: OrderId,
    /// What became of it.
    pub state: OrderState,
    /// The unit numbers.
    pub units: Vec<u32>,
    /// Price times quantity, in the currency's minor unit.
    pub amount_minor: i64,
}

/// A sale's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageTold {
    /// Units nobody holds.
    pub free: u64,
    /// Units held or being paid.
    pub held: u64,
    /// Units paid.
    pub sold: u64,
    /// Whether it said that this is final.
    pub sold_out: bool,
    /// Whether it said that it is old.
    pub stale: bool,
}

/// What becomes of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Units are held for a while.
    Held,
    /// A payment is under way.
    Paying,
    /// Paid.
    Paid,
    /// The hold ran out.
    Expired,
    /// The buyer gave it back.
    Cancelled,
    /// The payment's outcome is unknown.
    Review,
    /// The money went back.
    Refunded,
}

impl OrderState {
    /// The state with this number in `floodgate.storefront.v1.Order.State`; none when there is no such.
    pub fn from_number(number: i32) -> Option<OrderState> {
        use OrderState::{Cancelled, Expired, Held, Paid, Paying, Refunded, Review};
        let states = [Held, Paying, Paid, Expired, Cancelled, Review, Refunded];
        states.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    /// Whether its units are its own for the time being.
    pub const fn is_live(self) -> bool {
        matches!(self, OrderState::Held | OrderState::Paying | OrderState::Review)
    }

    /// Whether nothing follows, money that goes back aside.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            OrderState::Paid | OrderState::Expired | OrderState::Cancelled | OrderState::Refunded
        )
    }
}

/// The told log of a run while it is being written; all of it is kept in memory.
#[derive(Debug, Default)]
pub struct ToldLog(Mutex<Vec<Told>>);

impl ToldLog {
    /// Adds a line.
    pub fn add(&self, line: Told) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Takes all lines out, in the order in which they were added.
    pub fn take(&self) -> Vec<Told> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes the lines to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, lines: &[Told]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Reads the lines of a file.
///
/// # Errors
/// When the file cannot be read or a line is none.
pub fn read(path: &Path) -> io::Result<Vec<Told>> {
    let file = BufReader::new(File::open(path)?);
    file.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_survives_its_file() {
        let said = [
            Said::Asked(Ask::Join),
            Said::Asked(Ask::Reserve { request: RequestId([1; 16]), quantity: 2 }),
            Said::Ticket(TicketTold {
                bucket: 1,
                rank: 7,
                pseudonym: BuyerKey([2; 16]),
                admitted: true,
            }),
            Said::Order(OrderTold {
                order: OrderId([3; 16]),
                state: OrderState::Paying,
                units: vec![4, 5],
                amount_minor: 1_998,
            }),
            Said::Refused { reason: "SOLD_OUT".into() },
            Said::Unknown { code: "hung up".into() },
            Said::Page(PageTold { free: 1, held: 2, sold: 3, sold_out: false, stale: true }),
        ];
        let log = ToldLog::default();
        for (call, said) in (0..).zip(said) {
            let buyer = (call != 6).then_some(9);
            log.add(Told { at_us: 1_700_000_000_000_000 + call, sale: 0, buyer, call, said });
        }
        let lines = log.take();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("told.jsonl");
        write(&path, &lines).unwrap();
        assert_eq!(read(&path).unwrap(), lines);
    }

    #[test]
    fn states_are_numbered_as_in_the_api() {
        use proto::wire::storefront::order::State;
        let pairs = [
            (State::Held, Some(OrderState::Held)),
            (State::Paying, Some(OrderState::Paying)),
            (State::Paid, Some(OrderState::Paid)),
            (State::Expired, Some(OrderState::Expired)),
            (State::Cancelled, Some(OrderState::Cancelled)),
            (State::Review, Some(OrderState::Review)),
            (State::Refunded, Some(OrderState::Refunded)),
            (State::Unspecified, None),
        ];
        for (wire, state) in pairs {
            assert_eq!(OrderState::from_number(wire as i32), state);
        }
        assert_eq!(OrderState::from_number(8), None);
    }
}
