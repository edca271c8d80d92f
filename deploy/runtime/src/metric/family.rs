//! Metrics of one name that differ in their labels; a bounded number of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Series of one family before further ones are folded into `overflow="true"`.
pub const SERIES_MAX: usize = 512;

/// The label of the series that stands for all that found no room.
const OVERFLOW: (&str, &str) = ("overflow", "true");

pub(super) type Labels = Vec<(&'static str, String)>;

/// Series of one name. Ask [`Family::with`] once and keep the answer: it takes a lock. Clones share
/// the series.
pub struct Family<M>(Arc<Shared<M>>);

struct Shared<M> {
    make: Box<dyn Fn() -> M + Send + Sync>,
    series: Mutex<BTreeMap<Labels, M>>,
}

impl<M: Clone> Family<M> {
    pub(super) fn empty(make: impl Fn() -> M + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { make: Box::new(make), series: Mutex::default() }))
    }

    /// The series with these labels, made when it is asked for first.
    pub fn with(&self, labels: &[(&'static str, &str)]) -> M {
        let mut series = self.series();
        let mut key = owned(labels);
        if !series.contains_key(&key) && series.len() >= SERIES_MAX {
            key = owned(&[OVERFLOW]);
        }
        series.entry(key).or_insert_with(&self.0.make).clone()
    }

    /// Stops exporting the series with these labels, for instance because its sale has ended.
    pub fn forget(&self, labels: &[(&'static str, &str)]) {
        self.series().remove(&owned(labels));
    }

    pub(super) fn each(&self, mut see: impl FnMut(&Labels, &M)) {
        self.series().iter().for_each(|(labels, metric)| see(labels, metric));
    }

    fn series(&self) -> MutexGuard<'_, BTreeMap<Labels, M>> {
        self.0.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Clone for Family<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> std::fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family").finish_non_exhaustive()
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}
