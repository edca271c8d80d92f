//! What became of a payment, as the provider says; never guessed from silence.

use crate::keeper::Keeper;
use crate::payment::{ProviderError, Seat, Status};
use proto::id::OrderId;

/// The provider's word on a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The money was taken.
    Captured,
    /// The card was declined.
    Declined,
    /// It will never be charged.
    Cancelled,
    /// It has not said yet.
    Unknown,
}

/// Asks for a payment once. One that was not charged yet is cancelled first: its charge may still be on the way.
///
/// A declined status decides the first `attempt` alone: later it may still be that of the attempt before.
pub(super) async fn look_up(
    keeper: &Keeper,
    seat: &Seat,
    (order, attempt): (OrderId, u32),
    intent: &str,
) -> Outcome {
    let Some(_turn) = seat.turn().await else { return Outcome::Unknown };
    let provider = keeper.ports.provider(keeper);
    let known = match provider.retrieve(intent).await {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%order, %error, "cannot look a payment up");
            return Outcome::Unknown;
        }
    };
    match known.status {
        Status::Succeeded => Outcome::Captured,
        Status::Canceled => Outcome::Cancelled,
        Status::RequiresPaymentMethod if known.is_declined() && attempt <= 1 => Outcome::Declined,
        Status::Processing => Outcome::Unknown,
        Status::RequiresPaymentMethod
        | Status::RequiresConfirmation
        | Status::RequiresAction
        | Status::RequiresCapture => {
            match provider.cancel(&format!("{order}:cancel:{intent}"), intent).await {
                Ok(cancelled) if cancelled.status == Status::Canceled => Outcome::Cancelled,
                Ok(_)
                | Err(
                    ProviderError::Declined | ProviderError::Refused(_) | ProviderError::Unknown(_),
                ) => Outcome::Unknown,
            }
        }
    }
}
