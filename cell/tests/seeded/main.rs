//! Seeded bugs: the tests of this crate, run once as they are and once for each bug that is planted in what they test.
//! As they are none of them may fail; with a bug one of them must, and this says which one and what it said.
//!
//! `make bugs` runs it. A name behind it runs that bug alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "tests")]

mod check;
mod table;

use std::process::ExitCode;

use floodgate_cell::seeded::{BUGS, Bug, missing};

use check::Checks;

/// The checks, each a test of this crate that knows nothing of bugs: its program and its name.
const CHECKS: &[(&str, &str)] = &[
    ("stores", "inventory::what_does_not_name_the_order_gives_nothing_back"),
    ("stores", "inventory::paid_units_count_against_the_cap_and_spent_tickets_stay_spent"),
    ("stores", "inventory::a_batch_of_holds_means_its_holds_one_after_another"),
    ("stores", "settles::an_order_moves_only_as_its_state_its_time_and_its_attempt_allow"),
    ("stores", "model::both_stores_live_as_the_model_does"),
    ("stores", "moves::units_are_never_copied_and_never_lost"),
    ("failpoints", "keeper_paused::inv_8_redis_refuses_the_late_write_of_a_keeper_that_was_held"),
    (
        "failpoints",
        "keeper_paused::inv_8_postgres_refuses_the_late_write_of_a_keeper_that_was_held",
    ),
    ("invariants", "refusals::requests_are_remembered_and_orders_say_why_not"),
    (
        "invariants",
        "refusals::inv_7_nothing_is_reserved_without_an_admitted_ticket_of_this_buyer_and_sale",
    ),
    ("invariants", "stock::inv_4_nobody_has_more_than_the_cap"),
    ("invariants", "stock::inv_1_no_unit_is_in_two_orders_however_often_buyers_ask"),
    ("invariants", "stock::inv_2_counts_add_up_after_postgres_was_killed"),
    ("invariants", "deaths::inv_6_what_was_acknowledged_survives_the_death_of_processes"),
];

/// How often the first check of a bug is run before the others are.
const AGAIN: usize = 2;

/// What passes whatever bug is planted: without it a cell that does not even run would seem to be caught.
const CANARY: (&str, &str) = ("invariants", "refusals::calls_that_make_no_sense_are_refused_alone");

/// The check that a bug is tried on first: others may find it, too.
fn first(bug: Bug) -> &'static str {
    match bug {
        Bug::NoFenceInRedis => "keeper_paused::inv_8_redis",
        Bug::NoFenceInPostgres => "keeper_paused::inv_8_postgres",
        Bug::CapUnchecked => "stock::inv_4",
        Bug::ReleaseTwice => "inventory::what_does_not_name",
        Bug::AnswerBeforeCommit => "deaths::inv_6",
        Bug::CommitNotDurable => "stock::inv_2",
        Bug::ExpiryWithoutState => "settles::an_order_moves",
        Bug::LoadForgetsPaying | Bug::BatchAppliedAgain => "model::both_stores",
        Bug::OrgMissingInKey => "stock::inv_1",
        Bug::TicketSpentTwice => "inventory::paid_units_count",
        Bug::GateIgnored => "refusals::inv_7",
        Bug::DeclinedIsPaid => "refusals::requests_are_remembered",
        Bug::MoveThatCopies => "moves::units_are_never_copied",
    }
}

fn main() -> ExitCode {
    // What cargo and its like ask of every test.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    assert_eq!(missing(), Vec::<String>::new(), "these bugs must be written anew");
    let checks = Checks::build(CHECKS);
    let mut rows = Vec::new();
    if only.is_none() {
        let caught: Vec<_> =
            checks.in_order("").filter_map(|check| checks.run(check, None)).collect();
        rows.extend(caught.into_iter().map(|ran| table::Row::clean(Some(ran))));
        if rows.is_empty() {
            rows.push(table::Row::clean(None));
        }
    }
    for (bug, name, sentence) in BUGS {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        if let Some(ran) = checks.run(CANARY, Some(name)) {
            rows.push(table::Row::not_run(name, ran));
            continue;
        }
        // Whether a death comes at the moment that counts is a matter of luck, so the first one is tried again.
        let again = std::iter::repeat_n(checks.in_order(first(*bug)).next(), AGAIN).flatten();
        let mut order = again.chain(checks.in_order(first(*bug)));
        let caught = order.find_map(|check| checks.run(check, Some(name)));
        rows.push(table::Row::bug(name, sentence, caught));
    }
    assert!(!rows.is_empty(), "no bug is named {only:?}");
    println!("\n{}", table::print(&rows));
    if rows.iter().all(|row| row.is_as_it_should_be) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
