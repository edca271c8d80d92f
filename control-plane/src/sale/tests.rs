//! Tables: what a sale may be, and what may change in it.

use proptest::prelude::*;
use prost_types::{Duration, Timestamp};
use proto::fault::{Fault, Reason};
use proto::wire::Money;
use proto::wire::cell::BucketPlan;

use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const NOW_S: i64 = 1_800_000_000;
const DAY_S: i64 = 86_400;

fn at(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}

fn lasting(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn euros(units: i64) -> Option<Money> {
    Some(Money { currency_code: "EUR".into(), units, nanos: 0 })
}

fn good() -> admin::Sale {
    admin::Sale {
        display_name: "Winter drop".into(),
        stock: 1_000,
        cap: 2,
        price: euros(20),
        start_time: at(NOW_S + 600),
        end_time: at(NOW_S + 4_200),
        ..admin::Sale::default()
    }
}

fn standard() -> admin::Sale {
    admin::Sale { class: Class::Standard.into(), start_time: None, ..good() }
}

fn with(change: impl FnOnce(&mut admin::Sale)) -> admin::Sale {
    let mut sale = good();
    change(&mut sale);
    sale
}

fn check(sale: &admin::Sale) -> Result<Terms, Fault> {
    let terms = Terms::read(sale)?;
    terms.ahead(NOW_MS)?;
    Ok(terms)
}

#[test]
fn defaults_are_those_of_the_contract() {
    let terms = check(&good()).unwrap();
    assert_eq!(terms.class, Class::Flash);
    assert_eq!(
        (terms.hold_ttl_ms, terms.admission_rate, terms.keeping_ms),
        (120_000, 1_000, 30_000)
    );
    assert_eq!((terms.price_minor, terms.currency.as_str()), (2_000, "EUR"));
    assert_eq!(check(&standard()).unwrap().start_ms, 0);
}

#[test]
fn good_sales_at_the_edges() {
    let rows = [
        with(|s| s.stock = 1),
        with(|s| s.stock = 10_000_000),
        with(|s| s.cap = 100),
        with(|s| s.display_name = "ü".repeat(200)),
        with(|s| s.start_time = at(NOW_S - 5)),
        with(|s| s.hold_ttl = lasting(1)),
        with(|s| s.hold_ttl = lasting(3_600)),
        with(|s| s.admission_rate = 100_000),
        with(|s| s.keeping_time = lasting(3_600)),
        with(|s| s.end_time = at(NOW_S + 600 + 400 * DAY_S)),
        admin::Sale { start_time: at(NOW_S - DAY_S), ..standard() },
        admin::Sale { end_time: at(NOW_S + 400 * DAY_S), ..standard() },
    ];
    for sale in rows {
        assert_eq!(check(&sale).map(|_| ()), Ok(()), "{sale:?}");
    }
}

#[test]
fn bad_sales_name_the_field() {
    let rows = [
        ("sale.display_name", with(|s| s.display_name = "x".repeat(201))),
        ("sale.display_name", with(|s| s.display_name = "a\nb".into())),
        ("sale.class", with(|s| s.class = 3)),
        ("sale.class", with(|s| s.class = -1)),
        ("sale.stock", with(|s| s.stock = 0)),
        ("sale.stock", with(|s| s.stock = 10_000_001)),
        ("sale.cap", with(|s| s.cap = 0)),
        ("sale.cap", with(|s| s.cap = 101)),
        ("sale.price", with(|s| s.price = None)),
        ("sale.price", with(|s| s.price = euros(0))),
        ("sale.price", with(|s| s.price = euros(i64::MAX))),
        ("sale.start_time", with(|s| s.start_time = None)),
        ("sale.start_time", with(|s| s.start_time = at(-1))),
        ("sale.start_time", with(|s| s.start_time = at(i64::MAX))),
        ("sale.start_time", with(|s| s.start_time = at(NOW_S - 6))),
        ("sale.end_time", with(|s| s.end_time = None)),
        ("sale.end_time", with(|s| s.end_time = at(NOW_S + 600))),
        ("sale.end_time", with(|s| (s.start_time, s.end_time) = (at(1), at(NOW_S)))),
        ("sale.end_time", with(|s| s.end_time = at(NOW_S + 601 + 400 * DAY_S))),
        ("sale.end_time", admin::Sale { end_time: at(NOW_S + 1 + 400 * DAY_S), ..standard() }),
        ("sale.hold_ttl", with(|s| s.hold_ttl = lasting(0))),
        ("sale.hold_ttl", with(|s| s.hold_ttl = lasting(3_601))),
        ("sale.hold_ttl", with(|s| s.hold_ttl = lasting(-5))),
        ("sale.admission_rate", with(|s| s.admission_rate = 100_001)),
        ("sale.keeping_time", with(|s| s.keeping_time = lasting(0))),
    ];
    for (field, sale) in rows {
        let fault = check(&sale).expect_err(field);
        assert_eq!(fault.reason, Reason::InvalidField, "{sale:?}");
        assert_eq!(fault.field.map(|(name, _)| name), Some(field), "{sale:?}");
    }
}

fn written(state: State) -> SaleRecord {
    let org: OrgId = "acme".parse().unwrap();
    let origin = Origin {
        sale: id_of(&org, [7; 16]),
        org,
        request_id: "r".into(),
        request_hash: hash_of(&good()),
        now_ms: NOW_MS,
        buyer_key: [1; 32],
    };
    let mut record = draft(&check(&good()).unwrap(), origin);
    record.state = state.into();
    record
}

#[test]
fn what_was_written_is_shown() {
    let shown = view(&written(State::Draft), 5, NOW_MS);
    assert_eq!(shown.name, "orgs/acme/sales/scdfqy8jvtc4q9b6n");
    assert_eq!(Terms::read(&shown), Terms::read(&good()));
    assert_eq!((shown.revision, shown.sold, shown.warm), (1, 0, false));
    assert_eq!(shown.create_time, at(NOW_S));
    assert_eq!(shown.etag.len(), 16);
    assert_ne!(shown.etag, view(&written(State::Draft), 6, NOW_MS).etag);
}

#[test]
fn a_request_is_known_by_its_inputs_only() {
    let again = admin::Sale { sold: 5, etag: "x".into(), name: "y".into(), ..good() };
    assert_eq!(hash_of(&again), hash_of(&good()));
    assert_ne!(hash_of(&with(|s| s.stock = 999)), hash_of(&good()));
}

fn paths(names: &str) -> Vec<String> {
    names.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn what_may_change_when() {
    let all = "display_name class stock cap price start_time end_time hold_ttl admission_rate keeping_time";
    let other = admin::Sale {
        display_name: "Other".into(),
        class: Class::Standard.into(),
        stock: 5,
        cap: 3,
        price: euros(30),
        start_time: at(NOW_S + 700),
        end_time: at(NOW_S + 5_000),
        hold_ttl: lasting(60),
        admission_rate: 5,
        keeping_time: lasting(10),
        ..admin::Sale::default()
    };
    let changed = apply(&written(State::Draft), &other, &paths(all), NOW_MS).unwrap();
    assert_eq!(Ok(Terms::of(&changed)), Terms::read(&other));
    assert_eq!(changed.revision, 2);
    let conflicts =
        [("class", "sale.class"), ("stock", "sale.stock"), ("start_time", "sale.start_time")];
    for (path, field) in conflicts {
        let fault = apply(&written(State::Warm), &other, &paths(path), NOW_MS).unwrap_err();
        assert_eq!(fault.reason, Reason::SaleStateConflict);
        assert_eq!(fault.field.map(|(name, _)| name), Some(field));
    }
    // Whether the revision rises.
    let rows = [
        ("display_name", 1),
        ("cap", 2),
        ("price", 2),
        ("end_time", 1),
        ("hold_ttl", 2),
        ("admission_rate", 1),
        ("keeping_time", 1),
        ("cap price hold_ttl", 2),
    ];
    for (path, revision) in rows {
        let changed = apply(&written(State::Warm), &other, &paths(path), NOW_MS).unwrap();
        assert_eq!(changed.revision, revision, "{path}");
        assert_ne!(changed, written(State::Warm), "{path}");
    }
}

#[test]
fn a_change_of_nothing_is_none() {
    let record = SaleRecord { buckets: vec![BucketPlan::default()], ..written(State::Warm) };
    let same = apply(&record, &good(), &paths("stock cap price start_time"), NOW_MS).unwrap();
    assert_eq!(same, record);
}

#[test]
fn bad_changes_name_the_field() {
    let rows = [
        ("", good(), "update_mask"),
        ("*", good(), "update_mask"),
        ("state", good(), "update_mask"),
        ("price.units", good(), "update_mask"),
        ("cap", with(|s| s.cap = 0), "sale.cap"),
        ("end_time", with(|s| s.end_time = at(NOW_S - 1)), "sale.end_time"),
        ("end_time", with(|s| s.end_time = at(NOW_S + 500 * DAY_S)), "sale.end_time"),
    ];
    for (path, asked, field) in rows {
        for state in [State::Draft, State::Warm] {
            let fault = apply(&written(state), &asked, &paths(path), NOW_MS).expect_err(path);
            assert_eq!(fault.reason, Reason::InvalidField, "{path}");
            assert_eq!(fault.field.map(|(name, _)| name), Some(field), "{path}");
        }
    }
    let late = NOW_MS + 4_000_000;
    let ended = with(|s| s.end_time = at(NOW_S + 1_000));
    let fault = apply(&written(State::Warm), &ended, &paths("end_time"), late).unwrap_err();
    assert_eq!(fault.field.map(|(name, _)| name), Some("sale.end_time"));
}

#[test]
fn a_draft_whose_start_has_passed_can_still_be_named_anew() {
    let late = NOW_MS + 3_600_000;
    let renamed = with(|s| s.display_name = "Later".into());
    assert!(apply(&written(State::Draft), &renamed, &paths("display_name"), late).is_ok());
    let fault = apply(&written(State::Draft), &renamed, &paths("display_name end_time"), late);
    assert!(fault.is_ok(), "an unchanged time is no change");
}

proptest! {
    #[test]
    fn whatever_is_sent_what_is_accepted_can_be_honoured(
        class in -1..4,
        stock: u32,
        cap in 0_u32..200,
        price in (-5_i64..1_000, any::<i32>(), prop::sample::select(vec!["EUR", "JPY", "KWD", "XTS", "é"])),
        times in (any::<i64>(), any::<i64>(), any::<i32>()),
        ahead in (-10_i64..1_000, -10_i64..100_000_000),
        wild: bool,
        spans in (any::<i64>(), -5_i64..5_000),
        rate: u32,
    ) {
        let (start, end) = if wild { (times.0, times.1) } else { (NOW_S + ahead.0, NOW_S + ahead.1) };
        let nanos = if wild { times.2 } else { 0 };
        let sale = admin::Sale {
            class,
            stock,
            cap,
            price: Some(Money {
                currency_code: price.2.into(),
                units: price.0,
                nanos: if wild { price.1 } else { 0 },
            }),
            start_time: Some(Timestamp { seconds: start, nanos }),
            end_time: Some(Timestamp { seconds: end, nanos }),
            hold_ttl: Some(Duration { seconds: if wild { spans.0 } else { spans.1 }, nanos }),
            admission_rate: rate,
            ..admin::Sale::default()
        };
        if let Ok(terms) = check(&sale) {
            prop_assert!((1..=10_000_000).contains(&terms.stock) && (1..=100).contains(&terms.cap));
            prop_assert!(terms.price_minor.checked_mul(100).is_some_and(|total| total > 0));
            prop_assert!(terms.end_ms > NOW_MS && terms.end_ms > terms.start_ms);
            prop_assert!((1_000..=3_600_000).contains(&terms.hold_ttl_ms));
            prop_assert!((1..=100_000).contains(&terms.admission_rate));
            prop_assert_eq!(Terms::read(&terms.message()), Ok(terms));
        }
    }
}
