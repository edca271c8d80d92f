//! The stock: how many holds a second one cell commits, driven over the link from this process.

use crate::figure::{Budget, Figure};
use crate::sale::Cell;
use crate::script;
use anyhow::{Result, ensure};
use futures_util::StreamExt;
use prost::bytes::Bytes;
use proto::id::BuyerKey;
use proto::limits::BATCH_CALLS_MAX;
use proto::ticket::Ticket;
use proto::wire::admin::sale::Class;
use proto::wire::cell::link_service_client::LinkServiceClient;
use proto::wire::cell::{Answers, Call, Frame, Reserve, answer, call};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Sales that sell at once, each with one bucket.
const SALES: u32 = 6;
/// Calls under way for one sale.
const UNDER_WAY: u32 = 768;
/// More calls a second than one bucket will take, for having enough of them ready.
const PREPARED_PER_S: u64 = 25_000;
const STOCK: u32 = 1_000_000;
const WARM_UP: Duration = Duration::from_secs(1);

/// Takes the figure of a cell's holds, between two runs of the yardstick.
pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let before = script::rate().await?;
    let (ours, settings) = holds(seconds).await?;
    let after = script::rate().await?;
    let bare = f64::midpoint(before, after);
    Figure {
        name: "script_per_s".into(),
        value: bare,
        unit: "1/s",
        budget: Budget::None,
        how: format!("{}; {before:.0} before and {after:.0} after the cell's run", script::HOW),
    }
    .say();
    Figure {
        name: "cell_holds_vs_script".into(),
        value: ours / bare,
        unit: "x",
        budget: Budget::AtLeast(1.2),
        how: format!(
            "{ours:.0} committed holds/s over {seconds} s; {SALES} sales of one bucket, {UNDER_WAY} calls under way each, over the \
             link from another process, one thread each, random buyers, every call its own request id, ledger on; {settings}; counted in Postgres"
        ),
    }
    .say();
    Ok(())
}

async fn holds(seconds: u64) -> Result<(f64, String)> {
    let cell = Cell::start(&["--threads", "1"]).await?;
    let settings = cell.settings().await?;
    let pool = cell.postgres().await?;
    let calls = PREPARED_PER_S * (seconds + WARM_UP.as_secs() + 1);
    let mut drivers = Vec::new();
    let acknowledged = Arc::new(AtomicU64::new(0));
    for number in 0..SALES {
        let sale = format!("sbench{number}");
        cell.open_sale(&sale, STOCK, Class::Flash).await?;
        admit_all(&pool, &sale).await?;
        drivers.push((sale.clone(), prepare(&sale, calls, number)));
    }
    // The process reads its buckets anew, with open gates.
    cell.stack().restart("cell-1/p1").await?;
    wait_until_kept(&pool).await?;
    let address = cell.stack().endpoint("cell-1/p1")?.url;
    let running: Vec<_> = drivers
        .into_iter()
        .map(|(_, frames)| tokio::spawn(drive(address.clone(), frames, acknowledged.clone())))
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let (from, began) = (acknowledged.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (to, took) = (acknowledged.load(Ordering::Relaxed), began.elapsed());
    for driver in &running {
        driver.abort();
    }
    for driver in running {
        // Aborted on purpose, or it failed: then it says why.
        if let Ok(Err(error)) = driver.await {
            return Err(error);
        }
    }
    let committed: i64 =
        sqlx::query_scalar(r#"select count(*) from "order""#).fetch_one(&pool).await?;
    ensure!(
        committed.unsigned_abs() >= to,
        "{to} holds were acknowledged, {committed} are in Postgres"
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
    let rate = (to - from) as f64 / took.as_secs_f64();
    Ok((rate, settings))
}

/// Opens the gate for every ticket that will come, so that holds alone are measured.
pub(crate) async fn admit_all(pool: &PgPool, sale: &str) -> Result<()> {
    sqlx::query(
        "update bucket b set ranks = $2, cursor = $2, keeper = null
         from sale s where s.org = b.org and s.sale = b.sale and s.id = $1",
    )
    .bind(sale)
    .bind(i64::from(STOCK))
    .execute(pool)
    .await?;
    Ok(())
}

/// Waits until every bucket is kept.
pub(crate) async fn wait_until_kept(pool: &PgPool) -> Result<()> {
    for _ in 0..200 {
        let waiting: i64 = sqlx::query_scalar("select count(*) from bucket where keeper is null")
            .fetch_one(pool)
            .await?;
        if waiting == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the cell does not keep its buckets")
}

/// Frames of holds by random buyers, made before the clock starts.
pub(crate) fn prepare(sale: &str, calls: u64, seed: u32) -> Vec<Frame> {
    let key = Cell::ticket_key();
    let mut rng = StdRng::seed_from_u64(seed.into());
    let mut id = 0;
    let mut frame = || {
        let calls = (0..BATCH_CALLS_MAX).map(|_| {
            let buyer = BuyerKey(rng.random());
            let ticket =
                Ticket { sale: sale.into(), bucket: 0, buyer, window: 0, index: id, weight: 1 };
            let request_id: [u8; 16] = rng.random();
            id += 1;
            let reserve =
                Reserve { ticket: key.sign(&ticket), quantity: 1, request_id: request_id.to_vec() };
            Call {
                id,
                time_left_ms: 10_000,
                sale: sale.to_owned(),
                buyer: Bytes::copy_from_slice(&buyer.0),
                kind: Some(call::Kind::Reserve(reserve)),
                ..Call::default()
            }
        });
        Frame::of(&calls.collect::<Vec<_>>())
    };
    (0..calls / BATCH_CALLS_MAX as u64).map(|_| frame()).collect()
}

async fn drive(address: String, frames: Vec<Frame>, acknowledged: Arc<AtomicU64>) -> Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(address)?
        .initial_connection_window_size(16 * 1024 * 1024)
        .initial_stream_window_size(16 * 1024 * 1024)
        .connect()
        .await?;
    let mut client = LinkServiceClient::new(channel);
    let under_way = Arc::new(Semaphore::new(UNDER_WAY as usize));
    let (send, sent) = mpsc::channel(2);
    let mut answers = client.flash(ReceiverStream::new(sent)).await?.into_inner();
    let room = under_way.clone();
    let sending = async move {
        for frame in frames {
            let calls = u32::try_from(frame.calls.len())?;
            // Given back when the answers come.
            room.acquire_many(calls).await?.forget();
            if send.send(frame).await.is_err() {
                break;
            }
        }
        anyhow::bail!("not enough calls were prepared")
    };
    let receiving = async {
        while let Some(frame) = answers.next().await {
            let Answers { answers } = frame?;
            under_way.add_permits(answers.len());
            let held =
                answers.iter().filter(|answer| matches!(answer.kind, Some(answer::Kind::Order(_))));
            acknowledged.fetch_add(held.count() as u64, Ordering::Relaxed);
            if let Some(answer::Kind::Refusal(refusal)) =
                answers.iter().find_map(|answer| match &answer.kind {
                    Some(kind @ answer::Kind::Refusal(_)) => Some(kind),
                    _ => None,
                })
            {
                let reason = proto::fault::Reason::from_number(refusal.reason);
                // While the keeper takes its bucket over it says so; anything else spoils the figure.
                ensure!(
                    reason == Some(proto::fault::Reason::BucketMoving),
                    "a hold was refused: {reason:?}"
                );
            }
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving).map(|((), ())| ())
}
