//! Changes of a promised sale's stock: a request makes one, however often it comes.

use proto::fault::{Fault, Reason};
use proto::limits::SALE_STOCK_CHANGES_MAX;
use proto::wire::admin::Sale;
use proto::wire::cell::SaleRecord;

use super::{Owned, RACES_MAX, Sales, request_id};
use crate::lifecycle::{self, Act};
use crate::sale::{self, StockChanged};
use crate::store::{Kept, StockChange, StoreError};

/// Which way the stock changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The merchant adds units.
    Add,
    /// The merchant takes units back.
    Surrender,
}

impl Way {
    fn verb(self) -> &'static str {
        match self {
            Way::Add => "add",
            Way::Surrender => "surrender",
        }
    }
}

impl Sales {
    /// Changes the sale's stock by `units` and shows the sale; a repeat only shows it.
    pub(super) async fn change_stock(
        &self,
        name: &Owned,
        way: Way,
        units: u32,
        request: &str,
    ) -> Result<Sale, Fault> {
        // Whose sale it is comes first: what is wrong with the rest is told to its owner only.
        self.read(name).await?;
        let units = sale::stock_units(units)?;
        let asked = format!("{} {units}", way.verb());
        let change = StockChange { request: request_id(request)?, asked };
        for _ in 0..RACES_MAX {
            let sale = self.read(name).await?;
            match self.0.store.stock_change(&sale.value.sale, change.request).await? {
                Some(before) if before == change.asked => return Ok(self.view(&sale)),
                Some(_) => return Err(Fault::new(Reason::RequestIdReused)),
                None => {}
            }
            let now_ms = self.0.clock.now_ms();
            lifecycle::allow(Act::ChangeStock, &sale.value, now_ms)?;
            self.room_for_a_change(&sale.value).await?;
            let mut changed = self.changed(&sale.value, way, units, change.request, now_ms).await?;
            sale::touch(&mut changed.sale, now_ms);
            let StockChanged { sale: value, transfers } = changed;
            let written = self.0.store.change_stock(&value, sale.revision, &change, &transfers);
            match written.await {
                Ok(revision) => return Ok(self.view(&Kept { value, revision })),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn changed(
        &self,
        sale: &SaleRecord,
        way: Way,
        units: u32,
        request: [u8; 16],
        now_ms: u64,
    ) -> Result<StockChanged, Fault> {
        match way {
            Way::Add => sale::add_stock(sale, units, request, now_ms),
            Way::Surrender => {
                let reports = self.0.store.reports(sale).await?;
                sale::surrender_stock(sale, units, &reports, request, now_ms)
            }
        }
    }

    async fn room_for_a_change(&self, sale: &SaleRecord) -> Result<(), Fault> {
        if self.0.store.stock_change_count(&sale.sale).await? < SALE_STOCK_CHANGES_MAX {
            return Ok(());
        }
        let complaint = format!("its stock was changed {SALE_STOCK_CHANGES_MAX} times, no more");
        Err(Fault { field: Some(("name", complaint)), ..Fault::new(Reason::SaleStateConflict) })
    }
}
