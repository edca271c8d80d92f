//! A router's end of the link to one process of a cell: streams of frames, made again when they break, and what the
//! process says of its buckets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::wire::cell::link_service_client::LinkServiceClient;
use proto::wire::cell::{Answers, BucketState, Call, Frame, WatchBucketsRequest, answer::Kind};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

/// Streams to a process, so that calls overtake one another.
const STREAMS: usize = 3;
/// Calls in one frame at most, and frames and calls that wait.
const FRAME_CALLS: usize = 32;
const WAITING: usize = 1_024;
/// Between two tries to reach the process.
const AGAIN: Duration = Duration::from_millis(30);

type Asked = (Call, oneshot::Sender<Kind>);
/// By sale and bucket.
type States = Arc<Mutex<HashMap<(String, u32), BucketState>>>;

/// See the module. Dropping it ends its tasks.
pub(crate) struct Line {
    streams: Vec<mpsc::Sender<Asked>>,
    next: AtomicUsize,
    states: States,
    tasks: tokio::task::JoinSet<()>,
}

impl Line {
    pub(crate) fn to(url: &str) -> Line {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let (calls, asked) = mpsc::channel(WAITING);
            tasks.spawn(keep_stream(endpoint.connect_lazy(), asked));
            streams.push(calls);
        }
        let states = Arc::new(Mutex::new(HashMap::new()));
        tasks.spawn(watch(endpoint.connect_lazy(), states.clone()));
        Line { streams, next: AtomicUsize::new(0), states, tasks }
    }

    /// Sends a call over the next stream. None: it was lost, carried out or not.
    pub(crate) async fn call(&self, call: Call) -> Option<Kind> {
        let stream = self.next.fetch_add(1, Ordering::Relaxed) % self.streams.len();
        let (reply, answered) = oneshot::channel();
        self.streams[stream].try_send((call, reply)).ok()?;
        answered.await.ok()
    }

    /// What the process has said last of a sale's first bucket.
    pub(crate) fn state(&self, sale: &str) -> Option<BucketState> {
        self.state_of(sale, 0)
    }

    /// What it has said last of one of a sale's buckets.
    pub(crate) fn state_of(&self, sale: &str, bucket: u32) -> Option<BucketState> {
        self.states.lock().unwrap().get(&(sale.to_owned(), bucket)).cloned()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.tasks.abort_all();
    }
}

async fn keep_stream(channel: Channel, mut asked: mpsc::Receiver<Asked>) {
    let mut client = LinkServiceClient::new(channel);
    loop {
        let (frames, sent) = mpsc::channel(WAITING);
        match client.flash(ReceiverStream::new(sent)).await {
            Ok(answers) => exchange(&mut asked, &frames, answers.into_inner()).await,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
        // Whoever waits learns that nobody knows.
        while asked.try_recv().is_ok() {}
    }
}

/// Until the stream breaks.
async fn exchange(
    asked: &mut mpsc::Receiver<Asked>,
    frames: &mpsc::Sender<Frame>,
    mut answers: Streaming<Answers>,
) {
    let mut waiting = HashMap::new();
    let mut batch = Vec::new();
    let mut last_id = 0;
    loop {
        tokio::select! {
            count = asked.recv_many(&mut batch, FRAME_CALLS) => {
                if count == 0 {
                    return;
                }
                let mut calls = Vec::with_capacity(count);
                for (call, reply) in batch.drain(..) {
                    last_id += 1;
                    waiting.insert(last_id, reply);
                    calls.push(Call { id: last_id, ..call });
                }
                if frames.try_send(Frame::of(&calls)).is_err() {
                    return;
                }
            }
            read = answers.message() => {
                let Ok(Some(read)) = read else { return };
                for answer in read.answers {
                    let reply = waiting.remove(&answer.id).expect("a call was answered twice");
                    // Whoever asked may not wait any more.
                    reply.send(answer.kind.expect("an answer says something")).ok();
                }
            }
        }
    }
}

async fn watch(channel: Channel, states: States) {
    let mut client = LinkServiceClient::new(channel);
    loop {
        if let Ok(watched) = client.watch_buckets(WatchBucketsRequest {}).await {
            let mut watched = watched.into_inner();
            while let Ok(Some(told)) = watched.message().await {
                let mut states = states.lock().unwrap();
                for state in told.buckets {
                    let newer = |known: &BucketState| {
                        (known.epoch, known.version) >= (state.epoch, state.version)
                    };
                    let bucket = (state.sale.clone(), state.bucket);
                    if !states.get(&bucket).is_some_and(newer) {
                        states.insert(bucket, state);
                    }
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
