//! Random lives of a bucket on real stores, against a model that is plain enough to be believed.
//!
//! The test plays the keeper: it asks Redis, commits to Postgres, follows in Redis, and takes over. After every step
//! both stores must say what the model says, unit by unit. `FLOODGATE_SEED` chooses the lives.

mod compare;
mod keeper;
mod plain;

use proptest::prelude::*;
use proptest::test_runner::{
    Config, FailurePersistence, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng,
    TestRunner,
};

use crate::stores::Stores;
use keeper::Keeper;

/// Lives, and the most steps of one.
const CASES: u32 = 24;
const STEPS_MAX: usize = 30;
/// Buyers, units and cap: few, so that they meet.
const BUYERS: u32 = 6;
const UNITS: u32 = 9;
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
}

#[derive(Clone, Debug)]
enum Step {
    Join(Vec<u32>),
    Hold(Vec<Try>),
    /// A hold that Redis grants and that is never committed.
    Undo(Try),
    /// What happens to some of the live orders, in one batch; `follow` says whether Redis hears of it.
    Settle {
        orders: Vec<(usize, Fate)>,
        follow: bool,
    },
    /// The last batches once more.
    Again,
    /// Somebody acts under an older epoch.
    Stale,
    /// Redis loses everything, or nothing; the bucket is taken over.
    TakeOver {
        wipe: bool,
    },
}

fn one_try() -> impl Strategy<Value = Try> {
    (0..BUYERS, 1..=CAP, prop::bool::weighted(0.15)).prop_map(|(buyer, quantity, again)| Try {
        buyer,
        quantity,
        again,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![
        2 => Just(Fate::Cancel),
        2 => Just(Fate::Expire),
        2 => Just(Fate::Pay),
        1 => Just(Fate::Decline),
        1 => Just(Fate::Pending),
    ];
    prop_oneof![
        4 => prop::collection::vec(0..BUYERS, 1..5).prop_map(Step::Join),
        6 => prop::collection::vec(one_try(), 1..6).prop_map(Step::Hold),
        1 => one_try().prop_map(Step::Undo),
        5 => (prop::collection::vec((0_usize..8, fate), 1..4), prop::bool::weighted(0.85))
            .prop_map(|(orders, follow)| Step::Settle { orders, follow }),
        2 => Just(Step::Again),
        1 => Just(Step::Stale),
        2 => any::<bool>().prop_map(|wipe| Step::TakeOver { wipe }),
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
        max_shrink_iters: 200,
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
    let mut keeper = Keeper::begin(stores, sale).await;
    for step in steps {
        keeper.step(step).await;
        keeper.compare().await;
    }
    stores.ledger(keeper.bucket.bucket).await;
}
