//! What a process counts, and how it is read.
//!
//! On hot paths a measurement costs one relaxed atomic addition on a shard of the thread's own: the
//! labels were chosen when the [`Counter`], [`Gauge`] or [`Histogram`] was made, nothing is looked up.
//! Values are added up when somebody scrapes. Counters and gauges are observable OpenTelemetry
//! instruments; histograms are written out beside them, because OpenTelemetry has no observable
//! histogram and its `record` looks the labels up under a lock at every call.
//!
//! Names are exported as they are written, so they carry their unit and `_total` themselves.
//! Labels are bounded: a family beyond [`SERIES_MAX`] series counts into `overflow="true"`.

mod counter;
mod family;
mod gauge;
mod histogram;
mod shards;

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry_sdk::metrics::{Instrument, SdkMeterProvider, Stream};
use prometheus::{Encoder, Registry, TextEncoder};

pub use counter::{Counter, Counters};
pub use family::{Family, SERIES_MAX};
pub use gauge::{Entered, Gauge, Gauges};
pub use histogram::{Histogram, Histograms, LATENCY_BOUNDS_S, SIZE_BOUNDS};

/// Label sets that one OpenTelemetry instrument keeps before it folds the rest together: above
/// [`SERIES_MAX`], so that our own families fold first and visibly.
const INSTRUMENT_SERIES_MAX: usize = 2 * SERIES_MAX;

/// The metrics of one process. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Shared>);

struct Shared {
    registry: Registry,
    provider: SdkMeterProvider,
    meter: Meter,
    histograms: histogram::Exported,
}

/// The metrics could not be set up or written.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The exporter did not come up.
    #[error("cannot set up the metrics exporter; this is a defect: {0}")]
    Exporter(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// The text could not be encoded.
    #[error("cannot encode metrics; this is a defect: {0}")]
    Text(#[from] prometheus::Error),
}

impl Metrics {
    /// No metrics yet but `floodgate_build_info{plane, version}`, which is always 1.
    pub fn new(plane: &'static str, version: &'static str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_units()
            .without_counter_suffixes()
            .without_target_info()
            .scope_info_enabled(false)
            .build()?;
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_view(|_: &Instrument| {
                Stream::builder().with_cardinality_limit(INSTRUMENT_SERIES_MAX).build().ok()
            })
            .build();
        let histograms = histogram::Exported::default();
        let meter = provider.meter("floodgate");
        let metrics = Self(Arc::new(Shared { registry, provider, meter, histograms }));
        Gauge::new(
            &metrics,
            "floodgate_build_info",
            "What runs here; always 1",
            &[("plane", plane), ("version", version)],
        )
        .set(1);
        Ok(metrics)
    }

    /// A plain OpenTelemetry meter, for what is measured rarely.
    pub fn meter(&self, scope: &'static str) -> Meter {
        self.0.provider.meter(scope)
    }

    /// Exports what `read` returns at the moment of each scrape.
    pub fn observe(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let labels = key_values(labels);
        self.0
            .meter
            .f64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| observer.observe(read(), &labels))
            .build();
    }

    /// Everything in Prometheus' text format.
    pub fn text(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        let mut families = self.0.registry.gather();
        families.extend(self.0.histograms.collect());
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    pub(crate) fn provider(&self) -> SdkMeterProvider {
        self.0.provider.clone()
    }

    fn own_meter(&self) -> &Meter {
        &self.0.meter
    }

    fn histograms(&self) -> &histogram::Exported {
        &self.0.histograms
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn key_values(labels: &[(&'static str, &str)]) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| KeyValue::new(*name, (*value).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_are_exported_as_written() {
        let metrics = Metrics::new("cell", "1.2.3").unwrap();
        metrics.observe("floodgate_age_seconds", "How old", &[("what", "x")], || 2.5);
        let text = metrics.text().unwrap();
        for line in [
            r#"floodgate_build_info{plane="cell",version="1.2.3"} 1"#,
            "# TYPE floodgate_build_info gauge",
            "# HELP floodgate_age_seconds How old",
            r#"floodgate_age_seconds{what="x"} 2.5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }
}
