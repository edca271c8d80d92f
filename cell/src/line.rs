//! Lines before other cells' lines: what an overflow cell keeps. Its processes are asked for numbers in them by routers,
//! for buyers whose own cell refuses to let them join; cells never speak to each other.
//!
//! A number says who came first and nothing else: with a line ticket one may join, and what is sold is decided where the
//! bucket is kept. So nothing is written down here. Tickets carry their numbers under a MAC; routers remember the highest
//! numbers of each line, as this process does, and tell them with every call, so that a process that knows nothing goes on
//! behind them. Should all of them forget at one moment, the first tickets that are shown tell; who was let in by then is
//! let in again, and no order is promised between those who come before that is so.

mod book;

use crate::keeper::Ports;
use book::{Book, Told};
use proto::fault::{Fault, Reason};
use proto::id::BuyerKey;
use proto::limits::{LINE_FULL_RETRY_MS, LINE_TICKET_MS_MAX};
use proto::ticket::LineTicket;
use proto::wire::cell::{Call, Line, LineState, Place, answer};
use runtime::clock::Clock;
use runtime::metric::{Counter, Gauge, Metrics};
use std::sync::{Mutex, PoisonError};

/// See the module.
#[derive(Debug)]
pub(crate) struct Lines {
    clock: Clock,
    book: Mutex<Book>,
    given: Counter,
    waiting: Gauge,
}

impl Lines {
    /// No line yet.
    pub(crate) fn new(clock: Clock, metrics: &Metrics) -> Lines {
        let given = "Numbers given in lines before other cells' lines";
        let waiting = "Numbers in lines before other cells' lines that were not let in yet";
        Lines {
            clock,
            book: Mutex::default(),
            given: Counter::new(metrics, "floodgate_cell_line_numbers_total", given, &[]),
            waiting: Gauge::new(metrics, "floodgate_cell_line_waiting", waiting, &[]),
        }
    }

    /// Takes in what a router knows of a line, and gives its buyer a number there if it asks for one.
    pub(crate) fn answer(
        &self,
        ports: &Ports,
        call: &Call,
        line: &Line,
    ) -> Result<answer::Kind, Fault> {
        let buyer = match &call.buyer[..] {
            [] => None,
            bytes => Some(BuyerKey::try_from(bytes)?),
        };
        let told = Told {
            org: &line.org,
            sale: &call.sale,
            bucket: call.bucket,
            given: line.given,
            window: line.window,
        };
        let now_ms = self.clock.now_ms();
        let (numbered, waiting) = {
            let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            let numbered = book.number(&told, buyer, now_ms);
            for (sale, bucket) in book.dropped() {
                ports.states.forget_line(&sale, bucket);
            }
            (numbered, book.waiting())
        };
        self.waiting.set(waiting.cast_signed());
        let full = |_| Fault::later(Reason::Overloaded, LINE_FULL_RETRY_MS);
        let numbered = numbered.map_err(full)?;
        ports.states.set_line(LineState {
            sale: call.sale.clone(),
            bucket: call.bucket,
            given: numbered.given,
            window: numbered.window,
        });
        let Some(buyer) = buyer else {
            return Ok(answer::Kind::Place(Place { ticket: String::new(), rank: numbered.given }));
        };
        self.given.add(u64::from(numbered.is_new));
        let key = ports.tickets.load().first().cloned();
        let key = key.ok_or_else(|| Fault::later(Reason::BucketMoving, LINE_FULL_RETRY_MS))?;
        let ticket = key.sign_line(&LineTicket {
            sale: call.sale.as_str().into(),
            bucket: call.bucket,
            buyer,
            number: numbered.number,
            expire_s: (now_ms + LINE_TICKET_MS_MAX) / 1_000,
        });
        Ok(answer::Kind::Place(Place { ticket, rank: numbered.number }))
    }
}
