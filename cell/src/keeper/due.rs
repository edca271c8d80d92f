//! Whose time runs: HELD orders by the instant from which the sweep may end them.
//!
//! To find the next ones costs as much as there are of them, however many wait behind: an order that somebody is at is not
//! in here, and one that the ledger would not end comes up later.

use proto::id::OrderId;
use std::collections::{BTreeSet, HashMap};

/// After every order.
const LAST: OrderId = OrderId([0xff; 16]);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Due {
    from: HashMap<OrderId, i64>,
    queue: BTreeSet<(i64, OrderId)>,
}

impl Due {
    /// From `from_us` on the order may be ended. What was said of it before is forgotten.
    pub(super) fn put(&mut self, order: OrderId, from_us: i64) {
        if let Some(before_us) = self.from.insert(order, from_us) {
            self.queue.remove(&(before_us, order));
        }
        self.queue.insert((from_us, order));
    }

    /// The order is not the sweep's.
    pub(super) fn remove(&mut self, order: OrderId) {
        if let Some(from_us) = self.from.remove(&order) {
            self.queue.remove(&(from_us, order));
        }
    }

    /// Those that may be ended at `now_us`, the longest overdue first.
    pub(super) fn at(&self, now_us: i64, most: usize) -> Vec<OrderId> {
        self.queue.range(..=(now_us, LAST)).take(most).map(|(_, order)| *order).collect()
    }

    /// From when on the first one may be ended.
    pub(super) fn first(&self) -> Option<i64> {
        self.queue.first().map(|(from_us, _)| *from_us)
    }

    /// Nothing is due any more.
    pub(super) fn clear(&mut self) {
        self.from.clear();
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order(n: u8) -> OrderId {
        OrderId([n; 16])
    }

    proptest! {
        #[test]
        fn it_says_what_a_plain_list_says(
            steps in prop::collection::vec((0_u8..12, prop::option::weighted(0.7, 0_i64..50)), 0..60),
            now_us in -1_i64..52,
            most in 0_usize..14,
        ) {
            let (mut due, mut plain) = (Due::default(), Vec::<(i64, OrderId)>::new());
            for (number, from_us) in steps {
                plain.retain(|(_, other)| *other != order(number));
                match from_us {
                    Some(from_us) => {
                        due.put(order(number), from_us);
                        plain.push((from_us, order(number)));
                    }
                    None => due.remove(order(number)),
                }
            }
            plain.sort_unstable();
            prop_assert_eq!(due.first(), plain.first().map(|(from_us, _)| *from_us));
            let over = plain.into_iter().filter(|(from_us, _)| *from_us <= now_us);
            let over: Vec<_> = over.map(|(_, order)| order).take(most).collect();
            prop_assert_eq!(due.at(now_us, most), over);
        }
    }
}
