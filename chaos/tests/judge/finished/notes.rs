//! Notes of what clients are told and what the provider does.

use std::fmt::Write as _;

use floodgate_chaos::told::{Ask, Said, TicketTold, Told};

use super::order::Order;

/// Notes what clients are told and what the provider does.
pub struct Notes {
    pub told: Vec<Told>,
    pub lines: Vec<String>,
    pub call: u64,
    pub at_us: u64,
}

impl Notes {
    pub fn joined(&mut self, bucket: u32, order: &Order) {
        let ticket = |admitted| {
            Said::Ticket(TicketTold { bucket, rank: order.rank, pseudonym: order.buyer, admitted })
        };
        self.asked(order, Ask::Join);
        self.said(order, ticket(false));
        self.asked(order, Ask::GetTicket);
        self.said(order, ticket(true));
    }

    pub fn asked(&mut self, order: &Order, ask: Ask) {
        self.call += 1;
        self.said(order, Said::Asked(ask));
    }

    pub fn said(&mut self, order: &Order, said: Said) {
        self.at_us += 1;
        let (at_us, call) = (self.at_us, self.call);
        self.told.push(Told { at_us, sale: 0, buyer: Some(order.buyer_number), call, said });
    }

    pub fn provider(&mut self, order: &Order, event: &str, amount: i64) {
        let mut line = String::new();
        write!(
            line,
            r#"{{"seq":{},"at_ms":7,"intent":"{}","event":"{event}","amount":{amount},"currency":"eur","order":"{}","key":null}}"#,
            self.lines.len() + 1,
            order.intent(),
            order.id
        )
        .unwrap();
        self.lines.push(line + "\n");
    }
}
