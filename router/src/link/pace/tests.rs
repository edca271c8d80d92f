//! Pace against a plain model of a process: a queue that is worked off at some speed.

use super::*;
use std::collections::VecDeque;

const MS: u64 = 1_000;

/// A process that answers so many calls a second, in their order, each at the earliest after its own time; and callers
/// who are let in up to the limit.
struct World {
    pace: Pace,
    now_us: u64,
    /// When each call was asked.
    queue: VecDeque<u64>,
    worked: f64,
    owed: f64,
    answered: u64,
    refused: u64,
    slowest_us: u64,
}

/// What happened in some time.
struct Ran {
    answered_per_s: u64,
    refused: u64,
    slowest_us: u64,
}

impl World {
    fn new() -> World {
        World {
            pace: Pace::new(0),
            now_us: 0,
            queue: VecDeque::new(),
            worked: 0.0,
            owed: 0.0,
            answered: 0,
            refused: 0,
            slowest_us: 0,
        }
    }

    /// A while in which `offered` calls a second come and `speed` are worked off, none faster than in `alone_us`.
    fn run(&mut self, ms: u64, offered: f64, speed: f64, alone_us: u64) -> Ran {
        (self.answered, self.refused, self.slowest_us) = (0, 0, 0);
        let until_us = self.now_us + ms * MS;
        while self.now_us < until_us {
            self.now_us += MS;
            self.owed += offered / 1_000.0;
            while self.owed >= 1.0 {
                self.owed -= 1.0;
                if self.queue.len() < self.pace.limit() as usize {
                    self.queue.push_back(self.now_us);
                } else {
                    self.refused += 1;
                }
            }
            self.worked = (self.worked + speed / 1_000.0).min(speed / 10.0);
            let mut seen = Seen::default();
            while let Some(&asked_us) = self.queue.front()
                && self.worked >= 1.0
                && self.now_us - asked_us >= alone_us
            {
                self.worked -= 1.0;
                self.queue.pop_front();
                let took_us = self.now_us - asked_us;
                seen.add(took_us, self.pace.fine_us());
                self.slowest_us = self.slowest_us.max(took_us);
                self.answered += 1;
            }
            let under_way = u32::try_from(self.queue.len()).unwrap();
            self.pace.see(seen, under_way, self.now_us);
        }
        let answered_per_s = self.answered * 1_000 / ms;
        Ran { answered_per_s, refused: self.refused, slowest_us: self.slowest_us }
    }
}

#[test]
fn ten_times_the_load_is_answered_at_the_same_rate_and_in_time() {
    for (speed, alone_ms) in [(500.0, 2), (2_000.0, 2), (20_000.0, 5), (5_000.0, 80)] {
        for times in [2.0, 10.0] {
            let mut world = World::new();
            world.run(3_000, speed * 0.5, speed, alone_ms * MS);
            world.run(3_000, speed * times, speed, alone_ms * MS);
            let ran = world.run(5_000, speed * times, speed, alone_ms * MS);
            let what = format!("{speed}/s, {alone_ms} ms, {times} times");
            let rate = f64::from(u32::try_from(ran.answered_per_s).unwrap());
            assert!(rate >= 0.9 * speed, "{what}: {rate}");
            assert!(ran.slowest_us <= 500 * MS, "{what}: {} us", ran.slowest_us);
        }
    }
}

#[test]
fn nothing_is_refused_that_can_be_done() {
    for (speed, alone_ms) in [(500.0, 2), (20_000.0, 5), (5_000.0, 80), (2_000.0, 900)] {
        let mut world = World::new();
        let ran = world.run(20_000, speed * 0.8, speed, alone_ms * MS);
        assert_eq!(ran.refused, 0, "{speed}/s, {alone_ms} ms");
    }
}

#[test]
fn what_we_are_late_ourselves_is_not_the_process() {
    for (told, holds) in [(true, true), (false, false)] {
        let mut world = World::new();
        world.run(2_000, 2_000.0, 3_000.0, 5 * MS);
        // Calls wait for us before they are sent, and answers before they are heard.
        world.pace.late(if told { 120 * MS } else { 0 });
        let ran = world.run(5_000, 2_000.0, 3_000.0, (5 + 2 * 120) * MS);
        assert_eq!(ran.refused == 0, holds, "told: {told}, {} were refused", ran.refused);
    }
}

#[test]
fn it_is_back_within_two_seconds() {
    let mut world = World::new();
    // So slow that the limit falls to its least; then as fast as ever.
    world.run(10_000, 20_000.0, 10.0, 2 * MS);
    assert_eq!(world.pace.limit(), LINK_UNDER_WAY.0);
    world.queue.clear();
    world.run(2_000, 100_000.0, 80_000.0, 50 * MS);
    assert!(world.pace.limit() >= 4_000, "{}", world.pace.limit());
    let ran = world.run(1_000, 100_000.0, 80_000.0, 50 * MS);
    assert!(ran.answered_per_s >= 72_000, "{}", ran.answered_per_s);
}

#[test]
fn whoever_says_nothing_is_given_the_least() {
    let mut world = World::new();
    world.run(2_000, 1_000.0, 10_000.0, 2 * MS);
    let ran = world.run(2_000, 20_000.0, 0.0, 2 * MS);
    assert_eq!((world.pace.limit(), ran.answered_per_s), (LINK_UNDER_WAY.0, 0));
    // Who is asked nothing says nothing, and loses nothing by it.
    let mut idle = World::new();
    idle.run(5_000, 0.0, 10_000.0, 2 * MS);
    assert_eq!(idle.pace.limit(), LINK_UNDER_WAY.1);
}

#[test]
fn what_is_fine_follows_the_least_round_trip_within_bounds() {
    let rows = [(1, 100), (40, 100), (60, 120), (200, 400), (900, 1_000), (5_000, 1_000)];
    for (least_ms, fine_ms) in rows {
        let mut pace = Pace::new(0);
        assert_eq!(pace.fine_us(), LINK_ROUND_TRIP_MS.1 * MS, "before anything was seen");
        let seen = Seen { answers: 1, slow: 0, least_us: least_ms * MS };
        pace.see(seen, 0, 1);
        assert_eq!(pace.fine_us(), fine_ms * MS, "{least_ms} ms");
    }
}

#[test]
fn the_least_is_forgotten_while_there_is_room_and_not_under_load() {
    let fine_after = |under_way: u32| {
        let mut pace = Pace::new(0);
        let seen = |least_us| Seen { answers: 8, slow: 0, least_us };
        pace.see(seen(60 * MS), under_way, 1);
        for window in 1..300 {
            pace.see(seen(200 * MS), under_way, window * WINDOW_US);
        }
        pace.fine_us()
    };
    assert_eq!(fine_after(3), 400 * MS, "the way has become longer");
    assert_eq!(fine_after(LINK_UNDER_WAY.2), 120 * MS, "even the fastest one waits");
}
