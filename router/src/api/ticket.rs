//! Tickets in the words of the API: where one stands, how long it will take, when to ask again.

use super::asked::{Asked, Edge};
use super::duration_ms;
use crate::states::BucketNow;
use proto::fault::{Fault, Reason};
use proto::rank::{Rule, Standing, standing};
use proto::ticket;
use proto::wire::storefront::{Ticket, ticket::State};
use rand::RngExt;

/// The shortest and longest time after which a waiting buyer should ask again.
const ASK_AGAIN_MS: (u64, u64) = (300, 10_000);
/// When a buyer should ask again while the line stands still.
const STANDSTILL_MS: u64 = 1_000;

impl Edge {
    /// The rank of a ticket that was given to this buyer for this sale (INV-7).
    pub(crate) fn rank(&self, asked: &Asked, text: &str, bucket: u32) -> Result<u64, Fault> {
        let given = ticket::verify(asked.directory.tickets(asked.sale.cell(bucket)), text);
        // Keys belong to cells: a ticket of another sale may be signed by a key that this bucket's cell does not have.
        let given = given.or_else(|reason| {
            let cells = asked.directory.org(&asked.sale.org).map_or(&[][..], |org| &org.cells[..]);
            let mut others =
                cells.iter().map(|cell| ticket::verify(asked.directory.tickets(cell), text));
            others.find_map(Result::ok).ok_or(reason)
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
        let speed = u64::from(now.state.admitted_milli_per_s);
        let estimate_ms = (speed > 0).then(|| (place + 1) * 1_000_000 / speed);
        let again_ms = self.ask_again_ms(asked, estimate_ms);
        let waits = state == State::Waiting;
        Ok(Ticket {
            sale: asked.sale.name.to_string(),
            ticket: text,
            state: state.into(),
            place,
            estimate: estimate_ms.filter(|_| waits).map(duration_ms),
            ask_again: waits.then(|| duration_ms(again_ms)),
        })
    }

    /// Sooner the nearer the turn is, and never at the same moment as everybody else.
    pub(crate) fn ask_again_ms(&self, asked: &Asked, estimate_ms: Option<u64>) -> u64 {
        let until_start_ms = asked.sale.record.start_ms.saturating_sub(self.clock.now_ms());
        let base_ms = match estimate_ms {
            _ if until_start_ms > 0 => until_start_ms,
            Some(estimate_ms) => estimate_ms / 2,
            None => STANDSTILL_MS,
        };
        let base_ms = base_ms.clamp(ASK_AGAIN_MS.0, ASK_AGAIN_MS.1);
        base_ms + rand::rng().random_range(0..=base_ms / 4)
    }
}
