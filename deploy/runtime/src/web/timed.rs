//! A body that must have come by some time. Once it has, nothing is timed.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::codegen::StdError;

pin_project! {
    /// See the module.
    #[derive(Debug)]
    pub(super) struct Timed<B> {
        #[pin]
        body: B,
        late: Pin<Box<Sleep>>,
    }
}

impl<B> Timed<B> {
    /// `body`, which fails when it has not come to its end within this time.
    pub(super) fn new(body: B, within: Duration) -> Timed<B> {
        Timed { body, late: Box::pin(sleep(within)) }
    }
}

impl<B: Body> Body for Timed<B>
where
    B::Error: Into<StdError>,
{
    type Data = B::Data;
    type Error = StdError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, StdError>>> {
        let timed = self.project();
        if let Poll::Ready(frame) = timed.body.poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let late = timed.late.as_mut().poll(context);
        late.map(|()| Some(Err(Status::deadline_exceeded("the body took too long to come").into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
