//! Rows behind the signed head, as `export --unsigned` writes them: nobody has signed for them, which is said, and still
//! they must follow, and what the head covers is not believed because something follows it.

use proto::chain::Row;

use super::forge::{change_an_entry, of_head};
use super::random_sale::{RandomSale, chain_anew};
use super::*;

/// A bucket of a sale whose head covers all but the last three rows, and the row that the head was signed for.
fn drawn(luck: &mut StdRng) -> (RandomSale, u64) {
    loop {
        let sale = RandomSale::draw(luck);
        if let Some(covered) = sale.buckets[0].len().checked_sub(3).filter(|covered| *covered > 2) {
            return (sale, covered as u64);
        }
    }
}

/// Changes what one of these rows says, with a root that fits.
fn alter(rows: &mut [Row], luck: &mut StdRng) {
    let before = rows.to_vec();
    while rows == before {
        change_an_entry(rows, luck);
    }
}

/// Findings about the first bucket by row, after `change` of its rows.
fn found(
    sale: &RandomSale,
    covered: u64,
    change: impl FnOnce(&mut Vec<Row>),
) -> Vec<(u64, String)> {
    let mut changed = sale.clone();
    change(&mut changed.buckets[0]);
    let files = of_head(&changed, 0, sale.head(0, covered as usize));
    let findings = check(&files, &[], None).findings.into_iter();
    let ours = findings.filter(|finding| finding.bucket == Some(0));
    ours.map(|finding| (finding.seq.unwrap_or_default(), finding.what)).collect()
}

#[test]
fn rows_behind_the_head_prove_nothing_and_hide_nothing() {
    let seed = seed();
    for round in 0..20 {
        let (sale, covered) = drawn(&mut StdRng::seed_from_u64(seed.wrapping_add(round)));
        let find = |change: &dyn Fn(&mut Vec<Row>)| found(&sale, covered, change);
        let behind = usize::try_from(covered).unwrap();
        let uncovered =
            (covered + 1, "the signed head does not cover the rows from here on".to_owned());
        let luck = || StdRng::seed_from_u64(round);

        assert_eq!(find(&|_| {}), std::slice::from_ref(&uncovered), "as they are");
        assert_eq!(find(&|rows| rows.truncate(behind)), [], "without them nothing signed is lost");
        let short = find(&|rows| rows.truncate(behind - 1));
        assert!(short[0].1.contains("rows are missing"), "{short:?}");

        // Each is named by its row, besides that nobody signed for them.
        let altered = find(&|rows| alter(&mut rows[behind..=behind], &mut luck()));
        assert!(altered[0].0 == covered + 1 && altered.contains(&uncovered), "{altered:?}");
        assert!(altered.len() > 1, "{altered:?}");
        for missing in [behind, behind + 1] {
            let gap = find(&|rows| drop(rows.remove(missing)));
            // The first row that is there follows none.
            assert_eq!(gap[0].0, missing as u64 + 2, "{gap:?}");
            assert!(gap.len() > 1, "{gap:?}");
        }
        let swapped = find(&|rows| rows.swap(behind, behind + 1));
        assert!(swapped.len() > 1, "{swapped:?}");

        // Whoever writes what was signed for anew cannot hide that by adding to it.
        let anew = find(&|rows| {
            alter(&mut rows[1..behind], &mut luck());
            chain_anew(rows);
        });
        let named = |(row, what): &(u64, String)| {
            *row == covered && what.contains("not the ledger of which its head was signed")
        };
        assert!(anew.iter().any(named), "{anew:?}");
    }
}

/// A head that was kept elsewhere, and is newer than the one in the file, covers more of it.
#[test]
fn a_kept_head_covers_rows_behind_the_one_in_the_file() {
    let (sale, covered) = drawn(&mut StdRng::seed_from_u64(seed()));
    let last = sale.buckets[0].len();
    let files = |sale: &RandomSale| of_head(sale, 0, sale.head(0, covered as usize));
    let kept = [sale.head(0, last)];
    let rows = |sale: &RandomSale| {
        let findings = check(&files(sale), &kept, None).findings.into_iter();
        findings.filter_map(|finding| finding.seq).collect::<Vec<_>>()
    };
    assert_eq!(rows(&sale), [covered + 1]);
    let mut shorter = sale.clone();
    shorter.cut(0, last - 1);
    assert_eq!(rows(&shorter), [covered + 1, last as u64 - 1], "it was put back");
    let mut anew = sale.clone();
    alter(&mut anew.buckets[0][last - 1..], &mut StdRng::seed_from_u64(1));
    chain_anew(&mut anew.buckets[0]);
    assert!(rows(&anew).contains(&(last as u64)), "it was written anew");
}
