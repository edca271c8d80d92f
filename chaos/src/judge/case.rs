//! The case: evidence put in order, so that every check finds what it compares.

use std::collections::HashMap;
use std::fmt;

use proto::invariant::Invariant;

use super::Violation;
use super::evidence::{Agreed, Bucket, Evidence, OrderRow};
use super::replay::Replay;
use crate::id::{BuyerKey, OrderId};
use crate::told::{OrderState, Said, Told};

/// Everything that is judged.
#[derive(Debug)]
pub(super) struct Case<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) sales: Vec<SaleCase<'a>>,
}

/// One sale.
#[derive(Debug)]
pub(super) struct SaleCase<'a> {
    pub(super) agreed: &'a Agreed,
    pub(super) buckets: Vec<BucketCase<'a>>,
    pub(super) told: Vec<&'a Told>,
    /// The pseudonym of each buyer, by their number, as their first ticket says it.
    pub(super) pseudonyms: HashMap<u32, BuyerKey>,
}

/// One bucket.
#[derive(Debug)]
pub(super) struct BucketCase<'a> {
    pub(super) row: &'a Bucket,
    pub(super) replay: Replay,
    pub(super) orders: HashMap<OrderId, &'a OrderRow>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Violation>);

impl Findings {
    /// Names a broken promise.
    pub(super) fn name(
        &mut self,
        invariant: Invariant,
        subject: impl fmt::Display,
        sentence: impl Into<String>,
    ) {
        let (subject, sentence) = (subject.to_string(), sentence.into());
        self.0.push(Violation { invariant, subject, sentence });
    }
}

impl<'a> Case<'a> {
    /// Puts the evidence in order.
    pub(super) fn open(evidence: &'a Evidence) -> Case<'a> {
        let sales = (0_u8..).zip(&evidence.sales);
        let sales = sales.map(|(number, agreed)| SaleCase::open(evidence, number, agreed));
        Case { evidence, sales: sales.collect() }
    }
}

impl<'a> SaleCase<'a> {
    fn open(evidence: &'a Evidence, number: u8, agreed: &'a Agreed) -> SaleCase<'a> {
        let told: Vec<&Told> = evidence.told.iter().filter(|told| told.sale == number).collect();
        let mut pseudonyms = HashMap::new();
        for told in &told {
            if let (Some(buyer), Said::Ticket(ticket)) = (told.buyer, &told.said) {
                pseudonyms.entry(buyer).or_insert(ticket.pseudonym);
            }
        }
        let of_sale = |row: &&Bucket| row.sale == agreed.sale && row.org == agreed.org;
        let mut buckets: Vec<_> =
            evidence.buckets.iter().filter(of_sale).map(BucketCase::open).collect();
        buckets.sort_by_key(|bucket| bucket.row.number);
        SaleCase { agreed, buckets, told, pseudonyms }
    }

    /// Every order of the sale, over all cells.
    pub(super) fn orders(&self) -> impl Iterator<Item = (&BucketCase<'a>, &'a OrderRow)> {
        self.buckets
            .iter()
            .flat_map(|bucket| bucket.row.orders.iter().map(move |row| (bucket, row)))
    }

    /// Whether the money for an order went back, so that its units may be somebody else's by now.
    pub(super) fn is_refunded(&self, id: OrderId) -> bool {
        self.order(id).is_some_and(|(_, row)| row.state == OrderState::Refunded)
    }

    /// The bucket in which an order stands, with its row.
    pub(super) fn order(&self, id: OrderId) -> Option<(&BucketCase<'a>, &'a OrderRow)> {
        self.buckets.iter().find_map(|bucket| bucket.orders.get(&id).map(|row| (bucket, *row)))
    }
}

impl<'a> BucketCase<'a> {
    fn open(row: &'a Bucket) -> BucketCase<'a> {
        let orders = row.orders.iter().map(|order| (order.order, order)).collect();
        BucketCase { row, replay: Replay::of(row), orders }
    }
}

impl fmt::Display for SaleCase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sale {} of {}", self.agreed.sale, self.agreed.org)
    }
}

impl fmt::Display for BucketCase<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {} of sale {} ({})", self.row.number, self.row.sale, self.row.cell)
    }
}
