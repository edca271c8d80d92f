//! A relay: a TCP connection's way that can be cut, shut or hung while bytes are on it.
//!
//! It stands between a router and a cell's process, which names the relay's address as its own. It understands nothing of
//! what it carries. It runs on a thread of its own, so that what else a drill does delays no byte.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::LocalError;
use crate::ports::{PortClaim, loopback};

/// Bytes that are carried at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many ports a relay tries that were taken meanwhile.
const BIND_TRIES_MAX: u32 = 5;

/// How long the other end may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What a relay does with what comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Way {
    /// Where it leads; nowhere yet when there is none.
    target: Option<SocketAddr>,
    /// New connections are closed at once.
    shut: bool,
    /// Nothing is carried, and nothing is closed.
    hung: bool,
    /// Connections made before the last cut are closed.
    cuts: u64,
}

/// See the module. Dropping it closes all of its connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    way: watch::Sender<Way>,
    passed: Arc<Passed>,
    _claim: PortClaim,
}

#[derive(Debug, Default)]
struct Passed {
    connections: AtomicU64,
    bytes: AtomicU64,
}

impl Relay {
    /// Listens on a port of its own; leads nowhere yet.
    pub(crate) fn start() -> Result<Relay, LocalError> {
        let doing = || LocalError::io("start a relay");
        let (claim, address, listener) = listen()?;
        listener.set_nonblocking(true).map_err(doing())?;
        let (way, seen) = watch::channel(Way::default());
        let passed = Arc::<Passed>::default();
        let counted = Arc::clone(&passed);
        let runtime = Builder::new_current_thread().enable_all().build().map_err(doing())?;
        thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || runtime.block_on(serve(listener, seen, counted)))
            .map_err(doing())?;
        Ok(Relay { address, way, passed, _claim: claim })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it leads there.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.way.send_modify(|way| way.target = Some(target));
    }

    /// Closes all connections; new ones are carried.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.cuts += 1);
    }

    /// Closes all connections, and new ones at once, until it is mended.
    pub fn shut(&self) {
        self.way.send_modify(|way| {
            way.cuts += 1;
            way.shut = true;
        });
    }

    /// Carries nothing until it is mended, and closes nothing.
    pub fn hang(&self) {
        self.way.send_modify(|way| way.hung = true);
    }

    /// Carries everything again, what was held up first.
    pub fn mend(&self) {
        self.way.send_modify(|way| (way.shut, way.hung) = (false, false));
    }

    /// Connections and bytes that it has carried so far.
    #[must_use]
    pub fn passed(&self) -> (u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.passed.connections), count(&self.passed.bytes))
    }
}

/// Listens on a port that is free still when it is bound: programs that know of no claim may be faster.
fn listen() -> Result<(PortClaim, SocketAddr, std::net::TcpListener), LocalError> {
    let mut tries = 1;
    loop {
        let claim = PortClaim::take()?;
        let address = loopback(claim.port());
        match std::net::TcpListener::bind(address) {
            Ok(listener) => return Ok((claim, address, listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES_MAX => {
                tries += 1;
            }
            Err(error) => return Err(LocalError::io("start a relay")(error)),
        }
    }
}

/// Carries connections until the relay is dropped.
async fn serve(listener: std::net::TcpListener, way: watch::Receiver<Way>, passed: Arc<Passed>) {
    // Without a listener nobody is carried, which a drill sees.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    let mut end = way.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (way, passed) = (way.clone(), Arc::clone(&passed));
                // A connection that breaks is closed at both ends; there is nobody to tell.
                drop(tokio::spawn(async move { carry(stream, way, &passed).await.ok() }));
            }
            gone = end.wait_for(|_| false) => if gone.is_err() { return },
        }
    }
}

async fn carry(near: TcpStream, way: watch::Receiver<Way>, passed: &Passed) -> io::Result<()> {
    let now = *way.borrow();
    let Some(target) = now.target.filter(|_| !now.shut) else { return Ok(()) };
    let far = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await??;
    passed.connections.fetch_add(1, Ordering::Relaxed);
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
    tokio::select! {
        done = pump(from_near, to_far, way.clone(), now.cuts, passed) => done,
        done = pump(from_far, to_near, way, now.cuts, passed) => done,
    }
}

/// Carries one direction until its end, the next cut, or the end of the relay.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    cuts: u64,
    passed: &Passed,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let now = *way.borrow_and_update();
        if now.cuts != cuts {
            return Ok(());
        }
        tokio::select! {
            read = from.read(&mut chunk), if !now.hung => {
                let count = read?;
                if count == 0 {
                    return to.shutdown().await;
                }
                to.write_all(&chunk[..count]).await?;
                passed.bytes.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
            }
            changed = way.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A listener's address; whatever comes there is sent back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.ok();
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn a_way_is_carried_cut_shut_hung_and_mended() {
        let relay = Relay::start().unwrap();
        relay.lead_to(echo().await);
        let mut first = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(ask(&mut first).await.unwrap(), b'x');

        relay.cut();
        assert!(ask(&mut first).await.is_err(), "it was cut");
        let mut second = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(ask(&mut second).await.unwrap(), b'x');

        relay.hang();
        // A change is seen by whoever carries before the next byte is sent.
        tokio::time::sleep(Duration::from_millis(50)).await;
        second.write_all(b"y").await.unwrap();
        let answer = timeout(Duration::from_millis(200), second.read_u8()).await;
        assert!(answer.is_err(), "it hangs");
        relay.mend();
        assert_eq!(second.read_u8().await.unwrap(), b'y');

        relay.shut();
        assert!(ask(&mut second).await.is_err(), "it is shut");
        let mut third = TcpStream::connect(relay.address()).await.unwrap();
        assert!(ask(&mut third).await.is_err(), "it is shut for new ones, too");
        relay.mend();
        let mut fourth = TcpStream::connect(relay.address()).await.unwrap();
        assert_eq!(ask(&mut fourth).await.unwrap(), b'x');
        assert_eq!(relay.passed().0, 3);
    }
}
