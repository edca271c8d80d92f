//! A watcher's stream: what is so now, then the newest whenever there is something new.

use super::board::Told;
use super::seats::Seat;
use bytes::Bytes;
use futures_util::Stream;
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
    /// Given back when the stream is dropped.
    _seat: Seat,
}

impl Watching {
    /// The stream of a watcher who has joined with `told`.
    pub(super) fn new(told: Told, changes: watch::Receiver<Told>, seat: Seat) -> Watching {
        let changes = WatchStream::from_changes(changes);
        Watching { first: Some(told.frame), number: told.number, changes, _seat: seat }
    }
}

impl Stream for Watching {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
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
