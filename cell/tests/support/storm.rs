//! A storm of buyers: they join, reserve, repeat themselves, and pay, cancel or stay away, as a seed decides. Whatever
//! the cell tells them is written down, to be held against its ledger.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::fault::Reason;
use proto::id::{BuyerKey, OrderId};
use proto::wire::cell::{Order, SaleRecord};
use proto::wire::storefront::order::State;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use crate::cell::{BAD_CARD, CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, until};

/// How long a buyer waits for a unit before giving up.
const PATIENCE: Duration = Duration::from_secs(10);

/// An acknowledged hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) buyer: BuyerKey,
    pub(crate) units: Vec<u32>,
}

/// What buyers were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) held: BTreeMap<OrderId, Held>,
    pub(crate) paid: Vec<OrderId>,
    pub(crate) cancelled: Vec<OrderId>,
    pub(crate) refunded: Vec<OrderId>,
    /// Refusals that ended somebody's try, by reason.
    pub(crate) refused: BTreeMap<Reason, usize>,
}

impl Told {
    /// What others were told, in a later storm on the same sale.
    #[allow(dead_code, reason = "not every test has a second storm")]
    pub(crate) fn add(&mut self, more: Told) {
        self.held.extend(more.held);
        self.paid.extend(more.paid);
        self.cancelled.extend(more.cancelled);
        self.refunded.extend(more.refunded);
        for (reason, count) in more.refused {
            *self.refused.entry(reason).or_default() += count;
        }
    }

    /// An order is acknowledged; its units never change.
    pub(crate) fn hold(&mut self, buyer: BuyerKey, order: &Order) {
        let held = Held { buyer, units: order.units.clone() };
        let before = self.held.insert(id_of(order), held.clone());
        assert!(before.is_none_or(|before| before == held), "an order changed its units");
    }
}

/// A storm that rages.
pub(crate) struct Storm {
    buyers: JoinSet<()>,
    told: Arc<Mutex<Told>>,
    acknowledged: Arc<AtomicUsize>,
}

/// One buyer of a storm.
struct Buyer {
    cell: Arc<CellUnderTest>,
    sale: String,
    cap: u32,
    key: BuyerKey,
    luck: StdRng,
    told: Arc<Mutex<Told>>,
    acknowledged: Arc<AtomicUsize>,
}

impl Storm {
    /// Lets `count` buyers loose on a sale.
    pub(crate) fn begin(
        cell: &Arc<CellUnderTest>,
        sale: &SaleRecord,
        count: u32,
        seed: u64,
    ) -> Storm {
        let storm =
            Storm { buyers: JoinSet::new(), told: Arc::default(), acknowledged: Arc::default() };
        let Storm { mut buyers, told, acknowledged } = storm;
        for number in 0..count {
            let mut luck = StdRng::seed_from_u64(seed.wrapping_add(number.into()));
            let buyer = Buyer {
                cell: cell.clone(),
                sale: sale.sale.clone(),
                cap: sale.cap,
                key: BuyerKey(luck.random()),
                luck,
                told: told.clone(),
                acknowledged: acknowledged.clone(),
            };
            buyers.spawn(buyer.buy());
        }
        Storm { buyers, told, acknowledged }
    }

    /// Waits until so many holds were acknowledged.
    pub(crate) async fn held(&self, count: usize) {
        until(DEADLINE, async || {
            let acknowledged = self.acknowledged.load(Ordering::Relaxed);
            if acknowledged >= count { Ok(()) } else { Err(format!("{acknowledged} holds")) }
        })
        .await;
    }

    /// Waits until every buyer has gone, and says what they were told.
    pub(crate) async fn end(mut self) -> Told {
        while let Some(ended) = self.buyers.join_next().await {
            ended.unwrap();
        }
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        println!(
            "told: {} held, {} paid, {} cancelled, refused {:?}",
            told.held.len(),
            told.paid.len(),
            told.cancelled.len(),
            told.refused
        );
        told
    }
}

impl Buyer {
    async fn buy(mut self) {
        let Some(order) = self.reserve().await else { return };
        match self.luck.random_range(0..100) {
            0..60 => self.pay(id_of(&order), GOOD_CARD).await,
            60..70 => self.pay(id_of(&order), BAD_CARD).await,
            70..85 => self.cancel(id_of(&order)).await,
            // Stays away: the hold runs out.
            _ => {}
        }
    }

    async fn reserve(&mut self) -> Option<Order> {
        let quantity = self.luck.random_range(1..=self.cap.min(2));
        let mut requests: Vec<[u8; 16]> = vec![self.luck.random()];
        for _ in 0..self.luck.random_range(0..3) {
            // The same request again, or another one that must come to the same order.
            let again = self.luck.random_bool(0.7);
            let request = if again { requests[0] } else { self.luck.random() };
            requests.push(request);
        }
        let give_up = Instant::now() + PATIENCE;
        let mut kept: Option<String> = None;
        while Instant::now() < give_up {
            let Some(ticket) = &kept else {
                match self.cell.join(&self.sale, self.key).await {
                    Ok((ticket, _)) => kept = Some(ticket),
                    Err(no) => self.consider(no).await?,
                }
                continue;
            };
            let tries = requests.iter().map(|&request| {
                self.cell.reserve(&self.sale, self.key, ticket, (quantity, request))
            });
            let answers = futures_util::future::join_all(tries).await;
            let (ended, orders): (Vec<&Order>, Vec<&Order>) =
                answers.iter().filter_map(|one| one.as_ref().ok()).partition(|one| has_ended(one));
            for order in &orders {
                self.told.lock().unwrap().hold(self.key, order);
            }
            if !ended.is_empty() && orders.is_empty() {
                // An answer was lost and the hold ran out meanwhile: that request is used up.
                requests = vec![self.luck.random()];
            }
            if let Some(order) = orders.first() {
                let one_order = orders.iter().all(|other| other.order == order.order);
                assert!(one_order, "one buyer, one ticket, two orders: {orders:?}");
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
                return Some((*order).clone());
            }
            for no in answers.into_iter().filter_map(Result::err) {
                if let No::Refused(Reason::TicketSpent | Reason::TicketExpired) = no {
                    kept = None;
                } else {
                    self.consider(no).await?;
                }
            }
        }
        None
    }

    async fn pay(&mut self, order: OrderId, card: &str) {
        let copies = self.luck.random_range(1..=2);
        for _ in 0..100 {
            let tries = (0..copies).map(|_| self.cell.pay(&self.sale, self.key, order, card));
            for answer in futures_util::future::join_all(tries).await {
                match answer {
                    Ok(paid) if paid.state() == State::Paid => {
                        let mut told = self.told.lock().unwrap();
                        assert_eq!(
                            paid.units, told.held[&order].units,
                            "other units were paid for"
                        );
                        told.paid.push(order);
                        return;
                    }
                    // A payment is under way, or people look into it.
                    Ok(_) => pause(&mut self.luck).await,
                    Err(no) => {
                        if self.consider(no).await.is_none() {
                            return;
                        }
                    }
                }
            }
        }
    }

    async fn cancel(&mut self, order: OrderId) {
        for _ in 0..100 {
            match self.cell.cancel(&self.sale, self.key, order).await {
                Ok(cancelled) => {
                    assert_eq!(cancelled.state(), State::Cancelled);
                    self.told.lock().unwrap().cancelled.push(order);
                    return;
                }
                Err(no) => {
                    if self.consider(no).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// What a buyer does who was told no: asks again after a moment, or gives up (none).
    async fn consider(&mut self, no: No) -> Option<()> {
        match no {
            No::Refused(reason) if reason.retry() == proto::fault::Retry::No => {
                *self.told.lock().unwrap().refused.entry(reason).or_default() += 1;
                None
            }
            No::Refused(_) | No::Lost => {
                pause(&mut self.luck).await;
                Some(())
            }
        }
    }
}

fn has_ended(order: &Order) -> bool {
    matches!(order.state(), State::Expired | State::Cancelled)
}

async fn pause(luck: &mut StdRng) {
    tokio::time::sleep(Duration::from_millis(luck.random_range(20..120))).await;
}
