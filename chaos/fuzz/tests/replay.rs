//! The corpus on stable: every input that is kept, and some at random near it, through the very functions that are fuzzed.
//! `FLOODGATE_SEED` tries the same ones again.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "tests")]

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use floodgate_fuzz::corpus::{self, FILE_BYTES_MAX};
use floodgate_fuzz::{TARGETS, Target};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Inputs near each kept one that are tried.
const NEAR: usize = 20;
/// Changes of one of them, at most.
const CHANGES_MAX: usize = 4;

fn seed() -> u64 {
    let seed = std::env::var("FLOODGATE_SEED");
    let seed = seed.map_or_else(|_| rand::random(), |text| text.parse().unwrap());
    println!("FLOODGATE_SEED={seed}");
    seed
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")
}

/// Tries an input; what is wrong with it, if anything is.
fn tried(target: &Target, bytes: &[u8]) -> Option<String> {
    let tried = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes)));
    let panic = tried.err()?;
    Some(format!("{} \"{}\": {}", target.name, bytes.escape_ascii(), said(&*panic)))
}

/// The bytes with a few of them changed, moved or gone.
fn near(bytes: &[u8], luck: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..luck.random_range(1..=CHANGES_MAX) {
        let at = luck.random_range(0..=bytes.len());
        match luck.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << luck.random_range(0..8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, luck.random()),
        }
    }
    bytes
}

fn replay(name: &str) {
    let target = floodgate_fuzz::target(name).unwrap();
    let inputs = corpus::read(target).unwrap();
    let (mut wrong, mut luck) = (Vec::new(), StdRng::seed_from_u64(seed()));
    for input in &inputs {
        wrong.extend(tried(target, &input.bytes));
        for _ in 0..NEAR {
            wrong.extend(tried(target, &near(&input.bytes, &mut luck)));
        }
    }
    println!("{name}: {} inputs, and {NEAR} near each", inputs.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}
replayed! { token ticket json link meter ledger receipt proof }

/// What the product's encoders make today is among what is replayed; `make fuzz KEEP=1` writes it anew.
#[test]
fn the_corpus_has_every_seed_and_is_small() {
    for target in TARGETS {
        let inputs = corpus::read(target).unwrap();
        let kept: BTreeSet<(Option<&str>, &[u8])> =
            inputs.iter().map(|input| (input.name.as_deref(), &input.bytes[..])).collect();
        for (name, bytes) in (target.seeds)() {
            assert!(kept.contains(&(Some(name), &bytes[..])), "{}: {name}", target.name);
            assert!(bytes.len() <= target.bytes_max, "{}: {name} is too long", target.name);
        }
        assert_eq!(kept.len(), inputs.len(), "{}: an input stands twice", target.name);
        let bytes = std::fs::metadata(corpus::path(target)).unwrap().len();
        assert!(bytes <= u64::try_from(FILE_BYTES_MAX).unwrap(), "{}: {bytes}", target.name);
    }
}
