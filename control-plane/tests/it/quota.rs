//! Whoever calls too often from one address is refused before anybody looks at their token.

use std::collections::BTreeSet;

use floodgate_control_plane::config::Config;
use proto::fault::Reason;
use proto::wire::admin::GetSaleRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::plane::*;

const SALE: &str = "orgs/acme/sales/s0000000000000000";

async fn world() -> (World, Instance) {
    let world = World::new().await;
    let config = Config { address_calls_per_s: 1, ..world.config() };
    let instance = world.serve_as(config).await;
    (world, instance)
}

/// A token cannot be looked at without etcd, and whoever is refused for their address does not wait for that.
#[tokio::test]
async fn an_address_is_counted_before_its_tokens_are_looked_at() {
    let (world, instance) = world().await;
    world.stack.pause("etcd").await.unwrap();
    let sales = instance.sales("acme", ORG_KEY).await;
    let ask = async || {
        let request = GetSaleRequest { name: SALE.to_owned() };
        reason(&sales.clone().get_sale(request).await.unwrap_err()).map(Reason::label)
    };
    let (first, second) = tokio::join!(ask(), ask());
    let reasons = BTreeSet::from([first, second]);
    let expected = [Reason::AddressRate, Reason::Overloaded].map(|reason| Some(reason.label()));
    assert_eq!(reasons, BTreeSet::from(expected));
    world.stack.resume("etcd").await.unwrap();
}

#[tokio::test]
async fn so_is_one_that_speaks_json() {
    let (_world, instance) = world().await;
    let mut told = String::new();
    // However slow the machine is: at some time two come within a second.
    for _ in 0..100 {
        let mut stream = TcpStream::connect(instance.address).await.unwrap();
        let request = format!("GET /v1/{SALE} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        told.clear();
        stream.read_to_string(&mut told).await.unwrap();
        if told.starts_with("HTTP/1.1 429") {
            break;
        }
        assert!(told.starts_with("HTTP/1.1 401"), "{told}");
    }
    assert!(told.contains("ADDRESS_RATE") && told.contains("\r\nretry-after: "), "{told}");
}
