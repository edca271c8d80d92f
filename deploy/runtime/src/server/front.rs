//! One service before all others, for a port most of whose calls are for it.

use std::convert::Infallible;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tonic::server::NamedService;
use tonic::service::Routes;

use super::routes::Routed;

/// Hands calls of the service `S` straight to it and all others to the routes. A call of `S` is
/// neither looked up nor boxed, and its `grpc-timeout` is for `S` to keep.
#[derive(Clone, Debug)]
pub struct Front<S> {
    first: S,
    others: Routed,
}

impl<S: NamedService> Front<S> {
    /// `first` before `others`.
    pub fn new(first: S, others: Routes) -> Self {
        Self { first, others: Routed::new(others) }
    }

    fn is_first(path: &str) -> bool {
        let service = path.strip_prefix('/').and_then(|path| path.strip_prefix(S::NAME));
        service.is_some_and(|method| method.starts_with('/'))
    }
}

impl<S, B> Service<Request<B>> for Front<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + NamedService,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, <Routed as Service<Request<B>>>::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if Self::is_first(request.uri().path()) {
            Either::Left(self.first.call(request))
        } else {
            Either::Right(self.others.call(request))
        }
    }
}
