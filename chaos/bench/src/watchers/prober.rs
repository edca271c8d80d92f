//! Somebody else's calls meanwhile: one after another on a connection and a thread of their own, while nothing happens and
//! while a change goes to all who watch.

use super::plan::Plan;
use super::{say, to_f64};
use crate::calls::Line;
use crate::figure::Budget;
use anyhow::{Context, Result, bail};
use http::HeaderValue;
use proto::wire::storefront::{GetSaleStateRequest, SaleState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const PATH: &str = "/floodgate.storefront.v1.StorefrontService/GetSaleState";
/// Between two calls: few enough not to be a load.
const PAUSE: Duration = Duration::from_millis(2);
/// How long it is looked at what calls take while nothing happens.
const QUIET: Duration = Duration::from_secs(3);

/// See the module.
pub(super) struct Prober(Arc<Shared>);

#[derive(Default)]
struct Shared {
    is_changing: AtomicBool,
    ended: AtomicBool,
    /// In microseconds: while nothing happened, and during changes.
    took_us: Mutex<[Vec<u32>; 2]>,
}

impl Prober {
    /// Calls until it is dropped.
    pub(super) fn start(url: String, token: String, sale: String) -> Result<Prober> {
        let shared = Arc::<Shared>::default();
        let probed = shared.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("prober".into()).spawn(move || {
            // Without it the figure has no calls, which is said.
            runtime.block_on(probe(&probed, &url, &token, &sale)).ok();
        })?;
        Ok(Prober(shared))
    }

    /// Waits until enough calls were made while nothing happened.
    pub(super) async fn quiet(&self) {
        sleep(QUIET).await;
    }

    /// A change begins, or all have it.
    pub(super) fn changes(&self, is_changing: bool) {
        self.0.is_changing.store(is_changing, Ordering::Relaxed);
    }

    /// Says what calls took.
    pub(super) fn say(&self, plan: &Plan) -> Result<()> {
        let mut took = self.0.took_us.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (name, took) in
            ["watchers_call_quiet_p99_ms", "watchers_call_p99_ms"].iter().zip(&mut took)
        {
            took.sort_unstable();
            let at = |share: usize| took.get((took.len() * share / 100).min(took.len() - 1));
            let ms = |share| at(share).map(|us| to_f64((*us).into()) / 1_000.0);
            let (half, most, longest) = (ms(50), ms(99), ms(100));
            let (Some(half), Some(most), Some(longest)) = (half, most, longest) else {
                bail!("no call was answered");
            };
            let how = format!(
                "{} GetSaleState calls one after another by somebody else, p50 {half:.2} ms, longest {longest:.2} ms, while {} watch and {}",
                took.len(),
                plan.sse + plan.streams,
                if name.contains("quiet") {
                    "nothing changes"
                } else {
                    "a change is on its way to them"
                }
            );
            say(name, most, "ms", Budget::None, how);
        }
        Ok(())
    }
}

impl Shared {
    fn took(&self, during_a_change: bool, us: u32) {
        let mut took = self.took_us.lock().unwrap_or_else(PoisonError::into_inner);
        took[usize::from(during_a_change)].push(us);
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

/// Waits until the router shows the sale.
pub(super) async fn until_shown(url: &str, token: &str, sale: String) -> Result<()> {
    let line = Line::connect(url).await?;
    let token = HeaderValue::try_from(format!("Bearer {token}"))?;
    let request = GetSaleStateRequest { sale };
    for _ in 0..200 {
        match line.call::<SaleState>(PATH, &token, &request).await {
            Ok(state) if !state.stale => return Ok(()),
            _ => sleep(Duration::from_millis(50)).await,
        }
    }
    bail!("the router does not show the sale")
}

async fn probe(shared: &Shared, url: &str, token: &str, sale: &str) -> Result<()> {
    let line = Line::connect(url).await?;
    let token = HeaderValue::try_from(format!("Bearer {token}"))?;
    let request = GetSaleStateRequest { sale: sale.to_owned() };
    while !shared.ended.load(Ordering::Relaxed) {
        let (began, before) = (Instant::now(), shared.is_changing.load(Ordering::Relaxed));
        line.call::<SaleState>(PATH, &token, &request).await.context("a probe")?;
        let us = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
        // What began before the change or ended after it was under way during it.
        let during = before || shared.is_changing.load(Ordering::Relaxed);
        shared.took(during, us);
        sleep(PAUSE).await;
    }
    Ok(())
}
