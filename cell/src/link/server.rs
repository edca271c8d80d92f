//! The service: three kinds of streams of calls, and the stream of states.

use super::call::{Asked, deadline};
use super::{Outbox, Reply};
use crate::keeper::Kept;
use futures_util::{Stream, StreamExt, stream};
use proto::fault::{Fault, Reason};
use proto::frame::read_call;
use proto::limits::{
    BATCH_CALLS_MAX, LINK_CALLS_OPEN_MAX, LINK_CALLS_WAITING_MAX, PROBE_BYTES_MAX,
};
use proto::wire::cell::link_service_server::LinkService;
use proto::wire::cell::{Answers, BucketStates, Call, Frame, WatchBucketsRequest, answer, call};
use runtime::telemetry::trace;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// When a caller may try again for whom there was no room.
const FULL_MS: u32 = 250;

/// The link of one process.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    kept: Arc<Kept>,
    end: CancellationToken,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Link {
    pub(crate) fn new(kept: Arc<Kept>, end: CancellationToken) -> Link {
        Link { kept, end }
    }

    /// Serves one stream of calls: reads it in a task of its own, whose end ends the answers. To read a call is to decode
    /// it, to check its ticket and to queue it, so this is done by the workers of its class.
    fn serve(&self, frames: Streaming<Frame>, workers: &Handle) -> Response<Out<Answers>> {
        let outbox = Arc::new(Outbox::default());
        let ended = CancellationToken::new();
        let reader = read(self.kept.clone(), frames, outbox.clone(), self.end.clone());
        let guard = ended.clone().drop_guard();
        workers.spawn(async move {
            reader.await;
            drop(guard);
        });
        let answers = stream::unfold((outbox, ended), |(outbox, ended)| async move {
            let answers = tokio::select! {
                biased;
                answers = outbox.take() => answers,
                () = ended.cancelled() => return None,
            };
            Some((Ok(answers), (outbox, ended)))
        });
        Response::new(Box::pin(answers))
    }
}

#[tonic::async_trait]
impl LinkService for Link {
    type JoinStream = Out<Answers>;
    type FlashStream = Out<Answers>;
    type StandardStream = Out<Answers>;
    type WatchBucketsStream = Out<BucketStates>;

    async fn join(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Out<Answers>>, Status> {
        Ok(self.serve(request.into_inner(), self.kept.ports().flash.workers.handle()))
    }

    async fn flash(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Out<Answers>>, Status> {
        Ok(self.serve(request.into_inner(), self.kept.ports().flash.workers.handle()))
    }

    async fn standard(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Out<Answers>>, Status> {
        Ok(self.serve(request.into_inner(), self.kept.ports().standard.workers.handle()))
    }

    async fn watch_buckets(
        &self,
        _: Request<WatchBucketsRequest>,
    ) -> Result<Response<Out<BucketStates>>, Status> {
        let (all, changes) = self.kept.states().watch();
        let first = stream::iter(all.into_iter().map(Ok));
        let (kept, end) = (self.kept.clone(), self.end.clone());
        let then = stream::unfold((changes, kept, end), |(mut changes, kept, end)| async move {
            let received = tokio::select! {
                received = changes.recv() => received,
                () = end.cancelled() => return None,
            };
            match received {
                Ok(states) => Some((vec![Ok(states)], (changes, kept, end))),
                // Too slow to be told every change: told everything instead.
                Err(RecvError::Lagged(_)) => {
                    let (all, changes) = kept.states().watch();
                    Some((all.into_iter().map(Ok).collect(), (changes, kept, end)))
                }
                Err(RecvError::Closed) => None,
            }
        });
        Ok(Response::new(Box::pin(first.chain(then.flat_map(stream::iter)))))
    }
}

async fn read(
    kept: Arc<Kept>,
    mut frames: Streaming<Frame>,
    outbox: Arc<Outbox>,
    end: CancellationToken,
) {
    loop {
        let frame = tokio::select! {
            frame = frames.message() => frame,
            () = end.cancelled() => return,
        };
        let frame = match frame {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(status) => {
                tracing::debug!(%status, "a stream of the link broke");
                return;
            }
        };
        kept.metrics().frame(frame.calls.len());
        let open = outbox.open();
        if frame.calls.len() > BATCH_CALLS_MAX || open > LINK_CALLS_OPEN_MAX {
            let calls = frame.calls.len();
            tracing::warn!(calls, open, "a router asks for too much; its stream ends");
            return;
        }
        unpack(frame, &outbox, |call, now| take(&kept, call, &outbox, now));
    }
}

/// Takes a frame's calls one by one. One that cannot be read, and one for which there is no room, is refused by itself.
fn unpack(frame: Frame, outbox: &Arc<Outbox>, mut take: impl FnMut(Call, Instant)) {
    let now = Instant::now();
    for call in frame.calls {
        match read_call(call) {
            Ok(call) if outbox.open() >= LINK_CALLS_WAITING_MAX => {
                outbox.refuse(call.id, &Fault::later(Reason::Overloaded, FULL_MS));
            }
            Ok(call) => take(call, now),
            Err(bad) => {
                tracing::warn!(id = bad.id, reason = bad.reason.label(), "a call cannot be read");
                if let Some(id) = bad.id {
                    outbox.refuse(id, &bad.reason.into());
                }
            }
        }
    }
}

fn take(kept: &Kept, mut call: Call, outbox: &Arc<Outbox>, now: Instant) {
    if let Some(call::Kind::Probe(probe)) = &mut call.kind {
        let echo = std::mem::take(&mut probe.payload);
        if echo.len() <= PROBE_BYTES_MAX {
            let kind = answer::Kind::Probe(proto::wire::cell::Probe { payload: echo });
            return outbox.answer(call.id, kind);
        }
    }
    if let Some(call::Kind::Line(line)) = &call.kind {
        return match kept.ports().lines.answer(kept.ports(), &call, line) {
            Ok(place) => outbox.answer(call.id, place),
            Err(fault) => outbox.refuse(call.id, &fault),
        };
    }
    let traceparent = Some(call.traceparent.as_str()).filter(|text| !text.is_empty());
    let span = trace::child_of(traceparent, || tracing::info_span!("call", sale = call.sale));
    let reply = Reply::new(outbox.clone(), call.id, deadline(&call, now)).traced(span);
    match Asked::read(&mut call) {
        Err(fault) => reply.refuse(&fault),
        Ok((buyer, asked)) => match kept.find(&call.sale, call.bucket) {
            Some(keeper) => keeper.take(buyer, asked, reply),
            None => {
                let ports = kept.ports();
                let at = (&*call.sale, call.bucket);
                if let Some(reply) = ports.archive.take(ports, at, buyer, asked, reply) {
                    match ports.elsewhere.find(&call.sale, call.bucket) {
                        Some(there) => {
                            kept.metrics().elsewhere(1);
                            reply.send(answer::Kind::Elsewhere(there));
                        }
                        None => reply.refuse(&Fault::later(Reason::BucketMoving, 200)),
                    }
                }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proto::wire::cell::Probe;

    fn call(id: u64) -> Call {
        Call { id, kind: Some(call::Kind::Probe(Probe::default())), ..Call::default() }
    }

    /// What was taken, and what was refused why, of a frame that came when so many were open.
    async fn unpacked(calls: Vec<Bytes>, open: usize) -> (Vec<u64>, Vec<(u64, Reason)>) {
        let outbox = Arc::new(Outbox::default());
        let others: Vec<_> =
            (0..open).map(|_| Reply::new(outbox.clone(), 0, Instant::now())).collect();
        let mut taken = Vec::new();
        unpack(Frame { calls }, &outbox, |call, _| taken.push(call.id));
        let answers = if outbox.open() > open { outbox.take().await.answers } else { vec![] };
        let refused = answers.into_iter().map(|answer| match answer.kind {
            Some(answer::Kind::Refusal(refusal)) => {
                (answer.id, Reason::from_number(refusal.reason).unwrap())
            }
            other => panic!("{other:?}"),
        });
        let refused = refused.collect();
        drop(others);
        (taken, refused)
    }

    #[tokio::test]
    async fn a_call_that_cannot_be_read_costs_its_caller_alone() {
        let mut frame = Frame::of(&[call(1), call(2), call(3), call(4), call(5)]);
        frame.calls[1] = frame.calls[1].slice(..frame.calls[1].len() - 1);
        frame.calls[1] = [&frame.calls[1][..2], &[34, 200]].concat().into();
        frame.calls[2] = [&frame.calls[2][..], &vec![0; 4096]].concat().into();
        frame.calls[3] = Bytes::from_static(&[0xff; 9]);
        let (taken, refused) = unpacked(frame.calls, 0).await;
        assert_eq!(taken, [1, 5]);
        assert_eq!(refused, [(2, Reason::MessageUndecodable), (3, Reason::MessageTooLarge)]);
    }

    #[tokio::test]
    async fn what_there_is_no_room_for_is_refused_and_the_stream_goes_on() {
        let frame = || Frame::of(&[call(1), call(2)]).calls;
        let (taken, refused) = unpacked(frame(), LINK_CALLS_WAITING_MAX).await;
        assert_eq!(taken, Vec::<u64>::new());
        assert_eq!(refused, [(1, Reason::Overloaded), (2, Reason::Overloaded)]);
        let (taken, refused) = unpacked(frame(), LINK_CALLS_WAITING_MAX - 1).await;
        assert_eq!((taken, refused), (vec![1, 2], vec![]), "whoever takes them opens them");
    }
}
