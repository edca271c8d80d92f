//! Sockets at a turnstile whose share the test decides.

use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::advance;

use super::socket::STALE;
use super::*;

const HALF: u32 = WHOLE / 2;

fn turnstile() -> Arc<Turnstile> {
    let metrics = Metrics::new("test", "0").unwrap();
    let stile = Turnstile::new(Effort::new(Lateness::default(), Done::default), "test", &metrics);
    stile.read_share(HALF);
    Arc::new(stile)
}

/// A turn with this lot.
fn turn(stile: &Arc<Turnstile>, lot: u32) -> Arc<Turn> {
    let turn = stile.turn();
    stile.inner().put((turn.id, &turn.lot), lot);
    turn
}

/// A connection: the peer, and what we read of its first byte.
async fn connection(turn: &Arc<Turn>) -> (TcpStream, JoinHandle<io::Result<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let mut turned = Turned::new(stream, Some(turn.clone()));
    (peer, tokio::spawn(async move { turned.read_u8().await }))
}

/// A connection that has said something and waits.
async fn waiting(turn: &Arc<Turn>) -> (TcpStream, JoinHandle<io::Result<u8>>) {
    let before = turn.stile.inner().waiting.len();
    let (mut peer, read) = connection(turn).await;
    peer.write_all(b"x").await.unwrap();
    while turn.stile.inner().waiting.len() == before {
        yield_now().await;
    }
    (peer, read)
}

#[tokio::test(start_paused = true)]
async fn whose_lot_is_not_read_waits_until_it_is() {
    let stile = turnstile();
    let (mut peer, read) = connection(&turn(&stile, HALF - 1)).await;
    peer.write_all(b"y").await.unwrap();
    assert_eq!(read.await.unwrap().unwrap(), b'y', "this one is read");
    let (near, far) = (turn(&stile, HALF), turn(&stile, WHOLE - 1));
    let (_peer, read) = waiting(&near).await;
    let (_other, unread) = waiting(&far).await;
    stile.read_share(HALF + 1);
    assert_eq!(read.await.unwrap().unwrap(), b'x');
    assert!(!unread.is_finished() && stile.inner().waiting.len() == 1);
    stile.read_share(WHOLE);
    assert_eq!(unread.await.unwrap().unwrap(), b'x');
    assert!(stile.inner().waiting.is_empty() && !near.is_gone() && !far.is_gone());
}

#[tokio::test(start_paused = true)]
async fn what_was_said_long_ago_is_not_read() {
    let stile = turnstile();
    let stale = turn(&stile, HALF);
    let (_peer, read) = waiting(&stale).await;
    advance(STALE + Duration::from_millis(1)).await;
    stile.read_share(HALF + 1);
    assert!(read.await.unwrap().is_err() && stale.is_gone());
    drop(stale);
    assert!(stile.inner().lots.is_empty(), "it has left");
    assert!((0..100).all(|_| stile.turn().lot() > HALF), "newcomers come behind those who wait");
    stile.read_share(WHOLE);
    let lots: Vec<u32> = (0..100).map(|_| stile.turn().lot()).collect();
    assert!(lots.iter().any(|lot| *lot < HALF) && lots.iter().any(|lot| *lot >= HALF));
}

#[tokio::test(start_paused = true)]
async fn free_places_go_to_who_came_last() {
    let stile = turnstile();
    let mut all = Vec::new();
    for _ in 0..6 {
        let turn = turn(&stile, WHOLE - 1);
        all.push((waiting(&turn).await, turn));
        advance(Duration::from_millis(10)).await;
    }
    // Half of six are meant to be read, and none is.
    stile.read_share(HALF);
    let young = all.split_off(3);
    for ((_peer, read), turn) in young {
        assert_eq!(read.await.unwrap().unwrap(), b'x');
        assert!(turn.lot() < HALF && !turn.is_gone());
    }
    assert!(all.iter().all(|((_, read), turn)| !read.is_finished() && turn.lot() >= HALF));
    // As many as are meant to are read, of those three that are left.
    stile.read_share(HALF);
    assert_eq!(stile.inner().waiting.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let stile = turnstile();
    let tired = turn(&stile, WHOLE - 1);
    let (_peer, read) = waiting(&tired).await;
    advance(WAIT_MAX).await;
    (0..LOOK_WINDOWS).for_each(|_| stile.read_share(HALF));
    assert!(read.await.unwrap().is_err() && tired.is_gone());
    drop(tired);
    assert!(stile.inner().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_asks_nothing_waits_for_nothing() {
    let stile = turnstile();
    let quiet = turn(&stile, WHOLE - 1);
    let (silent, read) = connection(&quiet).await;
    for _ in 0..100 {
        yield_now().await;
    }
    assert!(stile.inner().waiting.is_empty(), "there is nothing to read");
    drop(silent);
    assert!(read.await.unwrap().is_err(), "its end is heard");
    assert!(!quiet.is_gone());
    // After so long without a call whatever it says is heard.
    (0..=QUIET_WINDOWS).for_each(|_| stile.read_share(HALF));
    let (mut peer, read) = connection(&quiet).await;
    peer.write_all(b"x").await.unwrap();
    assert_eq!(read.await.unwrap().unwrap(), b'x');
    // Until that is a call.
    quiet.called();
    let (_peer, read) = waiting(&quiet).await;
    assert!(!read.is_finished());
}

#[tokio::test(start_paused = true)]
async fn all_are_read_when_the_server_ends() {
    let stile = turnstile();
    let (_peer, read) = waiting(&turn(&stile, WHOLE - 1)).await;
    let end = CancellationToken::new();
    end.cancel();
    stile.keep(end).await;
    assert_eq!(read.await.unwrap().unwrap(), b'x');
}

/// How often a connection lets others have their turn while it reads 64 KiB, of which all is there.
async fn rests(stile: &Arc<Turnstile>) -> usize {
    const ALL: usize = 64 * 1_024;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    peer.write_all(&[0; ALL]).await.unwrap();
    stream.readable().await.unwrap();
    let mut turned = Turned::new(stream, Some(turn(stile, 0)));
    let (mut rests, mut bytes) = (0, [0; 1_024]);
    let mut read = 0;
    while read < ALL {
        let some = std::future::poll_fn(|context| {
            let mut buffer = ReadBuf::new(&mut bytes);
            Poll::Ready(match Pin::new(&mut turned).poll_read(context, &mut buffer) {
                Poll::Ready(ended) => ended.map(|()| buffer.filled().len()).ok(),
                Poll::Pending => None,
            })
        });
        match some.await {
            Some(some) => read += some,
            None => rests += 1,
        }
        // A budget of the library's own is not meant.
        yield_now().await;
    }
    rests
}

#[tokio::test(start_paused = true)]
async fn a_late_server_reads_a_little_of_each() {
    let stile = turnstile();
    stile.due_us.store(0, Relaxed);
    assert_eq!(rests(&stile).await, 0, "nothing is overdue");
    advance(Duration::from_micros(OVERDUE_US + 1)).await;
    assert_eq!(rests(&stile).await, 15, "after each four of 64 KiB but the last");
}
