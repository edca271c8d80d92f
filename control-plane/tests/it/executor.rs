//! Who executes, and that nobody else can.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use floodgate_control_plane::store::{Fence, Store, StoreError};
use local::PlaneSpec;
use prost::Message;
use proto::keys;
use proto::wire::admin::sale::State;
use proto::wire::cell::CellRecord;
use ring::signature::KeyPair;
use runtime::readiness::Readiness;
use tokio::time::{Instant, sleep};

use crate::plane::*;

fn leader_key() -> String {
    format!("{}leader", keys::CONTROL)
}

/// The term of whoever leads, other than `not`.
async fn leader(world: &mut World, not: i64) -> i64 {
    let deadline = Instant::now() + SOON;
    loop {
        let found = world.etcd.get(leader_key(), None).await.unwrap();
        match found.kvs().first().map(etcd_client::KeyValue::create_revision) {
            Some(term) if term != not => return term,
            _ => assert!(Instant::now() < deadline, "nobody leads"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cell_is_written_down_once_with_two_keys() {
    let (mut world, _instance) = World::with(1, &[]).await;
    let found = world.etcd.get(format!("{}cell-1", keys::CELLS), None).await.unwrap();
    let cell = CellRecord::decode(found.kvs()[0].value()).unwrap();
    assert_eq!((cell.cell.as_str(), cell.ticket_keys.len()), ("cell-1", 2));
    let [one, two] = &cell.ticket_keys[..] else { panic!("not two") };
    assert!(one.kid != two.kid && one.secret != two.secret);
    assert!(cell.ticket_keys.iter().all(|key| key.secret.len() == 32 && key.kid.len() == 8));
    world.start_cell("cell-1").await;
    world.start_cell("cell-2").await;
    world.seen(2).await;
    let again = world.etcd.get(format!("{}cell-1", keys::CELLS), None).await.unwrap();
    assert_eq!(again.kvs()[0].mod_revision(), found.kvs()[0].mod_revision());
}

#[tokio::test]
async fn when_the_leader_dies_another_one_goes_on() {
    let mut world = World::new().await;
    let key_file = world.stack.folder().join("platform.key");
    let public = URL_SAFE_NO_PAD.encode(key(PLATFORM_KEY).public_key().as_ref());
    std::fs::write(&key_file, public).unwrap();
    let etcd = world.config().etcd.remove(0);
    let args = ["--etcd", &etcd, "--platform-key", key_file.to_str().unwrap()];
    let spec = PlaneSpec {
        name: "control-plane".into(),
        program: env!("CARGO_BIN_EXE_floodgate-control-plane").into(),
        args: args.map(str::to_owned).to_vec(),
        env: Vec::new(),
    };
    world.stack.start_plane(&spec).await.unwrap();
    let first = leader(&mut world, 0).await;
    for cell in ["cell-1", "cell-2", "cell-3"] {
        world.start_cell(cell).await;
    }
    world.seen(3).await;
    let instance = world.serve().await;
    create_org(&instance, "acme").await.unwrap();

    world.stack.kill("control-plane").await.unwrap();
    let second = leader(&mut world, first).await;
    let mut sales = instance.sales("acme", ORG_KEY).await;
    let near = proto::wire::admin::Sale { start_time: at(10), ..sale() };
    let name = schedule(&mut sales, creation("acme", 1, near)).await.name;
    eventually(&mut sales, &name, |sale| sale.state() == State::Warming).await;

    // One that is asked to stop hands over at once, and calls go on elsewhere.
    let other = world.serve().await;
    let stopped = Instant::now();
    instance.stop().await;
    leader(&mut world, second).await;
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
    let mut sales = other.sales("acme", ORG_KEY).await;
    world.warm_up(&name).await;
    eventually(&mut sales, &name, |sale| sale.warm).await;
}

#[tokio::test]
async fn a_deposed_leader_can_do_nothing() {
    let mut world = World::new().await;
    let store = Store::connect(&world.config().etcd, Readiness::new()).await.unwrap();
    let term = world.etcd.put(leader_key(), "me", None).await.unwrap();
    let fence = Fence { create_revision: term.header().unwrap().revision() };
    let cell = |name: &str| CellRecord { cell: name.to_owned(), ..CellRecord::default() };
    store.create_cell(&cell("cell-1"), fence).await.unwrap();
    world.etcd.delete(leader_key(), None).await.unwrap();
    let nobody = store.create_cell(&cell("cell-2"), fence).await;
    assert!(matches!(nobody, Err(StoreError::Conflict)), "{nobody:?}");
    world.etcd.put(leader_key(), "another", None).await.unwrap();
    let deposed = store.create_cell(&cell("cell-2"), fence).await;
    assert!(matches!(deposed, Err(StoreError::Conflict)), "{deposed:?}");
}
