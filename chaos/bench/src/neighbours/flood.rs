//! The flood, from a process of its own that gives way to everybody else: a real one comes from other machines, and what
//! it costs to make is nothing that the platform pays.

use super::lane::{self, Lane};
use super::{CONNECTIONS, DEADLINE, FLOOD_QUOTA_PER_S, FLOOD_TIMES, PATIENCE};
use crate::calls::Line;
use crate::goodput::Point;
use crate::open::{End, Step, offer};
use anyhow::{Context, Result, bail};
use futures_util::future::Either;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// More than it has holds admitted in all windows together, so that most of its holds are new ones.
const BUYERS: usize = 60_000;
const READY: &str = "ready";
/// How long its buyers may take to join.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Calls a second.
pub(crate) fn per_s() -> f64 {
    f64::from(FLOOD_QUOTA_PER_S * FLOOD_TIMES)
}

/// The process. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Flood {
    _child: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Flood {
    /// Starts it, for two routers; returns when its buyers have joined.
    pub(crate) async fn start(urls: &[String; 2], sale: &str) -> Result<Flood> {
        let mut child = Command::new("nice")
            .args(["-n", "19"])
            .arg(std::env::current_exe()?)
            .args(["--flood", &urls.join(","), "--flood-sale", sale])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let asks = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut answers = BufReader::new(output).lines();
        match timeout(READY_LIMIT, answers.next_line()).await?? {
            Some(line) if line == READY => Ok(Flood { _child: child, asks, answers }),
            other => bail!("the flood did not get ready: {other:?}"),
        }
    }

    /// Floods one of the routers for so long, and says what became of it.
    pub(crate) async fn wave(&mut self, router: usize, lasts: Duration) -> Result<Point> {
        self.asks.write_all(format!("{router} {}\n", lasts.as_millis()).as_bytes()).await?;
        let line = timeout(lasts + PATIENCE * 2, self.answers.next_line()).await??;
        let line = line.context("the flood has ended")?;
        let mut rates = line.split(' ').map(str::parse::<f64>);
        let mut rate =
            || rates.next().context("an odd answer of the flood")?.map_err(anyhow::Error::from);
        Ok(Point {
            planned_per_s: per_s(),
            achieved_per_s: rate()?,
            good_per_s: rate()?,
            refused_per_s: rate()?,
            ..Point::default()
        })
    }
}

/// The other side: floods as often and as long as its standard input says.
#[expect(clippy::print_stdout, reason = "what it says is read by who started it")]
pub(crate) async fn serve(urls: &str, sale: &str) -> Result<()> {
    let urls: Vec<&str> = urls.split(',').collect();
    let [url, _] = urls[..] else { bail!("two routers are flooded in turn") };
    let org = sale.split('/').nth(1).context("a sale has an org")?;
    let lines = Line::many(url, CONNECTIONS, DEADLINE).await?;
    let lane = Arc::new(Lane::join(&lines, sale.to_owned(), &lane::tokens(org, BUYERS)?).await?);
    println!("{READY}");
    loop {
        let asked = tokio::task::spawn_blocking(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        let asked = asked.await??;
        if asked.is_empty() {
            return Ok(());
        }
        let (router, lasts) = asked.trim().split_once(' ').context("an odd question")?;
        let (router, lasts) = (router.parse::<usize>()?, Duration::from_millis(lasts.parse()?));
        let url = urls.get(router).context("no such router")?;
        // Connections are told to come again when they are old.
        let lines = Line::many(url, CONNECTIONS, DEADLINE).await?;
        let mut joins = false;
        let made = offer(&[Step { per_s: per_s(), lasts }], PATIENCE, || {
            joins = !joins;
            Some(if joins {
                Either::Left(lane.join_again(&lines))
            } else {
                Either::Right(lane.reserve(&lines))
            })
        })
        .await;
        let broken = made.iter().filter(|made| made.end == End::Broken).count();
        anyhow::ensure!(broken * 100 < made.len(), "{broken} of {} calls were broken", made.len());
        let point = Point::of(&made, (Duration::ZERO, lasts), per_s(), DEADLINE);
        println!("{} {} {}", point.achieved_per_s, point.good_per_s, point.refused_per_s);
    }
}
