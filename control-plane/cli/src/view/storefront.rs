//! A sale's state and orders as buyers see them.

use proto::wire::storefront::{Order, SaleState};
use serde_json::{Value, json};

use super::{View, duration, money_json, money_text, object, word};

impl View for SaleState {
    const BRIEF: &'static [&'static str] =
        &["sale", "phase", "stock", "free", "held", "sold", "waiting"];

    fn json(&self) -> Value {
        object(json!({
            "sale": self.sale,
            "phase": self.phase().as_str_name(),
            "stock": self.stock.to_string(),
            "free": self.free.to_string(),
            "held": self.held.to_string(),
            "sold": self.sold.to_string(),
            "waiting": self.waiting.to_string(),
            "soldOut": self.sold_out,
            "stale": self.stale,
            "opensIn": duration(self.opens_in.as_ref()),
        }))
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let mark = |so: bool| if so { "yes".to_owned() } else { String::new() };
        vec![
            ("sale", self.sale.clone()),
            ("phase", word(self.phase().as_str_name(), "PHASE_")),
            ("stock", self.stock.to_string()),
            ("free", self.free.to_string()),
            ("held", self.held.to_string()),
            ("sold", self.sold.to_string()),
            ("waiting", self.waiting.to_string()),
            ("sold out", mark(self.sold_out)),
            ("stale", mark(self.stale)),
            ("opens in", duration(self.opens_in.as_ref()).unwrap_or_default()),
        ]
    }
}

impl View for Order {
    const BRIEF: &'static [&'static str] = &["name", "state", "total"];

    fn json(&self) -> Value {
        object(json!({
            "name": self.name,
            "state": self.state().as_str_name(),
            "units": self.units,
            "total": money_json(self.total.as_ref()),
            "timeLeft": duration(self.time_left.as_ref()),
        }))
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        let units: Vec<String> = self.units.iter().map(u32::to_string).collect();
        vec![
            ("name", self.name.clone()),
            ("state", word(self.state().as_str_name(), "STATE_")),
            ("units", units.join(" ")),
            ("total", money_text(self.total.as_ref())),
        ]
    }
}
