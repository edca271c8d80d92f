//! A gRPC service without code of its own: it answers every call with what it heard, or refuses as a header says.

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use floodgate_runtime::metric::Metrics;
use floodgate_runtime::server::Peer;
use floodgate_runtime::web::{Web, WebError, WebLimits, WebOptions};
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Value};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The full name of the service.
pub(crate) const NAME: &str = "floodgate.test.v1.ThingService";
/// The header that asks for a refusal.
pub(crate) const REFUSE: &str = "x-refuse";
/// The header that asks for an answer that ends badly.
pub(crate) const BREAK: &str = "x-break";
/// Bytes that a JSON body may have.
pub(crate) const BODY_BYTES_MAX: usize = 2_048;

/// The descriptors of `things.proto`.
pub(crate) static DESCRIPTORS: LazyLock<&'static [u8]> =
    LazyLock::new(|| compiled(include_str!("things.proto")));

/// The descriptors of a file with this text.
pub(crate) fn compiled(text: &str) -> &'static [u8] {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("things.proto"), text).unwrap();
    let mut compiler = protox::Compiler::new([folder.path(), here.as_ref()]).unwrap();
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("things.proto").unwrap();
    compiler.encode_file_descriptor_set().leak()
}

/// The service, spoken to over HTTP.
pub(crate) fn web(descriptors: &'static [u8]) -> Result<Web<Hearing>, WebError> {
    Web::new(Hearing, options(descriptors), &Metrics::new("test", "0").unwrap())
}

/// What the tests speak.
pub(crate) fn options(descriptors: &'static [u8]) -> WebOptions {
    WebOptions {
        title: "Things",
        descriptors,
        services: vec![NAME],
        own: Some(Arc::new(|head: &mut Parts| {
            let token = head.headers.get("authorization").and_then(|token| token.to_str().ok());
            let org = token.and_then(|token| token.strip_prefix("Bearer of "));
            let org = org.ok_or_else(|| Status::unauthenticated("no token"))?;
            Ok(format!("orgs/{org}"))
        })),
        cached: vec![("floodgate.test.v1.ThingService.Look", "max-age=1")],
        origins: vec!["https://shop.example".to_owned()],
        explain: |status| status,
        limits: WebLimits {
            path_bytes_max: 256,
            body_bytes_max: BODY_BYTES_MAX,
            body_time_max: std::time::Duration::from_millis(50),
            message_bytes_max: 1_024,
            answer_bytes_max: 4_096,
            alive_every: std::time::Duration::from_millis(20),
            written_max: 2,
            again_ms: 7..8,
        },
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Hearing;

impl Service<Request<Body>> for Hearing {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(heard(request).await.unwrap_or_else(Status::into_http)) })
    }
}

/// The same, which notes who is said to be at the other end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Noting(Arc<Mutex<Vec<Option<Peer>>>>);

impl Noting {
    /// Of each call so far.
    pub(crate) fn peers(&self) -> Vec<Option<Peer>> {
        self.0.lock().unwrap().clone()
    }
}

impl Service<Request<Body>> for Noting {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.lock().unwrap().push(request.extensions().get().copied());
        Hearing.call(request)
    }
}

async fn heard(request: Request<Body>) -> Result<Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    assert_eq!(parts.headers["content-type"], "application/grpc");
    if let Some(refusal) = parts.headers.get(REFUSE) {
        return Err(refused(refusal));
    }
    let frame = body.collect().await?.to_bytes();
    let pool = DescriptorPool::decode(*DESCRIPTORS).unwrap();
    let name = parts.uri.path().rsplit('/').next().unwrap();
    let service = pool.get_service_by_name(NAME).unwrap();
    let call = service.methods().find(|call| call.name() == name).unwrap();
    let request = DynamicMessage::decode(call.input(), &frame[5..]).unwrap();
    if name == "Echo" {
        return Ok(answer(vec![frame], Status::ok("")));
    }
    let mut heard = DynamicMessage::new(call.output());
    heard.set_field_by_name("call", Value::String(name.to_owned()));
    let json = serde_json::to_string(&request).unwrap();
    heard.set_field_by_name("request", Value::String(json));
    let frame = framed(&heard.encode_to_vec());
    Ok(match name {
        "Watch" => {
            let times = request.get_field_by_name("times").unwrap().as_i32().unwrap();
            let frames = vec![frame; usize::try_from(times.abs()).unwrap()];
            let end = if times < 0 { Status::unavailable("away") } else { Status::ok("") };
            answer(frames, end)
        }
        _ if parts.headers.contains_key(BREAK) => {
            answer(vec![frame], Status::data_loss("after all not"))
        }
        _ => answer(vec![frame], Status::ok("")),
    })
}

/// A refusal with details, of the code that the header names.
fn refused(code: &HeaderValue) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("WHY", "things", std::collections::HashMap::new());
    details.set_retry_info(Some(std::time::Duration::from_millis(1_250)));
    let code = code.to_str().unwrap().parse::<i32>().unwrap();
    Status::with_error_details(Code::from_i32(code), "not now", details)
}

/// A message as it travels.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.freeze()
}

/// Frames with the end of a call, after which a stream with frames goes on for a while when there were three.
fn answer(frames: Vec<Bytes>, end: Status) -> Response<Body> {
    let waits = frames.len() == 3;
    let mut parts: Vec<_> = frames.into_iter().map(Frame::data).collect();
    let mut trailers = HeaderMap::new();
    end.add_header(&mut trailers).unwrap();
    parts.push(Frame::trailers(trailers));
    let last = parts.len() - 1;
    let parts = stream::unfold((parts.into_iter(), 0), move |(mut parts, n)| async move {
        if waits && n == last {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Some((Ok::<_, Status>(parts.next()?), (parts, n + 1)))
    });
    let mut answer = Response::new(Body::new(StreamBody::new(parts)));
    answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    answer
}
