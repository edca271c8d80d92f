//! The judge can fail: a finished sale's ledgers are damaged in one place, and the judge names what is broken.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

mod damage;
mod finished;

use damage::{Damage, table};
use finished::{CELLS, Finished};
use floodgate_chaos::judge::{self, CellStores, Evidence, Judgement, Verdict};
use sqlx::{Connection, Executor, PgConnection};

/// What is so of the finished sale.
const WHOLE: Verdict = Verdict {
    sold: 36,
    stock: 40,
    oversold: 0,
    stranded: 0,
    double_charges: 0,
    lost_acknowledgements: 0,
};

#[tokio::test]
async fn every_damage_is_named_and_a_whole_sale_names_nothing() {
    let sale = Finished::build().await;

    let stores = CELLS.map(|cell| CellStores {
        cell: cell.to_owned(),
        postgres_url: sale.stack.postgres_admin_url(cell).unwrap(),
        redis_url: sale.stack.redis_admin_url(cell).unwrap(),
    });
    let agreed = vec![sale.agreed.clone()];
    let evidence = judge::read(agreed, sale.told.clone(), &sale.provider_file, &stores).await;
    let mut evidence = evidence.unwrap();
    let judgement = judge::judge(&evidence);
    assert_eq!(judgement.violations, [], "a whole sale");
    assert_eq!(judgement.verdicts, [WHOLE]);
    let counts = judgement.counts[0];
    assert_eq!((counts.held, counts.paid, counts.expired, counts.cancelled), (22, 19, 2, 1));
    assert_eq!((counts.declined, counts.refunded, counts.take_overs), (1, 1, 1));

    // Buckets are what is judged, wherever they are kept: both may as well lie in one cell.
    evidence.buckets.iter_mut().for_each(|bucket| bucket.cell = CELLS[0].to_owned());
    assert_eq!(judge::judge(&evidence).violations, [], "a whole sale in one cell");

    // All rows are tried before the first is complained about.
    let mut wrong = Vec::new();
    for row in table() {
        let judgement = judge_damaged(&sale, &row.damage).await;
        let broken: Vec<&str> = judgement.broken().iter().map(|one| one.id()).collect();
        let verdict = judgement.verdicts[0];
        let figures = [
            verdict.oversold,
            verdict.stranded,
            verdict.double_charges,
            verdict.lost_acknowledgements,
        ];
        if broken != row.names || figures != row.figures {
            let named: Vec<String> =
                judgement.violations.iter().map(|one| format!("    {one}\n")).collect();
            wrong.push(format!("{}: {broken:?} {figures:?}\n{}", row.what, named.concat()));
        }
    }
    assert!(wrong.is_empty(), "judged otherwise than expected:\n{}", wrong.concat());

    let judgement = judge_damaged(&sale, &Damage::Told(|_| {})).await;
    assert_eq!(judgement.violations, [], "the damage was undone");
    sale.stack.shutdown().await.unwrap();
}

#[test]
fn every_figure_and_invariant_has_a_row() {
    for id in ["INV-1", "INV-2", "INV-3", "INV-4", "INV-5", "INV-6", "INV-7", "INV-8", "INV-12"] {
        assert!(table().any(|row| row.names.contains(&id)), "no damage breaks {id}");
    }
    for figure in 0..4 {
        assert!(table().any(|row| row.figures[figure] > 0), "no damage moves figure {figure}");
    }
}

/// Judges the sale with one damage done to it, and undoes the damage.
async fn judge_damaged(sale: &Finished, damage: &Damage) -> Judgement {
    let mut told = sale.told.clone();
    if let Damage::Told(change) = damage {
        change(&mut told);
    }
    let file = sale.stack.folder().join("damaged.jsonl");
    let mut text = std::fs::read_to_string(&sale.provider_file).unwrap();
    if let Damage::File(change) = damage {
        text = damage::renumber(&change(&text));
    }
    std::fs::write(&file, text).unwrap();
    let mut agreed = sale.agreed.clone();
    if let Damage::Agreed(change) = damage {
        change(&mut agreed);
    }
    let mut evidence = Evidence { sales: vec![agreed], told, ..Evidence::default() };
    evidence.intents = judge::read_provider(&file).unwrap();
    for (place, cell) in CELLS.iter().enumerate() {
        let url = sale.stack.postgres_admin_url(cell).unwrap();
        let mut session = PgConnection::connect(&url).await.unwrap();
        let mut transaction = session.begin().await.unwrap();
        let bucket = &sale.buckets[place];
        match damage {
            Damage::Sql(at, text) if *at == place => {
                transaction.execute(*text).await.unwrap();
            }
            Damage::Entry(at, entry) if *at == place => {
                finished::append(&mut transaction, &entry(sale)).await;
            }
            Damage::Redis(at, commands) if *at == place => {
                damage::redis(&bucket.redis_url, commands).await;
            }
            _ => {}
        }
        let read = judge::read_cell(cell, &mut transaction, &bucket.redis_url).await;
        evidence.buckets.extend(read.unwrap());
        transaction.rollback().await.unwrap();
        if matches!(damage, Damage::Redis(..)) {
            bucket.fill_redis().await;
        }
    }
    judge::judge(&evidence)
}
