//! A gRPC service that notes what it hears and answers with an empty message.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Service, StdError};

/// More than any request has.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the service heard.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) path: String,
    /// The body; none when it broke off.
    pub(super) body: Option<Bytes>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Ear(Arc<Mutex<Option<Heard>>>);

impl Ear {
    /// What was heard since it was asked last.
    pub(super) fn take(&self) -> Option<Heard> {
        self.0.lock().unwrap().take()
    }
}

impl<B> Service<Request<B>> for Ear
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let ear = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = Box::pin(Limited::new(body, BODY_BYTES_MAX)).collect().await;
            let body = body.ok().map(|body| body.to_bytes());
            let path = head.uri.path().to_owned();
            *ear.0.lock().unwrap() = Some(Heard { path, body });
            Ok(empty())
        })
    }
}

fn empty() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers)];
    let frames = stream::iter(frames.map(Ok::<_, Status>));
    let mut answer = Response::new(Body::new(StreamBody::new(frames)));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}
