//! Units that move between buckets while buyers want them: to where the line is, through the death of whoever gives or
//! takes them. The test plays the control plane, which asks and clears away.

use std::cell::Cell;
use std::sync::Arc;

use etcd_client::{Client as Etcd, PutOptions};
use futures_util::future::join_all;
use prost::Message;
use proto::fault::Reason;
use proto::id::BuyerKey;
use proto::keys;
use proto::wire::cell::{
    BucketPlan, CellRecord, SaleRecord, TicketKey, TransferRecord, UnitRange,
    sale_record::State as SaleState, transfer_record::State,
};
use proto::wire::storefront::order::State as OrderState;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{PgPool, Row};

use crate::audit::audit;
use crate::cell::{CellUnderTest, DEADLINE, GOOD_CARD, No, StateOf, id_of, name_of, seed, until};
use crate::line::Line;
use crate::planner::Planner;
use crate::sale::FIRST_UNIT;
use crate::short_sale;
use crate::storm::{Storm, Told};

/// A sale whose units lie in several buckets, in these cells.
pub(crate) fn sale_over(name: &str, cells: &[&str], units_each: u32, cap: u32) -> SaleRecord {
    let count = u32::try_from(cells.len()).unwrap();
    let plan = |(number, cell): (u32, &&str)| BucketPlan {
        cell: (*cell).into(),
        first_unit: FIRST_UNIT + number * units_each,
        units: units_each,
    };
    let buckets = (0..).zip(cells).map(plan).collect();
    SaleRecord { buckets, ..short_sale(name, count * units_each, cap) }
}

/// Starts one more cell, with its stores and a process, beside the first one.
async fn start_beside(cell: &CellUnderTest, name: &str, process: &str) {
    tokio::try_join!(cell.stack.start_postgres(name), cell.stack.start_redis(name)).unwrap();
    let mut etcd = Etcd::connect([cell.stack.endpoint("etcd").unwrap().url], None).await.unwrap();
    let first = etcd.get(format!("{}cell-1", keys::CELLS), None).await.unwrap();
    let first = CellRecord::decode(first.kvs()[0].value()).unwrap();
    let secret = TicketKey { kid: "t2".into(), ..first.ticket_keys[0].clone() };
    let record = CellRecord { cell: name.into(), ticket_keys: vec![secret], ..first };
    let key = format!("{}{name}", keys::CELLS);
    etcd.put(key, record.encode_to_vec(), None::<PutOptions>).await.unwrap();
    let url = cell.start_server_of(name, &format!("{name}/{process}"), process).await;
    cell.lines.lock().unwrap().insert(process.into(), Arc::new(Line::to(&url)));
}

/// A buyer whose bucket is `bucket` of `buckets`.
pub(crate) fn buyer_of(bucket: u32, buckets: u32, luck: &mut StdRng) -> BuyerKey {
    loop {
        let buyer = BuyerKey(luck.random());
        if buyer.bucket(buckets) == bucket {
            return buyer;
        }
    }
}

/// Lets buyers of one bucket buy a unit each; they wait as long as it takes.
pub(crate) async fn shop(
    cell: &CellUnderTest,
    sale: &SaleRecord,
    buyers: impl Iterator<Item = BuyerKey>,
) -> Told {
    let mut all = Told::default();
    for told in join_all(buyers.map(|buyer| buy(cell, &sale.sale, buyer))).await {
        all.held.extend(told.held);
        all.paid.extend(told.paid);
    }
    all
}

async fn buy(cell: &CellUnderTest, sale: &str, buyer: BuyerKey) -> Told {
    let mut told = Told::default();
    for request in 0.. {
        let order = cell.held(sale, buyer, (1, [request; 16])).await;
        told.hold(buyer, &order);
        let is_paid = until(DEADLINE, async || {
            match cell.pay(sale, buyer, id_of(&order), GOOD_CARD).await {
                Ok(paid) if paid.state() == OrderState::Paid => Ok(true),
                // The deaths took longer than the hold.
                Err(No::Refused(Reason::OrderExpired)) => Ok(false),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        if is_paid {
            told.paid.push(id_of(&order));
            break;
        }
    }
    told
}

/// Whether this cell's Postgres has its part of a transfer.
pub(crate) async fn has_written(pool: &PgPool, transfer: u8, accepted: bool) -> Result<(), String> {
    let row = sqlx::query("select count(*) from transfer where transfer = $1 and accepted = $2");
    let row = row.bind(uuid::Uuid::from_bytes([transfer; 16])).bind(accepted);
    let row = row.fetch_one(pool).await.map_err(|error| error.to_string())?;
    if row.get::<i64, _>(0) > 0 { Ok(()) } else { Err("nothing is written".into()) }
}

/// Kills a bucket's keeper at the moment at which its part of a transfer stands in Postgres, told or not.
async fn kill_at(
    cell: &CellUnderTest,
    sale: &SaleRecord,
    bucket: u32,
    (transfer, accepted): (u8, bool),
) {
    let home = &sale.buckets[usize::try_from(bucket).unwrap()].cell;
    let pool = cell.pool_of(home);
    loop {
        // Closer than `until` looks, to come between the commit and the news.
        if has_written(&pool, transfer, accepted).await.is_ok() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let (keeper, epoch) = cell.keeper_of(sale, bucket, 0).await;
    let server = if home == "cell-1" { name_of(&keeper) } else { format!("{home}/{keeper}") };
    cell.stack.kill(&server).await.unwrap();
    cell.stack.restart(&server).await.unwrap();
    cell.keeper_of(sale, bucket, epoch).await;
}

/// Everybody wants the second bucket's units; the first bucket's come to them in small portions, and keepers die at both
/// steps of several of these moves.
async fn all_units_go_where_the_buyers_are(cell: Arc<CellUnderTest>, sale: SaleRecord, seed: u64) {
    let mut luck = StdRng::seed_from_u64(seed);
    cell.decide(&sale).await;
    for bucket in 0..2 {
        cell.keeper_of(&sale, bucket, 0).await;
    }
    let buyers: Vec<_> = (0..sale.stock).map(|_| buyer_of(1, 2, &mut luck)).collect();
    let mut planner = Planner::of(&cell, &sale).await;
    let moves = move_everything(&cell, &sale, &mut planner, &mut luck);
    let (told, moved) = tokio::join!(shop(&cell, &sale, buyers.into_iter()), moves);
    assert_eq!(moved, sale.buckets[0].units, "all of them");
    assert_eq!(told.paid.len(), usize::try_from(sale.stock).unwrap(), "every unit is sold");
    audit(&cell, &sale, &told).await;
    until(DEADLINE, async || {
        let empty = planner.report(0).await.ok_or("no report")?;
        let counts = (empty.granted, empty.free, empty.live);
        if counts == (0, 0, 0) { Ok(()) } else { Err(format!("{empty:?}")) }
    })
    .await;
}

/// Moves the first bucket's units to the second until there are none, while keepers die. Returns how many were moved.
async fn move_everything(
    cell: &CellUnderTest,
    sale: &SaleRecord,
    planner: &mut Planner,
    luck: &mut StdRng,
) -> u32 {
    let mut moved = 0;
    for transfer in 1..60 {
        planner.ask(transfer, (0, Some(1)), luck.random_range(3..7)).await;
        match transfer {
            1 | 4 => kill_at(cell, sale, 0, (transfer, false)).await,
            2 | 5 => kill_at(cell, sale, 1, (transfer, true)).await,
            3 => {
                let giver = kill_at(cell, sale, 0, (transfer, false));
                let receiver = kill_at(cell, sale, 1, (transfer, true));
                tokio::join!(giver, receiver);
            }
            _ => {}
        }
        match planner.end(transfer).await {
            0 => break,
            units => moved += units,
        }
    }
    moved
}

#[tokio::test]
async fn inv_2_units_move_between_buckets_of_a_cell_through_deaths() {
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = sale_over("twins", &["cell-1", "cell-1"], 24, 1);
    let sale = SaleRecord { hold_ttl_ms: 20_000, ..sale };
    all_units_go_where_the_buyers_are(cell, sale, seed()).await;
}

#[tokio::test]
async fn inv_2_units_move_between_cells_through_deaths() {
    let cell = CellUnderTest::start(&["p1"]).await;
    start_beside(&cell, "cell-2", "q1").await;
    let sale = sale_over("far", &["cell-1", "cell-2"], 24, 1);
    let sale = SaleRecord { hold_ttl_ms: 20_000, ..sale };
    all_units_go_where_the_buyers_are(cell, sale, seed()).await;
}

#[tokio::test]
async fn inv_1_units_move_to_and_fro_in_a_storm() {
    let seed = seed();
    let mut luck = StdRng::seed_from_u64(seed);
    let cell = CellUnderTest::start(&["p1", "p2"]).await;
    let sale = sale_over("storm", &["cell-1", "cell-1", "cell-1"], 16, 2);
    cell.decide(&sale).await;
    for bucket in 0..3 {
        cell.keeper_of(&sale, bucket, 0).await;
    }
    let storm = Storm::begin(&cell, &sale, 120, seed);
    storm.held(6).await;
    let rages = Cell::new(true);
    let mut planner = Planner::of(&cell, &sale).await;
    let moves = async {
        let mut moved = 0;
        for transfer in 1..=200_u8 {
            if !rages.get() {
                break;
            }
            let from = luck.random_range(0..3);
            let to = (from + luck.random_range(1..3)) % 3;
            planner.ask(transfer, (from, Some(to)), luck.random_range(1..6)).await;
            moved += planner.end(transfer).await;
            if transfer == 12 {
                // Redis forgets all about units that left and came.
                cell.stack.kill("cell-1/redis").await.unwrap();
                cell.stack.restart("cell-1/redis").await.unwrap();
            }
        }
        moved
    };
    let raging = async {
        let told = storm.end().await;
        rages.set(false);
        told
    };
    let (told, moved) = tokio::join!(raging, moves);
    println!("{moved} units were moved");
    assert!(moved > 0);
    audit(&cell, &sale, &told).await;
}

#[tokio::test]
async fn inv_2_the_merchant_adds_units_and_takes_them_back() {
    let cell = CellUnderTest::start(&["p1"]).await;
    let sale = sale_over("stock", &["cell-1", "cell-1"], 4, 4);
    cell.decide(&sale).await;
    for bucket in 0..2 {
        cell.keeper_of(&sale, bucket, 0).await;
    }
    let mut planner = Planner::of(&cell, &sale).await;
    let mut luck = StdRng::seed_from_u64(1);
    let held = cell.held("stock", buyer_of(0, 2, &mut luck), (3, [1; 16])).await;
    // One is free, and there is only one to have.
    planner.ask(1, (0, None), 9).await;
    assert_eq!(planner.end(1).await, 1);
    planner.ask(2, (0, None), 9).await;
    assert_eq!(planner.end(2).await, 0);
    let buyer = buyer_of(0, 2, &mut luck);
    let (ticket, _) =
        until(DEADLINE, async || cell.join("stock", buyer).await.map_err(|no| format!("{no:?}")))
            .await;
    let before = cell.reserve("stock", buyer, &ticket, (2, [2; 16])).await;
    assert!(
        matches!(before, Err(No::Refused(Reason::NotAdmitted | Reason::NoUnitNow))),
        "{before:?}"
    );
    let line = until(DEADLINE, async || {
        let report = planner.report(0).await.ok_or("no report")?;
        if report.wanted > 0 { Ok(report) } else { Err(format!("{report:?}")) }
    })
    .await;
    assert_eq!((line.granted, line.free, line.live, line.wanted_min), (3, 0, 3, 1), "{line:?}");

    let new = [UnitRange { first: 900, units: 2 }, UnitRange { first: 950, units: 1 }];
    let added = TransferRecord {
        to: Some(0),
        wanted: 3,
        units: new.to_vec(),
        state: State::Given.into(),
        ..TransferRecord::default()
    };
    planner.begin(3, added).await;
    assert_eq!(planner.end(3).await, 3);
    let more = cell.held("stock", buyer, (2, [3; 16])).await;
    assert_eq!(more.units, [900, 901]);
    assert_eq!(held.units.len(), 3);

    // A bucket does not come to rest while it is to give or to accept; and one at rest answers all the same.
    let over = SaleRecord { state: SaleState::Cancelled.into(), update_ms: 2, ..sale.clone() };
    cell.decide(&over).await;
    until(DEADLINE, async || match planner.report(1).await {
        Some(report) if report.settled => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    planner.ask(4, (1, Some(0)), 4).await;
    assert_eq!(planner.end(4).await, 0, "nobody keeps it any more");
    let late = TransferRecord {
        to: Some(1),
        units: vec![UnitRange { first: 2_000, units: 5 }],
        state: State::Given.into(),
        ..TransferRecord::default()
    };
    planner.begin(5, late).await;
    assert_eq!(planner.end(5).await, 5);
    // The control plane must know of them before it sees that nothing is on its way, or the books would not add up.
    let last = planner.report(1).await.unwrap();
    assert_eq!((last.settled, last.granted, last.free), (true, 4 + 5, 4 + 5), "{last:?}");
    let sale = SaleRecord { stock: 4 - 1 + 3 + 4 + 5 + 1, ..sale };
    audit(&cell, &sale, &Told::default()).await;
}
