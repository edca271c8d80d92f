//! Who waits for something to be free is told when it is, however it came to be.

use super::*;
use proto::wire::cell::{BucketPlan, SaleRecord};
use std::time::Duration;

fn book() -> Book {
    let buckets = vec![BucketPlan::default()];
    let record = SaleRecord { sale: "s01".into(), stock: 9, buckets, ..SaleRecord::default() };
    Book::closed(SaleTerms::new(record, 0).unwrap())
}

fn live(units: &[u32]) -> Live {
    Live {
        buyer: BuyerKey([1; 16]),
        units: units.to_vec(),
        state: State::Held,
        ticket: 0,
        deadline_us: 0,
        amount_minor: 0,
        attempts: 0,
        intent: None,
        attempt: None,
    }
}

#[tokio::test]
async fn something_to_be_had_after_nothing_is_told() {
    let [first, second, third] = [1, 2, 3].map(|n| OrderId([n; 16]));
    type Do = fn(&mut Book, [OrderId; 3]);
    let rows: [(&str, Do, bool); 11] = [
        ("two units came", |book, _| book.accept(2), true),
        ("two more", |book, _| book.accept(2), false),
        (
            "all are held",
            |book, [a, b, c]| {
                book.hold(a, live(&[0]));
                book.hold(b, live(&[1, 2]));
                book.hold(c, live(&[3]));
            },
            false,
        ),
        ("one is paid", |book, [a, ..]| drop(book.end(a, State::Paid)), false),
        ("one ran out", |book, [_, b, _]| drop(book.end(b, State::Expired)), true),
        ("another one was given back", |book, [.., c]| drop(book.end(c, State::Cancelled)), false),
        ("all that is free is to leave", |book, _| book.leave(3), false),
        ("it stays after all", |book, _| book.leave(0), true),
        ("it is to leave again", |book, _| book.leave(3), false),
        ("it left", |book, _| book.give_up(&[Share { first_unit: 1, units: 3 }]), false),
        ("the money for one goes back", |book, _| book.refund(&[0]), true),
    ];
    let mut book = book();
    let freed = book.freed();
    for (what, change, told) in rows {
        change(&mut book, [first, second, third]);
        // What was told is there at once.
        let heard = tokio::time::timeout(Duration::ZERO, freed.notified()).await.is_ok();
        assert_eq!(heard, told, "{what}");
    }
    assert_eq!((book.obtainable(), book.granted), (1, 1));
}
