//! The nature of a call: what the router knows of each kind that it passes on. One table, so that a new kind is thought
//! through in one place.

use crate::shed::Worth;
use proto::wire::cell::call::Kind;

/// Whether a call may be sent again whose answer got lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// The second one finds what the first one did.
    Safe,
    /// Only when the first one was never sent: a second one does something more.
    Unsent,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nature {
    pub(crate) worth: Worth,
    /// Whether it waits for the payment provider: how long it takes says nothing about the cell.
    pub(crate) pays: bool,
    pub(crate) again: Again,
}

/// The nature of a kind of call.
pub(crate) fn nature(kind: Option<&Kind>) -> Nature {
    let (worth, pays, again) = match kind {
        Some(Kind::Probe(_)) | None => (Worth::Display, false, Again::Safe),
        // Who looks at an order is about to pay it, or waits for that to end.
        Some(Kind::Show(_)) => (Worth::Checkout, false, Again::Safe),
        // A buyer has one entry in a line, however often they join.
        Some(Kind::Join(_)) => (Worth::Join, false, Again::Safe),
        // Nor more than one number in the line before that.
        Some(Kind::Line(_)) => (Worth::Join, false, Again::Safe),
        // The order is the memory of its request.
        Some(Kind::Reserve(_)) => (Worth::Reserve, false, Again::Safe),
        // An order that was cancelled says so to whoever cancels it again.
        Some(Kind::Cancel(_)) => (Worth::Checkout, false, Again::Safe),
        // The money goes back once, however often it is asked.
        Some(Kind::Refund(_)) => (Worth::Checkout, true, Again::Safe),
        // It has no request id: after a decline that nobody was told of, a second one would charge the card again, and
        // use up one of the order's attempts. Whether to do that is for the buyer to say.
        Some(Kind::Checkout(_)) => (Worth::Checkout, true, Again::Unsent),
    };
    Nature { worth, pays, again }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_alone_is_not_sent_twice() {
        let kinds = [
            (Kind::Probe(Default::default()), Worth::Display, Again::Safe),
            (Kind::Show(Default::default()), Worth::Checkout, Again::Safe),
            (Kind::Join(Default::default()), Worth::Join, Again::Safe),
            (Kind::Line(Default::default()), Worth::Join, Again::Safe),
            (Kind::Reserve(Default::default()), Worth::Reserve, Again::Safe),
            (Kind::Cancel(Default::default()), Worth::Checkout, Again::Safe),
            (Kind::Refund(Default::default()), Worth::Checkout, Again::Safe),
            (Kind::Checkout(Default::default()), Worth::Checkout, Again::Unsent),
        ];
        for (kind, worth, again) in kinds {
            let of = nature(Some(&kind));
            assert_eq!((of.worth, of.again), (worth, again), "{kind:?}");
        }
    }
}
