//! Messages that many are sent: encoded once, so that all of their answers carry the same bytes.
//!
//! tonic encodes an answer's messages for that answer alone. A handler that has them encoded already answers with an
//! empty stream and puts [`Frames`] beside it; [`Shared`] makes them the answer's body. Whatever is made of the answer
//! behind it (events, gRPC-Web), it begins with these bytes. An answer without frames pays for one look.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, future, stream};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use crate::web::framed;

/// The body of an answer, as an extension of it: gRPC's frames, of which many answers may share the bytes.
#[derive(Clone)]
pub struct Frames(Arc<Mutex<Option<Body>>>);

impl Frames {
    /// A body of `frames`, each made by [`Frames::of`]. When they end the call has ended well.
    pub fn new(frames: impl Stream<Item = Bytes> + Send + 'static) -> Frames {
        let frames = frames.map(|frame| Ok::<_, Status>(Frame::data(frame)));
        let mut status = HeaderMap::new();
        status.insert("grpc-status", HeaderValue::from_static("0"));
        let end = stream::once(future::ready(Ok(Frame::trailers(status))));
        Frames(Arc::new(Mutex::new(Some(Body::new(StreamBody::new(frames.chain(end)))))))
    }

    /// A message as gRPC frames it. None: it is longer than 4 GiB.
    pub fn of(message: &impl Message) -> Option<Bytes> {
        framed(&message.encode_to_vec())
    }

    fn take(&self) -> Option<Body> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A service whose answers may carry [`Frames`].
#[derive(Clone, Debug)]
pub struct Shared<S>(S);

impl<S> Shared<S> {
    /// `service`, the frames of whose answers become their bodies.
    pub fn new(service: S) -> Self {
        Self(service)
    }
}

impl<S: NamedService> NamedService for Shared<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<Request<B>> for Shared<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Sharing<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Sharing(self.0.call(request))
    }
}

/// A call to a [`Shared`] service.
#[derive(Debug)]
pub struct Sharing<F>(F);

impl<F> Future for Sharing<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut answer = ready!(Pin::new(&mut self.0).poll(context))?;
        let body = answer.extensions_mut().remove::<Frames>().and_then(|frames| frames.take());
        Poll::Ready(Ok(match body {
            Some(body) => answer.map(|_| body),
            None => answer,
        }))
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[derive(Clone)]
    struct Answering(Option<Frames>);

    impl Service<Request<Body>> for Answering {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = future::Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let mut answer = Response::new(Body::new("as it was".to_owned()));
            if let Some(frames) = &self.0 {
                answer.extensions_mut().insert(frames.clone());
            }
            future::ready(Ok(answer))
        }
    }

    async fn answer(frames: Option<Frames>) -> (Vec<Bytes>, Option<HeaderMap>) {
        let Ok(answer) = Shared::new(Answering(frames)).call(Request::new(Body::empty())).await;
        let (mut body, mut data, mut trailers) = (answer.into_body(), Vec::new(), None);
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(bytes) => data.push(bytes),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        (data, trailers)
    }

    #[tokio::test]
    async fn the_very_bytes_are_sent_and_others_are_left_alone() {
        let frame = Frames::of(&"a message".to_owned()).unwrap();
        assert_eq!(frame[..5], [0, 0, 0, 0, 11]);
        for _ in 0..2 {
            let (data, trailers) =
                answer(Some(Frames::new(stream::iter([frame.clone(), frame.clone()])))).await;
            let same = |sent: &Bytes| sent.as_ptr() == frame.as_ptr() && *sent == frame;
            assert!(data.len() == 2 && data.iter().all(same), "{data:?}");
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
        assert_eq!(answer(None).await, (vec![Bytes::from("as it was")], None));
    }
}
