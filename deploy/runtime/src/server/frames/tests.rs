//! Which frames are too much, which are not, and what is owed; however the bytes are cut.

use proptest::prelude::*;

use super::*;

const LIMITS: FrameLimits = FrameLimits {
    asks_max: 3,
    resets_max: 2,
    others_max: 4,
    window_min_bytes: 256,
    requests_at_once_max: 0,
};

fn frame(kind: u8, flags: u8, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.resize(HEAD_BYTES + usize::try_from(length).unwrap(), 0xaa);
    bytes
}

fn begun() -> Frames {
    let mut frames = Frames::new(LIMITS);
    frames.take(PREFACE).unwrap();
    frames.take(&frame(SETTINGS, 0, 0, 6)).unwrap();
    frames.turn();
    frames
}

/// The number of the frame of a kind that is too much.
fn refused_at(mut frames: Frames, one: impl Fn(u32) -> Vec<u8>) -> (u32, Flood) {
    (1..1_000).find_map(|number| Some((number, frames.take(&one(number)).err()?))).unwrap()
}

#[test]
fn what_is_too_much() {
    let call = |number: u32| 2 * number + 1;
    let ping = |_| frame(PING, 0, 0, 8);
    let last = END_STREAM | END_HEADERS;
    // Every call earns an ask, every second a reset, and each four others.
    let called = |times: u32| {
        let mut frames = begun();
        (1..=times).for_each(|n| frames.take(&frame(HEADERS, last, call(n), 40)).unwrap());
        frames
    };
    for (what, (number, flood), expected) in [
        ("pings", refused_at(begun(), ping), (4, Flood::Asks)),
        ("settings", refused_at(begun(), |_| frame(SETTINGS, 0, 0, 0)), (4, Flood::Asks)),
        ("pings after calls", refused_at(called(5), ping), (9, Flood::Asks)),
        ("empty data", refused_at(begun(), |_| frame(DATA, 0, 1, 0)), (5, Flood::Others)),
        ("small data", refused_at(begun(), |_| frame(DATA, 0, 1, 255)), (5, Flood::Others)),
        ("windows", refused_at(begun(), |_| frame(8, 0, 0, 4)), (5, Flood::Others)),
        ("windows after calls", refused_at(called(5), |_| frame(8, 0, 0, 4)), (25, Flood::Others)),
        ("priorities", refused_at(begun(), |_| frame(2, 0, 1, 5)), (5, Flood::Others)),
        ("unknown", refused_at(begun(), |_| frame(0xee, 0, 1, 100)), (5, Flood::Others)),
        ("trailers", refused_at(called(1), |_| frame(HEADERS, last, 3, 9)), (9, Flood::Others)),
        ("resets", refused_at(called(2), |n| frame(RST_STREAM, 0, call(n), 4)), (4, Flood::Resets)),
    ] {
        assert_eq!((number, flood), expected, "{what}");
    }
    // A call and its reset, on and on.
    let pair = |n| [frame(HEADERS, last, call(n), 40), frame(RST_STREAM, 0, call(n), 4)].concat();
    assert_eq!(refused_at(begun(), pair), (5, Flood::Resets));
}

#[test]
fn what_is_never_too_much() {
    let mut frames = begun();
    for number in 1..2_000 {
        let call = 2 * number + 1;
        for one in [
            frame(HEADERS, END_HEADERS, call, 60),
            frame(DATA, 0, call, 30),
            frame(DATA, END_STREAM, call, 0),
            frame(8, 0, 0, 4),
            frame(8, 0, call, 4),
            frame(PING, 0, 0, 8),
        ] {
            frames.take(&one).unwrap();
        }
        assert_eq!((frames.calls(), frames.ends()), (number, number));
    }
    // Large DATA, and whatever comes after a turn.
    for _ in 0..100 {
        frames.take(&frame(DATA, 0, 5, SMALL_DATA_BYTES)).unwrap();
    }
    let mut frames = begun();
    for _ in 0..100 {
        (0..3).for_each(|_| frames.take(&frame(PING, 0, 0, 8)).unwrap());
        frames.turn();
    }
}

#[test]
fn how_narrow_a_window_may_be() {
    let settings = |all: &[(u16, u32)]| {
        let all = all
            .iter()
            .flat_map(|(number, value)| [&number.to_be_bytes()[..], &value.to_be_bytes()].concat());
        let payload: Vec<u8> = all.collect();
        let mut bytes = frame(SETTINGS, 0, 0, u32::try_from(payload.len()).unwrap());
        bytes[HEAD_BYTES..].copy_from_slice(&payload);
        bytes
    };
    let narrow = Err(Flood::Narrow);
    for (what, says, expected) in [
        ("none", settings(&[(INITIAL_WINDOW, 0)]), narrow),
        ("nearly none", settings(&[(INITIAL_WINDOW, 255)]), narrow),
        ("a little", settings(&[(INITIAL_WINDOW, 256)]), Ok(())),
        ("another setting", settings(&[(2, 0), (3, 0)]), Ok(())),
        ("behind others", settings(&[(2, 0), (3, 100), (INITIAL_WINDOW, 1)]), narrow),
        ("what is no setting", frame(PING, 0, 0, 8), Ok(())),
    ] {
        // Whole, and byte by byte; first, and later.
        assert_eq!(begun().take(&says), expected, "{what}");
        let mut cut = Frames::new(LIMITS);
        cut.take(PREFACE).unwrap();
        let taken = says.iter().try_for_each(|byte| cut.take(&[*byte]));
        assert_eq!(taken, expected, "{what}, cut");
    }
    let mut any = Frames::new(FrameLimits { window_min_bytes: 0, ..LIMITS });
    any.take(&[&PREFACE[..], &settings(&[(INITIAL_WINDOW, 0)])].concat()).unwrap();
}

#[test]
fn what_is_owed() {
    let mut frames = Frames::new(LIMITS);
    assert!(frames.owes(), "the preface");
    frames.take(PREFACE).unwrap();
    assert!(!frames.owes());
    let settings = frame(SETTINGS, 0, 0, 12);
    frames.take(&settings[..4]).unwrap();
    assert!(frames.owes(), "the rest of a head");
    frames.take(&settings[4..10]).unwrap();
    assert!(frames.owes(), "the rest of a payload");
    assert_eq!(frames.done(), 0);
    frames.take(&settings[10..]).unwrap();
    assert_eq!((frames.owes(), frames.done()), (false, 1));
    frames.take(&frame(HEADERS, 0, 1, 20)).unwrap();
    frames.take(&frame(CONTINUATION, 0, 1, 1)).unwrap();
    assert_eq!((frames.owes(), frames.done()), (true, 1), "the end of the headers");
    frames.take(&frame(CONTINUATION, END_HEADERS, 1, 1)).unwrap();
    assert_eq!((frames.owes(), frames.done()), (false, 2));
    assert_eq!((frames.calls(), frames.ends()), (1, 0), "the request has no end yet");
    frames.take(&frame(RST_STREAM, 0, 1, 4)).unwrap();
    frames.take(&frame(RST_STREAM, 0, 1, 4)).unwrap();
    assert_eq!((frames.calls(), frames.ends()), (1, 1), "it was given up, once");
}

proptest! {
    /// However the bytes are cut, the same is counted.
    #[test]
    fn cuts_do_not_count(
        kinds in prop::collection::vec((0_u8..11, 0_u8..6, 0_u32..20, 0_u32..300), 0..30),
        cuts in prop::collection::vec(1_usize..40, 1..200),
    ) {
        let mut bytes = PREFACE.to_vec();
        for (kind, flags, stream, length) in kinds {
            bytes.extend(frame(kind, flags, stream, length));
        }
        let limits = FrameLimits { asks_max: 4, resets_max: 4, others_max: 8, ..LIMITS };
        let (mut whole, mut cut) = (Frames::new(limits.clone()), Frames::new(limits));
        let expected = whole.take(&bytes);
        let (mut rest, mut sizes) = (&bytes[..], cuts.iter().cycle());
        let mut told = Ok(());
        while !rest.is_empty() && told.is_ok() {
            let size = sizes.next().map_or(1, |size| (*size).min(rest.len()));
            told = cut.take(&rest[..size]);
            rest = &rest[size..];
        }
        prop_assert_eq!(told, expected);
        if told.is_ok() {
            let of = |frames: &Frames| (frames.owes(), frames.done(), frames.calls(), frames.ends());
            prop_assert_eq!(of(&cut), of(&whole));
        }
    }
}
