//! The checks, one file an invariant. Each reads the case and names what is broken; none trusts another.

mod cap;
mod chain;
mod count;
mod gate;
mod ledger;
mod money;
mod rest;
mod sold_out;
mod ticket;
mod told;
mod transfer;
mod unit;

use super::Violation;
use super::case::{Case, Findings};

pub(super) use money::{double_charges, unclaimed_charges};
pub(super) use rest::stranded;
pub(super) use told::lost_acknowledgements;
pub(super) use unit::{oversold, sold};

/// Runs all of them.
pub(super) fn all(case: &Case<'_>) -> Vec<Violation> {
    let mut findings = Findings::default();
    for sale in &case.sales {
        unit::check(sale, &mut findings);
        count::check(sale, &mut findings);
        transfer::check(sale, &mut findings);
        rest::check(sale, &mut findings);
        sold_out::check(sale, &mut findings);
        cap::check(sale, &mut findings);
        told::check(sale, &mut findings);
        ledger::check(sale, &mut findings);
        ticket::check(sale, &mut findings);
        chain::check(sale, &mut findings);
        gate::check(sale, &mut findings);
    }
    money::check(case, &mut findings);
    let mut violations = findings.0;
    violations.sort_by_key(|violation| violation.invariant);
    violations
}
