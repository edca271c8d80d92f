//! The load is open-loop: however slowly it is answered, buyers come when the plan says, latency counts from when a
//! call was meant to begin, and whatever is not known is asked again with the same request id.
//!
//! It is played against a storefront that only pretends to sell.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod storefront;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use floodgate_chaos::identity::bearer;
use floodgate_chaos::load::{CallKind, Crowd, End, Load, LoadOutcome, LoadPlan, Outcome};
use floodgate_chaos::plan::{Habits, Intention, Plan, PlanShape};
use floodgate_chaos::told::{Ask, OrderState, Said};

use storefront::{JOIN_TAKES, Storefront};

const BUYERS: u32 = 400;

#[tokio::test]
async fn buyers_come_in_time_and_ask_until_they_know() {
    let shape = PlanShape {
        buyers: BUYERS,
        arrive_within_us: 1_000_000,
        cap: 2,
        neighbours_per_s: 0,
        neighbours_for_s: 0,
        habits: Habits { hang_up: 0.2, twice: 0.1, ..Habits::CROWD },
    };
    let plan = Plan::draw(7, &shape);
    let server = Storefront::start().await;
    let crowd = Crowd {
        sale: "orgs/acme/sales/s01".to_owned(),
        stock: 1_000,
        tokens: plan
            .crowd
            .iter()
            .map(|buyer| bearer(&format!("buyer-{}", buyer.number)).unwrap())
            .collect(),
        page_token: bearer("page").unwrap(),
        buyers: plan.crowd.clone(),
        connections: 4,
        follows: false,
        heeds_page: true,
    };
    let load = Load::start(LoadPlan {
        routers: vec![server.url.clone()],
        crowds: vec![crowd],
        start: Instant::now() + Duration::from_millis(200),
        give_up_after: Duration::from_secs(30),
        quiet_after: Duration::from_secs(5),
    })
    .unwrap();
    let live = load.live();
    let outcome = load.outcome().await.unwrap();

    let count = |is: fn(Intention) -> bool| {
        u64::try_from(plan.crowd.iter().filter(|buyer| is(buyer.intention)).count()).unwrap()
    };
    let sale = live.sale(0).unwrap();
    assert_eq!(sale.arrived(), u64::from(BUYERS));
    assert_eq!(sale.in_flight(), 0);
    assert_eq!(sale.ended(End::Abandoned), count(|one| one == Intention::Abandon));
    assert_eq!(sale.ended(End::Cancelled), count(|one| one == Intention::Cancel));
    assert_eq!(
        sale.ended(End::Paid) + sale.ended(End::Declined),
        count(|one| one == Intention::Pay)
    );
    assert!(outcome.quiet, "the page showed no live order");
    // Hundreds stand in line at any time, each for a third of a second; nobody comes later for it.
    assert_eq!(outcome.lateness_us.count(), u64::from(BUYERS));
    assert!(outcome.took > JOIN_TAKES);
    let joins = outcome.samples.latency(|sample| sample.call == CallKind::Join);
    assert!(joins.at(0.01) >= u64::try_from(JOIN_TAKES.as_micros()).unwrap());
    assert!(server.in_line_most() > 50, "only {} at a time", server.in_line_most());
    check_told(&outcome);
}

/// The told log tells every call before its answer, and repeats are the same call.
fn check_told(outcome: &LoadOutcome) {
    let mut asked: HashMap<u64, &Ask> = HashMap::new();
    let mut unknown_reserves: HashMap<u32, Vec<&Ask>> = HashMap::new();
    let mut paid = 0;
    for told in &outcome.told {
        let Some(buyer) = told.buyer else { continue };
        match &told.said {
            Said::Asked(ask) => {
                if let (Ask::Reserve { .. }, Some(before)) = (ask, unknown_reserves.get(&buyer)) {
                    assert!(before.contains(&ask), "buyer {buyer} asks {ask:?} after {before:?}");
                }
                asked.insert(told.call, ask);
            }
            said => {
                let ask = asked.remove(&told.call).expect("an answer to what was asked");
                match said {
                    Said::Unknown { .. } if matches!(ask, Ask::Reserve { .. }) => {
                        unknown_reserves.entry(buyer).or_default().push(ask);
                    }
                    Said::Order(order) if order.state == OrderState::Paid => paid += 1,
                    _ => {}
                }
            }
        }
    }
    assert!(asked.is_empty(), "never answered: {asked:?}");
    assert!(paid > 0);
    assert!(!unknown_reserves.is_empty(), "no outcome was unknown");
    assert!(outcome.samples.count(|sample| sample.outcome == Outcome::Unknown) > 0);
    assert!(outcome.samples.count(|sample| sample.repeat) > 0);
}
