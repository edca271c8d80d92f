//! Random lives of a sale's two buckets on real stores, against a model that is plain enough to be believed.
//!
//! The test plays both keepers: it asks Redis, commits to Postgres, follows in Redis, moves units from one bucket to the
//! other, and takes over. After every step both stores must say what the model says, unit by unit. `FLOODGATE_SEED`
//! chooses the lives; one that failed is kept beside this file and lived again first.

mod compare;
mod fates;
mod keeper;
mod plain;
mod refused;
mod reign;
mod sale;
mod transfers;

use proptest::prelude::*;
use proptest::test_runner::{
    Config, FailurePersistence, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng,
    TestRunner,
};

use crate::stores::Stores;
use sale::Sale;

/// Lives, and the most steps of one.
const CASES: u32 = 40;
const STEPS_MAX: usize = 60;
/// What a life that failed is made shorter with, before it is shown.
const SHRINK_TRIES_MAX: u32 = 400;
/// Of each bucket; few, so that they meet.
const BUYERS: u32 = 3;
const UNITS: u32 = 6;
const CAP: u32 = 3;

/// One hold of a batch: the ticket is the buyer's own, or one that they never got.
#[derive(Clone, Debug)]
struct Try {
    buyer: u32,
    quantity: u32,
    /// Asks again under the buyer's last request id instead of a new one.
    again: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Cancel,
    Expire,
    Pay,
    Decline,
    Pending,
    /// The order is paid, and its money goes back; or that is only begun.
    Refund,
    BeginRefund,
}

/// How far something comes that is done in both stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    /// Postgres refuses, and Redis is told so.
    Undone,
    /// The keeper dies before Postgres hears of it.
    DiesBefore,
    /// The keeper dies after Postgres has committed.
    DiesAfter,
}

/// What happens in one bucket.
#[derive(Clone, Debug)]
enum Act {
    Join(Vec<u32>),
    Hold(Vec<Try>, End),
    /// What happens to some of the orders, in one batch.
    Settle {
        orders: Vec<(usize, Fate)>,
        /// Whether Redis hears of it before the keeper dies.
        follow: bool,
        /// Redis hears everything twice.
        twice: bool,
    },
    /// The last batches once more.
    Again,
    /// Somebody acts under an older epoch.
    Stale,
    /// The bucket is taken over; at first by somebody who dies in the middle of it.
    TakeOver {
        twice: bool,
    },
    /// Free units leave, at most so many: to the other bucket, or back to the merchant.
    Give {
        to_merchant: bool,
        most: u32,
        end: End,
    },
    /// The merchant adds so many.
    Add {
        units: u32,
        end: End,
    },
}

#[derive(Clone, Debug)]
enum Step {
    In(usize, Act),
    /// Units that are in transit arrive.
    Accept {
        which: usize,
        end: End,
    },
    /// Redis loses everything.
    Wipe,
}

fn one_try() -> impl Strategy<Value = Try> {
    // Small ones, so that one buyer has several orders.
    let quantity = prop_oneof![3 => Just(1), 1 => 2..=CAP];
    (0..BUYERS, quantity, prop::bool::weighted(0.2)).prop_map(|(buyer, quantity, again)| Try {
        buyer,
        quantity,
        again,
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        9 => Just(End::Done),
        1 => Just(End::Undone),
        1 => Just(End::DiesBefore),
        1 => Just(End::DiesAfter),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let fate = prop_oneof![
        2 => Just(Fate::Cancel),
        2 => Just(Fate::Expire),
        3 => Just(Fate::Pay),
        1 => Just(Fate::Decline),
        1 => Just(Fate::Pending),
        3 => Just(Fate::Refund),
        1 => Just(Fate::BeginRefund),
    ];
    let orders = prop::collection::vec((0_usize..8, fate), 1..4);
    let (follow, twice) = (prop::bool::weighted(0.85), prop::bool::weighted(0.2));
    prop_oneof![
        4 => prop::collection::vec(0..BUYERS, 1..5).prop_map(Act::Join),
        7 => (prop::collection::vec(one_try(), 1..6), end())
            .prop_map(|(tries, end)| Act::Hold(tries, end)),
        6 => (orders, follow, twice)
            .prop_map(|(orders, follow, twice)| Act::Settle { orders, follow, twice }),
        2 => Just(Act::Again),
        1 => Just(Act::Stale),
        1 => any::<bool>().prop_map(|twice| Act::TakeOver { twice }),
        3 => (prop::bool::weighted(0.2), 1..UNITS, end())
            .prop_map(|(to_merchant, most, end)| Act::Give { to_merchant, most, end }),
        1 => (1..4_u32, end()).prop_map(|(units, end)| Act::Add { units, end }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..2_usize, act()).prop_map(|(bucket, act)| Step::In(bucket, act)),
        3 => (0..4_usize, end()).prop_map(|(which, end)| Step::Accept { which, end }),
        1 => Just(Step::Wipe),
    ]
}

#[test]
fn both_stores_live_as_the_model_does() {
    let seed: u64 = std::env::var("FLOODGATE_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("FLOODGATE_SEED is a number"));
    println!("FLOODGATE_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    // What fails for a bug that was planted is no case to remember.
    let seeded = std::env::var("FLOODGATE_SEEDED_BUG").is_ok_and(|bug| !bug.is_empty());
    let config = Config {
        cases: CASES,
        max_shrink_iters: SHRINK_TRIES_MAX,
        failure_persistence: (!seeded).then(|| -> Box<dyn FailurePersistence> {
            Box::new(FileFailurePersistence::WithSource("regressions"))
        }),
        source_file: Some(file!()),
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let stores = runtime.block_on(Stores::start());
    let number = std::cell::Cell::new(0);
    let ran = runner.run(&prop::collection::vec(step(), 1..STEPS_MAX), |steps| {
        number.set(number.get() + 1);
        let sale = format!("s{:03}", number.get());
        let life = std::panic::AssertUnwindSafe(|| runtime.block_on(live(&stores, &sale, &steps)));
        std::panic::catch_unwind(life).map_err(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            TestCaseError::fail(said.unwrap_or_else(|| "a life ended badly".into()))
        })
    });
    if let Err(error) = ran {
        panic!("FLOODGATE_SEED={seed}: {error}");
    }
}

async fn live(stores: &Stores, sale: &str, steps: &[Step]) {
    let mut sale = Sale::begin(stores, sale).await;
    for step in steps {
        sale.step(step).await;
        sale.compare().await;
    }
    sale.end().await;
}
