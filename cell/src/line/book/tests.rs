//! The book against a plain model, and its limits.

use super::*;
use proptest::prelude::*;

fn buyer(number: u64) -> BuyerKey {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_le_bytes());
    BuyerKey(key)
}

fn told(org: &str, bucket: u32, given: u64, window: u64) -> Told<'_> {
    Told { org, sale: "s01", bucket, given, window }
}

/// What happens to a line.
#[derive(Clone, Debug)]
enum Step {
    /// A buyer asks, by a router that knows of this many numbers.
    Ask { buyer: u64, given: u64 },
    /// A router has let in some more of those that wait.
    LetIn { more: u64 },
    /// The process is started anew; so many of the last numbers were told to no router.
    Restart { untold: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..40_u64, 0..30_u64).prop_map(|(buyer, given)| Step::Ask { buyer, given }),
        3 => (0..20_u64).prop_map(|more| Step::LetIn { more }),
        1 => (0..3_u64).prop_map(|untold| Step::Restart { untold }),
    ]
}

proptest! {
    #[test]
    fn numbers_rise_and_who_waits_keeps_theirs(steps in prop::collection::vec(step(), 0..200)) {
        let mut book = Book::default();
        // The plain model: everybody who got a number of this process, in the order in which they came.
        let (mut line, mut window, mut given): (Vec<(u64, u64)>, u64, u64) = (Vec::new(), 0, 0);
        for step in steps {
            match step {
                Step::Ask { buyer: who, given: heard } => {
                    let heard = heard.min(given);
                    let numbered = book.number(&told("acme", 0, heard, 0), Some(buyer(who)), 0).unwrap();
                    let waits = line.iter().rev().find(|(other, number)| *other == who && *number >= window);
                    match waits {
                        Some((_, number)) => prop_assert_eq!((numbered.number, numbered.is_new), (*number, false)),
                        None => {
                            prop_assert_eq!((numbered.number, numbered.is_new), (given, true));
                            line.push((who, given));
                            given += 1;
                        }
                    }
                    prop_assert_eq!((numbered.given, numbered.window), (given, window));
                }
                Step::LetIn { more } => {
                    window = (window + more).min(given);
                    let now = book.number(&told("acme", 0, 0, window), None, 0).unwrap();
                    prop_assert_eq!((now.given, now.window, now.is_new), (given, window, false));
                }
                Step::Restart { untold } => {
                    book = Book::default();
                    given = given.saturating_sub(untold).max(window);
                    line.clear();
                    book.number(&told("acme", 0, given, window), None, 0).unwrap();
                }
            }
            prop_assert_eq!(book.waiting(), given - window);
            let remembered: usize = book.lines.values().map(|line| line.numbers.len()).sum();
            let waiting = usize::try_from(given - window).unwrap();
            prop_assert!(remembered <= waiting + waiting / 4 + 65, "{} of {}", remembered, waiting);
        }
    }
}

#[test]
fn an_org_has_a_part_of_the_room_and_no_more() {
    let mut book = Book::default();
    let ask = |book: &mut Book, org: &str, bucket, who| {
        let told = Told { sale: org, ..told(org, bucket, 0, 0) };
        book.number(&told, Some(buyer(who)), 0).map(|numbered| numbered.number)
    };
    // A router tells of a line that is as long as one may be.
    let long = Told { sale: "acme", ..told("acme", 0, LINE_ORG_WAITING_MAX, 0) };
    book.number(&long, None, 0).unwrap();
    assert_eq!(ask(&mut book, "acme", 0, 1), Err(Full));
    assert_eq!(ask(&mut book, "acme", 1, 1), Err(Full), "in another of its lines");
    assert_eq!(ask(&mut book, "other", 0, 1), Ok(0), "another org");
    let shorter = Told { window: 1, ..long };
    book.number(&shorter, None, 0).unwrap();
    assert_eq!(ask(&mut book, "acme", 1, 1), Ok(0), "when one was let in");
    assert_eq!(ask(&mut book, "acme", 1, 1), Ok(0), "who waits keeps their number");
    assert_eq!(ask(&mut book, "acme", 1, 2), Err(Full));
}

#[test]
fn lines_whose_tickets_have_expired_make_room() {
    let mut book = Book::default();
    let lines = u32::try_from(LINES_MAX).unwrap();
    for bucket in 0..lines {
        book.number(&told("acme", bucket, 0, 0), Some(buyer(1)), u64::from(bucket)).unwrap();
    }
    let one_more = told("acme", lines, 0, 0);
    assert_eq!(book.number(&one_more, Some(buyer(1)), LINE_TICKET_MS_MAX), Err(Full));
    // The first two have expired by now.
    let now_ms = LINE_TICKET_MS_MAX + 2;
    assert!(book.number(&one_more, Some(buyer(1)), now_ms).is_ok());
    let mut dropped: Vec<_> = book.dropped().into_iter().map(|(_, bucket)| bucket).collect();
    dropped.sort_unstable();
    assert_eq!((dropped, book.waiting()), (vec![0, 1], u64::from(lines) - 1));
    assert_eq!(book.dropped(), []);
}
