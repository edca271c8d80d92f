//! Changing a sale's terms, field by field.
//!
//! A draft may change in everything. Once promised, a sale keeps its class, stock and start: cells have planned with
//! them. Orders remember price, currency, cap and hold time, so a change of those raises the revision.

use proto::fault::{Fault, Reason};
use proto::wire::admin;
use proto::wire::cell::SaleRecord;
use proto::wire::cell::sale_record::State;

use super::Terms;

const MASK: &str = "update_mask";

/// The sale with the fields that `paths` name taken from `asked`; the same record when nothing differs. The time of the
/// change is not set.
///
/// # Errors
/// A complaint about a path or a value; [`Reason::SaleStateConflict`] naming the field that may no longer change.
pub fn apply(
    sale: &SaleRecord,
    asked: &admin::Sale,
    paths: &[String],
    now_ms: u64,
) -> Result<SaleRecord, Fault> {
    let old = Terms::of(sale);
    let mut wanted = old.message();
    if paths.is_empty() {
        return Err(Fault::field(MASK, "is empty; name the fields to change"));
    }
    for path in paths {
        take(&mut wanted, asked, path)?;
    }
    let new = Terms::read(&wanted)?;
    if new == old {
        return Ok(sale.clone());
    }
    let times = |terms: &Terms| (terms.start_ms, terms.end_ms, terms.class);
    if sale.state() != State::Draft {
        still_open(&old, &new, now_ms)?;
    } else if times(&new) != times(&old) {
        new.ahead(now_ms)?;
    }
    let mut changed = sale.clone();
    new.write_to(&mut changed);
    if remembered(&new) != remembered(&old) {
        changed.revision = changed.revision.saturating_add(1);
    }
    Ok(changed)
}

/// What an order remembers by the sale's revision.
fn remembered(terms: &Terms) -> (i64, &str, u32, u32) {
    (terms.price_minor, &terms.currency, terms.cap, terms.hold_ttl_ms)
}

fn still_open(old: &Terms, new: &Terms, now_ms: u64) -> Result<(), Fault> {
    let fixed = [
        ("sale.class", old.class != new.class),
        ("sale.stock", old.stock != new.stock),
        ("sale.start_time", old.start_ms != new.start_ms),
    ];
    if let Some((field, _)) = fixed.into_iter().find(|(_, differs)| *differs) {
        let mut complaint = "cannot change once the sale is scheduled".to_owned();
        if field == "sale.stock" {
            complaint += "; add or surrender stock";
        }
        return Err(Fault {
            field: Some((field, complaint)),
            ..Fault::new(Reason::SaleStateConflict)
        });
    }
    if old.end_ms != new.end_ms {
        if new.end_ms <= now_ms {
            return Err(Fault::field("sale.end_time", "must be in the future"));
        }
        new.short_enough(now_ms)?;
    }
    Ok(())
}

fn take(into: &mut admin::Sale, from: &admin::Sale, path: &str) -> Result<(), Fault> {
    match path {
        "display_name" => into.display_name.clone_from(&from.display_name),
        "class" => into.class = from.class,
        "stock" => into.stock = from.stock,
        "cap" => into.cap = from.cap,
        "price" => into.price.clone_from(&from.price),
        "start_time" => into.start_time = from.start_time,
        "end_time" => into.end_time = from.end_time,
        "hold_ttl" => into.hold_ttl = from.hold_ttl,
        "admission_rate" => into.admission_rate = from.admission_rate,
        "keeping_time" => into.keeping_time = from.keeping_time,
        _ => {
            return Err(Fault::field(
                MASK,
                format!("{:?} is no field that can change", short(path)),
            ));
        }
    }
    Ok(())
}

/// As much of a path as is worth repeating.
fn short(path: &str) -> String {
    const PATH_CHARS_MAX: usize = 40;
    path.chars().take(PATH_CHARS_MAX).collect()
}
