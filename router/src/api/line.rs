//! Joining: in the line of the buyer's bucket, or, while its cell refuses that, in the line before it
//! ([`crate::overflow`]).

use super::ask_again::Wait;
use super::asked::{Asked, Edge, moving};
use super::duration_ms;
use super::reach::ask;
use crate::link::{Asking, Kind};
use crate::metrics::LineEvent;
use crate::overflow::{Line, Turn, is_for_want_of_a_cell};
use proto::fault::{Fault, Reason};
use proto::limits::{LINE_FULL_RETRY_MS, LINE_TELL_MS_MAX};
use proto::ticket::{LineTicket, verify_line};
use proto::wire::cell::{Call, Join, Line as AskLine, answer, call};
use proto::wire::storefront::{Ticket, ticket::State};
use rand::RngExt;
use std::time::Duration;
use tokio::time::Instant;

/// As if the turns of these tickets passed after so long, which they do not: who waits asks once a minute at least.
const KEEPING_MS: u64 = 180_000;

/// Where the line before a buyer's line is kept.
#[derive(Clone, Copy)]
struct Before<'a> {
    cell: &'a str,
    bucket: u32,
}

impl Edge {
    /// Has a buyer join, or stand in the line before their bucket's line.
    pub(crate) async fn join(&self, asked: &Asked) -> Result<Ticket, Fault> {
        let Some(before) = before(asked) else { return self.enter(asked).await };
        let known = self.states.lines.known(asked.sale.id.as_str(), before.bucket);
        if let Some(line) = &known {
            self.look(asked, before, line);
            if line.stands() {
                match self.stand(asked, before, line).await {
                    // The overflow cell gives no number: where nobody waits it is as if there were none.
                    Err(_) if !line.waits() => {}
                    stood => return stood,
                }
            }
        }
        let entered = self.enter(asked).await;
        let refused = entered.as_ref().err().map(|fault| fault.reason);
        let line = match refused.filter(|reason| is_for_want_of_a_cell(*reason)) {
            None => known,
            Some(_) => self.states.lines.line(asked.sale.id.as_str(), before.bucket),
        };
        let Some(line) = line else { return entered };
        line.joined(refused);
        if refused.is_some_and(is_for_want_of_a_cell) && line.stands() {
            return self.stand(asked, before, &line).await.or(entered);
        }
        entered
    }

    /// What a line ticket says that was given to this buyer for this sale. None: it is no line ticket.
    pub(crate) fn line_ticket(
        &self,
        asked: &Asked,
        text: &str,
    ) -> Result<Option<LineTicket>, Fault> {
        let Some(before) = before(asked) else { return Ok(None) };
        let Ok(given) = verify_line(asked.directory.tickets(before.cell), text) else {
            return Ok(None);
        };
        let theirs = *given.sale == *asked.sale.id.as_str() && given.buyer == asked.buyer;
        if !theirs || given.bucket != before.bucket {
            return Err(Reason::TicketNotYours.into());
        }
        if given.expire_s.saturating_mul(1_000) <= self.clock.now_ms() {
            return Err(Reason::TicketExpired.into());
        }
        Ok(Some(given))
    }

    /// A line ticket as it stands now; once the window has reached it, the ticket that its buyer joins with.
    pub(crate) async fn line_answer(
        &self,
        asked: &Asked,
        given: &LineTicket,
        text: String,
    ) -> Result<Ticket, Fault> {
        if self.states.is_sold_out(&asked.sale) {
            return Err(Reason::SoldOut.into());
        }
        let full = || Fault::later(Reason::Overloaded, LINE_FULL_RETRY_MS);
        let before = before(asked).ok_or(Reason::TicketInvalid)?;
        let line = self.states.lines.line(asked.sale.id.as_str(), before.bucket);
        let line = line.ok_or_else(full)?;
        // It says that it was given, whoever has forgotten.
        line.hear(given.number.saturating_add(1), 0);
        self.look(asked, before, &line);
        let turn = line.turn(given.number);
        if turn != Turn::Come {
            return Ok(self.standing(asked, text, turn));
        }
        let entered = self.enter(asked).await;
        line.joined(entered.as_ref().err().map(|fault| fault.reason));
        match entered {
            // It was let in too early: it stays the first to come.
            Err(fault) if is_for_want_of_a_cell(fault.reason) => {
                self.metrics.line(LineEvent::SentBack);
                Ok(self.standing(asked, text, turn))
            }
            Ok(ticket) => {
                self.metrics.line(LineEvent::Joined);
                Ok(ticket)
            }
            refused => refused,
        }
    }

    /// How a hold is refused that is asked for with a line ticket.
    pub(crate) fn not_joined(&self, asked: &Asked, text: &str) -> Option<Fault> {
        match self.line_ticket(asked, text) {
            Ok(Some(_)) => Some(Reason::NotAdmitted.into()),
            Ok(None) => None,
            Err(fault) => Some(fault),
        }
    }

    /// Joins the line of the buyer's bucket.
    async fn enter(&self, asked: &Asked) -> Result<Ticket, Fault> {
        match self.pass_on(asked, Kind::Join, call::Kind::Join(Join {})).await? {
            answer::Kind::Place(place) => {
                let (_, now) = self.bucket(asked)?;
                self.ticket(asked, place.ticket, place.rank, &now)
            }
            _ => Err(Reason::Internal.into()),
        }
    }

    /// Asks the overflow cell for a number in the line.
    async fn stand(&self, asked: &Asked, before: Before<'_>, line: &Line) -> Result<Ticket, Fault> {
        self.quotas.sale(asked.sale.id.as_str(), self.quotas.now_ns(asked.at))?;
        let process = self.links.first(before.cell, Kind::Join);
        let process = process.ok_or_else(|| moving(Duration::ZERO))?;
        let call = call_of(asked, before, line, asked.buyer.0.to_vec());
        let asking = Asking { call: &call, org: asked.sale.org_number, deadline: asked.deadline };
        let answered = ask(&process, Kind::Join, asking).await;
        match answered.unwrap_or_else(|lost| Err(moving(lost.process.away())))? {
            answer::Kind::Place(place) => {
                self.metrics.line(LineEvent::Stood);
                line.hear(place.rank.saturating_add(1), 0);
                Ok(self.standing(asked, place.ticket, line.turn(place.rank)))
            }
            _ => Err(Reason::Internal.into()),
        }
    }

    /// Lets more of a line in if it is time to, and tells the overflow cell, which tells the other routers.
    fn look(&self, asked: &Asked, before: Before<'_>, line: &Line) {
        if !line.is_due() {
            return;
        }
        let takes =
            self.keeper(asked, Kind::Join).is_ok_and(|(_, keeper)| keeper.takes(Kind::Join));
        if !line.look(takes) {
            return;
        }
        let Some(process) = self.links.first(before.cell, Kind::Join) else { return };
        let (call, org) = (call_of(asked, before, line, Vec::new()), asked.sale.org_number);
        // One for each step of a line at most. Who is not told hears of it with the next step.
        tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_millis(LINE_TELL_MS_MAX);
            drop(process.call(Kind::Join, Asking { call: &call, org, deadline }).await);
        });
    }

    /// A line ticket as buyers see it.
    fn standing(&self, asked: &Asked, text: String, turn: Turn) -> Ticket {
        let (place, estimate_ms) = match turn {
            Turn::Come => (0, None),
            Turn::Wait { place, estimate_ms } => (place, estimate_ms),
        };
        let wait = Wait {
            place,
            estimate_ms,
            left: self.states.left(&asked.sale),
            until_start_ms: 0,
            keeping_ms: KEEPING_MS,
        };
        let again_ms = wait.ask_again_ms(rand::rng().random_range(0..=1_000));
        Ticket {
            sale: asked.sale.name.to_string(),
            ticket: text,
            state: State::Waiting.into(),
            place,
            estimate: estimate_ms.map(duration_ms),
            ask_again: Some(duration_ms(again_ms)),
            to_join: true,
        }
    }
}

/// None: there is no overflow cell, or no line before which buyers would stand.
fn before(asked: &Asked) -> Option<Before<'_>> {
    if asked.sale.standard {
        return None;
    }
    let cell = asked.directory.overflow_cell(&asked.sale.id)?;
    Some(Before { cell, bucket: asked.sale.bucket(asked.buyer)? })
}

fn call_of(asked: &Asked, before: Before<'_>, line: &Line, buyer: Vec<u8>) -> Call {
    let (given, window) = line.numbers();
    Call {
        sale: asked.sale.id.to_string(),
        bucket: before.bucket,
        buyer: buyer.into(),
        kind: Some(call::Kind::Line(AskLine { org: asked.sale.org.to_string(), given, window })),
        ..Call::default()
    }
}
