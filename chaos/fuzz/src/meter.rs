//! The meter of HTTP/2 connections: what a peer sends, frame by frame, however its bytes are cut.
//!
//! An input begins with a byte that says how the rest is cut; the rest follows the preface.

#[path = "../../../deploy/runtime/src/server/frames.rs"]
#[allow(dead_code, unreachable_pub, reason = "the runtime uses all of it")]
mod frames;

use runtime::server::FrameLimits;

use crate::Seed;
use crate::bounded::within;
use frames::{Flood, Frames, PREFACE};

const LIMITS: FrameLimits = FrameLimits {
    asks_max: 3,
    resets_max: 2,
    others_max: 6,
    window_min_bytes: 256,
    requests_at_once_max: 0,
};
/// Bytes before a frame.
const HEAD_BYTES: usize = 9;

/// What is counted follows from the frames alone, as a plain reader counts them, and nothing is kept of them.
///
/// # Panics
/// When a promise is broken.
pub fn meter(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let all = [&PREFACE[..], bytes].concat();
    let mut whole = Frames::new(LIMITS);
    let verdict = within(0, (0, 0), || whole.take(&all));
    let mut slow = Frames::new(LIMITS);
    let pieces = all.chunks(usize::from(*cut).max(1));
    let cut = pieces.map(|piece| slow.take(piece)).find(Result::is_err).unwrap_or(Ok(()));
    assert_eq!(cut, verdict);
    let plain = Plain::of(bytes);
    assert_eq!(verdict, plain.verdict);
    if verdict.is_ok() {
        let seen = |frames: &Frames| (frames.owes(), frames.done(), frames.calls(), frames.ends());
        assert_eq!(seen(&slow), seen(&whole));
        assert_eq!(seen(&whole), (plain.owes, plain.done, plain.calls, plain.ends));
        assert!(plain.ends <= plain.calls);
        // In a new turn all may come again that came in this one.
        whole.turn();
        if !whole.owes() {
            let rest = whole.take(bytes);
            assert!(rest.is_ok() || plain.calls > 0, "{rest:?}");
        }
    }
}

/// The same, read off all bytes at once.
#[derive(Debug)]
struct Plain {
    verdict: Result<(), Flood>,
    owes: bool,
    done: u32,
    calls: u32,
    ends: u32,
}

impl Plain {
    fn of(mut bytes: &[u8]) -> Plain {
        let mut plain = Plain { verdict: Ok(()), owes: false, done: 0, calls: 0, ends: 0 };
        let (mut asks, mut resets, mut others, mut last, mut open) = (0, 0, 0, 0, false);
        while !bytes.is_empty() && plain.verdict.is_ok() {
            let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
                plain.owes = true;
                return plain;
            };
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            let (kind, ends_stream, ends_headers) = (head[3], head[4] & 1 > 0, head[4] & 4 > 0);
            let mut ended = false;
            match kind {
                0 => {
                    ended = ends_stream;
                    others += u32::from(!ends_stream && length < 256);
                }
                1 => {
                    (open, ended) = (!ends_headers, ends_stream);
                    others += u32::from(stream <= last);
                    plain.calls += u32::from(stream > last);
                    last = last.max(stream);
                }
                3 => (resets, ended) = (resets + 1, true),
                4 | 6 => asks += 1,
                kind => {
                    others += 1;
                    open &= kind != 9 || !ends_headers;
                }
            }
            plain.ends += u32::from(ended && plain.ends < plain.calls);
            plain.verdict = match () {
                () if asks > LIMITS.asks_max + plain.calls => Err(Flood::Asks),
                () if resets > LIMITS.resets_max + plain.calls / 2 => Err(Flood::Resets),
                () if others > LIMITS.others_max + plain.calls * 4 => Err(Flood::Others),
                () => Ok(()),
            };
            let payload = &rest[..length.min(rest.len())];
            if plain.verdict.is_ok() && kind == 4 && head[4] & 1 == 0 && narrow(payload) {
                plain.verdict = Err(Flood::Narrow);
            }
            let Some(next) = rest.get(length..) else {
                plain.owes = true;
                return plain;
            };
            plain.done += u32::from(!open);
            bytes = next;
        }
        plain.owes = open;
        plain
    }
}

/// Whether a setting leaves answers next to no window.
fn narrow(settings: &[u8]) -> bool {
    let (settings, _) = settings.as_chunks::<6>();
    settings.iter().any(|[a, b, width @ ..]| {
        u16::from_be_bytes([*a, *b]) == 4 && u32::from_be_bytes(*width) < LIMITS.window_min_bytes
    })
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// What browsers and floods send.
pub fn seeds() -> Vec<Seed> {
    let settings = |all: &[(u16, u32)]| {
        let one = |(number, value): &(u16, u32)| {
            [&number.to_be_bytes()[..], &value.to_be_bytes()].concat()
        };
        frame(4, 0, 0, &all.iter().flat_map(one).collect::<Vec<_>>())
    };
    let of = |cut: u8, frames: &[Vec<u8>]| [&[cut], &frames.concat()[..]].concat();
    let call = |stream: u8| frame(1, 5, stream, &[0x82; 20]);
    let begun = settings(&[(3, 100), (4, 65_535)]);
    let again = |one: Vec<u8>, times: usize| vec![one; times];
    vec![
        ("nothing", of(1, &[])),
        ("a call", of(3, &[begun.clone(), frame(8, 0, 0, &[0, 0, 255, 0]), call(1)])),
        ("calls", of(255, &[1, 3, 5, 7, 9].map(call))),
        (
            "a call in parts",
            of(
                2,
                &[
                    frame(1, 0, 1, &[0x82; 9]),
                    frame(9, 0, 1, &[0x86; 9]),
                    frame(9, 4, 1, &[]),
                    frame(0, 0, 1, &[0; 300]),
                    frame(0, 1, 1, b"end"),
                ],
            ),
        ),
        ("reset", of(1, &[call(1), frame(3, 0, 1, &[0; 4]), frame(3, 0, 1, &[0; 4])])),
        ("rapid reset", of(9, &again([call(1), frame(3, 0, 1, &[0; 4])].concat(), 4))),
        ("pings", of(17, &again(frame(6, 0, 0, &[0; 8]), 4))),
        ("answers to pings", of(17, &again(frame(6, 1, 0, &[0; 8]), 3))),
        ("empty data", of(9, &again(frame(0, 0, 1, &[]), 7))),
        ("large data", of(200, &again(frame(0, 0, 1, &[0; 256]), 9))),
        ("continuations", of(5, &again(frame(9, 0, 1, &[0]), 7))),
        ("windows", of(13, &again(frame(8, 0, 0, &[0, 0, 0, 1]), 7))),
        ("no window", of(4, &[settings(&[(1, 0), (4, 0)])])),
        ("a window just wide enough", of(4, &[settings(&[(4, 256)])])),
        ("half a setting", of(1, &[frame(4, 0, 0, &[0, 4, 0]), frame(4, 0, 0, &[0, 0, 0])])),
        ("acknowledged settings with content", of(1, &[frame(4, 1, 0, &[0, 4, 0, 0, 0, 0])])),
        ("an unknown frame", of(6, &[frame(0xee, 0xff, 0xff, &[1, 2, 3])])),
        ("the longest frame", of(1, &[vec![255, 255, 255, 0, 0, 0, 0, 0, 1, 7]])),
        ("half a head", of(1, &[vec![0, 0, 4, 8]])),
        ("the highest stream", of(1, &[vec![0, 0, 0, 1, 5, 255, 255, 255, 255], call(1)])),
    ]
}
