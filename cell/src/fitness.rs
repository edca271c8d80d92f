//! Fitness: whether a store is set up so that what a cell promises of it can be kept.
//!
//! A store's settings are read back from the store itself. What would break a promise is refused, in words that say what to
//! set; what only costs time is said in the log once and shown in a metric for as long as it is so.
//! `ledger/settings.rs` judges Postgres, `inventory/settings.rs` judges Redis; both do so purely. What is set may be changed
//! while a store runs, so it is read [`again`] and again.

mod again;

pub(crate) use again::look_again;

use runtime::metric::{Gauges, Metrics};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// One setting that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The setting's name in its store.
    pub setting: &'static str,
    /// What it is, what follows from that, and what to set.
    pub says: String,
}

/// What there is to say of a store's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fitness {
    /// Promises would be broken: nobody may work with this store.
    pub refusals: Vec<Remark>,
    /// It costs time, or trouble later.
    pub costs: Vec<Remark>,
}

impl Fitness {
    pub(crate) fn refuse(&mut self, setting: &'static str, says: impl Into<String>) {
        self.refusals.push(Remark { setting, says: says.into() });
    }

    pub(crate) fn cost(&mut self, setting: &'static str, says: impl Into<String>) {
        self.costs.push(Remark { setting, says: says.into() });
    }

    /// Why nobody may work with this store, in one sentence each. None: it is fit.
    pub fn refusal(&self) -> Option<String> {
        let says: Vec<_> = self.refusals.iter().map(|remark| remark.says.as_str()).collect();
        (!says.is_empty()).then(|| says.join("; "))
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)
    }
}

/// The settings of stores that are not as they should be, as they are charted: 1 for each while it is so.
#[derive(Clone, Debug)]
pub struct FitnessGauges {
    gauges: Gauges,
    /// Stores and settings of which the log says already that they are unfit.
    said: Arc<Mutex<BTreeSet<(&'static str, &'static str)>>>,
}

impl FitnessGauges {
    /// Gauges that are exported with `metrics`.
    pub fn new(metrics: &Metrics) -> FitnessGauges {
        let gauges = Gauges::new(
            metrics,
            "floodgate_cell_unfit_settings",
            "1 while a store's setting costs time or keeps a process from working with it",
        );
        FitnessGauges { gauges, said: Arc::default() }
    }

    /// Shows what was read of a store, of whose settings `all` are judged, and says what is new of it in the log.
    pub(crate) fn show(&self, store: &'static str, all: &[&'static str], fitness: &Fitness) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for &setting in all {
            let is_it = |remark: &&Remark| remark.setting == setting;
            let unfit = fitness.refusals.iter().chain(&fitness.costs).find(is_it);
            self.gauges.with(&[("store", store), ("setting", setting)]).set(unfit.is_some().into());
            match unfit {
                Some(remark) if said.insert((store, setting)) => {
                    tracing::warn!(store, setting, "{remark}");
                }
                Some(_) => {}
                None => drop(said.remove(&(store, setting))),
            }
        }
    }
}
