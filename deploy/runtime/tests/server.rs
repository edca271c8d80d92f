//! Connections have limits and an end; health and reflection answer; metrics and readiness are told.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use floodgate_runtime::admin;
use floodgate_runtime::drain::Drain;
use floodgate_runtime::metric::{Counter, Histogram, LATENCY_BOUNDS_S};
use floodgate_runtime::server::{self, Front, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::pb::HealthCheckResponse;
use tonic_health::pb::health_check_response::ServingStatus;

#[path = "support/eventually.rs"]
mod eventually;
use eventually::eventually;
#[path = "support/served.rs"]
mod served;
use served::{Served, about};

const SOON: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

/// Asks over HTTP/1.1, as probes do.
async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, body.to_owned())
}

#[tokio::test]
async fn health_follows_readiness() {
    let served = Served::standard(ServerOptions::default()).await;
    served.drain.readiness().set("etcd", false);
    let mut health = served.health().await;
    for service in ["", "floodgate.test.v1.Test"] {
        let mut watch = health.watch(about(service)).await.unwrap().into_inner();
        let is = |expected: ServingStatus| {
            move |told: &HealthCheckResponse| told.status == expected as i32
        };
        let not_serving = is(ServingStatus::NotServing);
        while !not_serving(&watch.message().await.unwrap().unwrap()) {}
        served.drain.readiness().set("etcd", true);
        let serving = is(ServingStatus::Serving);
        while !serving(&watch.message().await.unwrap().unwrap()) {}
        served.drain.readiness().set("etcd", false);
    }
    let unknown = health.check(about("unknown")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    drop(health);
    served.drain.finish(GRACE).await.unwrap();
}

#[tokio::test]
async fn reflection_answers_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let served = Served::standard(ServerOptions::default()).await;
    let channel = served.channel().await;

    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel.clone());
    let mut answers =
        client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "grpc.health.v1.Health".to_owned(),
            ),
        ),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    let mut answers =
        client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(file) = answer
    else {
        panic!("{answer:?}");
    };
    assert_eq!(file.file_descriptor_proto.len(), 1);
}

/// Stands in for the health service; never answers, or panics.
#[derive(Clone)]
struct Bad {
    panics: bool,
    calls: Counter,
}

impl NamedService for Bad {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl<B> Service<http::Request<B>> for Bad {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<B>) -> Self::Future {
        let panics = self.panics;
        self.calls.add(1);
        Box::pin(async move {
            assert!(!panics, "on purpose");
            std::future::pending().await
        })
    }
}

async fn serve_bad(panics: bool) -> Served {
    let (listener, served) = Served::bind().await;
    let calls = Counter::new(&served.metrics, "calls_total", "calls", &[]);
    let routes = Routes::new(Bad { panics, calls });
    let (metrics, drain) = (served.metrics.clone(), served.drain.clone());
    let options = ServerOptions { http1: true, ..ServerOptions::default() };
    served.drain.spawn("server", server::serve(listener, routes, options, metrics, drain));
    served
}

#[tokio::test]
async fn a_call_ends_when_the_callers_time_is_over() {
    let served = serve_bad(false).await;
    // Over HTTP/1.1, because tonic's client would keep the time on its own side too.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let call = "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                grpc-timeout: 50m\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(call.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let code = i32::from(Code::DeadlineExceeded);
    assert!(answer.contains(&format!("\r\ngrpc-status: {code}\r\n")), "{answer}");
}

#[tokio::test]
async fn a_handler_that_panics_spoils_its_call_only() {
    let served = serve_bad(true).await;
    let mut health = served.health().await;
    health.check(about("")).await.unwrap_err();
    health.check(about("")).await.unwrap_err();
    assert!(served.drain.readiness().is_ready());
    drop(health);
    served.drain.finish(GRACE).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_at_once_and_places_come_back() {
    let options = ServerOptions { connections_max: 2, ..ServerOptions::default() };
    let served = Served::standard(options).await;
    let mut first = served.health().await;
    let mut second = served.health().await;
    first.check(about("")).await.unwrap();
    second.check(about("")).await.unwrap();
    let mut third = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");
    assert_eq!(served.metric(r#"floodgate_connections{port="grpc"}"#), Some(2.0));
    assert_eq!(
        served.metric(r#"floodgate_connections_refused_total{port="grpc",why="full"}"#),
        Some(1.0)
    );
    first.check(about("")).await.unwrap();
    drop(second);
    eventually("a place is free", SOON, async || {
        served.metric(r#"floodgate_connections{port="grpc"}"#) == Some(1.0)
    })
    .await;
    served.health().await.check(about("")).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_something_else_is_closed() {
    let preface_timeout = Duration::from_millis(200);
    let served =
        Served::standard(ServerOptions { preface_timeout, ..ServerOptions::default() }).await;
    for says in ["", "PRI * HTTP/2.0\r\n\r\nSM", "GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        let closed = tokio::time::timeout(SOON, stream.read(&mut [0])).await;
        assert_eq!(closed.expect("it is closed").unwrap_or(0), 0, "{says:?}");
    }
}

#[tokio::test]
async fn a_preface_in_two_parts_is_understood() {
    let served = Served::standard(ServerOptions::default()).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    // The pause is what is tested: the halves come in segments of their own.
    tokio::time::sleep(Duration::from_millis(30)).await;
    stream.write_all(b"\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(header[3], 4, "the server's settings come first: {header:?}");
    let mut settings = vec![0; usize::from(header[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let value = |id: u8| {
        let found = settings.chunks(6).find(|setting| setting[..2] == [0, id])?;
        Some(u32::from_be_bytes(found[2..].try_into().unwrap()))
    };
    assert_eq!(value(3), Some(128), "streams at once");
    assert_eq!(value(4), Some(64 * 1_024), "window of a stream");
    assert_eq!(value(6), Some(8 * 1_024), "bytes of headers");
}

#[tokio::test]
async fn the_drain_closes_idle_connections_and_lets_calls_end() {
    let served = serve_bad(false).await;
    let idle = served.channel().await;
    let mut busy = served.health().await;
    let call = tokio::spawn(async move { busy.check(about("")).await });
    let open = || served.metric(r#"floodgate_connections{port="grpc"}"#);
    eventually("it is called", SOON, async || served.metric("calls_total") == Some(1.0)).await;
    assert_eq!(open(), Some(2.0));
    served.drain.begin();
    eventually("only the busy one is left", SOON, async || open() == Some(1.0)).await;
    assert!(TcpStream::connect(served.address).await.is_err(), "the listener is closed");
    let overrun = served.drain.finish(Duration::from_millis(100)).await.unwrap_err();
    assert_eq!((overrun.count, overrun.names.as_str()), (1, "connection: 1"));
    call.abort();
    served.drain.finish(GRACE).await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn a_health_watch_hears_of_the_end_and_does_not_hold_it_up() {
    let served = Served::standard(ServerOptions::default()).await;
    let mut watch = served.health().await.watch(about("")).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status, ServingStatus::Serving as i32);
    served.drain.finish(GRACE).await.unwrap();
    let last = watch.message().await.unwrap().unwrap();
    assert_eq!(last.status, ServingStatus::NotServing as i32);
    assert_eq!(watch.message().await.unwrap(), None);
}

#[tokio::test]
async fn the_first_service_is_called_directly_and_the_others_through_routes() {
    let (listener, served) = Served::bind().await;
    let (_reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure().build_v1().unwrap();
    let front = Front::new(health, Routes::new(reflection));
    let (metrics, drain) = (served.metrics.clone(), served.drain.clone());
    let options = ServerOptions::default();
    served.drain.spawn("server", server::serve_service(listener, front, options, metrics, drain));
    let told = served.health().await.check(about("")).await.unwrap().into_inner();
    assert_eq!(told.status, ServingStatus::Serving as i32);
    let channel = served.channel().await;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    let mut absent = ServerReflectionClient::new(channel);
    let refused = absent.server_reflection_info(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_metrics_port_tells_metrics_life_and_readiness() {
    let (listener, served) = Served::bind().await;
    let admin_end = Drain::new();
    let (metrics, readiness) = (served.metrics.clone(), served.drain.readiness());
    let more = admin::Router::new().route("/more", axum::routing::get(async || "of its own\n"));
    let (ready, end) = (readiness.clone(), admin_end.clone());
    admin_end.spawn("admin", admin::serve(listener, metrics, ready, more, end));
    let calls = Counter::new(&served.metrics, "floodgate_calls_total", "calls", &[("rpc", "Join")]);
    let took =
        Histogram::new(&served.metrics, "floodgate_took_seconds", "took", LATENCY_BOUNDS_S, &[]);
    calls.add(3);
    took.observe(Duration::from_millis(3));

    let (status, text) = get(served.address, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"floodgate_build_info{plane="test",version="0"} 1"#,
        r#"floodgate_calls_total{rpc="Join"} 3"#,
        r#"floodgate_took_seconds_bucket{le="0.0025"} 0"#,
        r#"floodgate_took_seconds_bucket{le="0.005"} 1"#,
        "floodgate_took_seconds_sum 0.003",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    assert_eq!(get(served.address, "/livez").await, (200, "alive\n".to_owned()));
    assert_eq!(get(served.address, "/readyz").await, (200, "ready\n".to_owned()));
    readiness.set("etcd", false);
    assert_eq!(get(served.address, "/readyz").await, (503, "not ready: etcd\n".to_owned()));
    readiness.set("etcd", true);
    served.drain.announce();
    assert_eq!(get(served.address, "/readyz").await, (503, "not ready: draining\n".to_owned()));
    assert_eq!(get(served.address, "/livez").await.0, 200);
    assert_eq!(get(served.address, "/more").await, (200, "of its own\n".to_owned()));
    assert_eq!(get(served.address, "/nothing").await.0, 404);
    admin_end.finish(GRACE).await.unwrap();
}
