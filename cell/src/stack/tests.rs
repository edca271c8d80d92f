//! The classes' threads, on real stores: what one class does to its own is nothing to the other.

use super::*;
use clap::Parser;
use local::{KeyFiles, Stack, StackOptions};
use std::sync::mpsc;
use std::time::Duration;

/// Far longer than it takes, and what a failure costs.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(redis: &str, postgres: &str, ledger_key: &Path) -> Config {
    let ledger_key = ledger_key.display().to_string();
    let args = [
        ("--cell", "cell-1"),
        ("--process", "p1"),
        ("--etcd", "http://127.0.0.1:1"),
        ("--redis", redis),
        ("--postgres", postgres),
        ("--provider", "http://127.0.0.1:1"),
        ("--ledger-key", &ledger_key),
    ];
    let args = args.into_iter().flat_map(|(flag, value)| [flag, value]);
    Config::try_parse_from(std::iter::once("cell").chain(args)).unwrap()
}

#[test]
fn a_blocked_flash_worker_does_not_stop_everyday_work() {
    // As main does; a test beside this one may have.
    drop(rustls::crypto::ring::default_provider().install_default());
    let servers = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (_stack, config) = servers.block_on(async {
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let (redis, postgres) =
            tokio::try_join!(stack.start_redis("cell-1"), stack.start_postgres("cell-1")).unwrap();
        let key = KeyFiles::ledger(stack.folder(), "cell-1").unwrap();
        let config = config(&redis.url, &postgres.url, &key.private);
        (stack, config)
    });
    // The link's only thread, which FLASH sales work on.
    let main = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (done, was_done) = mpsc::channel();
    main.block_on(async {
        let gauges = FitnessGauges::new(&Metrics::new("test", "0").unwrap());
        let (flash, standard) = classes(&config, &gauges).unwrap();
        let drain = Drain::new();
        let workers = standard.workers.handle().clone();
        drain.spawn_on(&workers, "keeper", async move {
            // Connections are made, timers fire, stores answer, tasks wake one another: all of what a stage does.
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                ledger::now_us(&standard.pool).await.unwrap();
                standard.inventory.run().await.unwrap();
                tokio::spawn(std::future::ready(())).await.unwrap();
            }
            done.send(std::thread::current().name().map(str::to_owned)).unwrap();
        });
        drain.spawn_on(flash.workers.handle(), "busy", async move {
            // Not a wait: the thread does nothing else until everyday work has come to its end.
            let name = was_done.recv_timeout(PATIENCE).unwrap();
            assert_eq!(name.as_deref(), Some("standard"));
        });
        drain.finish(PATIENCE).await.unwrap();
        assert_eq!(drain.readiness().missing(), ["draining"], "a task has panicked");
    });
}
