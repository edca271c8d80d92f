//! Lines as routers know them: in order, bounded, and the same everywhere in the end.

use super::window::Window;
use super::*;
use proptest::prelude::*;
use proto::limits::{LINE_STEP, LINE_STEP_EVERY_MS};

/// A bucket that can be asked for some of the time and takes so many joins in a step of time, and buyers who look every so
/// many steps or have gone away. Each router lets in by itself; all hear of each other now and then.
#[derive(Clone, Debug)]
struct World {
    buyers: Vec<Option<u8>>,
    routers: usize,
    /// Steps of time at which nobody can be asked.
    away: std::ops::Range<u64>,
    takes: u32,
}

fn world() -> impl Strategy<Value = World> {
    let buyer = prop_oneof![4 => (1..6_u8).prop_map(Some), 1 => Just(None)];
    (prop::collection::vec(buyer, 1..300), 1..4_usize, 0..30_u64, 0..30_u64, 1..80_u32).prop_map(
        |(buyers, routers, from, steps, takes)| World {
            buyers,
            routers,
            away: from..from + steps,
            takes,
        },
    )
}

proptest! {
    #[test]
    fn who_stands_in_a_line_is_let_in_in_order_and_nobody_is_lost(world in world()) {
        let given = world.buyers.len() as u64;
        let mut routers: Vec<Window> = (0..world.routers).map(|_| Window::default()).collect();
        routers[0].hear(given, 0);
        let mut joined = vec![false; world.buyers.len()];
        let mut highest = 0;
        for step in 0..2_000_u64 {
            let now_ms = 1 + step * LINE_STEP_EVERY_MS;
            let can = !world.away.contains(&step);
            let mut room = if can { world.takes } else { 0 };
            for router in &mut routers {
                let (_, before) = router.numbers();
                let raised = router.is_due(now_ms) && router.look(can, now_ms);
                let (_, after) = router.numbers();
                prop_assert!(after >= before && after - before <= u64::from(LINE_STEP.1) && after <= given);
                prop_assert!(can || !raised, "nobody is let in who cannot come");
            }
            // The highest number counts, in whichever order it is heard of.
            if step % 2 == 0 {
                let words: Vec<_> = routers.iter().map(Window::numbers).collect();
                for router in &mut routers {
                    words.iter().rev().for_each(|(given, window)| router.hear(*given, *window));
                }
                let same: std::collections::HashSet<_> = routers.iter().map(Window::numbers).collect();
                prop_assert_eq!(same.len(), 1);
            }
            for (number, buyer) in world.buyers.iter().enumerate() {
                let Some(every) = buyer else { continue };
                if joined[number] || !(step + number as u64).is_multiple_of(u64::from(*every)) {
                    continue;
                }
                let router = &mut routers[number % world.routers];
                match router.turn(number as u64, now_ms) {
                    Turn::Come if room > 0 => {
                        room -= 1;
                        joined[number] = true;
                        highest = highest.max(number as u64);
                        router.took();
                    }
                    Turn::Come => router.refused(),
                    Turn::Wait { place, .. } => {
                        prop_assert_eq!(place, number as u64 - router.numbers().1);
                    }
                }
            }
            let window = routers.iter().map(|router| router.numbers().1).max().unwrap();
            prop_assert!(joined.iter().all(|joined| !joined) || highest < window, "in order");
            let all = world.buyers.iter().zip(&joined).all(|(buyer, joined)| *joined || buyer.is_none());
            if all {
                break;
            }
        }
        for (number, buyer) in world.buyers.iter().enumerate() {
            prop_assert!(joined[number] || buyer.is_none(), "number {} was lost", number);
        }
    }
}

#[test]
fn a_window_rises_as_fast_as_joins_are_taken() {
    let mut window = Window::default();
    window.hear(1_000_000, 0);
    let (mut now_ms, mut windows) = (1, Vec::new());
    // What was taken and refused since it was looked at last, and whether the bucket may be asked.
    let rows = [
        (0, 0, false, 0),
        (0, 0, true, 16),
        (16, 0, true, 16 + 32),
        (32, 0, true, 48 + 64),
        // A few of them have not asked yet.
        (10, 0, true, 112 + 64),
        (60, 5, true, 176 + 128),
        (10, 11, true, 304),
        (10, 10, true, 304 + 64),
        (0, 9, true, 368),
        (0, 9, true, 368),
        (0, 9, true, 368),
        (0, 0, true, 368 + 16),
        (16, 0, true, 384 + 32),
        (0, 0, false, 416),
        (0, 0, true, 416 + 16),
    ];
    for (took, refused, takes, _) in rows {
        (0..took).for_each(|_| window.took());
        (0..refused).for_each(|_| window.refused());
        assert!(window.is_due(now_ms));
        window.look(takes, now_ms);
        assert!(!window.is_due(now_ms + LINE_STEP_EVERY_MS - 1));
        windows.push(window.numbers().1);
        now_ms += LINE_STEP_EVERY_MS;
    }
    assert_eq!(windows, rows.map(|(.., window)| window));
    // Who was let in has gone away: a hundred thousand of them are passed over within seconds.
    let begun_ms = now_ms;
    while window.numbers().1 < 100_000 {
        window.look(true, now_ms);
        now_ms += LINE_STEP_EVERY_MS;
    }
    assert!(now_ms - begun_ms < 15_000, "{} ms", now_ms - begun_ms);
}

#[test]
fn a_buyer_stands_where_others_wait_or_the_bucket_has_refused_for_long() {
    let overflow = Overflow::default();
    assert!(overflow.known("s01", 0).is_none());
    let line = overflow.line("s01", 0).unwrap();
    assert!(!line.stands());
    let other = overflow.line("s01", 1).unwrap();
    other.joined(Some(Reason::BucketMoving));
    assert!(!other.stands(), "for a moment it refuses as it is");
    let state = |given, window| LineState { sale: "s01".into(), bucket: 0, given, window };
    overflow.hear(&state(40, 0));
    assert!(line.stands(), "others wait");
    assert_eq!(line.turn(3), Turn::Wait { place: 3, estimate_ms: None });
    assert!(line.is_due() && line.look(true) && !line.is_due());
    assert_eq!(line.numbers(), (40, 16));
    assert_eq!(line.turn(15), Turn::Come);
    assert_eq!(line.turn(32), Turn::Wait { place: 16, estimate_ms: Some(500) });
    overflow.hear(&state(40, 40));
    overflow.hear(&state(9, 2));
    assert_eq!((line.numbers(), line.stands()), ((40, 40), false));
}

#[test]
fn what_counts_as_want_of_a_cell() {
    let counts = [Reason::BucketMoving, Reason::Overloaded, Reason::DeadlinePassed];
    for reason in Reason::ALL {
        assert_eq!(is_for_want_of_a_cell(*reason), counts.contains(reason), "{reason:?}");
    }
}

#[test]
fn lines_are_bounded_and_idle_ones_make_room() {
    let overflow = Overflow::default();
    let most = u32::try_from(LINES_MAX).unwrap();
    for bucket in 0..most {
        overflow.line("s01", bucket).unwrap().hear(1, 0);
    }
    assert!(overflow.line("s02", 0).is_none(), "somebody waits in each of them");
    overflow.known("s01", 7).unwrap().hear(1, 1);
    assert!(overflow.line("s02", 0).is_some());
    assert!(overflow.known("s01", 7).is_none());
    let line = overflow.known("s01", 8).unwrap();
    assert!(
        !line.is_idle(LINE_TICKET_MS_MAX) && line.is_idle(line.now_ms() + LINE_TICKET_MS_MAX + 1)
    );
}
