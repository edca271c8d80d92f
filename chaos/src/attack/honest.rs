//! Honest clients: they ask for a sale's state, a little at a time, and measure.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use proto::wire::storefront::GetSaleStateRequest;
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint;

/// How many there are, each on a connection of its own.
const CLIENTS: usize = 4;

/// Between an answer and the next call.
const PAUSE: Duration = Duration::from_millis(10);

/// A call that takes longer has failed. A busy machine may take long.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// What they met in a while.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase {
    took_us: Option<Histogram<u64>>,
    pub(super) failed: u32,
}

impl Phase {
    fn is_empty(&self) -> bool {
        self.calls() == 0 && self.failed == 0
    }

    /// Calls that succeeded.
    pub(super) fn calls(&self) -> u64 {
        self.took_us.as_ref().map_or(0, Histogram::len)
    }

    /// The time in which so many of a hundred were answered.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        let took_us = self.took_us.as_ref().map_or(0, |took| took.value_at_quantile(quantile));
        Duration::from_micros(took_us)
    }
}

/// They ask until this is dropped.
#[derive(Debug)]
pub(super) struct Honest {
    phase: Arc<Mutex<Phase>>,
    _asking: JoinSet<()>,
}

impl Honest {
    /// They begin to ask for the state of `sale`.
    pub(super) async fn begin(
        url: &str,
        sale: &str,
        token: &MetadataValue<Ascii>,
    ) -> Result<Honest, tonic::transport::Error> {
        let phase = Arc::<Mutex<Phase>>::default();
        let mut asking = JoinSet::new();
        for _ in 0..CLIENTS {
            let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
            let mut client = StorefrontServiceClient::new(channel);
            let (phase, sale, token) = (phase.clone(), sale.to_owned(), token.clone());
            asking.spawn(async move {
                loop {
                    let mut request = Request::new(GetSaleStateRequest { sale: sale.clone() });
                    request.metadata_mut().insert("authorization", token.clone());
                    request.set_timeout(CALL_LIMIT);
                    let began = Instant::now();
                    let succeeded = client.get_sale_state(request).await.is_ok();
                    note(&mut lock(&phase), began.elapsed(), succeeded);
                    sleep(PAUSE).await;
                }
            });
        }
        Ok(Honest { phase, _asking: asking })
    }

    /// What they met since it was asked last; once it is anything at all.
    pub(super) async fn met(&self) -> Phase {
        while lock(&self.phase).is_empty() {
            sleep(PAUSE).await;
        }
        self.phase()
    }

    /// What they met since this was asked last.
    pub(super) fn phase(&self) -> Phase {
        std::mem::take(&mut *lock(&self.phase))
    }
}

fn note(phase: &mut Phase, took: Duration, succeeded: bool) {
    if !succeeded {
        phase.failed += 1;
        return;
    }
    if phase.took_us.is_none() {
        phase.took_us = Histogram::new(3).ok();
    }
    if let Some(histogram) = &mut phase.took_us {
        // It grows with what it is told, and no call takes longer than it can count.
        histogram.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)).ok();
    }
}

fn lock(phase: &Mutex<Phase>) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}
