//! Mass expiry: holds of one sale that end in the same second, while others reserve beside them.
//!
//! The holds are made over the link, their deadlines are then drawn into one second, and the process is started again, so
//! that its keepers find them. Afterwards everything is counted from the stores: what the ledger says of each hold, and
//! whether Redis has every unit free that Postgres has.

mod counted;

use crate::figure::{Budget, Figure};
use crate::sale::Cell;
use crate::stock::admit_all;
use anyhow::{Context, Result, ensure};
use counted::{all_returned_once, redis_agrees};
use futures_util::StreamExt;
use prost::bytes::Bytes;
use proto::id::BuyerKey;
use proto::limits::BATCH_CALLS_MAX;
use proto::ticket::{Ticket, TicketKey};
use proto::wire::admin::sale::Class;
use proto::wire::cell::link_service_client::LinkServiceClient;
use proto::wire::cell::{Call, Frame, Reserve, WatchBucketsRequest, answer, call};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::PgPool;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// How often it is done; what all of them took is put together, because a percentile of two seconds says little.
const ROUNDS: usize = 3;
/// Holds that end together, and into how many buckets they are divided.
const HOLDS: u32 = 50_000;
const BUCKETS: [u32; 2] = [1, 4];
const SALE: &str = "sexpiry";
const STOCK: u32 = 200_000;
/// Reserves beside them, over all buckets, in frames of a few.
const RESERVES_PER_S: u32 = 1_000;
const FRAME_EVERY: Duration = Duration::from_millis(5);
/// From the draw of the deadlines to the first of them: the process starts and the load shows what it does in quiet.
const LEAD_US: i64 = 16_000_000;
/// How much of the load before the deadlines counts, and how long it goes on after the first of them.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(5);
/// Until every hold has ended, or never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// Calls under way while the holds are made.
const UNDER_WAY: usize = 1_024;

/// Takes the figures once for each number of buckets.
pub(crate) async fn measure() -> Result<()> {
    for buckets in BUCKETS {
        let mut all = Seen::default();
        for _ in 0..ROUNDS {
            let cell = Cell::start(&["--threads", "1"]).await?;
            all.add(run(&cell, buckets).await?);
        }
        say(buckets, all)?;
    }
    Ok(())
}

/// What there was to see, of one round or of all.
#[derive(Debug, Default)]
struct Seen {
    /// How long each reserve took before the first deadline, and while holds were ended.
    quiet: Vec<Duration>,
    rush: Vec<Duration>,
    /// How late each hold ended by Postgres' clock, in microseconds.
    late_us: Vec<i64>,
    /// Units that were free in the end, the fewest of all rounds.
    free: Option<u32>,
    settings: String,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.quiet.extend(other.quiet);
        self.rush.extend(other.rush);
        self.late_us.extend(other.late_us);
        self.quiet.sort_unstable();
        self.rush.sort_unstable();
        self.late_us.sort_unstable();
        self.free = self.free.into_iter().chain(other.free).min();
        self.settings = other.settings;
    }
}

async fn run(cell: &Cell, buckets: u32) -> Result<Seen> {
    let pool = cell.postgres().await?;
    let mut buyers = Buyers::new(buckets);
    cell.open_sale_in(SALE, STOCK, Class::Flash, buckets).await?;
    admit_all(&pool, SALE).await?;
    cell.stack().restart("cell-1/p1").await?;
    let address = cell.stack().endpoint("cell-1/p1")?.url;
    wait_until_open(&address, buckets).await?;
    fill(&address, &mut buyers).await?;

    cell.stack().stop("cell-1/p1").await?;
    let first_us = draw_deadlines(&pool).await?;
    cell.stack().restart("cell-1/p1").await?;
    let address = cell.stack().endpoint("cell-1/p1")?.url;
    wait_until_open(&address, buckets).await?;
    let (now_us, now): (i64, _) = (now_us(&pool).await?, Instant::now());
    let lead = u64::try_from(first_us - now_us).context("the process took too long to start")?;
    let due = now + Duration::from_micros(lead);
    ensure!(lead > u64::try_from(BEFORE.as_micros())? + 1_000_000, "it took too long to start");
    let took = reserve(&address, &mut buyers, due).await?;

    let late_us = all_returned_once(&pool).await?;
    let ended_us = late_us.iter().max().map_or(0, |last| 1_000_000 + *last);
    let ended = due + Duration::from_micros(u64::try_from(ended_us)?);
    let within = |from: Instant, to: Instant| {
        let some = took.iter().filter(|(at, _)| (from..to).contains(at));
        some.map(|(_, took)| *took).collect()
    };
    Ok(Seen {
        quiet: within(due - BEFORE, due),
        rush: within(due, ended),
        late_us,
        free: Some(redis_agrees(cell, &pool, buckets).await?),
        settings: cell.settings().await?,
    })
}

/// Buyers who have not asked yet, each with a ticket of their own.
struct Buyers {
    key: TicketKey,
    rng: StdRng,
    /// The next rank of each bucket.
    ranks: Vec<u64>,
    asked: u64,
}

impl Buyers {
    fn new(buckets: u32) -> Buyers {
        let ranks = vec![0; buckets as usize];
        Buyers {
            key: Cell::ticket_key(),
            rng: StdRng::seed_from_u64(buckets.into()),
            ranks,
            asked: 0,
        }
    }

    fn frame(&mut self, calls: usize) -> Frame {
        Frame::of(&(0..calls).map(|_| self.call()).collect::<Vec<_>>())
    }

    fn call(&mut self) -> Call {
        let number = usize::try_from(self.asked).unwrap_or(0) % self.ranks.len();
        let bucket = u32::try_from(number).unwrap_or(0);
        let buyer = BuyerKey(self.rng.random());
        let index = self.ranks[number];
        let ticket = Ticket { sale: SALE.into(), bucket, buyer, window: 0, index, weight: 1 };
        let request_id: [u8; 16] = self.rng.random();
        self.ranks[number] += 1;
        self.asked += 1;
        let reserve = Reserve {
            ticket: self.key.sign(&ticket),
            quantity: 1,
            request_id: request_id.to_vec(),
        };
        Call {
            id: self.asked,
            time_left_ms: 10_000,
            sale: SALE.into(),
            bucket,
            buyer: Bytes::copy_from_slice(&buyer.0),
            kind: Some(call::Kind::Reserve(reserve)),
            ..Call::default()
        }
    }
}

async fn client(address: &str) -> Result<LinkServiceClient<tonic::transport::Channel>> {
    let endpoint = tonic::transport::Endpoint::from_shared(address.to_owned())?
        .initial_connection_window_size(16 * 1024 * 1024)
        .initial_stream_window_size(16 * 1024 * 1024);
    Ok(LinkServiceClient::new(endpoint.connect().await?))
}

/// Waits until the process has told of every bucket, which it does once they are open.
async fn wait_until_open(address: &str, buckets: u32) -> Result<()> {
    let watched = client(address).await?.watch_buckets(WatchBucketsRequest {}).await?;
    let (mut watched, mut open) = (watched.into_inner(), HashSet::new());
    while open.len() < buckets as usize {
        let told = watched.next().await.context("the process has ended")??;
        open.extend(told.buckets.iter().map(|state| state.bucket));
    }
    Ok(())
}

/// Makes the holds, as fast as the cell takes them.
async fn fill(address: &str, buyers: &mut Buyers) -> Result<()> {
    let (send, sent) = mpsc::channel(2);
    let mut answers = client(address).await?.flash(ReceiverStream::new(sent)).await?.into_inner();
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let room = under_way.clone();
    let sending = async move {
        let mut left = HOLDS as usize;
        while left > 0 {
            let frame = buyers.frame(left.min(BATCH_CALLS_MAX));
            left -= frame.calls.len();
            room.acquire_many(u32::try_from(frame.calls.len())?).await?.forget();
            send.send(frame).await?;
        }
        // The stream stays open until everything is answered.
        Ok::<_, anyhow::Error>(send)
    };
    let receiving = async {
        let mut held = 0;
        while held < HOLDS {
            let frame = answers.next().await.context("the stream has ended")??;
            under_way.add_permits(frame.answers.len());
            for one in frame.answers {
                let is_held = matches!(one.kind, Some(answer::Kind::Order(_)));
                ensure!(is_held, "a hold was refused: {:?}", one.kind);
                held += 1;
            }
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving).map(|(_, ())| ())
}

async fn now_us(pool: &PgPool) -> Result<i64> {
    let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
    Ok(sqlx::query_scalar(now).fetch_one(pool).await?)
}

/// Draws all deadlines into one second. Returns when it begins.
async fn draw_deadlines(pool: &PgPool) -> Result<i64> {
    let first_us = now_us(pool).await? + LEAD_US;
    sqlx::query(
        r#"update "order" set deadline = to_timestamp(($1 + (random() * 999999)::bigint) / 1000000.0)
           where state = 1"#,
    )
    .bind(first_us)
    .execute(pool)
    .await?;
    Ok(first_us)
}

/// When a call should have gone out, and how long after that it was answered.
type Took = (Instant, Duration);

/// Reserves at a steady rate from now until some time after `due`, whatever is answered meanwhile.
async fn reserve(address: &str, buyers: &mut Buyers, due: Instant) -> Result<Vec<Took>> {
    let (send, sent) = mpsc::channel(1_024);
    let mut answers = client(address).await?.flash(ReceiverStream::new(sent)).await?.into_inner();
    let calls = usize::try_from(u128::from(RESERVES_PER_S) * FRAME_EVERY.as_millis() / 1_000)?;
    let first_id = buyers.asked + 1;
    let began = Instant::now();
    let frames =
        (due + AFTER).saturating_duration_since(began).as_millis() / FRAME_EVERY.as_millis();
    let frames = u32::try_from(frames)?;
    // What costs this process time is done before the first call goes out.
    let prepared: Vec<Frame> = (0..frames).map(|_| buyers.frame(calls)).collect();
    let began = Instant::now();
    let at = |frame: u32| began + FRAME_EVERY * frame;
    let sending = async {
        for (number, frame) in (0..).zip(prepared) {
            tokio::time::sleep_until(at(number).into()).await;
            send.send(frame).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let receiving = async {
        let mut took = Vec::new();
        while took.len() < calls * frames as usize {
            let frame = answers.next().await.context("the stream has ended")??;
            let now = Instant::now();
            for one in frame.answers {
                let is_held = matches!(one.kind, Some(answer::Kind::Order(_)));
                ensure!(is_held, "a hold was refused: {:?}", one.kind);
                let number = u32::try_from((one.id - first_id) / calls as u64)?;
                took.push((at(number), now.saturating_duration_since(at(number))));
            }
        }
        Ok(took)
    };
    tokio::try_join!(sending, receiving).map(|((), took)| took)
}

/// The value at a share of a sorted list.
fn at_share<T: Copy>(sorted: &[T], share: f64) -> Result<T> {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a short list"
    )]
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().context("nothing was measured")
}

fn say(buckets: u32, seen: Seen) -> Result<()> {
    let Seen { quiet, rush, late_us, free, settings } = seen;
    let (p99_before, p99) = (at_share(&quiet, 0.99)?, at_share(&rush, 0.99)?);
    let how = format!(
        "{ROUNDS} rounds put together: {HOLDS} holds of one sale in {buckets} buckets, deadlines drawn over one second; \
         {RESERVES_PER_S} reserves/s beside them in frames of a few, open loop; one cell process with --threads 1, load from another \
         process; {settings}; each hold EXPIRED once in the ledger, Redis and Postgres agree on every unit, at least {} free; reserve \
         p50 {:?} before and {:?} during",
        free.unwrap_or(0),
        at_share(&quiet, 0.5)?,
        at_share(&rush, 0.5)?,
    );
    let seconds = |us: i64| Duration::from_micros(u64::try_from(us).unwrap_or(0)).as_secs_f64();
    let figure = |what: &str, value, unit, budget| {
        let name = format!("expiry_{what}_{buckets}_buckets");
        Figure { name, value, unit, budget, how: how.clone() }.say();
    };
    figure("late_p50", seconds(at_share(&late_us, 0.5)?), "s", Budget::None);
    figure("late_p99", seconds(at_share(&late_us, 0.99)?), "s", Budget::AtMost(2.0));
    figure("late_max", seconds(at_share(&late_us, 1.0)?), "s", Budget::AtMost(2.0));
    figure("reserve_p99_before", p99_before.as_secs_f64() * 1_000.0, "ms", Budget::None);
    figure("reserve_p99_during", p99.as_secs_f64() * 1_000.0, "ms", Budget::None);
    let ratio = p99.as_secs_f64() / p99_before.as_secs_f64();
    figure("reserve_p99_ratio", ratio, "x", Budget::AtMost(2.0));
    Ok(())
}
