//! The same purchase over HTTP/1.1: with curl over REST, by gRPC-Web made by hand, and from a page in a browser. What
//! was told must stand in the cell's Postgres and in the provider's file. And what makes no sense.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

#[path = "over_http/bad_input.rs"]
mod bad_input;
#[path = "support/books.rs"]
mod books;
#[path = "over_http/browser.rs"]
mod browser;
#[path = "over_http/curl.rs"]
mod curl;
#[path = "over_http/document.rs"]
mod document;
#[path = "over_http/events.rs"]
mod events;
#[path = "over_http/grpc_web.rs"]
mod grpc_web;
#[path = "support/platform.rs"]
mod platform;
#[path = "support/python.rs"]
mod python;
#[path = "over_http/rest.rs"]
mod rest;
#[path = "over_http/shop.rs"]
mod shop;

use grpc_web::Coding;
use shop::Shop;

/// Routes are logged when somebody looks into how calls come; whoever asks again and again is no buyer here.
const ROUTER: &[&str] = &[
    "--log",
    "info,floodgate_runtime=debug",
    "--buyer-calls-per-s",
    "10000",
    "--buyer-calls-burst",
    "10000",
];

#[tokio::test]
async fn rest_and_grpc_web_buy_what_the_ledgers_say() {
    let shop = Shop::open(ROUTER).await.unwrap();
    let sale = shop.sale().await.unwrap();
    let orders = [
        rest::buys(&shop, &sale).await.unwrap(),
        grpc_web::buys(&shop, &sale, Coding::Binary).await.unwrap(),
        grpc_web::buys(&shop, &sale, Coding::Text).await.unwrap(),
    ];
    for told in orders {
        assert_eq!((told.amount_minor, told.currency.as_str()), (2_500, "EUR"), "{told:?}");
        books::agree(&shop.platform, &told).await;
    }
    shop.platform.shutdown().await.unwrap();
}

#[tokio::test]
async fn events_end_well_with_their_connection_and_go_on_with_the_next() {
    let shop = Shop::open(&[ROUTER, &["--connection-age-s", "1"]].concat()).await.unwrap();
    let sale = shop.sale().await.unwrap();
    events::end_well_and_go_on(&shop, &sale).await.unwrap();
    shop.platform.shutdown().await.unwrap();
}

#[tokio::test]
async fn bad_input_gets_the_problem_of_the_table() {
    let shop = Shop::open(ROUTER).await.unwrap();
    let sale = shop.sale().await.unwrap();
    let wrong = bad_input::wrong(&shop, &sale).await.unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    shop.platform.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_documents_say_what_the_planes_do() {
    let shop = Shop::open(ROUTER).await.unwrap();
    let sale = shop.sale().await.unwrap();
    document::holds(&shop, &sale).await.unwrap();
    shop.platform.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_page_in_a_browser_buys_what_the_ledgers_say() {
    let shop = Shop::open(ROUTER).await.unwrap();
    let sale = shop.sale().await.unwrap();
    let told = browser::buys(&shop, &sale).await.unwrap();
    assert_eq!((told.amount_minor, told.currency.as_str()), (2_500, "EUR"), "{told:?}");
    books::agree(&shop.platform, &told).await;
    shop.platform.shutdown().await.unwrap();
}
