//! The verdict: the figures of each sale, what was found broken, and how often what happened.

use std::fmt;

use proto::invariant::Invariant;
use proto::wire::events::ledger_entry::Kind;

use super::Violation;
use super::case::Case;
use super::check;
use super::replay::Move;

/// The figures of one sale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Units paid.
    pub sold: u64,
    /// Units there are.
    pub stock: u64,
    /// Units that somebody was promised beyond what there is.
    pub oversold: u64,
    /// Units that are neither sold nor free.
    pub stranded: u64,
    /// Captures that no paid order claims and that were not refunded.
    pub double_charges: u64,
    /// Orders of which a buyer was told something that is not so.
    pub lost_acknowledgements: u64,
}

/// How often what happened, by the ledgers of all cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Holds.
    pub held: u64,
    /// Holds that ran out.
    pub expired: u64,
    /// Holds that were given back.
    pub cancelled: u64,
    /// Payment attempts that were declined or given up.
    pub declined: u64,
    /// Payments.
    pub paid: u64,
    /// Payments that people must look into.
    pub review: u64,
    /// Captures that went back.
    pub refunded: u64,
    /// Epochs after the first, over all buckets: how often a bucket changed hands.
    pub take_overs: u64,
}

/// All that the judge has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The figures of each sale, in the order in which they were agreed. Captures of no order count with the first.
    pub verdicts: Vec<Verdict>,
    /// How often what happened in each sale.
    pub counts: Vec<LedgerCounts>,
    /// How the units of each sale moved, by time.
    pub moves: Vec<Vec<Move>>,
    /// Broken promises, by their invariant.
    pub violations: Vec<Violation>,
}

impl Judgement {
    /// Whether every invariant was kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// The invariants that are broken, each once, in order.
    pub fn broken(&self) -> Vec<Invariant> {
        let mut broken: Vec<_> = self.violations.iter().map(|one| one.invariant).collect();
        broken.sort_unstable();
        broken.dedup();
        broken
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "verdict: sold {} of {}, oversold {}, stranded {}, double charges {}, lost \
             acknowledgements {}",
            self.sold,
            self.stock,
            self.oversold,
            self.stranded,
            self.double_charges,
            self.lost_acknowledgements
        )
    }
}

pub(super) fn decide(case: &Case<'_>, violations: Vec<Violation>) -> Judgement {
    let mut verdicts: Vec<Verdict> = Vec::new();
    let (mut counts, mut moves) = (Vec::new(), Vec::new());
    for sale in &case.sales {
        verdicts.push(Verdict {
            sold: check::sold(sale),
            stock: sale.agreed.units().into(),
            oversold: check::oversold(sale),
            stranded: check::stranded(sale),
            double_charges: check::double_charges(case, sale),
            lost_acknowledgements: check::lost_acknowledgements(sale),
        });
        let total = |kind: Kind| -> u64 {
            sale.buckets.iter().map(|bucket| bucket.replay.kinds[kind as usize]).sum()
        };
        let mut moved: Vec<Move> =
            sale.buckets.iter().flat_map(|bucket| bucket.replay.moves.iter().copied()).collect();
        moved.sort_by_key(|one| one.at_us);
        moves.push(moved);
        let epochs = sale.buckets.iter().map(|bucket| u64::try_from(bucket.row.epoch).unwrap_or(0));
        counts.push(LedgerCounts {
            held: total(Kind::Held),
            expired: total(Kind::Expired),
            cancelled: total(Kind::Cancelled),
            declined: total(Kind::Declined),
            paid: total(Kind::Paid),
            review: total(Kind::Review),
            refunded: total(Kind::Refunded),
            take_overs: epochs.map(|epoch| epoch.saturating_sub(1)).sum(),
        });
    }
    if let Some(first) = verdicts.first_mut() {
        first.double_charges += check::unclaimed_charges(case);
    }
    Judgement { verdicts, counts, moves, violations }
}
