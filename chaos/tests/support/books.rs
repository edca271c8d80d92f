//! What a client was told of its order, held against what the platform has written down.

use local::Platform;
use proto::wire::storefront::order::State;
use serde::Deserialize;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// What the client was told of its order.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    pub(crate) org: String,
    pub(crate) sale: String,
    pub(crate) order: String,
    pub(crate) units: Vec<u32>,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
}

/// An order as a cell's Postgres has it.
#[derive(Debug, sqlx::FromRow)]
struct Kept {
    state: i16,
    quantity: i16,
    intent: String,
    units: Vec<i32>,
}

/// Holds what a client was told against the cell's Postgres and the provider's file.
pub(crate) async fn agree(platform: &Platform, told: &Told) {
    let (sale, order) = told.order.rsplit_once("/orders/").unwrap();
    assert_eq!(sale, told.sale);
    let kept = kept(platform, told, order).await;
    assert_eq!(kept.len(), 1, "{told:?} is in one cell: {kept:?}");
    let kept = &kept[0];
    assert_eq!(i32::from(kept.state), i32::from(State::Paid), "{kept:?}");
    let mut units: Vec<_> = kept.units.iter().map(|unit| unit.cast_unsigned()).collect();
    units.sort_unstable();
    let mut told_units = told.units.clone();
    told_units.sort_unstable();
    assert_eq!((units, usize::try_from(kept.quantity).unwrap()), (told_units, told.units.len()));

    assert_eq!(captured(platform, &kept.intent), [told.amount_minor], "{}", kept.intent);
}

/// The order, in every cell that has it.
async fn kept(platform: &Platform, told: &Told, order: &str) -> Vec<Kept> {
    let select = r#"select o.state, o.quantity, coalesce(o.intent, '') as intent,
                           array(select unit from unit u where u.id = o.id) as units
                    from "order" o
                    join sale s using (org, sale)
                    join org using (org)
                    where org.id = $1 and s.id = $2 and o.id = $3"#;
    let id = Uuid::parse_str(order).unwrap();
    let mut found = Vec::new();
    for cell in platform.cells() {
        let url = platform.stack().postgres_admin_url(&cell).unwrap();
        let mut session = PgConnection::connect(&url).await.unwrap();
        let rows = sqlx::query_as(select).bind(&told.org);
        let rows = rows.bind(told.sale.rsplit('/').next().unwrap()).bind(id);
        found.extend(rows.fetch_all(&mut session).await.unwrap());
    }
    found
}

/// What the provider took for an intent, by its file.
fn captured(platform: &Platform, intent: &str) -> Vec<i64> {
    #[derive(Deserialize)]
    struct Entry {
        intent: String,
        event: String,
        amount: i64,
    }
    let file = platform.stack().folder().join("provider/ledger.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap());
    let ours = entries.filter(|entry| entry.event == "captured" && entry.intent == intent);
    ours.map(|entry| entry.amount).collect()
}
