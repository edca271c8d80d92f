//! Frames of the link: a router's calls as a cell reads them, and a cell's answers as a router does.
//!
//! The first byte says what the rest is: 0 a frame, 1 a call, 2 answers, 3 states of buckets, 4 a stream of frames behind
//! their lengths, cut into pieces of as many bytes as the next byte says.

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http_body_util::StreamBody;
use hyper::body;
use prost::Message;
use proto::codec::StrictCodec;
use proto::fault::Reason;
use proto::frame::{BadCall, read_call};
use proto::limits::{CALL_BYTES_MAX, LINK_MESSAGE_BYTES_MAX};
use proto::wire::cell::{
    Answer, Answers, BucketState, BucketStates, Call, Cancel, Checkout, Elsewhere, Frame, Join,
    Order, Place, Probe, Refund, Refusal, Reserve, Show, answer, call::Kind,
};
use tonic::codec::Codec;
use tonic::{Status, Streaming};

use crate::Seed;
use crate::bounded::within;

/// What reading a call may hold: its texts, and the error.
const CALL_HOLDS: (usize, usize) = (4, 1_024);
/// What reading a message may hold: of two bytes an empty answer is made, and room for as many again.
const MESSAGE_HOLDS: (usize, usize) = (512, 4_096);

/// A call that cannot be read is refused by itself, and told to its caller where that is said; what can be read is
/// written as it was read.
///
/// # Panics
/// When a promise is broken.
pub fn link(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind {
        0 => frame(bytes),
        1 => call(Bytes::copy_from_slice(bytes)),
        2 => same::<Answers>(bytes),
        3 => same::<BucketStates>(bytes),
        4 => streamed(bytes),
        _ => {}
    }
}

fn frame(bytes: &[u8]) {
    same::<Frame>(bytes);
    let Ok(frame) = Frame::decode(bytes) else { return };
    let strict = frame.calls.iter().all(|call| Call::decode(call.clone()).is_ok());
    let small = frame.calls.iter().all(|call| call.len() <= CALL_BYTES_MAX);
    let read = frame.calls.iter().filter(|call| read_call(Bytes::clone(call)).is_ok()).count();
    assert_eq!(read == frame.calls.len(), strict && small);
    frame.calls.into_iter().for_each(call);
}

fn call(bytes: Bytes) {
    let length = bytes.len();
    match within(length, CALL_HOLDS, || read_call(bytes.clone())) {
        Ok(call) => {
            assert!(length <= CALL_BYTES_MAX);
            let written = call.encode_to_vec();
            assert!(written.len() <= length, "{call:?}");
            assert_eq!(read_call(written.into()), Ok(call));
        }
        Err(BadCall { reason, .. }) => {
            let large = length > CALL_BYTES_MAX;
            let expected = if large { Reason::MessageTooLarge } else { Reason::MessageUndecodable };
            assert_eq!(reason, expected);
            assert!(large || Call::decode(bytes.clone()).is_err());
            // Routers write the id first: whatever follows it, the caller is told.
            let named = [&[8, 77][..], &bytes].concat();
            let id = read_call(named.into()).unwrap_err().id;
            assert_eq!(id, Some(77));
        }
    }
    // What a neighbour brings costs nobody else in the frame.
    let good = Call { id: 5, kind: Some(Kind::Join(Join {})), ..Call::default() };
    let mut frame = Frame::of(&[good.clone(), good.clone()]);
    frame.calls.insert(1, bytes);
    let frame = Frame::decode(&frame.encode_to_vec()[..]).unwrap();
    let beside = [0, 2].map(|at| read_call(frame.calls[at].clone()));
    assert_eq!((frame.calls.len(), beside), (3, [Ok(good.clone()), Ok(good)]));
}

/// What is read is written, and read the same.
fn same<M: Message + Default + Debug>(bytes: &[u8]) {
    let read = within(bytes.len(), MESSAGE_HOLDS, || M::decode(bytes));
    let Ok(message) = read else { return };
    let written = message.encode_to_vec();
    let again = M::decode(&written[..]).unwrap();
    assert_eq!(again.encode_to_vec(), written, "{message:?}");
}

/// A stream of frames is the same frames however it is cut, and ends at the first that is none.
fn streamed(bytes: &[u8]) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let (whole, whole_ended) = frames(bytes, bytes.len().max(1));
    let (cut, cut_ended) = frames(bytes, usize::from(*size).max(1));
    assert_eq!((&whole, whole_ended), (&cut, cut_ended));
    let written: usize = whole.iter().map(|frame| frame.encoded_len() + 5).sum();
    assert!(
        written <= bytes.len()
            && whole.iter().all(|frame| frame.encoded_len() <= LINK_MESSAGE_BYTES_MAX)
    );
}

/// The frames of a stream that comes in pieces, and whether it ended well.
fn frames(bytes: &[u8], size: usize) -> (Vec<Frame>, bool) {
    let pieces: Vec<_> = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
    let pieces = pieces.into_iter().map(|piece| Ok::<_, Status>(body::Frame::data(piece)));
    let decoder = StrictCodec::<Frame, Frame>::default().decoder();
    let body = StreamBody::new(stream::iter(pieces));
    let mut stream = Streaming::new_request(decoder, body, None, Some(LINK_MESSAGE_BYTES_MAX));
    let mut frames = Vec::new();
    loop {
        match stream.message().now_or_never().expect("all of it is there") {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, true),
            Err(_) => return (frames, false),
        }
    }
}

fn calls() -> Vec<Call> {
    let of = |id, kind| Call {
        id,
        time_left_ms: 5_000,
        sale: "s0123456789abcdef".into(),
        bucket: 1,
        buyer: vec![7; 16].into(),
        kind: Some(kind),
        ..Call::default()
    };
    let order = || vec![9; 16];
    let reserve = Reserve { ticket: "a.b.c".into(), quantity: 2, request_id: vec![3; 16] };
    let checkout = Checkout { order: order(), payment_method: "pm_card_visa".into() };
    vec![
        of(1, Kind::Join(Join {})),
        of(2, Kind::Reserve(reserve)),
        of(300, Kind::Checkout(checkout)),
        of(4, Kind::Cancel(Cancel { order: order() })),
        of(5, Kind::Show(Show { order: order() })),
        of(u64::MAX, Kind::Refund(Refund { order: order() })),
        of(7, Kind::Probe(Probe { payload: vec![1; 20].into() })),
    ]
}

fn answers() -> Answers {
    let of = |id, kind| Answer { id, kind: Some(kind) };
    let order = Order {
        order: vec![9; 16].into(),
        state: 1,
        units: vec![0, 300, u32::MAX],
        amount_minor: -1,
        currency: "EUR".into(),
        time_left_ms: 60_000,
    };
    let place = Place { ticket: "a.b.c".into(), rank: 41 };
    let elsewhere = Elsewhere { process: "cell-1-b".into(), epoch: 3 };
    let refusal = Refusal { reason: 65, retry_after_ms: 250 };
    let answers = vec![
        of(1, answer::Kind::Place(place)),
        of(2, answer::Kind::Order(order)),
        of(3, answer::Kind::Elsewhere(elsewhere)),
        of(4, answer::Kind::Refusal(refusal)),
        of(5, answer::Kind::Probe(Probe::default())),
    ];
    Answers { answers }
}

/// Frames of every kind of call, and what is nearly one.
pub fn seeds() -> Vec<Seed> {
    let of = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
    let frame = Frame::of(&calls()).encode_to_vec();
    let behind = |length: usize| {
        let length = u32::try_from(length).unwrap().to_be_bytes();
        [&[0], &length[..], &frame].concat()
    };
    let state = BucketState { sale: "s01".into(), epoch: 2, cursor: 9, ..BucketState::default() };
    let states = BucketStates {
        process: "cell-1-a".into(),
        buckets: vec![state],
        draining: true,
        lines: Vec::new(),
    };
    let call = |at: usize| calls()[at].encode_to_vec();
    let unread = |bytes: &[u8]| of(1, bytes);
    vec![
        ("a frame", of(0, &frame)),
        ("a call", of(1, &call(1))),
        ("answers", of(2, &answers().encode_to_vec())),
        ("states", of(3, &states.encode_to_vec())),
        ("a stream", of(4, &[&[7], &behind(frame.len())[..], &behind(frame.len())].concat())),
        ("a length that lies", of(4, &[&[50], &behind(frame.len() + 9)[..]].concat())),
        ("a length without end", of(4, &[3, 0, 0xff, 0xff, 0xff, 0xff, 8])),
        ("said to be packed", of(4, &[9, 1, 0, 0, 0, 1, 0])),
        ("no call", unread(&[])),
        ("the longest number", unread(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1])),
        ("a number too long", unread(&[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 127])),
        ("a sale that is no text", unread(&[8, 9, 34, 1, 0xff])),
        ("a text without its bytes", unread(&[8, 9, 34, 200])),
        ("two kinds", of(1, &[call(0), call(1)].concat())),
        ("an unknown kind", unread(&[8, 9, 0x82, 1, 0])),
        ("groups in groups", unread(&[0x2b; 300])),
        ("too large", unread(&[&[8, 9][..], &[0; CALL_BYTES_MAX]].concat())),
        ("empty calls", of(0, &[10, 0].repeat(600))),
        ("empty answers", of(2, &[10, 0].repeat(600))),
    ]
}
