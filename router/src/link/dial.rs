//! Dialling: every known process has a task that connects its streams, listens to its states, and begins again when
//! something breaks. A process whose lease is gone is given up only once it cannot be reached either: leases vanish when
//! etcd was away.

use super::channel;
use super::process::{Kind, Process};
use super::wire::Wire;
use crate::directory::{Directory, ProcessEntry};
use crate::states::States;
use futures_util::stream;
use proto::limits::LINK_MESSAGE_BYTES_MAX;
use proto::wire::cell::link_service_client::LinkServiceClient;
use proto::wire::cell::{Answers, WatchBucketsRequest};
use rand::RngExt;
use runtime::drain::Drain;
use runtime::tls::TlsClient;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// The first and the longest pause before a process is dialled again.
const PAUSE_MS: (u64, u64) = (20, 1_000);

/// The processes that this router speaks to.
#[derive(Debug)]
pub(crate) struct Links {
    states: Arc<States>,
    tls: Option<TlsClient>,
    drain: Drain,
    processes: Mutex<HashMap<ProcessEntry, Dialled>>,
}

#[derive(Debug)]
struct Dialled {
    process: Arc<Process>,
    end: CancellationToken,
}

impl Links {
    /// Nobody is dialled yet; in the clear without `tls`.
    pub(crate) fn new(states: Arc<States>, tls: Option<TlsClient>, drain: Drain) -> Links {
        Links { states, tls, drain, processes: Mutex::default() }
    }

    /// Dials who is new in the directory, and gives up who is gone from it and cannot be reached.
    pub(crate) fn follow(&self, directory: &Directory) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.retain(|entry, dialled| {
            let keep = directory.processes().contains(entry) || dialled.process.is_up();
            if !keep {
                dialled.end.cancel();
            }
            keep
        });
        for entry in directory.processes() {
            if !processes.contains_key(entry) {
                let process = Arc::new(Process::new(entry.clone()));
                let end = self.drain.token().child_token();
                let keeping =
                    keep(process.clone(), self.states.clone(), self.tls.clone(), end.clone());
                self.drain.spawn("link", keeping);
                processes.insert(entry.clone(), Dialled { process, end });
            }
        }
    }

    /// A process of a cell that can be reached; of any cell when `cell` is empty.
    pub(crate) fn any(&self, cell: &str) -> Option<Arc<Process>> {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |process: &&Arc<Process>| {
            (cell.is_empty() || *process.entry.cell == *cell) && process.is_up()
        };
        processes.values().map(|dialled| &dialled.process).find(fits).cloned()
    }

    /// A process of a cell by its name, if it can be reached.
    pub(crate) fn process(&self, cell: &str, name: &str) -> Option<Arc<Process>> {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |process: &&Arc<Process>| {
            *process.entry.cell == *cell && *process.entry.process == *name && process.is_up()
        };
        processes.values().map(|dialled| &dialled.process).find(fits).cloned()
    }
}

async fn keep(
    process: Arc<Process>,
    states: Arc<States>,
    tls: Option<TlsClient>,
    end: CancellationToken,
) {
    let mut pause_ms = PAUSE_MS.0;
    loop {
        let broke = tokio::select! {
            broke = connected(&process, &states, tls.as_ref(), &mut pause_ms) => broke,
            () = end.cancelled() => return,
        };
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
async fn connected(
    process: &Arc<Process>,
    states: &States,
    tls: Option<&TlsClient>,
    pause_ms: &mut u64,
) -> Status {
    tokio::select! {
        broke = serve(process, Kind::Join, tls) => broke,
        broke = serve(process, Kind::Flash, tls) => broke,
        broke = serve(process, Kind::Standard, tls) => broke,
        broke = listen(process, states, tls, pause_ms) => broke,
    }
}

/// Refuses a stream's callers when it ends, however it ends.
struct Up<'a>(&'a Wire);

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.fall();
    }
}

/// One stream on a connection of its own: a single HTTP/2 connection does not scale.
async fn serve(process: &Process, kind: Kind, tls: Option<&TlsClient>) -> Status {
    let wire = process.wire(kind).clone();
    let answers =
        async {
            let mut client = dial(process, tls).await?;
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
    let _up = Up(&wire);
    loop {
        match answers.message().await {
            Ok(Some(answers)) => wire.hand_out(answers),
            Ok(None) => return Status::unavailable("the process ended the stream"),
            Err(status) => return status,
        }
    }
}

/// Listens to what the process keeps.
async fn listen(
    process: &Arc<Process>,
    states: &States,
    tls: Option<&TlsClient>,
    pause_ms: &mut u64,
) -> Status {
    let told = async {
        let mut client = dial(process, tls).await?;
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
                process.heard();
                for state in message.buckets {
                    states.hear(state, process);
                }
            }
            Ok(None) => return Status::unavailable("the process ended its news"),
            Err(status) => return status,
        }
    }
}

async fn dial(
    process: &Process,
    tls: Option<&TlsClient>,
) -> Result<LinkServiceClient<Channel>, Status> {
    Ok(LinkServiceClient::new(channel::connect(&process.entry, tls).await?)
        .max_decoding_message_size(LINK_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(LINK_MESSAGE_BYTES_MAX))
}
