//! A client that is not ours: Python's grpcio, with stubs made from the `.proto` files, registers an org, opens a sale
//! and buys from it. What it was told must stand in the cell's Postgres and in the provider's file.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

#[path = "support/books.rs"]
mod books;
#[path = "support/platform.rs"]
mod platform;
#[path = "support/python.rs"]
mod python;
#[path = "foreign_client/stubs.rs"]
mod stubs;

use std::path::Path;

use books::Told;
use python::Python;

#[tokio::test]
async fn a_client_in_python_buys_what_the_ledgers_say() {
    let chaos = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stubs = tempfile::tempdir().unwrap();
    let python = Python::environment(stubs::NEEDS).await.unwrap();
    stubs::generate(&python, &chaos.join("../proto"), stubs.path()).await.unwrap();

    let platform = platform::start(3, 2, &[]).await.unwrap();
    let address = |name: &str| platform.stack().endpoint(name).unwrap().address.to_string();
    let (control, router) = (address("control-plane"), address("router"));
    let key = platform.key().private.display().to_string();
    let args = ["--control-plane", &control, "--router", &router, "--platform-key", &key];
    let script = chaos.join("tests/foreign_client/client.py");
    let mut client = python.command();
    client.arg(script).args(args).env("PYTHONPATH", stubs.path());
    let said = python::run(client.env("PYTHONDONTWRITEBYTECODE", "1")).await.unwrap();
    let told: Told = serde_json::from_str(said.lines().last().unwrap()).unwrap();

    assert_eq!((told.amount_minor, told.currency.as_str()), (2_500, "EUR"));
    books::agree(&platform, &told).await;
    platform.shutdown().await.unwrap();
}
