//! Tickets in the words of the API: where one stands, how long it will take, when to ask again.

use super::ask_again::Wait;
use super::asked::{Asked, Edge};
use super::duration_ms;
use crate::states::BucketNow;
use proto::fault::{Fault, Reason, Retry};
use proto::rank::{Rule, Standing, standing};
use proto::ticket;
use proto::wire::storefront::{Ticket, ticket::State};
use rand::RngExt;

impl Edge {
    /// The rank of a ticket that was given to this buyer for this sale (INV-7).
    pub(crate) fn rank(&self, asked: &Asked, text: &str, bucket: u32) -> Result<u64, Fault> {
        let given = ticket::verify(asked.directory.tickets(asked.sale.cell(bucket)), text);
        // Keys belong to cells: a ticket of another sale may be signed by a key that this bucket's cell does not have.
        let given = given.or_else(|reason| {
            let cells = asked.directory.org(&asked.sale.org).map_or(&[][..], |org| &org.cells[..]);
            let mut others =
                cells.iter().map(|cell| ticket::verify(asked.directory.tickets(cell), text));
            // The key may have been made while nobody told this router.
            others.find_map(Result::ok).ok_or_else(|| asked.directory.missing(reason))
        })?;
        let theirs = *given.sale == *asked.sale.id.as_str() && given.buyer == asked.buyer;
        if !theirs || given.bucket != bucket {
            return Err(Reason::TicketNotYours.into());
        }
        Ok(given.rank(Rule::Fifo, 0))
    }

    /// A ticket as it stands now. Refused when there is nothing left to wait for.
    pub(crate) fn ticket(
        &self,
        asked: &Asked,
        text: String,
        rank: u64,
        now: &BucketNow,
    ) -> Result<Ticket, Fault> {
        if self.states.is_sold_out(&asked.sale) {
            return Err(Reason::SoldOut.into());
        }
        let cursor = if asked.sale.standard { u64::MAX } else { now.state.cursor };
        let (state, place) = match standing(rank, now.state.tail, cursor) {
            Standing::Passed => (State::Expired, 0),
            Standing::Admitted => (State::Admitted, 0),
            Standing::Waiting(place) => (State::Waiting, place),
        };
        let waits = state == State::Waiting;
        Ok(Ticket {
            sale: asked.sale.name.to_string(),
            ticket: text,
            state: state.into(),
            place,
            estimate: estimate_ms(now, place).filter(|_| waits).map(duration_ms),
            ask_again: waits.then(|| duration_ms(self.ask_again_ms(asked, now, place))),
            to_join: false,
        })
    }

    /// When a buyer with so many tickets before theirs should ask again.
    pub(crate) fn ask_again_ms(&self, asked: &Asked, now: &BucketNow, place: u64) -> u64 {
        let record = &asked.sale.record;
        let wait = Wait {
            place,
            estimate_ms: estimate_ms(now, place),
            left: self.states.left(&asked.sale),
            until_start_ms: record.start_ms.saturating_sub(self.clock.now_ms()),
            keeping_ms: record.keeping_ms.into(),
        };
        wait.ask_again_ms(rand::rng().random_range(0..=1_000))
    }

    /// A refusal of a ticket that holds for its whole line: who waits is told when to ask again like in any line that
    /// stands still, instead of all at the same moment.
    pub(crate) fn in_line(&self, fault: Fault, asked: &Asked, now: &BucketNow, rank: u64) -> Fault {
        match standing(rank, now.state.tail, now.state.cursor) {
            Standing::Waiting(place)
                if fault.reason.retry() == Retry::Later && !asked.sale.standard =>
            {
                let again_ms = self.ask_again_ms(asked, now, place);
                Fault::later(fault.reason, u32::try_from(again_ms).unwrap_or(u32::MAX))
            }
            _ => fault,
        }
    }
}

/// How long a ticket will wait that has so many before it. None: the line stands still.
fn estimate_ms(now: &BucketNow, place: u64) -> Option<u64> {
    let speed = u64::from(now.state.admitted_milli_per_s);
    (speed > 0).then(|| place.saturating_add(1).saturating_mul(1_000_000) / speed)
}
