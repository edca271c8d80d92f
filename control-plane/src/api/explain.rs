//! Gives refusals that the gRPC library makes by itself their reason, as all others have one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

/// A service whose answers pass through [`proto::codec::explain`].
#[derive(Clone, Debug)]
pub(super) struct Explained<S>(S);

impl<S> Explained<S> {
    pub(super) fn new(service: S) -> Self {
        Explained(service)
    }
}

impl<S: NamedService> NamedService for Explained<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Explained<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // A refusal stands in the headers; an answer has its status in the trailers.
            Ok(match Status::from_header_map(answer.headers()) {
                Some(status) => proto::codec::explain(status).into_http(),
                None => answer,
            })
        })
    }
}
