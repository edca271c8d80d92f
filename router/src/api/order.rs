//! Orders in the words of the API.

use super::duration_ms;
use super::money::money;
use crate::directory::SaleEntry;
use proto::fault::{Fault, Reason};
use proto::id::OrderId;
use proto::wire::cell::answer;
use proto::wire::storefront::{Order, order::State};

/// The order that a keeper answered with.
pub(crate) fn order(sale: &SaleEntry, answer: answer::Kind) -> Result<Order, Fault> {
    let answer::Kind::Order(order) = answer else {
        return Err(Reason::Internal.into());
    };
    let id = OrderId::try_from(&order.order[..]).map_err(|_| Fault::new(Reason::Internal))?;
    let state = State::try_from(order.state).unwrap_or_default();
    let is_live = matches!(state, State::Held | State::Paying);
    Ok(Order {
        name: format!("{}/orders/{id}", sale.name),
        state: order.state,
        units: order.units,
        total: Some(money(order.amount_minor, &order.currency)),
        time_left: is_live.then(|| duration_ms(order.time_left_ms.into())),
    })
}
