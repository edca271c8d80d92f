//! What the gate promises, by example and at random.

use super::*;
use proptest::prelude::*;

const START: i64 = 1_000_000_000;
const PACE: Pace = Pace { per_1000_s: 100_000, burst_us: 1_000_000, keeping_us: 2_000_000 };

fn gate() -> Gate {
    Gate::new(Step { tail: 0, cursor: 0, used_us: START }, &[], 0..0)
}

fn tick(gate: &mut Gate, at_ms: i64, free: u32, joined: u64) -> (u64, u64) {
    if let Some(step) = gate.plan(START + at_ms * 1_000, free, joined, &PACE) {
        gate.take(step);
    }
    (gate.tail(), gate.cursor())
}

#[test]
fn it_moves_at_its_rate_and_stands_when_nothing_is_free() {
    let mut gate = gate();
    assert_eq!(tick(&mut gate, 0, 1_000, 1_000), (0, 0));
    assert_eq!(tick(&mut gate, 250, 1_000, 1_000), (0, 25));
    assert_eq!(tick(&mut gate, 500, 0, 1_000), (0, 25), "nothing is free");
    assert_eq!(tick(&mut gate, 750, 26, 1_000), (0, 26), "25 may still come");
    assert_eq!(tick(&mut gate, 1_000, 1_000, 30), (0, 30), "nobody else waits");
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_it() {
    let hour_us = 3_600_000_000;
    let mut gate = Gate::new(Step { tail: 0, cursor: 0, used_us: START + hour_us }, &[], 0..0);
    assert_eq!(tick(&mut gate, 0, 1_000, 1_000), (0, 0));
    assert_eq!(tick(&mut gate, 250, 1_000, 1_000), (0, 25), "its rate from then on, and no more");
}

#[test]
fn the_tail_follows_after_the_keeping_time_in_which_something_was_free() {
    let mut gate = gate();
    tick(&mut gate, 0, 10, 100);
    assert_eq!(tick(&mut gate, 100, 10, 100), (0, 10));
    for at_ms in 2..60 {
        assert_eq!(tick(&mut gate, at_ms * 100, 0, 100).0, 0, "nothing is free");
    }
    tick(&mut gate, 7_000, 10, 100);
    assert_eq!(tick(&mut gate, 8_900, 10, 100).0, 10);
    assert_eq!(tick(&mut gate, 9_000, 10, 100), (10, 20), "others get their turn");
}

#[test]
fn few_that_were_left_unmet_ask_soon_and_many_once_a_second() {
    let mut gate = gate();
    tick(&mut gate, 0, 1_000, 1_000);
    assert_eq!(tick(&mut gate, 1_000, 1_000, 1_000), (0, 100));
    assert_eq!((gate.leave_unmet(7, 1), gate.leave_unmet(8, 1)), (300, 320));
    assert_eq!(gate.leave_unmet(8, 1), 320, "the same once more");
    assert_eq!((9..99).map(|rank| gate.leave_unmet(rank, 1)).max(), Some(1_000));
    assert_eq!(gate.leave_unmet(200, 1), 1_000, "nobody waits for it, and it comes no sooner");
}

#[test]
fn spent_tickets_make_room() {
    let mut gate = gate();
    tick(&mut gate, 0, 2, 100);
    assert_eq!(tick(&mut gate, 100, 2, 100), (0, 2));
    gate.spend(0);
    gate.spend(1);
    assert_eq!(tick(&mut gate, 200, 1, 100), (0, 3), "a unit returned");
}

#[test]
fn ghosts_are_not_waited_for() {
    let mut gate = Gate::new(Step { tail: 0, cursor: 0, used_us: START }, &[], 0..50);
    tick(&mut gate, 0, 1, 100);
    assert_eq!(tick(&mut gate, 400, 1, 100).1, 1);
    assert_eq!(tick(&mut gate, 800, 1, 100).1, 2);
}

#[test]
fn a_ghost_that_comes_all_the_same_counts_once() {
    let mut gate = Gate::new(Step { tail: 0, cursor: 10, used_us: START }, &[3], 0..5);
    assert_eq!(gate.outstanding(9), 5);
    gate.spend(4);
    gate.leave_unmet(2, 3);
    gate.spend(7);
    assert_eq!(gate.outstanding(9), 4);
}

#[test]
fn who_wants_more_than_is_free_does_not_keep_it_from_the_next() {
    let mut gate = gate();
    assert_eq!(tick(&mut gate, 100, 1, 100), (0, 1));
    assert_eq!(tick(&mut gate, 350, 1, 100), (0, 1), "it may still come");
    gate.leave_unmet(0, 2);
    assert_eq!(tick(&mut gate, 600, 1, 100), (0, 2), "the unit is for the next in line");
    gate.leave_unmet(1, 2);
    gate.leave_unmet(1, 2);
    assert_eq!(tick(&mut gate, 850, 1, 100), (0, 3), "and for the one after");
    gate.spend(2);
    assert_eq!(tick(&mut gate, 1_100, 0, 100), (0, 3), "nobody is admitted to nothing");
    assert_eq!(tick(&mut gate, 1_350, 2, 100), (0, 3), "two are what the first asked for");
    assert_eq!(tick(&mut gate, 1_600, 3, 100), (0, 4), "the third is for somebody new");
    gate.spend(0);
    gate.spend(1);
    assert_eq!(gate.outstanding(3), 1);
}

#[test]
fn who_was_left_unmet_is_kept_no_longer_than_others() {
    let mut gate = gate();
    assert_eq!(tick(&mut gate, 100, 2, 1), (0, 1));
    gate.leave_unmet(0, 3);
    assert_eq!(tick(&mut gate, 1_000, 2, 1), (0, 1));
    assert_eq!(tick(&mut gate, 2_100, 2, 1), (1, 1));
    assert_eq!((gate.unmet.len(), gate.wanted.len(), gate.outstanding(5)), (0, 0, 0));
}

#[test]
fn sales_that_are_always_open_admit_everybody_and_remember_nobody() {
    let mut gate = Gate::always_open(Step { tail: 0, cursor: 0, used_us: START });
    for rank in 0..1_000 {
        let step = gate.plan(START, 0, rank + 1, &PACE);
        assert_eq!(step, Some(Step { tail: 0, cursor: rank + 1, used_us: START }));
        gate.take(step.unwrap());
        gate.leave_unmet(rank, 2);
        gate.spend(rank);
    }
    assert_eq!((gate.spent.len(), gate.unmet.len(), gate.marks.len()), (0, 0, 0));
}

#[test]
fn a_sale_that_is_always_open_leaves_the_past_behind() {
    let mut gate = Gate::always_open(Step { tail: 0, cursor: 0, used_us: START });
    for (joined, tail) in [
        (STANDARD_TICKETS_KEPT, 0),
        (STANDARD_TICKETS_KEPT + 1, 1),
        (9 * STANDARD_TICKETS_KEPT, 8 * STANDARD_TICKETS_KEPT),
    ] {
        assert_eq!(tick(&mut gate, 0, 0, joined), (tail, joined));
    }
}

/// What happens to a line.
#[derive(Clone, Debug)]
enum Event {
    Tick {
        wait_ms: i64,
        free: u32,
        more: u64,
    },
    /// Of the admitted, the one at this part of them.
    Spend(prop::sample::Index),
    LeaveUnmet(prop::sample::Index, u32),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let tick = (1_i64..2_000, prop_oneof![0_u32..5, 0_u32..500], 0_u64..400);
    prop_oneof![
        6 => tick.prop_map(|(wait_ms, free, more)| Event::Tick { wait_ms, free, more }),
        6 => any::<prop::sample::Index>().prop_map(Event::Spend),
        6 => (any::<prop::sample::Index>(), 1_u32..6).prop_map(|(at, units)| Event::LeaveUnmet(at, units)),
        1 => Just(Event::Restart),
    ]
}

/// Who may still come, by asking every rank.
fn counted(gate: &Gate, free: u32) -> u64 {
    let ranks = (gate.tail..gate.cursor).filter(|rank| !gate.ghosts.contains(rank));
    let silent = ranks.filter(|rank| !gate.spent.contains(rank) && !gate.unmet.contains_key(rank));
    let mut units: Vec<u32> = gate.unmet.values().copied().collect();
    units.sort_unstable();
    let mut left = free;
    for units in units {
        left -= if units <= left { units } else { 0 };
    }
    silent.count() as u64 + u64::from(free - left)
}

proptest! {
    // INV-12, over restarts too: a gate that begins anew from what was committed.
    #[test]
    fn it_never_admits_more_than_its_rate_and_burst_nor_to_nothing(
        ghosts in 0_u64..50,
        events in prop::collection::vec(event(), 1..120),
    ) {
        let mut gate = Gate::new(Step { tail: 0, cursor: 0, used_us: START }, &[], 0..ghosts);
        let mut seen = vec![(0_i64, 0_u64)];
        let (mut at_ms, mut joined) = (0, ghosts);
        for event in events {
            let admitted = gate.tail..gate.cursor;
            let rank = |at: prop::sample::Index| {
                let many = usize::try_from(admitted.end - admitted.start).unwrap();
                (many > 0).then(|| admitted.start + at.index(many) as u64)
            };
            let before = gate.clone();
            match event {
                Event::Spend(at) => rank(at).into_iter().for_each(|rank| gate.spend(rank)),
                Event::LeaveUnmet(at, units) => {
                    rank(at).into_iter().for_each(|rank| {
                        gate.leave_unmet(rank, units);
                    });
                }
                Event::Restart => {
                    let step = Step { tail: gate.tail, cursor: gate.cursor, used_us: gate.used_us };
                    let spent: Vec<u64> = gate.spent.iter().copied().collect();
                    gate = Gate::new(step, &spent, 0..ghosts);
                }
                Event::Tick { wait_ms, free, more } => {
                    (at_ms, joined) = (at_ms + wait_ms, joined + more);
                    tick(&mut gate, at_ms, free, joined);
                    let more = gate.cursor - before.cursor;
                    prop_assert!(more <= u64::from(free).saturating_sub(counted(&before, free)));
                    // A unit that nobody may still come for is for the next in line, as soon as the rate allows.
                    let due = START + at_ms * 1_000 - before.used_us >= 10_000;
                    let idle = counted(&before, free) < u64::from(free);
                    prop_assert!(more > 0 || !due || !idle || joined == before.cursor);
                }
            }
            prop_assert!(gate.cursor >= before.cursor && gate.tail >= before.tail);
            prop_assert!(gate.tail <= gate.cursor && gate.cursor <= joined);
            for free in [0, 1, 2, 7, 400] {
                prop_assert_eq!(gate.outstanding(free), counted(&gate, free));
            }
            seen.push((at_ms, gate.cursor));
            for (from_ms, from) in &seen {
                let most = (at_ms - from_ms) * 100 / 1_000 + 100 + 1;
                prop_assert!(i64::try_from(gate.cursor - from).unwrap() <= most);
            }
        }
    }
}

#[test]
fn the_line_wants_one_unit_each_and_what_was_left_unmet() {
    let mut gate = Gate::new(Step { tail: 0, cursor: 0, used_us: START }, &[], 2..5);
    let wanted = |gate: &Gate, joined| {
        let Wanted { units, least } = gate.wanted(joined);
        (units, least)
    };
    assert_eq!(wanted(&gate, 0), (0, 0), "nobody is there");
    assert_eq!(wanted(&gate, 10), (7, 1), "three of them may not be anybody");
    gate.take(Step { tail: 0, cursor: 6, used_us: START });
    assert_eq!(wanted(&gate, 10), (7, 1));
    gate.spend(0);
    gate.leave_unmet(1, 3);
    gate.leave_unmet(5, 2);
    assert_eq!(wanted(&gate, 10), (9, 1), "four wait, and two asked for five");
    assert_eq!(wanted(&gate, 6), (5, 2), "nobody else waits");
    gate.spend(5);
    assert_eq!(wanted(&gate, 6), (3, 3));
    gate.take(Step { tail: 6, cursor: 6, used_us: START });
    assert_eq!(wanted(&gate, 6), (0, 0), "their turn has passed");
    let open = Gate::always_open(Step { tail: 0, cursor: 0, used_us: START });
    assert_eq!(wanted(&open, 10), (0, 0));
}
