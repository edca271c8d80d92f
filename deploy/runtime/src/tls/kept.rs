//! Something made of files, kept up to date with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::sleep;

use super::files::{Bytes, Identity, TlsError, TlsFiles};
use crate::clock::Clock;
use crate::drain::Drain;
use crate::metric::{Counter, Gauge, Metrics};

/// How often the files are read: they are small, and whoever renews them may swap links, folders or mounts.
const READ_EVERY: Duration = Duration::from_secs(2);

const DAY_S: f64 = 24.0 * 3_600.0;

type Make<T> = Box<dyn Fn(&Identity) -> Result<T, TlsError> + Send + Sync>;

/// See the module.
pub(super) struct Kept<T> {
    files: TlsFiles,
    make: Make<T>,
    first: Bytes,
    current: ArcSwap<T>,
    until_s: AtomicU64,
}

impl<T> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Kept<T> {
    /// Reads the files and makes of them what is to be kept.
    pub(super) fn open(files: TlsFiles, make: Make<T>) -> Result<Arc<Kept<T>>, TlsError> {
        let first = files.read()?;
        let identity = files.understand(&first)?;
        let current = ArcSwap::from_pointee(make(&identity)?);
        let until_s = AtomicU64::new(identity.until_s);
        Ok(Arc::new(Kept { files, make, first, current, until_s }))
    }

    /// As the files last were when they could be used.
    pub(super) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Reads the files again and again, and tells of it under the label `port`.
    pub(super) fn follow(self: &Arc<Self>, port: &'static str, metrics: &Metrics, drain: &Drain) {
        let label: &[_] = &[("port", port)];
        let (clock, kept) = (Clock::system(), self.clone());
        metrics.observe(
            "floodgate_tls_certificate_days_left",
            "Days until the certificate in use runs out",
            label,
            move || days_left(kept.until_s.load(Relaxed), clock.now_ms()),
        );
        let told = Told {
            port,
            renewed: Counter::new(
                metrics,
                "floodgate_tls_renewed_total",
                "Times that changed certificate files came into use",
                label,
            ),
            unfit: Gauge::new(
                metrics,
                "floodgate_tls_unfit_files",
                "Whether the certificate files cannot be used as they are now: 0 or 1",
                label,
            ),
        };
        let (kept, end) = (self.clone(), drain.token());
        drain.spawn("certificates", async move {
            tokio::select! {
                never = kept.read_on(told) => never,
                () = end.cancelled() => {}
            }
        });
    }

    async fn read_on(&self, told: Told) {
        let mut seen = Some(self.first.clone());
        loop {
            sleep(READ_EVERY).await;
            let read = self.files.read();
            match read {
                Ok(bytes) if seen.as_ref() == Some(&bytes) => {}
                Ok(bytes) => {
                    told.tell(self.renew(&bytes));
                    seen = Some(bytes);
                }
                // Told once, too.
                Err(error) => {
                    if seen.take().is_some() {
                        told.tell(Err(error));
                    }
                }
            }
        }
    }

    fn renew(&self, bytes: &Bytes) -> Result<(), TlsError> {
        let identity = self.files.understand(bytes)?;
        self.current.store(Arc::new((self.make)(&identity)?));
        self.until_s.store(identity.until_s, Relaxed);
        Ok(())
    }
}

/// What is told of files that changed.
struct Told {
    port: &'static str,
    renewed: Counter,
    unfit: Gauge,
}

impl Told {
    fn tell(&self, renewed: Result<(), TlsError>) {
        let port = self.port;
        match renewed {
            Ok(()) => {
                self.renewed.add(1);
                self.unfit.set(0);
                tracing::info!(port, "changed certificate files are in use");
            }
            Err(error) => {
                self.unfit.set(1);
                tracing::warn!(port, %error, "certificate files cannot be used; those before stay in use");
            }
        }
    }
}

fn days_left(until_s: u64, now_ms: u64) -> f64 {
    let seconds = |s: u64| f64::from(u32::try_from(s).unwrap_or(u32::MAX));
    (seconds(until_s) - seconds(now_ms / 1_000)) / DAY_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_down_and_below() {
        let now_ms = 1_800_000_000_000;
        assert!((days_left(1_800_000_000 + 36 * 3_600, now_ms) - 1.5).abs() < 1e-9);
        assert!((days_left(1_800_000_000 - 12 * 3_600, now_ms) + 0.5).abs() < 1e-9);
    }
}
