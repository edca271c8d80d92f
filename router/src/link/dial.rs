//! Dialling: every known process has a task that connects its streams, listens to its states, and begins again when
//! something breaks. A process whose lease is gone is given up only once it cannot be reached either: leases vanish when
//! etcd was away. One that was taken out is probed here until it answers.

use super::channel;
use super::health::Siblings;
use super::metrics::LinkMetrics;
use super::process::{Kind, Process};
use super::wire::Asking;
use crate::directory::{Directory, ProcessEntry};
use crate::states::States;
use futures_util::stream;
use proto::limits::{EJECT_PROBE_MS_MAX, LINK_MESSAGE_BYTES_MAX};
use proto::wire::cell::link_service_client::LinkServiceClient;
use proto::wire::cell::{Answers, Call, Probe, WatchBucketsRequest, call};
use rand::RngExt;
use runtime::drain::Drain;
use runtime::tls::TlsClient;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// The first and the longest pause before a process is dialled again.
const PAUSE_MS: (u64, u64) = (20, 1_000);

/// The processes that this router speaks to.
#[derive(Debug)]
pub(crate) struct Links {
    common: Common,
    drain: Drain,
    metrics: LinkMetrics,
    known: Mutex<Known>,
}

/// What all links have in common.
#[derive(Clone, Debug)]
struct Common {
    states: Arc<States>,
    /// None: in the clear.
    tls: Option<TlsClient>,
    /// Rises whenever a stream came up or a process came back.
    risen: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Known {
    processes: HashMap<ProcessEntry, Dialled>,
    cells: HashMap<Box<str>, Arc<Siblings>>,
}

#[derive(Debug)]
struct Dialled {
    process: Arc<Process>,
    end: CancellationToken,
}

impl Links {
    /// Nobody is dialled yet; in the clear without `tls`. All links end with the drain: it has to outlast the calls.
    pub(crate) fn new(
        states: Arc<States>,
        tls: Option<TlsClient>,
        drain: Drain,
        metrics: LinkMetrics,
    ) -> Links {
        let common = Common { states, tls, risen: watch::Sender::new(0) };
        Links { common, drain, metrics, known: Mutex::default() }
    }

    /// Dials who is new in the directory, and gives up who is gone from it and cannot be reached.
    pub(crate) fn follow(&self, directory: &Directory) {
        let mut known = self.lock();
        let gone: Vec<_> = known
            .processes
            .extract_if(|entry, dialled| {
                !directory.processes().contains(entry) && !dialled.process.is_up()
            })
            .collect();
        for (entry, dialled) in gone {
            dialled.end.cancel();
            dialled.process.give_up();
            let same =
                |other: &ProcessEntry| other.cell == entry.cell && other.process == entry.process;
            if !known.processes.keys().any(same) {
                self.metrics.forget(&entry);
            }
        }
        for entry in directory.processes() {
            if !known.processes.contains_key(entry) {
                let siblings = known.cells.entry(entry.cell.clone()).or_default().clone();
                let process = Arc::new(Process::new(entry.clone(), siblings, &self.metrics));
                let end = self.drain.token().child_token();
                let keeping = keep(process.clone(), self.common.clone(), end.clone());
                self.drain.spawn("link", keeping);
                known.processes.insert(entry.clone(), Dialled { process, end });
            }
        }
    }

    /// A process of a cell that may be asked, of any cell when `cell` is empty: rather one that stays.
    pub(crate) fn any(&self, cell: &str, kind: Kind) -> Option<Arc<Process>> {
        let known = self.lock();
        let fits = |process: &&Arc<Process>| {
            (cell.is_empty() || *process.entry.cell == *cell) && process.takes(kind)
        };
        let all = known.processes.values().map(|dialled| &dialled.process);
        all.filter(fits).min_by_key(|process| process.is_draining()).cloned()
    }

    /// The first process of a cell that may be asked, by name and rather one that stays: the same one for all routers, as
    /// far as they see the same.
    pub(crate) fn first(&self, cell: &str, kind: Kind) -> Option<Arc<Process>> {
        let known = self.lock();
        let all = known.processes.values().map(|dialled| &dialled.process);
        let fit = all.filter(|process| *process.entry.cell == *cell && process.takes(kind));
        fit.min_by_key(|process| (process.is_draining(), &process.entry.process)).cloned()
    }

    /// A process of a cell by its name: of two that had it, the one that can be reached.
    pub(crate) fn process(&self, cell: &str, name: &str) -> Option<Arc<Process>> {
        let known = self.lock();
        let is_it = |process: &&Arc<Process>| {
            *process.entry.cell == *cell && *process.entry.process == *name
        };
        let all = known.processes.values().map(|dialled| &dialled.process);
        all.filter(is_it).max_by_key(|process| process.is_up()).cloned()
    }

    /// Waits until every process that is known has said what it keeps, but no longer than this: some may be dead.
    pub(crate) async fn met(&self, most: Duration) {
        let mut risen = self.risen();
        let all = async { while !self.all_heard() && risen.changed().await.is_ok() {} };
        // Whoever has not been heard by then is not waited for.
        drop(timeout(most, all).await);
    }

    fn all_heard(&self) -> bool {
        let known = self.lock();
        known.processes.values().all(|dialled| dialled.process.silence() < Duration::MAX)
    }

    /// Sees a change whenever somebody may be asked again who could not be, or spoke for the first time.
    pub(crate) fn risen(&self) -> watch::Receiver<u64> {
        self.common.risen.subscribe()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep(process: Arc<Process>, common: Common, end: CancellationToken) {
    let mut pause_ms = PAUSE_MS.0;
    loop {
        let broke = tokio::select! {
            broke = connected(&process, &common, &mut pause_ms) => broke,
            () = end.cancelled() => return,
        };
        process.broke();
        let ProcessEntry { cell, process: name, .. } = &process.entry;
        tracing::info!(%cell, process = %name, why = %broke, "the link is down");
        let jittered_ms = rand::rng().random_range(pause_ms / 2..=pause_ms);
        pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(jittered_ms)) => {}
            () = end.cancelled() => return,
        }
    }
}

/// Connects everything and serves it until something breaks.
async fn connected(process: &Arc<Process>, common: &Common, pause_ms: &mut u64) -> Status {
    tokio::select! {
        broke = serve(process, Kind::Join, common) => broke,
        broke = serve(process, Kind::Flash, common) => broke,
        broke = serve(process, Kind::Standard, common) => broke,
        broke = listen(process, common, pause_ms) => broke,
        never = probe(process, &common.risen) => match never {},
    }
}

/// Probes the process whenever it was taken out, until it answers.
async fn probe(process: &Process, risen: &watch::Sender<u64>) -> Infallible {
    let kind = Some(call::Kind::Probe(Probe::default()));
    let call = Call { kind, ..Call::default() };
    let mut rises = risen.subscribe();
    loop {
        process.until_probe().await;
        // A stream that is not up yet says nothing of the process. Whoever sends outlives this.
        while !process.wire(Kind::Flash).is_up() {
            drop(rises.changed().await);
        }
        let now = Instant::now();
        let deadline = now + Duration::from_millis(EJECT_PROBE_MS_MAX);
        let asking = Asking { call: &call, org: 0, deadline };
        let answered = process.wire(Kind::Flash).call(asking, now).await.is_ok();
        process.probed(answered);
        risen.send_modify(|times| *times += u64::from(answered));
    }
}

/// Tells a stream's callers when it ends, however it ends.
struct Up<'a>(&'a Process, Kind);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let Up(process, kind) = self;
        process.fell(process.wire(*kind).fall());
    }
}

/// One stream on a connection of its own: a single HTTP/2 connection does not scale.
async fn serve(process: &Process, kind: Kind, common: &Common) -> Status {
    let wire = process.wire(kind).clone();
    let answers =
        async {
            let mut client = dial(process, common).await?;
            let frames = stream::unfold(wire.clone(), |wire| async move {
                Some((wire.clone().frame().await, wire))
            });
            let frames = Request::new(frames);
            let opened = match kind {
                Kind::Join => client.join(frames).await?,
                Kind::Flash => client.flash(frames).await?,
                Kind::Standard => client.standard(frames).await?,
            };
            Ok(opened.into_inner())
        };
    let mut answers: Streaming<Answers> = match answers.await {
        Ok(answers) => answers,
        Err(status) => return status,
    };
    wire.rise();
    let _up = Up(process, kind);
    common.risen.send_modify(|times| *times += 1);
    loop {
        match answers.message().await {
            Ok(Some(answers)) => process.answered(wire.hand_out(answers)),
            Ok(None) => return Status::unavailable("the process ended the stream"),
            Err(status) => return status,
        }
    }
}

/// Listens to what the process keeps.
async fn listen(process: &Arc<Process>, common: &Common, pause_ms: &mut u64) -> Status {
    let told = async {
        let mut client = dial(process, common).await?;
        Ok(client.watch_buckets(WatchBucketsRequest {}).await?.into_inner())
    };
    let mut told = match told.await {
        Ok(told) => told,
        Err(status) => return status,
    };
    loop {
        match told.message().await {
            Ok(Some(message)) => {
                *pause_ms = PAUSE_MS.0;
                for state in message.buckets {
                    common.states.hear(state, process);
                }
                message.lines.iter().for_each(|line| common.states.lines.hear(line));
                let first = process.silence() == Duration::MAX;
                process.heard(message.draining);
                if first {
                    common.risen.send_modify(|times| *times += 1);
                }
            }
            Ok(None) => return Status::unavailable("the process ended its news"),
            Err(status) => return status,
        }
    }
}

async fn dial(process: &Process, common: &Common) -> Result<LinkServiceClient<Channel>, Status> {
    Ok(LinkServiceClient::new(channel::connect(&process.entry, common.tls.as_ref()).await?)
        .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX))
}
