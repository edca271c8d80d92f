//! Shares against plain models: everybody's part, in the order in which they came.

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PLENTY: usize = 1_000_000;

/// One frame: the orgs' calls in the order in which they are sent.
fn frame(shares: &mut Shares<(u64, usize)>) -> Vec<(u64, usize)> {
    let mut sent = Vec::new();
    shares.fill(|call| {
        sent.push(call);
        true
    });
    sent
}

fn queue(shares: &mut Shares<(u64, usize)>, org: u64, count: usize, bytes: usize) {
    for number in 0..count {
        let lane = shares.enter(org, PLENTY).unwrap();
        shares.push(lane, (org, number), bytes);
    }
}

fn of(org: u64, frame: &[(u64, usize)]) -> usize {
    frame.iter().filter(|(other, _)| *other == org).count()
}

#[test]
fn a_long_queue_takes_no_more_of_a_frame_than_a_short_one() {
    // Who waits with how many calls of how many bytes, and the part of each in the first frame.
    type Row = (&'static str, &'static [(usize, usize)], &'static [usize]);
    let rows: [Row; 6] = [
        ("one alone", &[(1_000, 100)], &[256]),
        ("one alone with large calls", &[(1_000, 1_024)], &[64]),
        ("a flood and a few", &[(9_000, 100), (3, 100)], &[253, 3]),
        ("two floods", &[(9_000, 100), (500, 100)], &[128, 128]),
        ("eight floods", &[(999, 100); 8], &[32; 8]),
        // A large call costs what it takes.
        ("small and large ones", &[(900, 256), (900, 1_024)], &[128, 32]),
    ];
    for (what, queues, parts) in rows {
        let mut shares = Shares::default();
        for (org, &(count, bytes)) in (0..).zip(queues) {
            queue(&mut shares, org, count, bytes);
        }
        let frame = frame(&mut shares);
        for (org, &part) in (0..).zip(parts) {
            assert_eq!(of(org, &frame), part, "{what}: org {org}");
        }
    }
}

#[test]
fn who_comes_last_is_served_first_of_all_but_a_turn() {
    let mut shares = Shares::default();
    queue(&mut shares, 1, 9_000, 100);
    queue(&mut shares, 2, 1, 100);
    let frame = frame(&mut shares);
    let before = frame.iter().position(|call| *call == (2, 0)).unwrap();
    assert!(before <= TURN_BYTES / LEAST_BYTES, "{before} others went before");
}

#[test]
fn each_org_keeps_its_order_and_nothing_is_lost_or_sent_twice() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..200 {
        let mut shares = Shares::default();
        let mut pushed = [0; 5];
        let mut sent = [0; 5];
        let mut lanes = Vec::new();
        for _ in 0..rng.random_range(1..2_000) {
            if rng.random_bool(0.99) {
                let org = rng.random_range(0..5_u8);
                let lane = shares.enter(org.into(), PLENTY).unwrap();
                let bytes = rng.random_range(1..CALL_BYTES_MAX);
                shares.push(lane, (org, pushed[usize::from(org)], bytes), bytes);
                pushed[usize::from(org)] += 1;
                lanes.push(lane);
            } else {
                fill(&mut shares, &mut sent);
            }
            if rng.random_bool(0.5) && !lanes.is_empty() {
                let lane = lanes.swap_remove(rng.random_range(0..lanes.len()));
                shares.leave(lane);
            }
        }
        while !shares.is_empty() {
            fill(&mut shares, &mut sent);
        }
        assert_eq!(sent, pushed);
        lanes.into_iter().for_each(|lane| shares.leave(lane));
        assert!(shares.of.is_empty() && shares.waiting == 0, "nobody is left");
        assert_eq!(shares.spare.len(), shares.queues.len());
        let mut spare = shares.spare.clone();
        spare.sort_unstable();
        spare.dedup();
        assert_eq!(spare.len(), shares.queues.len(), "each is spare once");
    }
}

fn fill(shares: &mut Shares<(u8, usize, usize)>, sent: &mut [usize; 5]) {
    let was_empty = shares.is_empty();
    let (mut calls, mut all_bytes) = (0, 0);
    shares.fill(|(org, number, bytes)| {
        assert_eq!(number, sent[usize::from(org)], "org {org} in its order");
        sent[usize::from(org)] += 1;
        (calls, all_bytes) = (calls + 1, all_bytes + bytes);
        true
    });
    assert!(calls <= BATCH_CALLS_MAX && all_bytes <= FRAME_BYTES_MAX);
    assert_eq!(calls == 0, was_empty);
}

#[test]
fn whom_nobody_waits_for_takes_nothing() {
    let mut shares = Shares::default();
    queue(&mut shares, 1, 300, 100);
    queue(&mut shares, 2, 300, 100);
    let mut sent = 0;
    shares.fill(|(org, _)| {
        sent += usize::from(org == 2);
        org == 2
    });
    assert_eq!(sent, BATCH_CALLS_MAX);
}

#[test]
fn an_org_leaves_room_for_the_others() {
    let limit = 900;
    let mut shares = Shares::<()>::default();
    let mut under_way = 0;
    let enter = |org, shares: &mut Shares<()>, under_way: &mut usize| {
        let lane = shares.enter(org, limit - *under_way);
        *under_way += usize::from(lane.is_some());
        lane
    };
    let mut of_one = Vec::new();
    while let Some(lane) = enter(1, &mut shares, &mut under_way) {
        of_one.push(lane);
    }
    assert_eq!(under_way, 800, "alone: eight ninths");
    let mut of_two = Vec::new();
    while let Some(lane) = enter(2, &mut shares, &mut under_way) {
        of_two.push(lane);
    }
    assert!((80..=100).contains(&of_two.len()), "{}", of_two.len());
    // As calls are answered, both come to the same part: eight seventeenths.
    for _ in 0..20 {
        for calls in [&mut of_one, &mut of_two] {
            let go = calls.len() / 2;
            under_way -= go;
            calls.drain(..go).for_each(|lane| shares.leave(lane));
        }
        loop {
            let one = enter(1, &mut shares, &mut under_way);
            let two = enter(2, &mut shares, &mut under_way);
            let done = one.is_none() && two.is_none();
            of_one.extend(one);
            of_two.extend(two);
            if done {
                break;
            }
        }
    }
    for (org, calls) in [(1, of_one), (2, of_two)] {
        let count = calls.len();
        assert!(count.abs_diff(limit * 8 / 17) <= 10, "org {org}: {count} of {limit}");
    }
}

#[test]
fn callers_who_go_away_make_no_room_for_more_than_may_wait() {
    let mut shares = Shares::default();
    for call in 0..3 * LINK_CALLS_WAITING_MAX {
        if let Some(lane) = shares.enter(1, PLENTY) {
            shares.push(lane, call, 100);
            shares.leave(lane);
        }
    }
    assert!(shares.waiting <= LINK_CALLS_WAITING_MAX, "{} wait", shares.waiting);
}
