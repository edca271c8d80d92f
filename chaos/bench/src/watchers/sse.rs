//! Clients of events: HTTP/1.1 by hand on a socket each, because a library would take more of the processor than the
//! router does.

use super::tally::{Phase, Tally};
use super::{Scene, source};
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// How many connect at a time.
const AT_ONCE: usize = 64;
/// More than comes at a time: an event has some 250 bytes.
const READ_BYTES: usize = 2_048;
const MARK: &[u8] = b"PHASE_";

/// Opens so many.
pub(super) async fn open(scene: &Scene, count: usize) -> Result<Vec<JoinHandle<()>>> {
    let one = |number| async move {
        let mut stream = ask(scene, number).await?;
        let tally = scene.tally.clone();
        let mut last = Phase::Unknown;
        // The next connects only when this one watches: a crowd that opens is another figure.
        while last == Phase::Unknown {
            ensure!(look(&mut stream, &tally, &mut last).await?, "an answer ended at once");
        }
        Ok::<_, anyhow::Error>(tokio::spawn(watch(stream, tally, last)))
    };
    stream::iter(0..count).map(one).buffer_unordered(AT_ONCE).try_collect().await
}

/// Connects and asks for the sale's events.
pub(super) async fn ask(scene: &Scene, number: usize) -> Result<TcpStream> {
    let host = scene.url.trim_start_matches("http://");
    let mut stream = source::connect(host.parse()?, number).await.context("connect")?;
    let (path, token) = (Scene::events(), &scene.token);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

async fn watch(mut stream: TcpStream, tally: Arc<Tally>, mut last: Phase) {
    while look(&mut stream, &tally, &mut last).await.unwrap_or(false) {}
    tally.end();
}

/// Reads what has come; whether there may come more.
async fn look(stream: &mut TcpStream, tally: &Tally, last: &mut Phase) -> io::Result<bool> {
    stream.readable().await?;
    let mut read = [0; READ_BYTES];
    match stream.try_read(&mut read) {
        Ok(0) => Ok(false),
        Ok(count) => {
            if let Some(phase) = phase_of(&read[..count]) {
                tally.saw(last, phase);
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// The last phase in what was read. An event is written in one piece and is shorter than a segment.
fn phase_of(read: &[u8]) -> Option<Phase> {
    let at = read.windows(MARK.len()).rposition(|window| window == MARK)?;
    Some(match read.get(at + MARK.len()) {
        Some(b'O') => Phase::Open,
        Some(b'P') => Phase::Paused,
        _ => Phase::Other,
    })
}
