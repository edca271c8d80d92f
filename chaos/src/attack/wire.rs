//! One connection of an attack: what is written on it, and how it ends.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{sleep, timeout};

use super::Tally;
use super::raw::{GOAWAY, HEAD_BYTES};

/// A flood ends in this time.
pub(super) const FLOODS_END_WITHIN: Duration = Duration::from_secs(1);

/// Who holds a connection and is slow loses it in this time.
pub(super) const SLOW_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A connection that was not closed after this time never is. A busy machine may take long; but it is less than the half
/// minute after which an idle connection is given up that answers no PING, as none of these does: that is no defence.
const PATIENCE: Duration = Duration::from_secs(25);

/// Steps of a flood, at most: many times what any peer may send.
const STEPS_MAX: u32 = 5_000;

/// Frames that are longer are none of a router's.
const FRAME_BYTES_MAX: usize = 16_384;

type Step = Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>;

/// What is written on a connection.
pub(super) struct Script {
    opening: Vec<u8>,
    step: Option<Step>,
    pause: Option<Duration>,
    /// The time in which it must be closed.
    pub(super) within: Duration,
    /// Why the router says that it was, one of these; or with a GOAWAY.
    pub(super) why: &'static [&'static str],
    /// What is spoken, as far as it goes.
    pub(super) spoken: Spoken,
}

/// See [`Script`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/2, or nothing.
    Http2,
    /// HTTP/1.1.
    Http1,
    /// TLS, on a port of its own.
    Tls,
}

impl Script {
    /// First these bytes, and then none.
    pub(super) fn new(opening: Vec<u8>, within: Duration) -> Script {
        Script { opening, step: None, pause: None, within, why: &[], spoken: Spoken::Http2 }
    }

    /// The router closes it for one of these reasons, as its metrics name them.
    pub(super) fn why(self, why: &'static [&'static str]) -> Script {
        Script { why, ..self }
    }

    /// Another protocol is spoken.
    pub(super) fn spoken(self, spoken: Spoken) -> Script {
        Script { spoken, ..self }
    }

    /// Then these, step by step, from 0.
    pub(super) fn step(self, step: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) -> Script {
        Script { step: Some(Box::new(step)), ..self }
    }

    /// Between two steps it rests.
    pub(super) fn pause(self, pause: Duration) -> Script {
        Script { pause: Some(pause), ..self }
    }

    /// Plays it on one connection from `from`, until that is closed.
    pub(super) async fn play(&self, to: SocketAddr, from: SocketAddr) -> io::Result<Tally> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        let began = Instant::now();
        let (reader, mut writer) = stream.into_split();
        let mut sent = 0;
        let ended = async {
            tokio::select! {
                goaway = self.hear(reader) => goaway,
                never = self.write(&mut writer, &mut sent) => never,
            }
        };
        let ended = timeout(PATIENCE, ended).await;
        let mut tally = Tally { sent, ..Tally::default() };
        match ended {
            Ok(goaway) => {
                tally.closed_after.push(began.elapsed());
                tally.goaways.extend(goaway);
            }
            Err(_) => tally.left = 1,
        }
        Ok(tally)
    }

    /// Writes until nothing is left to be written, or nobody reads; the reader says how it ended.
    async fn write<W: AsyncWriteExt + Unpin>(&self, writer: &mut W, sent: &mut u64) -> Option<u32> {
        let steps = self.step.iter().flat_map(|step| (0..STEPS_MAX).map(step));
        for bytes in std::iter::once(self.opening.clone()).chain(steps) {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
            *sent += u64::try_from(bytes.len()).unwrap_or(0);
            match self.pause {
                Some(pause) => sleep(pause).await,
                // The other side has a turn: it may have said something.
                None => tokio::task::yield_now().await,
            }
        }
        std::future::pending().await
    }

    /// Reads to the end; the answer is the code of the GOAWAY, if there was one.
    async fn hear(&self, mut reader: OwnedReadHalf) -> Option<u32> {
        if self.spoken != Spoken::Http2 {
            // Whatever it says, nobody listens.
            let mut bytes = [0; 4_096];
            while reader.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
            return None;
        }
        let mut goaway = None;
        // Whatever goes wrong here is the end of the connection.
        while let Ok((kind, payload)) = next(&mut reader).await {
            if let (GOAWAY, Some(code)) =
                (kind, payload.get(4..8).and_then(|code| code.try_into().ok()))
            {
                goaway = Some(u32::from_be_bytes(code));
            }
        }
        goaway
    }
}

async fn next(reader: &mut OwnedReadHalf) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    reader.read_exact(&mut head).await?;
    let [long, middle, short, kind, ..] = head;
    let length = usize::try_from(u32::from_be_bytes([0, long, middle, short]));
    let length = length.ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let mut payload = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    reader.read_exact(&mut payload).await?;
    Ok((kind, payload))
}
