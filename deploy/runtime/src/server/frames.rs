//! What an HTTP/2 peer sends, frame by frame, and what of it is too much.
//!
//! The library bounds what is in memory, but not how often it may be asked for what costs the peer nothing: PING and
//! SETTINGS, which must be answered, resets of calls that were taken up, DATA of a byte. So frames are counted off the
//! bytes as they are read: the nine bytes before each frame are looked at, its payload is skipped. Every call that
//! begins earns some of the rest, since a busy connection says more; what calls themselves cost is for quotas to bound.
//!
//! Of the settings one is read: a peer that gives its answers no room from the start would have them all wait here.
//!
//! Nothing is read, timed or refused here; what follows from a [`Flood`] is the caller's to do.

use super::FrameLimits;

/// What an HTTP/2 client says first.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before each frame.
const HEAD_BYTES: usize = 9;

/// DATA with fewer bytes costs more to take than it brings, unless it is the last of its call.
const SMALL_DATA_BYTES: u32 = 256;

/// Other frames that each call earns: a window for each of two answers, and twice for the connection's.
const OTHERS_A_CALL: u32 = 4;

/// Calls that earn one reset.
const CALLS_A_RESET: u32 = 2;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The setting that says how wide the window of each answer is first.
const INITIAL_WINDOW: u16 = 4;

/// Bytes of one setting: its number and its value.
const SETTING_BYTES: usize = 6;

/// A peer sent more than may be of something, or takes less than it must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flood {
    /// PING and SETTINGS.
    Asks,
    /// RST_STREAM.
    Resets,
    /// Small DATA, WINDOW_UPDATE, PRIORITY, CONTINUATION, and what is not known.
    Others,
    /// Answers, for which there is next to no window.
    Narrow,
    /// Requests of HTTP/1.1, ahead of their answers.
    Requests,
}

/// Which bytes come next, and how many of them are missing.
#[derive(Clone, Copy, Debug)]
enum Part {
    Preface(usize),
    Head(usize),
    Payload(usize),
}

/// The frames of one connection so far.
#[derive(Debug)]
pub(super) struct Frames {
    limits: FrameLimits,
    part: Part,
    head: [u8; HEAD_BYTES],
    setting: [u8; SETTING_BYTES],
    setting_bytes: usize,
    stream_last: u32,
    headers_open: bool,
    window: Window,
    done: u32,
    calls: u32,
    ends: u32,
}

/// What was counted since the last turn.
#[derive(Debug, Default)]
struct Window {
    calls: u32,
    asks: u32,
    resets: u32,
    others: u32,
}

impl Frames {
    /// Of a connection that has said nothing yet.
    pub(super) fn new(limits: FrameLimits) -> Frames {
        Frames {
            limits,
            part: Part::Preface(PREFACE.len()),
            head: [0; HEAD_BYTES],
            setting: [0; SETTING_BYTES],
            setting_bytes: 0,
            stream_last: 0,
            headers_open: false,
            window: Window::default(),
            done: 0,
            calls: 0,
            ends: 0,
        }
    }

    /// Begins to count anew what may come in a while.
    pub(super) fn turn(&mut self) {
        self.window = Window::default();
    }

    /// Follows the next bytes.
    ///
    /// # Errors
    /// When there is too much of something.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let (Part::Preface(missing) | Part::Head(missing) | Part::Payload(missing)) = self.part;
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            let missing = missing - now.len();
            match self.part {
                Part::Preface(_) => {
                    self.part = if missing > 0 { Part::Preface(missing) } else { AT_HEAD };
                }
                Part::Payload(_) => {
                    self.read(now)?;
                    if missing > 0 {
                        self.part = Part::Payload(missing);
                    } else {
                        self.end();
                    }
                }
                Part::Head(_) => {
                    let end = HEAD_BYTES - missing;
                    self.head[end - now.len()..end].copy_from_slice(now);
                    self.part = Part::Head(missing);
                    if missing == 0 {
                        self.begin()?;
                    }
                }
            }
            bytes = rest;
        }
        Ok(())
    }

    /// Whether something was begun and its rest is missing: the preface, a frame, or the headers of a call.
    pub(super) fn owes(&self) -> bool {
        self.headers_open || !matches!(self.part, Part::Head(HEAD_BYTES))
    }

    /// Frames that came whole, the parts of a call's headers as one. It wraps.
    pub(super) fn done(&self) -> u32 {
        self.done
    }

    /// Calls that began. It wraps.
    pub(super) fn calls(&self) -> u32 {
        self.calls
    }

    /// Calls whose request came to its end or was given up. It wraps.
    pub(super) fn ends(&self) -> u32 {
        self.ends
    }

    fn begin(&mut self) -> Result<(), Flood> {
        let [long, middle, short, kind, flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, long, middle, short]);
        self.count(kind, flags, length, u32::from_be_bytes(stream) & (u32::MAX >> 1));
        self.part = Part::Payload(usize::try_from(length).unwrap_or(usize::MAX));
        if length == 0 {
            self.end();
        }
        self.window.judge(&self.limits)
    }

    /// Reads settings, which may be cut anywhere, and nothing else.
    fn read(&mut self, payload: &[u8]) -> Result<(), Flood> {
        let [_, _, _, SETTINGS, flags, ..] = self.head else { return Ok(()) };
        if flags & ACK != 0 {
            return Ok(());
        }
        for byte in payload {
            self.setting[self.setting_bytes] = *byte;
            self.setting_bytes = (self.setting_bytes + 1) % SETTING_BYTES;
            let [number @ .., a, b, c, d] = self.setting;
            let width = u32::from_be_bytes([a, b, c, d]);
            if self.setting_bytes == 0
                && u16::from_be_bytes(number) == INITIAL_WINDOW
                && width < self.limits.window_min_bytes
            {
                return Err(Flood::Narrow);
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        self.part = AT_HEAD;
        self.setting_bytes = 0;
        if !self.headers_open {
            self.done = self.done.wrapping_add(1);
        }
    }

    fn count(&mut self, kind: u8, flags: u8, length: u32, stream: u32) {
        let is_last = flags & END_STREAM != 0;
        match kind {
            DATA if is_last => self.ended(),
            DATA if length >= SMALL_DATA_BYTES => {}
            HEADERS => {
                self.headers_open = flags & END_HEADERS == 0;
                if stream > self.stream_last {
                    self.stream_last = stream;
                    self.window.calls += 1;
                    self.calls = self.calls.wrapping_add(1);
                } else {
                    self.window.others += 1;
                }
                if is_last {
                    self.ended();
                }
            }
            RST_STREAM => {
                self.window.resets += 1;
                self.ended();
            }
            SETTINGS | PING => self.window.asks += 1,
            CONTINUATION => {
                self.headers_open &= flags & END_HEADERS == 0;
                self.window.others += 1;
            }
            _ => self.window.others += 1,
        }
    }

    /// A call's request ended; not one that had ended before, as when it is reset while it is answered.
    fn ended(&mut self) {
        if self.calls != self.ends {
            self.ends = self.ends.wrapping_add(1);
        }
    }
}

const AT_HEAD: Part = Part::Head(HEAD_BYTES);

impl Window {
    fn judge(&self, limits: &FrameLimits) -> Result<(), Flood> {
        if self.asks > limits.asks_max.saturating_add(self.calls) {
            return Err(Flood::Asks);
        }
        if self.resets > limits.resets_max.saturating_add(self.calls / CALLS_A_RESET) {
            return Err(Flood::Resets);
        }
        let earned = self.calls.saturating_mul(OTHERS_A_CALL);
        if self.others > limits.others_max.saturating_add(earned) {
            return Err(Flood::Others);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "frames/tests.rs"]
mod tests;
