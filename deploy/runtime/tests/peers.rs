//! Peers that ask for more than their share, or hold what they got, lose their connection; others do not notice.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::time::Duration;

use floodgate_runtime::server::{FrameLimits, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

#[path = "support/eventually.rs"]
mod eventually;
use eventually::eventually;
#[path = "support/served.rs"]
mod served;
use served::{Served, about};

const SOON: Duration = Duration::from_secs(20);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const END_HEADERS: u8 = 4;

/// Those of tests do not wait for seconds.
fn quick() -> ServerOptions {
    ServerOptions {
        preface_timeout: Duration::from_millis(300),
        stall_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(600),
        ..ServerOptions::default()
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The headers of a call that watches the server's health, none of them indexed.
fn check(stream: u32, flags: u8) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Watch"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    frame(HEADERS, flags, stream, &block)
}

/// An empty message, which is the whole request.
fn asked(stream: u32) -> Vec<u8> {
    frame(DATA, 1, stream, &[0; 5])
}

async fn speak(served: &Served, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

/// Whether the peer ends the connection in time, whatever it says before.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4_096];
    let read = async { while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
    timeout(SOON, read).await.is_ok()
}

fn closed(served: &Served, why: &str) -> f64 {
    let series = format!(r#"floodgate_connections_closed_total{{port="grpc",why="{why}"}}"#);
    // Before the server runs there is no such series.
    served.metric(&series).unwrap_or_default()
}

#[tokio::test]
async fn each_address_gets_its_share_only() {
    let options = ServerOptions { connections_per_address_max: 2, ..ServerOptions::default() };
    let served = Served::standard(options).await;
    let from = async |address: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(served.address).await.unwrap();
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
        // The server speaks first when it lets somebody in.
        let is_in = stream.read(&mut [0; 9]).await.is_ok_and(|count| count > 0);
        is_in.then_some(stream)
    };
    let first = from("127.0.0.1").await.unwrap();
    let _second = from("127.0.0.1").await.unwrap();
    assert!(from("127.0.0.1").await.is_none(), "a third");
    let _other = from("127.0.0.2").await.unwrap();
    let refused = r#"floodgate_connections_refused_total{port="grpc",why="address"}"#;
    assert_eq!(served.metric(refused), Some(1.0));
    let addresses = || served.metric(r#"floodgate_connection_addresses{port="grpc"}"#);
    assert_eq!(addresses(), Some(2.0));
    drop(first);
    eventually("a place is free", SOON, async || from("127.0.0.1").await.is_some()).await;
    assert!(addresses().is_some());
}

#[tokio::test]
async fn floods_end_their_connection() {
    let limits =
        FrameLimits { asks_max: 20, resets_max: 10, others_max: 50, ..FrameLimits::default() };
    // What is counted is never forgotten, so that a slow machine counts the same.
    let stall_timeout = Duration::from_secs(600);
    let served =
        Served::standard(ServerOptions { frames: Some(limits), stall_timeout, ..quick() }).await;
    let id = |number: u32| 2 * number + 1;
    type Flood<'a> = (&'a str, &'a str, Box<dyn Fn(u32) -> Vec<u8>>);
    let floods: [Flood<'_>; 5] = [
        ("pings", "flood_of_asks", Box::new(|_| frame(PING, 0, 0, &[0; 8]))),
        ("settings", "flood_of_asks", Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        ("priorities", "flood_of_frames", Box::new(|_| frame(2, 0, 1, &[0, 0, 0, 3, 0]))),
        ("unknown", "flood_of_frames", Box::new(|_| frame(0xfa, 0, 0, &[]))),
        (
            "resets",
            "flood_of_resets",
            Box::new(move |number| {
                [check(id(number), END_HEADERS), frame(RST_STREAM, 0, id(number), &[0; 4])].concat()
            }),
        ),
    ];
    let mut expected = std::collections::HashMap::<_, f64>::new();
    for (what, why, one) in floods {
        let mut stream = speak(&served, &[]).await;
        for number in 1..200 {
            if stream.write_all(&one(number)).await.is_err() {
                break;
            }
        }
        assert!(is_closed(&mut stream).await, "{what}");
        let expected = expected.entry(why).or_default();
        *expected += 1.0;
        // The library minds resets that come with their calls.
        if what != "resets" {
            eventually(what, SOON, async || closed(&served, why) == *expected).await;
        }
    }
    let told = served.health().await.check(about("")).await;
    assert!(told.is_ok(), "others are served");
}

#[tokio::test]
async fn what_stands_still_ends_its_connection() {
    // A window that is closed from the start is refused at once where it is not allowed.
    let frames = Some(FrameLimits { window_min_bytes: 0, ..FrameLimits::default() });
    let served = Served::standard(ServerOptions { frames, ..quick() }).await;
    let whole = || check(1, END_HEADERS);
    let no_window = [0, 4, 0, 0, 0, 0];
    for (what, why, settings, says) in [
        ("half a frame", "frame", &[][..], frame(PING, 0, 0, &[0; 8])[..12].to_vec()),
        ("half of the headers", "frame", &[], check(1, 0)),
        ("a request without an end", "request", &[], whole()),
        ("no window", "answer", &no_window, [whole(), asked(1)].concat()),
    ] {
        let before = closed(&served, why);
        let mut stream = speak(&served, settings).await;
        stream.write_all(&says).await.unwrap();
        assert!(is_closed(&mut stream).await, "{what}");
        eventually(what, SOON, async || closed(&served, why) == before + 1.0).await;
    }
    // The preface, but nothing after it.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    assert!(is_closed(&mut stream).await);
    eventually("the preface", SOON, async || closed(&served, "preface") == 1.0).await;
}

#[tokio::test]
async fn who_has_no_room_for_answers_is_not_heard() {
    // Nothing else could close it here.
    let stall_timeout = Duration::from_secs(600);
    let served = Served::standard(ServerOptions { stall_timeout, ..quick() }).await;
    for (settings, times) in [(&[0, 4, 0, 0, 0, 255][..], 1.0), (&[0, 4, 0, 0, 0, 0], 2.0)] {
        let mut stream = speak(&served, settings).await;
        assert!(is_closed(&mut stream).await);
        eventually("narrow", SOON, async || closed(&served, "narrow_window") == times).await;
    }
    let mut stream = speak(&served, &[0, 4, 0, 0, 1, 0]).await;
    stream.write_all(&[check(1, END_HEADERS), asked(1)].concat()).await.unwrap();
    let mut bytes = [0; 4_096];
    let mut heard: Vec<u8> = Vec::new();
    // Settings, their acknowledgement, and the answer's headers.
    while !heard.windows(3).any(|said| said == [HEADERS, END_HEADERS, 0]) {
        let count = timeout(SOON, stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(count > 0, "it was closed");
        heard.extend(&bytes[..count]);
    }
}

#[tokio::test]
async fn who_waits_or_watches_in_good_order_stays() {
    let options = quick();
    let long = options.request_timeout * 3;
    let served = Served::standard(options).await;
    let mut idle = served.health().await;
    let mut watch = served.health().await.watch(about("")).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    // Time is what is tested: all that could run out has run out then.
    tokio::time::sleep(long).await;
    idle.check(about("")).await.unwrap();
    assert!(timeout(Duration::from_millis(1), watch.message()).await.is_err(), "it goes on");
    for why in ["frame", "request", "answer", "write", "preface"] {
        assert_eq!(closed(&served, why), 0.0, "{why}");
    }
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_and_closed_when_it_stays() {
    let age_max = Some(Duration::from_millis(100));
    let served = Served::standard(ServerOptions { age_max, age_grace: age_max, ..quick() }).await;
    let mut watch = served.health().await.watch(about("")).await.unwrap().into_inner();
    watch.message().await.unwrap().unwrap();
    let ended = timeout(SOON, watch.message()).await.expect("it ends");
    assert!(ended.is_err(), "{ended:?}");
    eventually("it is counted", SOON, async || closed(&served, "age") == 1.0).await;
}

/// What is asked for over HTTP/1.1; the answer is that of the health service, or none.
const ASKED: &str = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: x\r\n\
                     content-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0";

#[tokio::test]
async fn a_peer_of_http1_that_asks_too_much_or_stands_still_loses_its_connection() {
    let frames = FrameLimits { requests_at_once_max: 20, ..FrameLimits::default() };
    let options = ServerOptions { http1: true, frames: Some(frames), ..quick() };
    let served = Served::standard(options).await;
    let half = ASKED.len() / 2;
    for (what, why, says) in [
        ("half of the headers", None, ASKED[..half].to_owned()),
        ("half of the body", Some("request"), ASKED[..ASKED.len() - 2].to_owned()),
        ("many requests", Some("flood_of_requests"), ASKED.repeat(100)),
        // Between two calls it may rest for a while, and no longer.
        ("a request, and then nothing", None, ASKED.to_owned()),
    ] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        assert!(is_closed(&mut stream).await, "{what}");
        if let Some(why) = why {
            eventually(what, SOON, async || closed(&served, why) == 1.0).await;
        }
    }
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(ASKED.repeat(10).as_bytes()).await.unwrap();
    let (mut heard, mut bytes) = (String::new(), [0; 4_096]);
    while heard.matches("HTTP/1.1 200 OK").count() < 10 {
        let count = timeout(SOON, stream.read(&mut bytes)).await.unwrap().unwrap();
        assert!(count > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}
