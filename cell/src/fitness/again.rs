//! Reads the stores' settings while a process runs. A Redis that could forget grants is not worked with from then on, until
//! it is set right; of a Postgres that changed it is shown and said, since what it has committed stands.

use super::FitnessGauges;
use crate::keeper::Ports;
use crate::ledger::{self, Settings};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Reads them again until `end` is cancelled.
pub(crate) async fn look_again(ports: Arc<Ports>, gauges: FitnessGauges, end: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            _ = tick.tick() => {}
        }
        for class in [&ports.flash, &ports.standard] {
            if let Err(error) = class.inventory.look_again().await {
                tracing::warn!(%error, class = class.workers.name(), "left a redis");
            }
        }
        match Settings::read(&ports.standard.pool).await {
            Ok(settings) => gauges.show("postgres", &ledger::JUDGED, &settings.judge()),
            Err(error) => tracing::debug!(%error, "the settings of postgres cannot be read"),
        }
    }
}
