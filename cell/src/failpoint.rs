//! Failpoints: named places between Redis, Postgres, the provider and the answer, where a drill can hold this process,
//! end it, slow it down, or lose a reply that came.
//!
//! Promises: a build without the feature `drills` has none of this; its hooks are empty and their names are not in it.
//! In a build with it a place does nothing until it is armed over the metrics port (`failpoint/control.rs`). What a lost
//! reply means to its caller is what an unknown outcome means there, and what was asked for has happened.

#[cfg(feature = "drills")]
mod armed;
#[cfg(feature = "drills")]
mod control;

#[cfg(feature = "drills")]
pub(crate) use armed::{hurried, reach, reply};
#[cfg(feature = "drills")]
pub(crate) use control::routes;
#[cfg(not(feature = "drills"))]
pub(crate) use idle::{hurried, reach, reply};

/// Each with its name, what can be done there (`step`: anything but losing a reply; `reply`: that too; `wait`: a wait
/// that can be cut short), after the loss of which reply alone it is reached, and what is so when it is.
macro_rules! failpoints {
    ($($id:ident = $name:literal, $kind:ident $(after $needs:ident)?, $sentence:literal;)*) => {
        /// A place where a drill can interfere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Failpoint { $(#[doc = $sentence] $id,)* }

        #[cfg(feature = "drills")]
        impl Failpoint {
            const ALL: &[Failpoint] = &[$(Failpoint::$id),*];

            const fn name(self) -> &'static str {
                match self { $(Failpoint::$id => $name,)* }
            }

            const fn kind(self) -> &'static str {
                match self { $(Failpoint::$id => stringify!($kind),)* }
            }

            const fn sentence(self) -> &'static str {
                match self { $(Failpoint::$id => $sentence,)* }
            }

            const fn needs(self) -> Option<Failpoint> {
                match self { $(Failpoint::$id => failpoints!(@needs $($needs)?),)* }
            }
        }
    };
    (@needs) => { None };
    (@needs $needs:ident) => { Some(Failpoint::$needs) };
}

failpoints! {
    ClaimBeat = "claim.beat", step, "A sign of life is due, and whatever else a process does for its claims.";

    JoinAsked = "join.asked", step, "A batch of joins was taken; Redis has not been asked.";
    JoinNumbered = "join.numbered", reply, "Redis has given ranks; nobody knows.";
    JoinBlock = "join.block", step, "Ranks are wanting; the next block is not committed.";
    JoinBlockSet = "join.block-set", reply, "The next block of ranks is committed; nobody knows.";
    JoinAnswer = "join.answer", step, "Ranks are known; no ticket is on its way.";

    HoldAsked = "hold.asked", step, "A batch of holds was found fit; Redis has not been asked.";
    HoldGranted = "hold.granted", reply, "Redis has granted units; Postgres knows nothing of it.";
    HoldCommitted = "hold.committed", reply, "Holds are committed; the book knows nothing of it.";
    HoldRepeat = "hold.repeat", step after HoldCommitted, "A commit's reply is lost; it is about to be sent again.";
    HoldAnswer = "hold.answer", step, "Holds are committed and in the book; no buyer was told.";

    SettleAsked = "settle.asked", step, "A batch of moves was taken; Postgres has not been asked.";
    SettleCommitted = "settle.committed", reply, "Moves are committed; the book knows nothing of it.";
    SettleRepeat = "settle.repeat", step after SettleCommitted, "A commit's reply is lost; it is about to be sent again.";
    SettleNoted = "settle.noted", step, "Ends of orders are committed and in the book; Redis knows nothing of it.";
    SettleFollowed = "settle.followed", reply, "Redis has followed; nobody was told.";

    TakeOverRun = "take-over.run", reply, "The run of Redis is known; the epoch is as it was.";
    TakeOverRaised = "take-over.raised", reply, "The epoch is raised; nothing was read under it.";
    TakeOverSnapshot = "take-over.snapshot", reply, "The bucket is read; Redis has it under the epoch before.";
    TakeOverBegun = "take-over.begun", reply, "Redis has the new epoch and a closed bucket.";
    TakeOverSlice = "take-over.slice", reply, "Redis has one slice more of the bucket.";
    TakeOverOpen = "take-over.open", step, "Redis has the whole bucket, which is still closed.";
    TakeOverOpened = "take-over.opened", reply, "The bucket is open in Redis; its keeper has no book yet.";

    GateAsked = "gate.asked", step, "The gate's next step is planned; Postgres has not been asked.";
    GateSet = "gate.set", reply, "The gate's step is committed; nobody is admitted by it yet.";

    PaymentOpen = "payment.open", step, "An order is to be paid; the provider knows nothing of it.";
    PaymentOpened = "payment.opened", reply, "The provider has the payment; the order is HELD.";
    PaymentPaying = "payment.paying", step, "PAYING is committed; nothing is charged.";
    PaymentConfirmed = "payment.confirmed", reply, "The provider has decided; the order is PAYING.";
    PaymentLooked = "payment.looked", step after PaymentConfirmed, "The provider was asked what it decided; the order is PAYING.";
    PaymentPaid = "payment.paid", step, "PAID is committed; the buyer was not told.";

    RestAsked = "rest.asked", step, "The bucket may rest; Postgres has not been asked.";
    RestSet = "rest.set", reply, "The bucket is at rest; its keeper does not know.";

    RestedAccepted = "rested.accepted", reply, "A bucket at rest has accepted units; its report is as before.";
    RestedReported = "rested.reported", reply, "The report of a bucket at rest is corrected in etcd; nobody knows.";

    TransferAsked = "transfer.asked", step, "Units are asked for; Redis has them free.";
    TransferTaken = "transfer.taken", reply, "Redis has let units go; Postgres knows nothing of it.";
    TransferGivenUp = "transfer.given-up", reply, "That units are given up is committed; nobody knows.";
    TransferAccept = "transfer.accept", step, "Units are in transit to this bucket; Postgres has not been asked.";
    TransferAccepted = "transfer.accepted", reply, "That units are accepted is committed; neither book nor Redis knows of it.";
    TransferBooked = "transfer.booked", step, "Units that came are in the book; Redis knows nothing of them.";
    TransferAppended = "transfer.appended", reply, "Redis may grant units that came; nobody knows.";
    TransferTell = "transfer.tell", step, "A part of a transfer is done here; etcd was not told.";
    TransferTold = "transfer.told", reply, "Etcd has the news of a transfer; nobody knows.";

    RefundAsked = "refund.asked", step, "A paid order is to be refunded; nothing is written down.";
    RefundBegun = "refund.begun", reply, "That the money goes back is committed; the provider still has it.";
    RefundGiven = "refund.given", reply, "The money is back; the order is PAID.";
    RefundEnded = "refund.ended", reply, "REFUNDED is committed; neither book nor Redis knows of it.";
    RefundRefused = "refund.refused", reply, "That the provider refuses the refund for good is committed; nobody was told.";
    RefundAnswer = "refund.answer", step, "The refund is in the book and on its way to Redis; nobody was told.";

    GiveBackRound = "give-back.round", wait, "The next comparison with the provider is waited for.";
    GiveBackAsked = "give-back.asked", step, "A capture is unclaimed; the provider still has its money.";
    GiveBackGiven = "give-back.given", reply, "The money is back; the ledger knows nothing of it.";
    GiveBackUnwritten = "give-back.unwritten", step, "The ledger was seen without the refund, which is about to be written.";
    GiveBackWritten = "give-back.written", step, "The refund is in the ledger; the comparison does not count it as done.";
}

/// What the hooks are in whatever is released.
#[cfg(not(feature = "drills"))]
mod idle {
    use super::Failpoint;

    /// A place between two steps.
    pub(crate) async fn reach(_: Failpoint) {}

    /// A reply, which is lost where a drill says so.
    pub(crate) async fn reply<T, E>(
        _: Failpoint,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        call.await
    }

    /// A wait that only a drill cuts short.
    pub(crate) async fn hurried(_: Failpoint) {
        std::future::pending().await
    }
}
