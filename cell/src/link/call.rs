//! One call as it came over the link, read and bounded.

use proto::fault::{Fault, Reason};
use proto::id::{BuyerKey, OrderId};
use proto::limits::{CALL_MS_MAX, PAYMENT_METHOD_BYTES_MAX};
use proto::wire::cell::{Call, call::Kind};
use std::time::{Duration, Instant};

/// What a buyer asks of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A place in line.
    Join,
    /// Units to hold.
    Reserve { ticket: String, quantity: u32, request_id: [u8; 16] },
    /// An order to pay.
    Checkout { order: OrderId, payment_method: String },
    /// An order to give back.
    Cancel { order: OrderId },
    /// An order to show.
    Show { order: OrderId },
    /// A paid order to refund: its merchant asks.
    Refund { order: OrderId },
}

impl Asked {
    /// Reads who asks for what. Routers have checked all of this for the buyer's sake; here it is for our own.
    pub(crate) fn read(call: &mut Call) -> Result<(BuyerKey, Asked), Fault> {
        let buyer = BuyerKey::try_from(&call.buyer[..])?;
        let asked = match call.kind.take() {
            Some(Kind::Join(_)) => Asked::Join,
            Some(Kind::Reserve(reserve)) => Asked::Reserve {
                ticket: reserve.ticket,
                quantity: reserve.quantity,
                request_id: reserve
                    .request_id
                    .as_slice()
                    .try_into()
                    .map_err(|_| Fault::field("request_id", "must be a UUID"))?,
            },
            Some(Kind::Checkout(checkout))
                if checkout.payment_method.len() > PAYMENT_METHOD_BYTES_MAX =>
            {
                return Err(Fault::field("payment_method", "is too long"));
            }
            Some(Kind::Checkout(checkout)) => Asked::Checkout {
                order: OrderId::try_from(&checkout.order[..])?,
                payment_method: checkout.payment_method,
            },
            Some(Kind::Cancel(cancel)) => {
                Asked::Cancel { order: OrderId::try_from(&cancel.order[..])? }
            }
            Some(Kind::Show(show)) => Asked::Show { order: OrderId::try_from(&show.order[..])? },
            Some(Kind::Refund(refund)) => {
                Asked::Refund { order: OrderId::try_from(&refund.order[..])? }
            }
            Some(Kind::Probe(_) | Kind::Line(_)) | None => {
                return Err(Reason::MessageUndecodable.into());
            }
        };
        Ok((buyer, asked))
    }
}

/// When nobody waits for the answer to a call any more.
pub(crate) fn deadline(call: &Call, now: Instant) -> Instant {
    now + Duration::from_millis(call.time_left_ms.min(CALL_MS_MAX).into())
}
