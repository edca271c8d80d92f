//! A number that rises and falls.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Metrics;
use super::counter::key_values;
use super::family::Family;

/// A level: how many there are now. Clones share it.
#[derive(Clone, Debug)]
pub struct Gauge(Arc<AtomicI64>);

/// Gauges of one name.
pub type Gauges = Family<Gauge>;

/// Keeps a gauge one higher for as long as it lives.
#[derive(Debug)]
pub struct Entered(Gauge);

impl Gauge {
    /// A gauge that is alone under its name.
    pub fn new(
        metrics: &Metrics,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
    ) -> Self {
        Gauges::new(metrics, name, help).with(labels)
    }

    /// Sets the level.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises the level, or lowers it when `n` is negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Raises the level by one until the answer is dropped.
    pub fn enter(&self) -> Entered {
        self.add(1);
        Entered(self.clone())
    }

    /// The level now.
    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

impl Family<Gauge> {
    /// Exports gauges under `name`.
    pub fn new(metrics: &Metrics, name: &'static str, help: &'static str) -> Self {
        let family = Self::empty(|| Gauge(Arc::default()));
        let read = family.clone();
        metrics
            .own_meter()
            .i64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| {
                read.each(|labels, gauge| {
                    observer.observe(gauge.value(), &key_values(labels));
                });
            })
            .build();
        family
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_rises_and_falls() {
        let metrics = Metrics::new("test", "0").unwrap();
        let open = Gauge::new(&metrics, "floodgate_open", "open", &[]);
        let one = open.enter();
        let two = open.enter();
        drop(one);
        assert!(metrics.text().unwrap().contains("floodgate_open 1\n"));
        drop(two);
        open.add(-3);
        assert_eq!(open.value(), -3);
    }
}
