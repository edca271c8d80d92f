//! Gives refusals that the gRPC library makes by itself a reason, as all others have one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

/// A service whose bare refusals are explained. What was explained already, and every answer, passes as it is; no
/// call is boxed for it.
#[derive(Clone, Debug)]
pub struct Explained<S> {
    service: S,
    explain: fn(Status) -> Status,
}

impl<S> Explained<S> {
    /// `service`, whose refusals without details become what `explain` makes of them.
    pub fn new(service: S, explain: fn(Status) -> Status) -> Self {
        Self { service, explain }
    }
}

impl<S: NamedService> NamedService for Explained<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Explained<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Explaining<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Explaining { answer: self.service.call(request), explain: self.explain }
    }
}

/// A call to an [`Explained`] service.
#[derive(Debug)]
pub struct Explaining<F> {
    answer: F,
    explain: fn(Status) -> Status,
}

impl<F> Future for Explaining<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context))?;
        let bare = bare_refusal(answer.headers());
        Poll::Ready(Ok(match bare {
            Some(status) => (self.explain)(status).into_http(),
            None => answer,
        }))
    }
}

/// A refusal without details. A refusal stands in the headers; an answer has its status in the trailers.
fn bare_refusal(headers: &HeaderMap) -> Option<Status> {
    const STATUS: &str = "grpc-status";
    const DETAILS: &str = "grpc-status-details-bin";
    if !headers.contains_key(STATUS) || headers.contains_key(DETAILS) {
        return None;
    }
    Status::from_header_map(headers)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tonic::{Code, metadata::MetadataMap};

    use super::*;

    #[derive(Clone)]
    struct Refusing(Status);

    impl Service<Request<Body>> for Refusing {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::ready(Ok(self.0.clone().into_http()))
        }
    }

    async fn told(status: Status) -> (Code, String) {
        let explain = |status: Status| Status::aborted(format!("explained: {}", status.message()));
        let mut service = Explained::new(Refusing(status), explain);
        let Ok(answer) = service.call(Request::new(Body::empty())).await;
        let status = Status::from_header_map(answer.headers()).unwrap();
        (status.code(), status.message().to_owned())
    }

    #[tokio::test]
    async fn only_bare_refusals_are_explained() {
        let bare = Status::out_of_range("too long");
        assert_eq!(told(bare).await, (Code::Aborted, "explained: too long".to_owned()));
        let details = Bytes::from_static(b"why");
        let full = Status::with_details_and_metadata(
            Code::NotFound,
            "no such thing",
            details,
            MetadataMap::new(),
        );
        assert_eq!(told(full).await, (Code::NotFound, "no such thing".to_owned()));
    }
}
