//! A watcher's stream: what is so now, then the newest whenever there is something new.

use super::board::Told;
use super::seats::Seat;
use bytes::Bytes;
use futures_util::Stream;
use runtime::server::Leaving;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;

/// The frames for one watcher. It keeps none of them: what was told while nobody asked for the next frame is gone, but
/// for the newest.
#[derive(Debug)]
pub(super) struct Watching {
    first: Option<Bytes>,
    /// Of the last frame.
    number: u64,
    changes: WatchStream<Told>,
    /// Whether the connection is: then it ends, so that the watcher comes again, perhaps elsewhere. The newest is told often
    /// enough for that to be seen in time.
    leaving: Option<Leaving>,
    /// Given back when the stream is dropped.
    _seat: Seat,
}

impl Watching {
    /// The stream of a watcher who has joined with `told`.
    pub(super) fn new(
        told: Told,
        changes: watch::Receiver<Told>,
        leaving: Option<Leaving>,
        seat: Seat,
    ) -> Watching {
        let (first, number) = (Some(told.frame), told.number);
        let changes = WatchStream::from_changes(changes);
        Watching { first, number, changes, leaving, _seat: seat }
    }
}

impl Stream for Watching {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.leaving.as_ref().is_some_and(Leaving::is_so) {
            return Poll::Ready(None);
        }
        loop {
            let told = ready!(Pin::new(&mut self.changes).poll_next(context));
            let Some(told) = told else { return Poll::Ready(None) };
            if told.number > self.number {
                self.number = told.number;
                return Poll::Ready(Some(told.frame));
            }
        }
    }
}
