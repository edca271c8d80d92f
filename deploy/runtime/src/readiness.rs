//! Whether this process should be sent work: named conditions that must all hold.
//!
//! Readiness is advice to load balancers and probes, nothing more: a process that is not ready
//! still answers what it can. Only conditions that a restart or a wait can heal belong here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The condition that a process' server takes calls.
pub const SERVING: &str = "serving";

/// Named conditions, all of which must hold. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    conditions: Mutex<BTreeMap<Cow<'static, str>, bool>>,
    ready: watch::Sender<bool>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Ready, because there is no condition yet.
    pub fn new() -> Self {
        let ready = watch::Sender::new(true);
        Self(Arc::new(Shared { conditions: Mutex::default(), ready }))
    }

    /// Says whether the condition `name` holds. A condition exists from its first mention on, so
    /// say `false` at start for everything that the process has to wait for.
    pub fn set(&self, name: impl Into<Cow<'static, str>>, holds: bool) {
        let mut conditions = self.conditions();
        conditions.insert(name.into(), holds);
        let all = conditions.values().all(|holds| *holds);
        self.0.ready.send_if_modified(|ready| std::mem::replace(ready, all) != all);
    }

    /// Whether every condition holds.
    pub fn is_ready(&self) -> bool {
        *self.0.ready.borrow()
    }

    /// The names of the conditions that do not hold, in alphabetical order.
    pub fn missing(&self) -> Vec<Cow<'static, str>> {
        let conditions = self.conditions();
        conditions.iter().filter(|(_, holds)| !**holds).map(|(name, _)| name.clone()).collect()
    }

    /// A receiver that sees [`Readiness::is_ready`] change.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<Cow<'static, str>, bool>> {
        self.0.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_hold() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        readiness.set("etcd", false);
        readiness.set("ledger", true);
        assert!(!readiness.is_ready());
        assert_eq!(readiness.missing(), ["etcd"]);
        readiness.set("etcd", true);
        assert!(readiness.is_ready());
        assert!(readiness.missing().is_empty());
    }

    #[tokio::test]
    async fn watchers_see_changes_only() {
        let readiness = Readiness::new();
        let mut watch = readiness.watch();
        readiness.set("etcd", true);
        assert!(!watch.has_changed().unwrap());
        readiness.set("etcd", false);
        watch.changed().await.unwrap();
        assert!(!*watch.borrow());
    }
}
