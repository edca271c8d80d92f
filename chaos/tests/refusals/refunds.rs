//! Refunds: who may ask for one, and of what.

use anyhow::ensure;
use proto::fault::Reason;
use proto::token::Role;
use tonic::Code;
use uuid::Uuid;

use crate::row::{Row, field, not_found, refused, row, says};
use crate::shop::{Shop, word};
use crate::stage::Stage;

/// A buyer of acme by name.
pub(crate) fn buyer(s: &Stage) -> anyhow::Result<(Shop, String)> {
    let subject = format!("buyer-{}", Uuid::new_v4());
    Ok((s.shop(&s.token(&s.acme, &subject, Role::Buyer))?, subject))
}

/// A merchant whom no rate has met yet.
pub(crate) fn merchant(s: &Stage) -> anyhow::Result<Shop> {
    s.shop(&s.token(&s.acme, &format!("desk-{}", Uuid::new_v4()), Role::Merchant))
}

/// The rows.
pub(crate) fn rows() -> Vec<Row> {
    let conflict = || refused(Code::FailedPrecondition, Reason::OrderStateConflict);
    let not_allowed = || refused(Code::PermissionDenied, Reason::RoleNotAllowed);
    vec![
        row("RefundOrder: paid, refunded, and once more", says("REFUNDED"), async |s: &Stage| {
            let (shop, subject) = buyer(s)?;
            let order = shop.buys(&s.open, 2).await?;
            let desk = merchant(s)?;
            let first = word(desk.refund(&order, &subject).await)?;
            ensure!(first.is_ok_and(|state| state == "REFUNDED"));
            let again = word(desk.refund(&order, &subject).await)?;
            ensure!(word(shop.order(&order).await)?.is_ok_and(|state| state == "REFUNDED"));
            // The cap has room for them again.
            shop.buys(&s.open, 2).await?;
            Ok(again)
        }),
        row("RefundOrder: held, not paid", conflict(), async |s: &Stage| {
            let (shop, subject) = buyer(s)?;
            let order = shop.holds(&s.open, 1).await?;
            word(merchant(s)?.refund(&order, &subject).await)
        }),
        row("RefundOrder: another buyer's", not_found(), async |s: &Stage| {
            let (shop, _) = buyer(s)?;
            let order = shop.buys(&s.open, 1).await?;
            word(merchant(s)?.refund(&order, "somebody else").await)
        }),
        row("RefundOrder: by the buyer", not_allowed(), async |s: &Stage| {
            let (shop, subject) = buyer(s)?;
            let order = shop.buys(&s.open, 1).await?;
            word(shop.refund(&order, &subject).await)
        }),
        row("RefundOrder: by another org's merchant", not_found(), async |s: &Stage| {
            let (shop, subject) = buyer(s)?;
            let order = shop.buys(&s.open, 1).await?;
            let stranger = s.shop(&s.token(&s.other, "merchant", Role::Merchant))?;
            word(stranger.refund(&order, &subject).await)
        }),
        row("RefundOrder: no buyer", field("buyer"), async |s: &Stage| {
            let order = format!("{}/orders/{}", s.open, Uuid::new_v4().simple());
            word(merchant(s)?.refund(&order, "").await)
        }),
        row("RefundOrder: a name of no order", not_found(), async |s: &Stage| {
            word(merchant(s)?.refund("orders/1", "ada").await)
        }),
    ]
}
