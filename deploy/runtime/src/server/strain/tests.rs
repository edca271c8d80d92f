//! Strain against a plain model of a server that is offered more than it can do.

use super::*;

const CONNECTIONS: usize = 256;
/// Windows a second.
const PER_S: u32 = 10;
/// What a call costs that is carried out, and one that is refused, in millionths of a server's time.
const COSTS: (f64, f64) = (320.0, 80.0);
const CAPACITY: f64 = 1_000_000.0 / 320.0;

/// What a server feels that is offered so many calls a second and reads `share` of them, and what it does of use. What
/// there is room for is known behind it alone: it carries out all that it reads, up to what it has time for.
fn server(offered: f64, share: u32) -> (Felt, f64) {
    let read = offered * f64::from(share) / f64::from(WHOLE);
    let (use_cost, refuse_cost) = COSTS;
    // Everything read is refused that cannot be carried out: read = good + refused, and time is all used up.
    let good = ((1_000_000.0 - read * refuse_cost) / (use_cost - refuse_cost)).clamp(0.0, read);
    let late = read * refuse_cost > 1_000_000.0;
    let busy = good * use_cost + (read - good) * refuse_cost > 900_000.0;
    let least = Duration::from_millis(if late { 400 } else { 5 });
    let mean = Duration::from_millis(if busy { 6 } else { 1 });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
    let count = |per_s: f64| (per_s / f64::from(PER_S)) as u64;
    let (answers, in_vain) = (count(read), count(read - good));
    let took = Duration::from_secs(1) / PER_S;
    (Felt { took, least, mean, answers, in_vain }, good)
}

/// What is done of use a second in each window.
fn run(strain: &mut Strain, share: &mut u32, offered: f64, windows: u32) -> Vec<f64> {
    let mut all = Vec::new();
    for _ in 0..windows {
        let (felt, good) = server(offered, *share);
        *share = strain.feel(felt, CONNECTIONS);
        all.push(good);
    }
    all
}

#[test]
fn goodput_stays_however_much_is_offered_and_comes_back_in_time() {
    for times in [1.2, 2.0, 4.0, 6.0, 8.0, 10.0] {
        let (mut strain, mut share) = (Strain::new(), WHOLE);
        run(&mut strain, &mut share, times * CAPACITY, PER_S);
        let good = run(&mut strain, &mut share, times * CAPACITY, 10 * PER_S);
        let mean = good.iter().sum::<f64>() / f64::from(10 * PER_S);
        assert!(mean >= 0.9 * CAPACITY, "at {times}x: {mean:.0} of {CAPACITY:.0}");
        // Little is asked then: all are read again.
        run(&mut strain, &mut share, 0.9 * CAPACITY, 2 * PER_S);
        assert_eq!(share, WHOLE, "two seconds after {times}x");
    }
}

#[test]
fn without_strain_everybody_is_read() {
    let ms = Duration::from_millis;
    let felt = Felt { took: ms(100), least: ms(1), mean: ms(1), answers: 5_000, in_vain: 0 };
    let rows = [
        // Idle, busy, and with a queue that is soon gone.
        Felt::default(),
        Felt { mean: ms(8), ..felt },
        Felt { least: ms(45), mean: ms(50), ..felt },
        // Much is refused, and there is time for it: who has no room is behind us.
        Felt { in_vain: 4_900, ..felt },
        // Little is refused and there is no time.
        Felt { mean: ms(8), in_vain: 600, ..felt },
    ];
    for felt in rows {
        let mut strain = Strain::new();
        let shares: Vec<u32> = (0..50).map(|_| strain.feel(felt, CONNECTIONS)).collect();
        assert!(shares.iter().all(|share| *share == WHOLE), "{felt:?}: {shares:?}");
    }
}

#[test]
fn few_connections_are_always_read() {
    let long = Duration::from_secs(5);
    let late = Felt { took: long, least: long, mean: long, answers: 1_000, in_vain: 0 };
    for (connections, read) in [(0, 0), (1, 1), (16, 16), (32, 16), (256, 16), (32_768, 16)] {
        let mut strain = Strain::new();
        let share = (0..100).map(|_| strain.feel(late, connections)).last().unwrap_or(0);
        assert_eq!(connections * share as usize / WHOLE as usize, read, "of {connections}");
    }
}

#[test]
fn it_falls_to_what_can_be_done_and_waits_until_that_shows() {
    let ms = Duration::from_millis;
    let felt = |least, answers, in_vain| {
        let (took, least) = (ms(100), ms(least));
        Felt { took, least, mean: ms(50), answers, in_vain }
    };
    // The parts that are read after one window, and after two of the same.
    for (felt, first, second) in [
        (felt(80, 1_000, 0), 625, 625),
        // What was read before is still being refused.
        (felt(5, 1_000, 500), 531, 531),
        (felt(80, 1_000, 900), 625, 625),
        // Who is so late needs to see no more.
        (felt(60_000, 1_000, 0), 125, 15),
        // Who answers hardly anybody is late with something else.
        (felt(60_000, 10, 0), 1_000, 1_000),
        (felt(5, 10, 9), 1_000, 1_000),
    ] {
        let mut strain = Strain::new();
        for expected in [first, second] {
            let share = strain.feel(felt, 4_096);
            assert_eq!(u64::from(share) * 1_000 / u64::from(WHOLE), expected, "{felt:?}");
        }
    }
}

#[test]
fn a_moments_strain_is_over_in_less_time_than_anybody_waits() {
    let mut strain = Strain::new();
    let ms = Duration::from_millis;
    let calm = |share: u32| Felt {
        took: ms(100),
        answers: 200 * u64::from(share) / u64::from(WHOLE),
        ..Felt::default()
    };
    for _ in 0..10 {
        assert_eq!(strain.feel(calm(WHOLE), CONNECTIONS), WHOLE);
    }
    let paused =
        Felt { took: ms(3_000), least: ms(3_000), mean: ms(3_000), answers: 300, in_vain: 0 };
    let mut share = strain.feel(paused, CONNECTIONS);
    assert_eq!(share, WHOLE / FALL_MOST);
    // It is looked twice: what falls has to show.
    for _ in 0..2 {
        share = strain.feel(calm(share), CONNECTIONS);
    }
    assert_eq!(share, WHOLE);
}
