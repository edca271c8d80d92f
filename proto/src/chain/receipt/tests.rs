//! Receipts of every order of a random sale, and what becomes of them when a bit is turned.

use super::*;
use crate::chain::{Chain, tests::rows};
use crate::wire::events::ledger_entry::Kind;
use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap()
}

fn keys() -> Vec<[u8; 32]> {
    vec![key().public_key().as_ref().try_into().unwrap()]
}

fn entry(kind: Kind, order: u8, units: Vec<u32>) -> LedgerEntry {
    let is_held = kind == Kind::Held;
    let pays = matches!(kind, Kind::Paying | Kind::Paid | Kind::Declined);
    LedgerEntry {
        kind: kind.into(),
        order: vec![order; 16],
        buyer: if is_held { vec![order ^ 255; 16] } else { Vec::new() },
        units,
        attempt: u32::from(pays),
        intent: if pays { format!("pi_{order}") } else { String::new() },
        ..LedgerEntry::default()
    }
}

/// A sale of `orders` orders, each of which is held, then paid, cancelled or left, as `luck` says.
fn sale(luck: &[(u8, u8)]) -> Vec<Row> {
    let granted =
        LedgerEntry { kind: Kind::Granted.into(), units: vec![0, 999], ..LedgerEntry::default() };
    let mut batches = vec![vec![granted]];
    for (number, (fate, width)) in (1..).zip(luck) {
        let units = vec![u32::from(number), 500 + u32::from(number)];
        let held = entry(Kind::Held, number, units.clone());
        if width % 3 != 0 && batches.len() > 1 {
            batches.last_mut().unwrap().push(held);
        } else {
            batches.push(vec![held]);
        }
        match fate % 3 {
            0 => batches.extend([
                vec![entry(Kind::Paying, number, vec![])],
                vec![entry(Kind::Paid, number, vec![])],
            ]),
            1 => batches.push(vec![entry(Kind::Cancelled, number, units)]),
            _ => {}
        }
    }
    rows(batches)
}

fn head_at(rows: &[Row], count: usize) -> String {
    let mut chain = Chain::default();
    rows[..count].iter().for_each(|row| drop(chain.follow(row).unwrap()));
    Head::of("acme", "s0123456789abcdef", 0, &chain).sign(&key())
}

fn receipt(rows: &[Row], order: u8, since: Option<usize>) -> Option<Receipt> {
    let mut search = Search::new(OrderId([order; 16]));
    rows.iter().for_each(|row| search.see(row));
    let since = since.map(|seq| (head_at(rows, seq), seq as u64));
    let since = since.as_ref().map(|(head, seq)| (head.as_str(), *seq));
    search.receipt(&head_at(rows, rows.len()), since)
}

#[test]
fn the_format_is_frozen() {
    let rows = sale(&[(0, 0), (1, 1)]);
    assert_eq!(receipt(&rows, 1, Some(2)).unwrap().text(), include_str!("golden.json"));
}

#[test]
fn an_order_that_is_not_there_has_no_receipt() {
    let rows = sale(&[(0, 0)]);
    assert_eq!(receipt(&rows, 9, None), None);
    assert_eq!(receipt(&rows, 1, Some(0)), None, "no head is that old");
}

#[test]
fn a_part_of_a_story_is_none() {
    let rows = sale(&[(0, 0)]);
    let whole = receipt(&rows, 1, None).unwrap();
    for left_out in 0..2 {
        let mut part = whole.clone();
        part.entries.remove(left_out);
        let flaw = Receipt::verify(&part.text(), &keys()).unwrap_err();
        assert!(matches!(flaw, ReceiptFlaw::NoStory(_)), "{flaw}");
    }
    let mut swapped = whole.clone();
    swapped.entries.swap(0, 1);
    assert!(Receipt::verify(&swapped.text(), &keys()).is_err());
    // Under a head of before, the last entry is not in the ledger.
    let older = Receipt { head: head_at(&rows, rows.len() - 1), ..whole };
    assert!(Receipt::verify(&older.text(), &keys()).is_err());
}

/// A row may tell more than one thing of an order: in its own order, and each once.
#[test]
fn entries_of_one_row_follow_one_another() {
    let paying = entry(Kind::Paying, 1, vec![]);
    let all = vec![entry(Kind::Held, 1, vec![5]), paying, entry(Kind::Paid, 1, vec![])];
    for beside in 0..4 {
        let others =
            (2..2 + beside).map(|number| entry(Kind::Held, number, vec![10 + u32::from(number)]));
        let rows = rows(vec![others.chain(all.clone()).collect()]);
        let whole = receipt(&rows, 1, None).unwrap();
        let story = Receipt::verify(&whole.text(), &keys()).unwrap();
        assert_eq!((story.state, story.entries.len()), (State::Paid, 3));
        for (one, other) in [(0, 1), (1, 2), (0, 2)] {
            let mut swapped = whole.clone();
            swapped.entries.swap(one, other);
            let flaw = Receipt::verify(&swapped.text(), &keys()).unwrap_err();
            assert!(flaw.to_string().contains("does not come next"), "{flaw}");
            let mut twice = whole.clone();
            twice.entries.insert(one, whole.entries[one].clone());
            assert!(Receipt::verify(&twice.text(), &keys()).is_err());
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let rows = sale(&[(2, 0), (0, 1), (1, 1), (0, 2)]);
    let text = receipt(&rows, 2, Some(3)).unwrap().text();
    Receipt::verify(&text, &keys()).unwrap();
    for bit in 0..text.len() * 8 {
        let mut bytes = text.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let Ok(changed) = String::from_utf8(bytes) else { continue };
        assert!(Receipt::verify(&changed, &keys()).is_err(), "bit {bit}: {changed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_a_sale_has_a_receipt(
        luck in proptest::collection::vec((0_u8..9, 0_u8..9), 1..40), bit: usize, since: usize,
    ) {
        let rows = sale(&luck);
        for (number, (fate, _)) in (1..).zip(&luck) {
            let since = since % rows.len() + 1;
            let text = receipt(&rows, number, Some(since)).unwrap().text();
            let story = Receipt::verify(&text, &keys()).unwrap();
            let state = [State::Paid, State::Cancelled, State::Held][usize::from(fate % 3)];
            prop_assert_eq!((story.state, story.order), (state, OrderId([number; 16])));
            prop_assert_eq!(story.since.unwrap().seq, since as u64);
            // A path is as long as its tree is high.
            prop_assert!(text.len() < 3_000 + story.entries.len() * 70 * 2 * 9, "{}", text.len());
            let mut bytes = text.clone().into_bytes();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(changed) = String::from_utf8(bytes) {
                prop_assert!(Receipt::verify(&changed, &keys()).is_err(), "bit {bit}");
            }
        }
    }
}
