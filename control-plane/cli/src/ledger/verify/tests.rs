//! A thousand ways of tampering with the export of a random sale, each of which is found. `FLOODGATE_SEED` replays them.
#![allow(
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "the seed is printed; numbers are small"
)]

#[path = "tests/behind.rs"]
mod behind;
#[path = "tests/forge.rs"]
mod forge;
#[path = "tests/random_sale.rs"]
mod random_sale;

use std::io::Cursor;

use rand::SeedableRng;
use rand::rngs::StdRng;
use ring::signature::KeyPair;

use super::*;
use forge::{Forged, forge};
use random_sale::{RandomSale, key};

/// How many tamperings are tried.
const TAMPERINGS: u64 = 1_000;
/// How many of them with one sale.
const OF_ONE_SALE: u64 = 50;

fn seed() -> u64 {
    let seed = std::env::var("FLOODGATE_SEED")
        .map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("FLOODGATE_SEED={seed}");
    seed
}

fn public() -> PublicKey {
    key(1).public_key().as_ref().try_into().unwrap()
}

fn check(files: &[String], kept: &[String], stock: Option<u64>) -> Verdict {
    let files = (0..).zip(files).map(|(n, text)| (format!("file {n}"), Cursor::new(text.clone())));
    verify(files.collect(), &Against { keys: &[public()], kept, stock })
}

#[test]
fn what_is_as_it_was_signed_is_believed() {
    let seed = seed();
    for round in 0..20 {
        let sale = RandomSale::draw(&mut StdRng::seed_from_u64(seed.wrapping_add(round)));
        let verdict = check(&sale.files(), &sale.heads_at(|last| last), Some(sale.stock()));
        assert_eq!(
            (&verdict.findings[..], &verdict.doubts[..]),
            (&[][..], &[][..]),
            "round {round}"
        );
        assert_eq!((verdict.stock(), verdict.buckets.len()), (sale.stock(), sale.buckets.len()));
        // Older heads are continued as well, and none at all are needed.
        let older = sale.heads_at(|last| last / 2 + 1);
        assert_eq!(check(&sale.files(), &older, None).findings, []);
        assert_eq!(check(&sale.files(), &[], None).findings, []);
        let units: u64 = verdict.buckets.iter().map(|bucket| bucket.granted.count()).sum();
        assert_eq!(units + verdict.in_transit(), verdict.stock(), "INV-2");
    }
}

#[test]
fn every_tampering_is_found_and_named() {
    let seed = seed();
    let mut tried = std::collections::BTreeMap::<&str, u32>::new();
    for round in 0..TAMPERINGS / OF_ONE_SALE {
        let mut luck = StdRng::seed_from_u64(seed.wrapping_add(round));
        let sale = RandomSale::draw(&mut luck);
        let (files, kept) = (sale.files(), sale.heads_at(|last| last));
        for number in 0..OF_ONE_SALE {
            let Forged { how, files: forged, bucket, needs_kept } = loop {
                let forged = forge(&sale, &mut luck);
                if forged.files != files {
                    break forged;
                }
            };
            *tried.entry(how).or_default() += 1;
            let against = if needs_kept { &kept[..] } else { &[] };
            let findings = check(&forged, against, None).findings;
            assert!(!findings.is_empty(), "{how} was not found: round {round}, number {number}");
            if let Some(bucket) = bucket {
                let named = findings.iter().any(|finding| finding.bucket == Some(bucket));
                assert!(named, "{how} in bucket {bucket}: {findings:?}");
            }
        }
    }
    println!("{tried:?}");
    assert!(tried.len() == forge::WAYS && tried.values().all(|&count| count >= 10), "{tried:?}");
}

#[test]
fn another_sales_ledger_another_key_and_no_file_prove_nothing() {
    let mut luck = StdRng::seed_from_u64(7);
    let (sale, other) =
        (RandomSale::draw(&mut luck), RandomSale::draw(&mut luck).renamed("sother"));
    let found = |files: &[String], kept: &[String]| {
        let findings = check(files, kept, None).findings;
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let both = [sale.files(), other.files()].concat();
    assert!(found(&both, &[]).contains("not of the same as the others"));
    assert!(found(&sale.files(), &other.heads_at(|last| last)).contains("another sale"));
    assert!(found(&sale.files()[..1], &sale.heads_at(|last| last)).contains("in no file"));
    assert!(found(&[], &[]).contains("no bucket"));
    assert!(found(&sale.files(), &["a.b.c".into()]).contains("cannot be believed"));
    let twice = [sale.files(), sale.files()].concat();
    assert!(found(&twice, &[]).contains("stands twice"));
    let wrong_stock = check(&sale.files(), &[], Some(sale.stock() + 1)).findings;
    assert_eq!(wrong_stock.len(), 1, "{wrong_stock:?}");
    let strange = Against { keys: &[[7; 32]], kept: &[], stock: None };
    let files = vec![("file".to_owned(), Cursor::new(sale.files()[0].clone()))];
    assert!(verify(files, &strange).findings[0].what.contains("another key"));
}

/// INV-1, INV-2: each ledger is in order by itself, and they cannot both be true.
#[test]
fn buckets_that_contradict_each_other_are_found() {
    let words = |change: fn(&mut RandomSale)| {
        let mut sale = RandomSale::with_transfer();
        change(&mut sale);
        let verdict = check(&sale.files(), &[], None);
        let findings: Vec<_> = verdict.findings.iter().map(ToString::to_string).collect();
        (findings.join("\n"), verdict.doubts.len())
    };
    assert_eq!(words(|_| {}), (String::new(), 0));
    let (found, _) = words(|sale| sale.replace_units(1, 1, vec![60, 80]));
    assert!(found.contains("not what bucket 0 gave up"), "{found}");
    let (found, _) = words(|sale| sale.drop_row(0, 1));
    assert!(found.contains("never gave up") && found.contains("too"), "{found}");
    // The giver's export is older than the receiver's: nobody knows yet.
    let (found, doubts) = words(|sale| sale.cut(0, 1));
    assert_eq!((found.as_str(), doubts), ("", 1));
    let (found, _) = words(|sale| sale.repeat_row(1, 1));
    assert!(found.contains("a second time"), "{found}");
}
