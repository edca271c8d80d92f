//! The body of an answer, which tells the connection's pulse what waits for the peer's window.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::pulse::Pulse;

pin_project! {
    /// A body that passes as it is.
    #[derive(Debug)]
    pub(super) struct Answer<B> {
        #[pin]
        body: B,
        waiting: Waiting,
    }
}

/// Whether data is there that the peer has no window for yet: hyper asks for more only once there is one.
#[derive(Debug)]
struct Waiting {
    pulse: Option<Arc<Pulse>>,
    waits: bool,
}

impl Waiting {
    fn begin(&mut self) {
        if let Some(pulse) = &self.pulse {
            pulse.answer_ready();
            self.waits = true;
        }
    }

    fn end(&mut self) {
        if let Some(pulse) = self.pulse.as_ref().filter(|_| self.waits) {
            pulse.answer_taken();
            self.waits = false;
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}

impl<B> Answer<B> {
    /// `body`, told to `pulse` where there is one.
    pub(super) fn new(body: B, pulse: Option<Arc<Pulse>>) -> Answer<B> {
        Answer { body, waiting: Waiting { pulse, waits: false } }
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let answer = self.project();
        answer.waiting.end();
        let frame = ready!(answer.body.poll_frame(context));
        if matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            answer.waiting.begin();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
