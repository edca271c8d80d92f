//! How values are distributed over fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use super::family::{Family, Labels};
use super::{Metrics, shards};

/// Bucket bounds for latencies in seconds: 100 µs to 10 s.
pub const LATENCY_BOUNDS_S: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Bucket bounds for sizes of batches: powers of two up to 256.
pub const SIZE_BOUNDS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counts values by size. Clones count together.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Cells>);

/// Histograms of one name.
pub type Histograms = Family<Histogram>;

#[derive(Debug)]
struct Cells {
    bounds: &'static [f64],
    shards: Box<[Shard]>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    /// One count per bound and one for what lies above all of them; not cumulative.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram that is alone under its name.
    pub fn new(
        metrics: &Metrics,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
        labels: &[(&'static str, &str)],
    ) -> Self {
        Histograms::new(metrics, name, help, bounds).with(labels)
    }

    /// Counts a duration, in seconds.
    pub fn observe(&self, took: Duration) {
        self.record(took.as_secs_f64());
    }

    /// Counts a value.
    pub fn record(&self, value: f64) {
        let shard = &self.0.shards[shards::mine()];
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        shard.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let mut sum = shard.sum.load(Ordering::Relaxed);
        loop {
            let next = (f64::from_bits(sum) + value).to_bits();
            match shard.sum.compare_exchange_weak(sum, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(found) => sum = found,
            }
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts().iter().sum()
    }

    fn unlabelled(bounds: &'static [f64]) -> Self {
        let shard = || Shard {
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0.0_f64.to_bits()),
        };
        Self(Arc::new(Cells { bounds, shards: (0..shards::count()).map(|_| shard()).collect() }))
    }

    fn counts(&self) -> Vec<u64> {
        let sum = |bucket: usize| {
            self.0.shards.iter().map(|shard| shard.counts[bucket].load(Ordering::Relaxed)).sum()
        };
        (0..=self.0.bounds.len()).map(sum).collect()
    }

    fn sum(&self) -> f64 {
        let shards = self.0.shards.iter();
        shards.map(|shard| f64::from_bits(shard.sum.load(Ordering::Relaxed))).sum()
    }

    fn export(&self, labels: &Labels) -> proto::Metric {
        let mut buckets = Vec::with_capacity(self.0.bounds.len());
        let mut below = 0;
        let counts = self.counts();
        for (bound, count) in self.0.bounds.iter().zip(&counts) {
            below += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(self.sum());
        histogram.set_bucket(buckets);
        let mut metric = proto::Metric::default();
        metric.set_label(labels.iter().map(label_pair).collect());
        metric.set_histogram(histogram);
        metric
    }
}

impl Family<Histogram> {
    /// Exports histograms under `name` with these upper bounds, which rise.
    pub fn new(
        metrics: &Metrics,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
    ) -> Self {
        let family = Self::empty(move || Histogram::unlabelled(bounds));
        metrics.histograms().add(name, help, family.clone());
        family
    }
}

/// All histograms of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Exported(Arc<Mutex<Vec<Named>>>);

#[derive(Debug)]
struct Named {
    name: &'static str,
    help: &'static str,
    family: Histograms,
}

impl Exported {
    /// What a scrape shows.
    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let export = |Named { name, help, family }: &Named| {
            let mut metrics = Vec::new();
            family.each(|labels, histogram| metrics.push(histogram.export(labels)));
            let mut exported = MetricFamily::default();
            exported.set_name((*name).to_owned());
            exported.set_help((*help).to_owned());
            exported.set_field_type(MetricType::HISTOGRAM);
            exported.set_metric(metrics);
            exported
        };
        families.iter().map(export).filter(|family| !family.get_metric().is_empty()).collect()
    }

    fn add(&self, name: &'static str, help: &'static str, family: Histograms) {
        let named = Named { name, help, family };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(named);
    }
}

fn label_pair((name, value): &(&'static str, String)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value(value.clone());
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let metrics = Metrics::new("test", "0").unwrap();
        let sizes = Histogram::new(
            &metrics,
            "floodgate_batch_calls",
            "calls in a batch",
            SIZE_BOUNDS,
            &[("stage", "hold")],
        );
        [1.0, 2.0, 2.0, 3.0, 256.0, 257.0].into_iter().for_each(|size| sizes.record(size));
        assert_eq!(sizes.count(), 6);
        let text = metrics.text().unwrap();
        for line in [
            "# TYPE floodgate_batch_calls histogram",
            r#"floodgate_batch_calls_bucket{stage="hold",le="1"} 1"#,
            r#"floodgate_batch_calls_bucket{stage="hold",le="2"} 3"#,
            r#"floodgate_batch_calls_bucket{stage="hold",le="4"} 4"#,
            r#"floodgate_batch_calls_bucket{stage="hold",le="256"} 5"#,
            r#"floodgate_batch_calls_bucket{stage="hold",le="+Inf"} 6"#,
            r#"floodgate_batch_calls_sum{stage="hold"} 521"#,
            r#"floodgate_batch_calls_count{stage="hold"} 6"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line} in\n{text}");
        }
    }

    #[test]
    fn threads_lose_nothing() {
        let metrics = Metrics::new("test", "0").unwrap();
        let took = Histogram::new(&metrics, "floodgate_t_seconds", "t", LATENCY_BOUNDS_S, &[]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| took.observe(Duration::from_millis(500))));
            }
        });
        assert_eq!(took.count(), 8_000);
        let text = metrics.text().unwrap();
        assert!(text.contains("floodgate_t_seconds_sum 4000\n"), "{text}");
    }
}
