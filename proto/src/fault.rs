//! The closed list of reasons for which a call is refused, and the one place that maps each to a gRPC code, a label
//! for metrics, whether trying again is of use, and a sentence that tells the caller what to do next.
//!
//! A fault crosses the link as its number, so numbers are never used again for something else.

mod details;

use crate::limits::RETRY_SPREAD_MS_MAX;
use std::fmt;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `google.rpc.ErrorInfo` that we send.
pub const DOMAIN: &str = "floodgate";

/// Whether the same call may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Not before something else was done, or never.
    No,
    /// Yes, after the time in `google.rpc.RetryInfo`.
    Later,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $label:literal, $code:ident, $retry:ident, $message:literal;)*) => {
        /// Why a call was refused. A refused call has changed nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $($(#[$doc])* $variant = $number,)* }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Reason] = &[$(Reason::$variant),*];

            /// The `reason` of `google.rpc.ErrorInfo`, and the label in metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Reason::$variant => $label,)* }
            }

            /// The gRPC code.
            pub const fn code(self) -> Code {
                match self { $(Reason::$variant => Code::$code,)* }
            }

            /// Whether the same call may succeed later.
            pub const fn retry(self) -> Retry {
                match self { $(Reason::$variant => Retry::$retry,)* }
            }

            /// What happened and what to do next.
            pub const fn message(self) -> &'static str {
                match self { $(Reason::$variant => $message,)* }
            }

            /// The reason with this number.
            pub const fn from_number(number: u32) -> Option<Reason> {
                match number { $($number => Some(Reason::$variant),)* _ => None }
            }
        }
    };
}

reasons! {
    /// Ours: a defect or a broken promise inside.
    Internal = 1, "INTERNAL", Internal, No, "something broke on our side; nothing was changed";
    /// No such thing, or it belongs to somebody else: both look alike.
    NotFound = 2, "NOT_FOUND", NotFound, No, "there is no such resource for this caller; check its name";
    /// A field of the request makes no sense.
    InvalidField = 3, "INVALID_FIELD", InvalidArgument, No, "a field of the request is not valid; see the field violations";
    /// Something with this id exists already.
    AlreadyExists = 4, "ALREADY_EXISTS", AlreadyExists, No, "this id is taken; choose another one";
    /// A request id was used again with other parameters.
    RequestIdReused = 5, "REQUEST_ID_REUSED", InvalidArgument, No, "this request_id was used with other parameters; make a new one";
    /// Somebody changed it in between.
    EtagMismatch = 6, "ETAG_MISMATCH", Aborted, No, "it was changed in between; read it again and repeat the change";
    /// The sale's state does not allow this.
    SaleStateConflict = 7, "SALE_STATE_CONFLICT", FailedPrecondition, No, "the sale's state does not allow this; read the sale";

    /// Bytes that are no message of the call's type.
    MessageUndecodable = 10, "MESSAGE_UNDECODABLE", InvalidArgument, No, "the request is not a message of this call; check the client's .proto files";
    /// More bytes than any request needs.
    MessageTooLarge = 11, "MESSAGE_TOO_LARGE", InvalidArgument, No, "the request is too large; no call needs this much";
    /// The caller's time ran out, perhaps after it was carried out.
    DeadlinePassed = 12, "DEADLINE_PASSED", DeadlineExceeded, No, "the time that the call had is over; ask again with the same request, which finds out";

    /// No token came along.
    TokenMissing = 20, "TOKEN_MISSING", Unauthenticated, No, "send a token as `authorization: Bearer`";
    /// A token that cannot be read, or whose algorithm no key can have.
    TokenMalformed = 21, "TOKEN_MALFORMED", Unauthenticated, No, "the token is not a compact JWS with alg EdDSA, ES256 or RS256 and a kid";
    /// No registered key made its signature.
    TokenWrongKey = 22, "TOKEN_WRONG_KEY", Unauthenticated, No, "no registered key signed this token; register the key or use another";
    /// It was made for somebody else.
    TokenWrongAudience = 23, "TOKEN_WRONG_AUDIENCE", Unauthenticated, No, "the token is not for floodgate; set aud to floodgate";
    /// Its time is over.
    TokenExpired = 24, "TOKEN_EXPIRED", Unauthenticated, No, "the token has expired; get a new one";
    /// The role may not make this call.
    RoleNotAllowed = 25, "ROLE_NOT_ALLOWED", PermissionDenied, No, "the token's role may not make this call";
    /// Its time has not come.
    TokenTooEarly = 26, "TOKEN_TOO_EARLY", Unauthenticated, No, "the token is not good yet; wait for its nbf, or get one that begins now";
    /// Its org withdrew it.
    TokenRevoked = 27, "TOKEN_REVOKED", Unauthenticated, No, "the token was withdrawn; get a new one";

    /// Before its time.
    SaleNotOpen = 30, "SALE_NOT_OPEN", FailedPrecondition, Later, "the sale is not open yet; wait for its start";
    /// Its time has come but not all of its cells are ready.
    SaleNotWarm = 31, "SALE_NOT_WARM", Unavailable, Later, "the sale is not ready; it stays closed until its cells are";
    /// Stopped by the merchant.
    SalePaused = 32, "SALE_PAUSED", FailedPrecondition, Later, "the merchant has paused the sale; tickets stay good";
    /// Over.
    SaleEnded = 33, "SALE_ENDED", FailedPrecondition, No, "the sale is over";
    /// Called off.
    SaleCancelled = 34, "SALE_CANCELLED", FailedPrecondition, No, "the sale was called off";
    /// Final: no unit is free, live or on its way.
    SoldOut = 35, "SOLD_OUT", FailedPrecondition, No, "every unit is sold";
    /// Nothing is free now, but something may come back.
    NoUnitNow = 36, "NO_UNIT_NOW", Unavailable, Later, "no unit is free now but some may return; the ticket stays good, ask again";

    /// Forged, altered, or not a ticket.
    TicketInvalid = 40, "TICKET_INVALID", InvalidArgument, No, "this is not a ticket that we gave; join again";
    /// Of another buyer or another sale.
    TicketNotYours = 41, "TICKET_NOT_YOURS", PermissionDenied, No, "the ticket belongs to another buyer or sale; join for your own";
    /// It was admitted and not used in time.
    TicketExpired = 42, "TICKET_EXPIRED", FailedPrecondition, No, "the ticket's turn has passed; join again";
    /// It has already given an order.
    TicketSpent = 43, "TICKET_SPENT", FailedPrecondition, No, "the ticket has already served an order; join again";
    /// Its turn has not come.
    NotAdmitted = 44, "NOT_ADMITTED", FailedPrecondition, Later, "it is not this ticket's turn yet; ask again later";

    /// More units than one buyer may have.
    OverCap = 50, "OVER_CAP", FailedPrecondition, No, "that would exceed the units that one buyer may have";
    /// The hold is over.
    OrderExpired = 51, "ORDER_EXPIRED", FailedPrecondition, No, "the hold ran out and its units went back; join again";
    /// The order is past the state in which this can be done.
    OrderStateConflict = 52, "ORDER_STATE_CONFLICT", FailedPrecondition, No, "the order's state does not allow this; read the order";
    /// The provider said no.
    CardDeclined = 53, "CARD_DECLINED", FailedPrecondition, No, "the card was declined; try another one while the hold lasts";
    /// Enough.
    TooManyAttempts = 54, "TOO_MANY_ATTEMPTS", FailedPrecondition, No, "this order has used up its payment attempts";
    /// The payment pool of this class is full.
    PaymentBusy = 55, "PAYMENT_BUSY", Unavailable, Later, "too many payments are under way; the hold goes on, ask again";
    /// The provider refuses for good to give the money back.
    RefundRefused = 56, "REFUND_REFUSED", FailedPrecondition, No, "the payment provider refuses to give this payment back, and the order stays paid; look the payment up there, clear up what it says, and ask again";

    /// The buyer asks too often.
    BuyerRate = 60, "BUYER_RATE", ResourceExhausted, Later, "this buyer asks too often; wait";
    /// The sale's share of the edge is used up.
    SaleRate = 61, "SALE_RATE", ResourceExhausted, Later, "this sale is asked for too often at the moment; wait";
    /// A queue is full.
    Overloaded = 62, "OVERLOADED", Unavailable, Later, "too much is under way; wait";
    /// Nobody keeps the buyer's bucket at the moment.
    BucketMoving = 63, "BUCKET_MOVING", Unavailable, Later, "the buyer's part of the sale is changing hands; wait";
    /// Not all that was decided is known here yet: what seems to be missing may exist.
    NotReady = 64, "NOT_READY", Unavailable, Later, "this router has just started and does not know yet what this call needs; ask again";
    /// The org's share of this router is used up.
    OrgRate = 65, "ORG_RATE", ResourceExhausted, Later, "this org asks too often at the moment; wait, or ask the platform for a larger share";
    /// Too many calls, or too many bad tokens, from one address.
    AddressRate = 66, "ADDRESS_RATE", ResourceExhausted, Later, "too many calls come from this address; wait";
    /// As many watch as may: at this router, from this address, or on this connection.
    TooManyWatchers = 67, "TOO_MANY_WATCHERS", ResourceExhausted, Later, "as many watch here, from this address or on this connection as can; poll GetSaleState once a second instead, and watch again later";
}

/// A refusal: the reason and what the caller needs to know beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Why.
    pub reason: Reason,
    /// When to try again; 0 where the reason says that it is no use.
    pub retry_after_ms: u32,
    /// Name and complaint of the field, with [`Reason::InvalidField`].
    pub field: Option<(&'static str, String)>,
}

impl Fault {
    /// A fault whose reason says all; one that may be retried says "in a second".
    pub const fn new(reason: Reason) -> Fault {
        let retry_after_ms = match reason.retry() {
            Retry::No => 0,
            Retry::Later => 1_000,
        };
        Fault { reason, retry_after_ms, field: None }
    }

    /// A fault to be retried after a time.
    pub const fn later(reason: Reason, retry_after_ms: u32) -> Fault {
        Fault { reason, retry_after_ms, field: None }
    }

    /// The same with its time spread by `jitter`, from 0 to 1,000: lest all who are refused at one moment come back at
    /// one. Up to half more, and at most [`RETRY_SPREAD_MS_MAX`].
    pub fn spread(self, jitter: u32) -> Fault {
        let most_ms = (self.retry_after_ms / 2).min(RETRY_SPREAD_MS_MAX);
        let more_ms = most_ms * jitter.min(1_000) / 1_000;
        Fault { retry_after_ms: self.retry_after_ms.saturating_add(more_ms), ..self }
    }

    /// A complaint about a field, named as in the `.proto` file.
    pub fn field(name: &'static str, complaint: impl Into<String>) -> Fault {
        Fault {
            reason: Reason::InvalidField,
            retry_after_ms: 0,
            field: Some((name, complaint.into())),
        }
    }

    /// The fault that a gRPC status carries, for clients of our own.
    pub fn of_status(status: &Status) -> Option<Fault> {
        let details = status.get_error_details();
        let info = details.error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        let reason = *Reason::ALL.iter().find(|reason| reason.label() == info.reason)?;
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        let retry_after_ms =
            retry_after.map_or(0, |delay| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX));
        Some(Fault { reason, retry_after_ms, field: None })
    }
}

impl From<Reason> for Fault {
    fn from(reason: Reason) -> Fault {
        Fault::new(reason)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some((name, complaint)) => write!(f, "{name}: {complaint}"),
            None => f.write_str(self.reason.message()),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        let (code, label) = (fault.reason.code(), fault.reason.label());
        let Some((name, complaint)) = &fault.field else {
            // Most refusals, and all that come by the million.
            let message = fault.reason.message();
            let details = details::encode(code, message, label, fault.retry_after_ms);
            return Status::with_details(code, message, details);
        };
        let mut details = ErrorDetails::new();
        details.set_error_info(label, DOMAIN, std::collections::HashMap::new());
        details.add_bad_request_violation(*name, complaint);
        Status::with_error_details(code, fault.to_string(), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_a_status_and_a_number() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason as u32), Some(reason));
            let fault = Fault::new(reason);
            let status = Status::from(fault.clone());
            assert_eq!(status.code(), reason.code(), "{reason:?}");
            assert_eq!(Fault::of_status(&status), Some(fault.clone()), "{reason:?}");
            assert_eq!(status.message(), reason.message());
            let late = Fault { retry_after_ms: 61_007, ..fault };
            assert_eq!(Fault::of_status(&Status::from(late.clone())), Some(late), "{reason:?}");
            assert_eq!(reason.retry() == Retry::Later, Fault::new(reason).retry_after_ms > 0);
        }
    }

    #[test]
    fn times_are_spread_upwards_and_not_far() {
        let spread =
            |ms, jitter| Fault::later(Reason::Overloaded, ms).spread(jitter).retry_after_ms;
        let rows = [(0, 0, 0), (1, 1, 1), (250, 250, 375), (1_000, 1_000, 1_500)];
        for (ms, least_ms, most_ms) in rows {
            assert_eq!((spread(ms, 0), spread(ms, 1_000)), (least_ms, most_ms), "{ms}");
        }
        assert_eq!(spread(60_000, 1_000), 61_000);
        assert_eq!(spread(1_000, 500), 1_250);
        assert_eq!(spread(u32::MAX, 1_000), u32::MAX);
        // What is no use to repeat stays so.
        assert_eq!(Fault::new(Reason::SoldOut).spread(1_000), Fault::new(Reason::SoldOut));
    }

    #[test]
    fn labels_are_unique() {
        let mut labels: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::ALL.len());
    }

    #[test]
    fn a_field_violation_names_the_field() {
        let status = Status::from(Fault::field("quantity", "must be 1 to 2"));
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "quantity");
    }
}
