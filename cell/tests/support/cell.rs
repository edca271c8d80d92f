//! A cell as a black box: real stores, real processes, and a test that plays the control plane and the routers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use etcd_client::Client as Etcd;
use floodgate_cell::ledger::BucketRef;
use local::{KeyFiles, PlaneBinaries, PlaneSpec, Stack, StackOptions};
use prost::Message;
use proto::fault::Reason;
use proto::id::{BuyerKey, OrderId};
use proto::keys;
use proto::ticket::TicketKey;
use proto::wire::cell::answer::Kind as Answer;
use proto::wire::cell::call::Kind as Asked;
use proto::wire::cell::{
    Call, Cancel, CellRecord, Checkout, Join, Order, Refund, Reserve, SaleRecord, Show,
};
use proto::wire::storefront::order::State;
use sqlx::{PgPool, Row};

use crate::line::Line;

/// The cell.
const CELL: &str = "cell-1";
/// Long enough for a slow machine; nobody waits that long unless something is wrong.
pub(crate) const DEADLINE: Duration = Duration::from_secs(45);
/// How long a call may take.
const CALL_MS: u32 = 4_000;
/// Names the bug that processes built for drills plant in themselves.
const SEEDED_BUG: &str = "FLOODGATE_SEEDED_BUG";
/// The secret of the cell's tickets.
const TICKETS: (&str, [u8; 32]) = ("t1", [5; 32]);
/// A card that is good, and one that is declined.
pub(crate) const GOOD_CARD: &str = "pm_card_visa";
pub(crate) const BAD_CARD: &str = "pm_card_chargeDeclined";

/// Why a call has no order or place for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// The cell refused.
    Refused(Reason),
    /// Nobody knows whether it was carried out.
    Lost,
}

/// The running cell.
pub(crate) struct CellUnderTest {
    pub(crate) stack: Stack,
    /// As the superuser, who sees everything.
    pub(crate) pool: PgPool,
    /// By process.
    pub(crate) lines: Mutex<BTreeMap<String, Arc<Line>>>,
    /// How many buckets a sale has.
    buckets: Mutex<BTreeMap<String, u32>>,
}

impl CellUnderTest {
    /// Stores, provider, etcd, and processes `p1`, `p2`, ….
    pub(crate) async fn start(processes: &[&str]) -> Arc<CellUnderTest> {
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let (etcd, ..) = tokio::try_join!(
            stack.start_etcd(),
            stack.start_postgres(CELL),
            stack.start_redis(CELL),
            stack.start_provider(),
        )
        .unwrap();
        let record = CellRecord {
            cell: CELL.into(),
            ticket_keys: vec![proto::wire::cell::TicketKey {
                kid: TICKETS.0.into(),
                secret: TICKETS.1.to_vec(),
            }],
            create_ms: 1,
            overflow: false,
        };
        let mut client = Etcd::connect([&etcd.url], None).await.unwrap();
        client.put(format!("{}{CELL}", keys::CELLS), record.encode_to_vec(), None).await.unwrap();
        let pool = PgPool::connect_lazy(&stack.postgres_admin_url(CELL).unwrap()).unwrap();
        let cell =
            CellUnderTest { stack, pool, lines: Mutex::default(), buckets: Mutex::default() };
        for process in processes {
            cell.start_process(process).await;
        }
        Arc::new(cell)
    }

    /// Starts one more process.
    pub(crate) async fn start_process(&self, process: &str) {
        let url = self.start_server(&name_of(process), process).await;
        self.lines.lock().unwrap().insert(process.into(), Arc::new(Line::to(&url)));
    }

    /// Starts a process under a name of its own in the stack. Returns where it can be reached.
    pub(crate) async fn start_server(&self, name: &str, process: &str) -> String {
        self.start_server_of(CELL, name, process).await
    }

    /// The same of any cell.
    pub(crate) async fn start_server_of(&self, cell: &str, name: &str, process: &str) -> String {
        let url = |name: &str| self.stack.endpoint(name).unwrap().url;
        let ledger = KeyFiles::ledger(self.stack.folder(), CELL).unwrap();
        let args = [
            ("--cell", cell.to_owned()),
            ("--ledger-key", ledger.private.display().to_string()),
            ("--process", process.to_owned()),
            ("--etcd", url("etcd")),
            ("--postgres", url(&format!("{cell}/postgres"))),
            ("--postgres-owner", self.stack.postgres_owner_url(cell).unwrap()),
            ("--provider", url("provider")),
        ];
        let spec = PlaneSpec {
            name: name.to_owned(),
            program: PlaneBinaries::find().program("floodgate-cell").unwrap(),
            args: args
                .iter()
                .flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()])
                .collect(),
            env: std::iter::once(("FLOODGATE_REDIS".to_owned(), url(&format!("{cell}/redis"))))
                .chain(std::env::var(SEEDED_BUG).map(|bug| (SEEDED_BUG.to_owned(), bug)))
                .collect(),
        };
        self.stack.start_plane(&spec).await.unwrap().url
    }

    /// Decides about a sale.
    pub(crate) async fn decide(&self, sale: &SaleRecord) {
        let buckets = u32::try_from(sale.buckets.len()).unwrap();
        self.buckets.lock().unwrap().insert(sale.sale.clone(), buckets);
        let etcd = self.stack.endpoint("etcd").unwrap().url;
        let mut client = Etcd::connect([etcd], None).await.unwrap();
        let key = format!("{}{}", keys::SALES, sale.sale);
        client.put(key, sale.encode_to_vec(), None).await.unwrap();
    }

    /// Opens a sale and waits until some process keeps its bucket.
    pub(crate) async fn open(&self, sale: &SaleRecord) {
        self.decide(sale).await;
        self.keeper_after(sale, 0).await;
    }

    /// Waits until a process has a sale's record on disk, where it finds it without etcd.
    pub(crate) async fn remembers(&self, process: &str, sale: &SaleRecord) {
        let file = self.stack.folder().join(name_of(process)).join("decisions");
        let key = format!("{}{}", keys::SALES, sale.sale);
        until(DEADLINE, async || {
            let bytes = std::fs::read(&file).map_err(|error| error.to_string())?;
            let found = bytes.windows(key.len()).any(|window| window == key.as_bytes());
            if found { Ok(()) } else { Err(format!("{process} has no {key} on disk")) }
        })
        .await;
    }

    /// The process that keeps the sale's bucket under an epoch above `epoch` and says so, and its epoch.
    pub(crate) async fn keeper_after(&self, sale: &SaleRecord, epoch: u64) -> (String, u64) {
        self.keeper_of(sale, 0, epoch).await
    }

    /// The same of any of the sale's buckets.
    pub(crate) async fn keeper_of(
        &self,
        sale: &SaleRecord,
        bucket: u32,
        epoch: u64,
    ) -> (String, u64) {
        until(DEADLINE, async || {
            let newest = self.newest(&sale.sale, bucket);
            let (name, _, newest) = newest.ok_or("nobody keeps the bucket")?;
            if newest > epoch { Ok((name, newest)) } else { Err(format!("the epoch is {newest}")) }
        })
        .await
    }

    /// The process that keeps the sale's first bucket, and its epoch, as far as is told.
    #[allow(dead_code, reason = "most tests wait for one")]
    pub(crate) fn told(&self, sale: &str) -> Option<(String, u64)> {
        self.newest(sale, 0).map(|(name, _, epoch)| (name, epoch))
    }

    fn newest(&self, sale: &str, bucket: u32) -> Option<(String, Arc<Line>, u64)> {
        let lines = self.lines.lock().unwrap();
        let told = lines.iter().filter_map(|(name, line)| {
            Some((name.clone(), line.clone(), line.state_of(sale, bucket)?.epoch))
        });
        told.max_by_key(|(_, _, epoch)| *epoch)
    }

    /// Sends one call to the keeper, as far as is known.
    pub(crate) async fn call(
        &self,
        sale: &str,
        buyer: BuyerKey,
        asked: Asked,
    ) -> Result<Answer, No> {
        let bucket = self.bucket_of(sale, buyer);
        let Some((_, line, _)) = self.newest(sale, bucket) else { return Err(No::Lost) };
        self.call_over(&line, sale, buyer, asked).await
    }

    fn bucket_of(&self, sale: &str, buyer: BuyerKey) -> u32 {
        buyer.bucket(self.buckets.lock().unwrap().get(sale).copied().unwrap_or(1))
    }

    /// Sends one call to a process that need not be the keeper, and says what it answers.
    pub(crate) async fn call_at(&self, process: &str, call: Call) -> Option<Answer> {
        let line = self.lines.lock().unwrap().get(process).cloned().unwrap();
        line.call(call).await
    }

    /// Sends one call to a process, and once more to whoever it says keeps the bucket.
    async fn call_over(
        &self,
        line: &Line,
        sale: &str,
        buyer: BuyerKey,
        asked: Asked,
    ) -> Result<Answer, No> {
        let bucket = self.bucket_of(sale, buyer);
        let call = Call {
            time_left_ms: CALL_MS,
            sale: sale.into(),
            bucket,
            buyer: buyer.0.to_vec().into(),
            kind: Some(asked),
            ..Call::default()
        };
        let patience = Duration::from_millis(u64::from(CALL_MS) / 2);
        let answered = tokio::time::timeout(patience, line.call(call.clone())).await;
        let mut answer = answered.ok().flatten().ok_or(No::Lost)?;
        if let Answer::Elsewhere(there) = &answer {
            let other = self.lines.lock().unwrap().get(&there.process).cloned();
            let Some(other) = other else { return Err(No::Refused(Reason::BucketMoving)) };
            let answered = tokio::time::timeout(patience, other.call(call)).await;
            answer = answered.ok().flatten().ok_or(No::Lost)?;
        }
        match answer {
            Answer::Elsewhere(_) => Err(No::Refused(Reason::BucketMoving)),
            Answer::Refusal(refusal) => {
                let reason = Reason::from_number(refusal.reason).expect("a reason of the list");
                let later = reason.retry() == proto::fault::Retry::Later;
                assert_eq!(refusal.retry_after_ms > 0, later, "{reason:?}");
                Err(No::Refused(reason))
            }
            answer => Ok(answer),
        }
    }

    /// Joins: the ticket and its rank.
    pub(crate) async fn join(&self, sale: &str, buyer: BuyerKey) -> Result<(String, u64), No> {
        match self.call(sale, buyer, Asked::Join(Join {})).await? {
            Answer::Place(place) => Ok((place.ticket, place.rank)),
            other => panic!("a join was answered with {other:?}"),
        }
    }

    /// Reserves.
    pub(crate) async fn reserve(
        &self,
        sale: &str,
        buyer: BuyerKey,
        ticket: &str,
        (quantity, request_id): (u32, [u8; 16]),
    ) -> Result<Order, No> {
        let (ticket, request_id) = (ticket.to_owned(), request_id.to_vec());
        let asked = Asked::Reserve(Reserve { ticket, quantity, request_id });
        self.order(sale, buyer, asked).await
    }

    /// Pays.
    pub(crate) async fn pay(
        &self,
        sale: &str,
        buyer: BuyerKey,
        order: OrderId,
        card: &str,
    ) -> Result<Order, No> {
        let asked = Checkout { order: order.0.to_vec(), payment_method: card.into() };
        self.order(sale, buyer, Asked::Checkout(asked)).await
    }

    /// Gives back.
    pub(crate) async fn cancel(
        &self,
        sale: &str,
        buyer: BuyerKey,
        order: OrderId,
    ) -> Result<Order, No> {
        let asked = Asked::Cancel(Cancel { order: order.0.to_vec() });
        self.order(sale, buyer, asked).await
    }

    /// Refunds.
    pub(crate) async fn refund(
        &self,
        sale: &str,
        buyer: BuyerKey,
        order: OrderId,
    ) -> Result<Order, No> {
        let asked = Asked::Refund(Refund { order: order.0.to_vec() });
        self.order(sale, buyer, asked).await
    }

    /// Looks at an order.
    pub(crate) async fn show(
        &self,
        sale: &str,
        buyer: BuyerKey,
        order: OrderId,
    ) -> Result<Order, No> {
        self.order(sale, buyer, Asked::Show(Show { order: order.0.to_vec() })).await
    }

    async fn order(&self, sale: &str, buyer: BuyerKey, asked: Asked) -> Result<Order, No> {
        match self.call(sale, buyer, asked).await? {
            Answer::Order(order) => Ok(order),
            other => panic!("an order was expected, not {other:?}"),
        }
    }

    /// Joins and reserves, however often it takes.
    pub(crate) async fn held(
        &self,
        sale: &str,
        buyer: BuyerKey,
        (quantity, request_id): (u32, [u8; 16]),
    ) -> Order {
        until(DEADLINE, async || {
            let (ticket, _) = self.join(sale, buyer).await.map_err(|no| format!("join: {no:?}"))?;
            let held = self.reserve(sale, buyer, &ticket, (quantity, request_id)).await;
            held.map_err(|no| format!("reserve: {no:?}"))
        })
        .await
    }

    /// What the cell signs tickets with.
    pub(crate) fn ticket_key() -> TicketKey {
        TicketKey::new(TICKETS.0, &TICKETS.1)
    }

    /// A cell's Postgres, as the superuser.
    pub(crate) fn pool_of(&self, cell: &str) -> PgPool {
        PgPool::connect_lazy(&self.stack.postgres_admin_url(cell).unwrap()).unwrap()
    }

    /// A sale's first bucket, by its aliases.
    pub(crate) async fn bucket(&self, sale: &str) -> BucketRef {
        let row = sqlx::query("select org, sale from sale where id = $1").bind(sale);
        let row = row.fetch_one(&self.pool).await.unwrap();
        BucketRef { org: row.get(0), sale: row.get(1), bucket: 0 }
    }
}

/// A process's name in the stack.
pub(crate) fn name_of(process: &str) -> String {
    format!("{CELL}/{process}")
}

/// Asks again and again until it is so, and fails with what was wrong last.
pub(crate) async fn until<T>(limit: Duration, mut so: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match so().await {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "after {limit:?} still: {why}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What an answer says of an order's state, which crosses the link as a number.
pub(crate) trait StateOf {
    fn state(&self) -> State;
}

impl StateOf for Order {
    fn state(&self) -> State {
        State::try_from(self.state).unwrap()
    }
}

/// The id of an order in an answer.
pub(crate) fn id_of(order: &Order) -> OrderId {
    OrderId::try_from(&order.order[..]).unwrap()
}

/// `FLOODGATE_SEED`, or one that is drawn; printed either way.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("FLOODGATE_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().expect("FLOODGATE_SEED is a number"));
    println!("FLOODGATE_SEED={seed}");
    seed
}
