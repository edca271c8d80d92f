//! Refusals: whom a cell tells no, and why.

use proto::fault::Reason;
use proto::id::{BuyerKey, OrderId};
use proto::ticket::{Ticket, TicketKey};
use proto::wire::cell::answer::Kind as Answer;
use proto::wire::cell::call::Kind as Asked;
use proto::wire::cell::{Call, Cancel, Join, Reserve, SaleRecord, sale_record::State as SaleState};
use proto::wire::storefront::order::State;

use crate::cell::{BAD_CARD, CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, until};
use crate::short_sale;

fn ticket(sale: &str, bucket: u32, buyer: BuyerKey, index: u64) -> Ticket {
    Ticket { sale: sale.into(), bucket, buyer, window: 0, index, weight: 1 }
}

#[tokio::test]
async fn inv_7_nothing_is_reserved_without_an_admitted_ticket_of_this_buyer_and_sale() {
    let cell = CellUnderTest::start(&["p1"]).await;
    // One ticket every ten seconds is admitted, after a burst of none: rank 0 comes with the first second.
    let sale = SaleRecord { admission_rate: 1, hold_ttl_ms: 600_000, ..short_sale("slow", 10, 2) };
    cell.open(&sale).await;
    let (ada, bob) = (BuyerKey([1; 16]), BuyerKey([2; 16]));
    let held = cell.held("slow", ada, (1, [1; 16])).await;
    let (spent, rank) = cell.join("slow", ada).await.unwrap();
    assert_eq!(rank, 0, "who has a live order keeps its ticket");
    cell.cancel("slow", ada, id_of(&held)).await.unwrap();
    let key = CellUnderTest::ticket_key();
    let forged = TicketKey::new("t1", &[6; 32]).sign(&ticket("slow", 0, bob, 0));
    let unknown_key = TicketKey::new("t9", &[5; 32]).sign(&ticket("slow", 0, bob, 0));
    let mut altered = key.sign(&ticket("slow", 0, bob, 0));
    let middle = altered.len() / 2;
    let flipped = if altered.as_bytes()[middle] == b'A' { "B" } else { "A" };
    altered.replace_range(middle..=middle, flipped);
    let rows: [(&str, String, Reason); 9] = [
        ("none", String::new(), Reason::TicketInvalid),
        ("no ticket at all", "a.b.c".into(), Reason::TicketInvalid),
        ("forged", forged, Reason::TicketInvalid),
        ("by an unknown key", unknown_key, Reason::TicketInvalid),
        ("altered", altered, Reason::TicketInvalid),
        ("another buyer's", spent.clone(), Reason::TicketNotYours),
        ("another sale's", key.sign(&ticket("other", 0, bob, 0)), Reason::TicketNotYours),
        ("another bucket's", key.sign(&ticket("slow", 1, bob, 0)), Reason::TicketNotYours),
        ("of a rank far off", key.sign(&ticket("slow", 0, bob, 500)), Reason::NotAdmitted),
    ];
    for (what, ticket, reason) in rows {
        let refused = cell.reserve("slow", bob, &ticket, (1, [1; 16])).await;
        assert_eq!(refused.unwrap_err(), No::Refused(reason), "{what}");
    }
    let again = cell.reserve("slow", ada, &spent, (1, [2; 16])).await;
    assert_eq!(again.unwrap_err(), No::Refused(Reason::TicketSpent));
    // Even a well-made ticket for the spent rank.
    let twin = key.sign(&ticket("slow", 0, bob, 0));
    let twin = cell.reserve("slow", bob, &twin, (1, [1; 16])).await;
    assert_eq!(twin.unwrap_err(), No::Refused(Reason::TicketSpent));
    let (fresh, rank) = cell.join("slow", ada).await.unwrap();
    assert!(rank > 0, "an ended order gives a new ticket");
    assert!(!fresh.is_empty());
}

#[tokio::test]
async fn what_comes_too_late_changes_nothing() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, keeping_ms: 600_000, ..short_sale("late", 4, 2) };
    cell.open(&sale).await;
    let (ada, bob) = (BuyerKey([1; 16]), BuyerKey([2; 16]));
    // Ada has no time left.
    let is_late = async |asked: Asked| {
        let (sale, buyer) = ("late".into(), ada.0.to_vec().into());
        let call = Call { sale, buyer, kind: Some(asked), ..Call::default() };
        match cell.call_at("p1", call).await {
            Some(Answer::Refusal(refusal)) => refusal.reason == Reason::DeadlinePassed as u32,
            _ => false,
        }
    };
    assert!(is_late(Asked::Join(Join {})).await);
    assert_eq!(cell.join("late", bob).await.unwrap().1, 0, "no rank was given before");
    let (ticket, _) = cell.join("late", ada).await.unwrap();
    let reserve = Reserve { ticket, quantity: 2, request_id: vec![2; 16] };
    assert!(is_late(Asked::Reserve(reserve)).await);
    let held = cell.held("late", ada, (1, [2; 16])).await;
    assert_eq!(held.units.len(), 1, "the late request is not remembered");
    assert!(is_late(Asked::Cancel(Cancel { order: held.order.to_vec() })).await);
    assert_eq!(cell.show("late", ada, id_of(&held)).await.unwrap().state(), State::Held);
}

#[tokio::test]
async fn requests_are_remembered_and_orders_say_why_not() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = SaleRecord { hold_ttl_ms: 600_000, keeping_ms: 600_000, ..short_sale("calm", 4, 2) };
    cell.open(&sale).await;
    let (ada, bob, eve) = (BuyerKey([1; 16]), BuyerKey([2; 16]), BuyerKey([3; 16]));
    let held = cell.held("calm", ada, (2, [1; 16])).await;
    let order = id_of(&held);
    assert_eq!(order, OrderId::derive("calm", ada, [1; 16]));
    let (ticket, _) = cell.join("calm", ada).await.unwrap();
    let refusal = async |quantity, request: u8| {
        let answer = cell.reserve("calm", ada, &ticket, (quantity, [request; 16])).await;
        answer.map(|order| id_of(&order))
    };
    assert_eq!(refusal(2, 1).await, Ok(order), "the same request");
    assert_eq!(refusal(1, 1).await, Err(No::Refused(Reason::RequestIdReused)));
    assert_eq!(refusal(0, 2).await, Err(No::Refused(Reason::InvalidField)));
    assert_eq!(refusal(u32::MAX, 2).await, Err(No::Refused(Reason::OverCap)));

    // Foreign and unknown orders look alike.
    let unknown = OrderId([7; 16]);
    for of in [order, unknown] {
        let not_found = Err(No::Refused(Reason::NotFound));
        assert_eq!(cell.show("calm", bob, of).await.map(drop), not_found);
        assert_eq!(cell.cancel("calm", bob, of).await.map(drop), not_found);
        assert_eq!(cell.pay("calm", bob, of, GOOD_CARD).await.map(drop), not_found);
    }

    let declined = cell.pay("calm", ada, order, BAD_CARD).await;
    assert_eq!(declined.unwrap_err(), No::Refused(Reason::CardDeclined));
    assert_eq!(cell.show("calm", ada, order).await.unwrap().state(), State::Held);
    assert_eq!(cell.pay("calm", ada, order, GOOD_CARD).await.unwrap().state(), State::Paid);
    assert_eq!(cell.pay("calm", ada, order, GOOD_CARD).await.unwrap().state(), State::Paid);
    let conflict = cell.cancel("calm", ada, order).await;
    assert_eq!(conflict.unwrap_err(), No::Refused(Reason::OrderStateConflict));
    assert_eq!(refusal(2, 1).await, Ok(order), "paid, and still the same request's");
    assert_eq!(refusal(1, 3).await, Err(No::Refused(Reason::TicketSpent)));

    // A cancelled order is remembered, its units are free again, and bob's are the last ones.
    let given_back = cell.held("calm", bob, (2, [1; 16])).await;
    let bobs = id_of(&given_back);
    assert_eq!(cell.cancel("calm", bob, bobs).await.unwrap().state(), State::Cancelled);
    assert_eq!(cell.cancel("calm", bob, bobs).await.unwrap().state(), State::Cancelled);
    let gone = cell.pay("calm", bob, bobs, GOOD_CARD).await;
    assert_eq!(gone.unwrap_err(), No::Refused(Reason::OrderStateConflict));
    let same = cell.held("calm", bob, (2, [1; 16])).await;
    assert_eq!((id_of(&same), same.state()), (bobs, State::Cancelled));
    let new = cell.held("calm", bob, (2, [2; 16])).await;
    assert_eq!(new.units, given_back.units, "the very numbers");
    let none = until(DEADLINE, async || {
        let (ticket, _) = cell.join("calm", eve).await.map_err(|no| format!("{no:?}"))?;
        match cell.reserve("calm", eve, &ticket, (1, [1; 16])).await {
            // The gate stands, since nothing is free; it may have let eve in before.
            Err(No::Refused(reason @ (Reason::NoUnitNow | Reason::NotAdmitted))) => Ok(reason),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(none.await.retry(), proto::fault::Retry::Later);
}

#[tokio::test]
async fn a_sale_says_why_it_does_not_sell() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sells = SaleRecord { hold_ttl_ms: 600_000, ..short_sale("phases", 10, 2) };
    cell.open(&sells).await;
    let buyer = BuyerKey([1; 16]);
    let (ticket, _) = cell.join("phases", buyer).await.unwrap();
    let far_ms = sells.end_ms - 1;
    let warming = SaleState::Warming.into();
    let rows: [(SaleRecord, Reason, Option<Reason>); 6] = [
        (SaleRecord { paused: true, ..sells.clone() }, Reason::SalePaused, None),
        (SaleRecord { start_ms: far_ms, ..sells.clone() }, Reason::SaleNotOpen, None),
        (SaleRecord { state: warming, ..sells.clone() }, Reason::SaleNotWarm, None),
        (
            SaleRecord { end_ms: 2_000, paused: true, ..sells.clone() },
            Reason::SaleEnded,
            Some(Reason::SaleEnded),
        ),
        (sells.clone(), Reason::InvalidField, None),
        (
            SaleRecord { state: SaleState::Cancelled.into(), ..sells.clone() },
            Reason::SaleCancelled,
            Some(Reason::SaleCancelled),
        ),
    ];
    // A live order keeps the bucket from coming to rest.
    let held = cell.held("phases", buyer, (1, [1; 16])).await;
    for (number, (record, reason, join)) in (2..).zip(rows) {
        cell.decide(&SaleRecord { update_ms: number, ..record }).await;
        until(DEADLINE, async || {
            let reserve = cell.reserve("phases", buyer, &ticket, (0, [2; 16])).await;
            let Err(No::Refused(said)) = reserve else { return Err(format!("{reserve:?}")) };
            // A sale that was called off gives its orders back and rests; its keeper goes.
            let rests = reason == Reason::SaleCancelled && said == Reason::BucketMoving;
            if said == reason || rests { Ok(()) } else { Err(format!("{said:?}, not {reason:?}")) }
        })
        .await;
        let other = BuyerKey([u8::try_from(number).unwrap(); 16]);
        let joined = cell.join("phases", other).await.map(drop);
        match join {
            None => assert_eq!(joined, Ok(()), "{reason:?}"),
            Some(said) => assert!(
                [Err(No::Refused(said)), Err(No::Refused(Reason::BucketMoving))].contains(&joined),
                "{joined:?}"
            ),
        }
    }
    until(DEADLINE, async || {
        let state: i16 = sqlx::query_scalar(r#"select state from "order" where id = $1"#)
            .bind(uuid::Uuid::from_bytes(id_of(&held).0))
            .fetch_one(&cell.pool)
            .await
            .map_err(|error| error.to_string())?;
        if i32::from(state) == i32::from(State::Cancelled) {
            Ok(())
        } else {
            Err(format!("{state}"))
        }
    })
    .await;
}

#[tokio::test]
async fn calls_that_make_no_sense_are_refused_alone() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = short_sale("calm", 4, 2);
    cell.open(&sale).await;
    let buyer = BuyerKey([1; 16]);
    let short_id = Reserve { ticket: String::new(), quantity: 1, request_id: vec![1; 15] };
    let undecided = cell.call("calm", buyer, Asked::Reserve(short_id)).await;
    assert_eq!(undecided.unwrap_err(), No::Refused(Reason::InvalidField));
    let long_card = "x".repeat(129);
    let refused = cell.pay("calm", buyer, OrderId([1; 16]), &long_card).await;
    assert_eq!(refused.unwrap_err(), No::Refused(Reason::InvalidField));
    let joined = cell.call("calm", buyer, Asked::Join(Join {})).await;
    assert!(joined.is_ok(), "{joined:?}");
}
