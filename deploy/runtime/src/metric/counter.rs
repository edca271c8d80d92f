//! A number that only rises.

use std::sync::Arc;

use super::Metrics;
use super::family::{Family, Labels};
use super::shards::Shards;
use opentelemetry::KeyValue;

/// Counts events. Clones count together.
#[derive(Clone, Debug)]
pub struct Counter(Arc<Shards>);

/// Counters of one name.
pub type Counters = Family<Counter>;

impl Counter {
    /// A counter that is alone under its name.
    pub fn new(
        metrics: &Metrics,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Self {
        Counters::new(metrics, name, help).with(labels)
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.add(n);
    }

    /// What has been counted so far.
    pub fn value(&self) -> u64 {
        self.0.sum()
    }
}

impl Family<Counter> {
    /// Exports counters under `name`, which ends in `_total`.
    pub fn new(metrics: &Metrics, name: &'static str, help: &'static str) -> Self {
        let family = Self::empty(|| Counter(Arc::new(Shards::new())));
        let read = family.clone();
        metrics
            .own_meter()
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| {
                read.each(|labels, counter| {
                    observer.observe(counter.value(), &key_values(labels));
                });
            })
            .build();
        family
    }
}

pub(super) fn key_values(labels: &Labels) -> Vec<KeyValue> {
    labels.iter().map(|(name, value)| KeyValue::new(*name, value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::SERIES_MAX;
    use super::*;

    #[test]
    fn threads_count_together() {
        let metrics = Metrics::new("test", "0").unwrap();
        let counter = Counter::new(&metrics, "floodgate_x_total", "x", &[("kind", "a")]);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| counter.add(2)));
            }
        });
        assert_eq!(counter.value(), 16_000);
        let text = metrics.text().unwrap();
        assert!(text.contains("# TYPE floodgate_x_total counter"), "{text}");
        assert!(text.contains(r#"floodgate_x_total{kind="a"} 16000"#), "{text}");
    }

    #[test]
    fn a_family_folds_what_exceeds_its_bound_and_forgets() {
        let metrics = Metrics::new("test", "0").unwrap();
        let sold = Counters::new(&metrics, "floodgate_sold_total", "sold");
        (0..SERIES_MAX + 10).for_each(|n| sold.with(&[("sale", &n.to_string())]).add(1));
        let text = metrics.text().unwrap();
        assert!(text.contains(r#"floodgate_sold_total{overflow="true"} 10"#), "{text}");
        assert!(text.contains(r#"floodgate_sold_total{sale="7"} 1"#), "{text}");
        sold.forget(&[("sale", "7")]);
        let text = metrics.text().unwrap();
        assert!(!text.contains(r#"floodgate_sold_total{sale="7"}"#), "{text}");
    }
}
