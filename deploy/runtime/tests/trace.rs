//! A sampled call is traced over our own frames into a collector; others carry and cost nothing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use floodgate_runtime::drain::Drain;
use floodgate_runtime::metric::Metrics;
use floodgate_runtime::server::{self, ServerOptions};
use floodgate_runtime::telemetry::{self, Telemetry, TelemetryOptions};
use http_body_util::{BodyExt, Full};
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use tonic::service::Routes;
use tracing::{Instrument, info_span};

/// Keeps the bytes of what is exported.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<u8>>>);

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let kept = Arc::clone(&self.0);
        Box::pin(async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            kept.lock().unwrap().extend_from_slice(&body);
            let empty = Full::new(Bytes::from_static(&[0; 5]));
            let answer = http::Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "0")
                .body(Body::new(empty));
            Ok(answer.unwrap())
        })
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[tokio::test]
async fn a_sampled_call_is_followed_and_others_are_not() {
    let nothing = || panic!("made a span that nobody wants");
    assert!(telemetry::root(nothing).is_disabled(), "tracing is off");
    let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert!(telemetry::child_of(Some(sampled), nothing).is_disabled(), "tracing is off");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (collector, drain) = (Collector::default(), Drain::new());
    let routes = Routes::new(collector.clone());
    let metrics = Metrics::new("collector", "0").unwrap();
    let options = ServerOptions::default();
    drain.spawn("server", server::serve(listener, routes, options, metrics, drain.clone()));

    let telemetry = Telemetry::start(&TelemetryOptions {
        plane: "router",
        version: "0",
        log: "warn".to_owned(),
        otlp_endpoint: Some(endpoint),
        trace_ratio: 1.0,
    })
    .unwrap();
    assert_eq!(telemetry::traceparent_of_current(), None);
    let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    assert!(telemetry::child_of(Some(unsampled), nothing).is_disabled());
    assert!(telemetry::child_of(None, nothing).is_disabled());
    assert!(telemetry::child_of(Some("nonsense"), nothing).is_disabled());

    let edge = telemetry::root(|| info_span!(target: "floodgate_test", "edge_of_it"));
    let sent = async { telemetry::traceparent_of_current() }.instrument(edge).await.unwrap();
    assert_eq!((sent.len(), &sent[..3], &sent[52..]), (55, "00-", "-01"), "{sent}");
    let keeper =
        telemetry::child_of(Some(&sent), || info_span!(target: "floodgate_test", "keeper"));
    let further = keeper.in_scope(telemetry::traceparent_of_current).unwrap();
    assert_eq!(further[..36], sent[..36], "the same trace");
    assert_ne!(further[36..52], sent[36..52], "another span");
    drop(info_span!(target: "hyper", "of_a_library"));
    drop(keeper);
    telemetry.stop().await;

    let exported = collector.0.lock().unwrap().clone();
    assert!(holds(&exported, b"edge_of_it") && holds(&exported, b"keeper"));
    assert!(holds(&exported, b"floodgate-router"));
    assert!(holds(&exported, &unhex(&sent[3..35])), "the trace's id");
    assert!(!holds(&exported, b"of_a_library"));
    drain.finish(std::time::Duration::from_secs(5)).await.unwrap();
}
