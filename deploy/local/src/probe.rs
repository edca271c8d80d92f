//! Whether a server serves: asked in its own protocol, never guessed from an open port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http;

/// One question takes at most this long; a server that recovers is asked again.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// Messages before `ReadyForQuery`: one for each reported setting, some fifteen.
const POSTGRES_MESSAGES_MAX: u32 = 64;

/// How readiness is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    /// `PING` is answered `PONG`.
    Redis(SocketAddr),
    /// The role can start a session on the database of the same name.
    Postgres(SocketAddr, &'static str),
    /// GET of the path is answered with 200.
    Http(SocketAddr, String),
}

impl Probe {
    /// Asks once.
    pub(crate) async fn is_ready(&self) -> bool {
        let asked = async {
            match self {
                Self::Redis(address) => ask_redis(*address).await,
                Self::Postgres(address, role) => ask_postgres(*address, role).await,
                Self::Http(address, path) => {
                    let (status, _) = http::request(*address, "GET", path, None).await?;
                    Ok(status == 200)
                }
            }
        };
        matches!(timeout(PROBE_LIMIT, asked).await, Ok(Ok(true)))
    }
}

async fn ask_redis(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG")
}

/// Opens a session as any client does (protocol 3.0) and reads until Postgres waits for a query. While
/// it recovers from a crash it answers with an error instead.
async fn ask_postgres(address: SocketAddr, role: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let parameters = format!("\0\x03\0\0user\0{role}\0database\0{role}\0\0");
    let length = u32::try_from(parameters.len() + 4).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(parameters.as_bytes()).await?;
    for _ in 0..POSTGRES_MESSAGES_MAX {
        let kind = stream.read_u8().await?;
        let rest = u64::from(stream.read_u32().await?.saturating_sub(4));
        match kind {
            b'Z' => {
                stream.write_all(b"X\0\0\0\x04").await?;
                return Ok(true);
            }
            b'E' => return Ok(false),
            _ => tokio::io::copy(&mut (&mut stream).take(rest), &mut tokio::io::sink()).await?,
        };
    }
    Ok(false)
}
