//! What must always hold, by ID. Code, metrics, tests, drills and the judge name the same IDs.

use std::fmt;

macro_rules! invariants {
    ($($id:ident = $number:literal, $sentence:literal;)*) => {
        /// One promise of the whole system.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Invariant { $(#[doc = $sentence] $id,)* }

        impl Invariant {
            /// Every promise.
            pub const ALL: &[Invariant] = &[$(Invariant::$id),*];

            /// Its ID, as in `INV-4`.
            pub const fn id(self) -> &'static str {
                match self { $(Invariant::$id => concat!("INV-", $number),)* }
            }

            /// What it promises.
            pub const fn sentence(self) -> &'static str {
                match self { $(Invariant::$id => $sentence,)* }
            }
        }
    };
}

invariants! {
    Inv1 = 1, "No unit number is in two live orders, and the paid units that were not refunded are at most the sale's units.";
    Inv2 = 2, "In every bucket free, live and paid units add up to the granted ones, and a sale's grants and units in transit are disjoint and add up to its stock.";
    Inv3 = 3, "When all is quiet every unit is sold or free; meanwhile Postgres and Redis differ by the batch under way at most.";
    Inv4 = 4, "A buyer's live and paid units never exceed the cap.";
    Inv5 = 5, "An order has at most one capture that was not refunded, a paid order exactly one, and no capture stays unclaimed.";
    Inv6 = 6, "Every hold and payment that was acknowledged is in the ledger after any crash.";
    Inv7 = 7, "Nothing is reserved without a ticket of this buyer and sale that the gate admits, and a ticket serves one order.";
    Inv8 = 8, "In a bucket no entry of an older epoch follows one of a newer epoch.";
    Inv9 = 9, "A request of one org reads and writes nothing of another and cannot tell whether it exists.";
    Inv10 = 10, "No request waits for etcd or the control plane.";
    Inv11 = 11, "Every queue, pool, map, body, loop and retry has a named limit.";
    Inv12 = 12, "Over any interval no more tickets are admitted than rate times interval plus burst, over all cells and restarts.";
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
