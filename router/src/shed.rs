//! What is given up first under pressure: the page, then polls, then joins, then holds, and payments last. Pure.
//!
//! A buyer who sees an old page has lost nothing; one who is paying has a hold that runs out. So what many share is
//! never used up by what matters least: display calls may fill half of it, and so on, and only those that finish a
//! purchase may fill all of it. Whoever is refused is told when to come again.

use crate::metrics::CallName;

/// Parts of a thousand.
pub(crate) type Permille = u32;

/// What a call is worth, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Worth {
    /// Shows a sale.
    Display,
    /// Asks where a ticket stands.
    Poll,
    /// Asks for a place in a line.
    Join,
    /// Holds units.
    Reserve,
    /// Finishes or undoes a purchase that was begun.
    Checkout,
}

impl Worth {
    /// Every worth, the first to go in front.
    pub(crate) const ALL: [Worth; 5] =
        [Worth::Display, Worth::Poll, Worth::Join, Worth::Reserve, Worth::Checkout];

    /// Its label in metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Worth::Display => "display",
            Worth::Poll => "poll",
            Worth::Join => "join",
            Worth::Reserve => "reserve",
            Worth::Checkout => "checkout",
        }
    }

    /// The pressure below which it passes.
    pub(crate) const fn bears(self) -> Permille {
        match self {
            Worth::Display => 500,
            Worth::Poll => 650,
            Worth::Join => 800,
            Worth::Reserve => 900,
            Worth::Checkout => 1_000,
        }
    }
}

impl CallName {
    /// What a call of this name is worth.
    pub(crate) const fn worth(self) -> Worth {
        match self {
            CallName::GetSaleState | CallName::WatchSale | CallName::Probe => Worth::Display,
            CallName::GetTicket => Worth::Poll,
            CallName::Join => Worth::Join,
            CallName::Reserve => Worth::Reserve,
            CallName::Checkout
            | CallName::CancelOrder
            | CallName::GetOrder
            | CallName::RefundOrder => Worth::Checkout,
        }
    }
}

/// Whether a call passes when so much of what all share is in use.
pub(crate) const fn passes(pressure: Permille, worth: Worth) -> bool {
    pressure < worth.bears()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_given_up_one_kind_after_the_other() {
        let mut passing = Worth::ALL.len();
        for pressure in 0..=1_000 {
            let now = Worth::ALL.iter().filter(|worth| passes(pressure, **worth)).count();
            assert!(now <= passing && passing - now <= 1, "at {pressure}: {passing}, then {now}");
            let kept = &Worth::ALL[Worth::ALL.len() - now..];
            assert!(kept.iter().all(|worth| passes(pressure, *worth)), "at {pressure}");
            passing = now;
        }
        assert_eq!(passing, 0, "nothing passes where there is no room");
        assert!(Worth::ALL.iter().all(|worth| passes(0, *worth)), "without pressure all pass");
        assert!(Worth::ALL.is_sorted());
    }

    #[test]
    fn what_is_sold_is_worth_more_than_what_is_shown() {
        let names = [
            CallName::GetSaleState,
            CallName::GetTicket,
            CallName::Join,
            CallName::Reserve,
            CallName::Checkout,
        ];
        assert_eq!(names.map(CallName::worth), Worth::ALL);
    }
}
