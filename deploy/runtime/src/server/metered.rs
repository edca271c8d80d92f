//! A connection's bytes, and what they tell of it: frames that are read are counted, writes that do not get through are
//! noted. Where nothing is to be counted they just pass.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::FrameLimits;
use super::frames::{Flood, Frames};
use super::pulse::Pulse;

/// See the module.
#[derive(Debug)]
pub(super) struct Metered<T> {
    io: T,
    meter: Option<Meter>,
}

#[derive(Debug)]
struct Meter {
    frames: Frames,
    turn: u32,
    pulse: Arc<Pulse>,
    flood: Arc<OnceLock<Flood>>,
}

impl<T> Metered<T> {
    /// Bytes that pass.
    pub(super) fn not(io: T) -> Metered<T> {
        Metered { io, meter: None }
    }

    /// Bytes of HTTP/2. When there is too much of something, `flood` says what, and nothing more is read.
    pub(super) fn new(
        io: T,
        limits: FrameLimits,
        pulse: Arc<Pulse>,
        flood: Arc<OnceLock<Flood>>,
    ) -> Metered<T> {
        let frames = Frames::new(limits);
        pulse.read(&frames);
        Metered { io, meter: Some(Meter { frames, turn: 0, pulse, flood }) }
    }

    fn wrote<R>(&self, written: &Poll<io::Result<R>>) {
        if let Some(meter) = &self.meter {
            meter.pulse.wrote(written.is_ready());
        }
    }
}

impl Meter {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        let turn = self.pulse.turn();
        if self.turn != turn {
            self.turn = turn;
            self.frames.turn();
        }
        let taken = self.frames.take(bytes);
        self.pulse.read(&self.frames);
        taken.map_err(|flood| {
            self.flood.get_or_init(|| flood);
            io::Error::other("too many frames that are not calls, or no room for answers")
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        Poll::Ready(match &mut self.meter {
            Some(meter) => meter.read(&buffer.filled()[before..]),
            None => Ok(()),
        })
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, slices);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
