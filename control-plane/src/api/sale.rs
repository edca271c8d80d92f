//! `floodgate.admin.v1.SaleService`: merchants plan and steer their sales.

mod stock;

use std::sync::Arc;

use proto::fault::{Fault, Reason};
use proto::id::{OrgId, SaleId, parse_org, parse_sale};
use proto::limits::ORG_SALES_MAX;
use proto::wire::admin::sale_service_server::SaleService;
use proto::wire::admin::{
    AddStockRequest, CancelSaleRequest, CreateSaleRequest, GetSaleRequest, ListSalesRequest,
    ListSalesResponse, PauseSaleRequest, ResumeSaleRequest, Sale, ScheduleSaleRequest,
    SurrenderStockRequest, UpdateSaleRequest,
};
use proto::wire::cell::SaleRecord;
use proto::wire::cell::sale_record::State;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, async_trait};

use super::{Desk, RACES_MAX, found, random, request_id};
use crate::auth::own;
use crate::lifecycle::{self, Act, Verdict};
use crate::page;
use crate::sale::{self, Origin, Terms};
use crate::store::{Kept, StoreError};
use stock::Way;

/// The service.
#[derive(Debug)]
pub(super) struct Sales(pub(super) Arc<Desk>);

#[async_trait]
impl SaleService for Sales {
    async fn create_sale(
        &self,
        request: Request<CreateSaleRequest>,
    ) -> Result<Response<Sale>, Status> {
        let caller = self.0.auth.merchant(request.metadata()).await?;
        Ok(Response::new(self.create(caller, request.into_inner()).await?))
    }

    async fn get_sale(&self, request: Request<GetSaleRequest>) -> Result<Response<Sale>, Status> {
        let sale = self.own_sale(request.metadata(), &request.get_ref().name).await?;
        let sale = self.read(&sale).await?;
        Ok(Response::new(self.view(&sale)))
    }

    async fn list_sales(
        &self,
        request: Request<ListSalesRequest>,
    ) -> Result<Response<ListSalesResponse>, Status> {
        let caller = self.0.auth.merchant(request.metadata()).await?;
        Ok(Response::new(self.list(caller, request.into_inner()).await?))
    }

    async fn update_sale(
        &self,
        request: Request<UpdateSaleRequest>,
    ) -> Result<Response<Sale>, Status> {
        let UpdateSaleRequest { sale: asked, update_mask: mask } = request.get_ref();
        let asked = asked.clone().unwrap_or_default();
        let paths = mask.clone().unwrap_or_default().paths;
        let name = self.own_sale(request.metadata(), &asked.name).await?;
        let sale = self.change(&name, |sale, now_ms| {
            if !asked.etag.is_empty() && asked.etag != sale::etag(&sale.value, sale.revision) {
                return Err(Fault::new(Reason::EtagMismatch));
            }
            lifecycle::allow(Act::Update, &sale.value, now_ms)?;
            let changed = sale::apply(&sale.value, &asked, &paths, now_ms)?;
            Ok((changed != sale.value).then_some(changed))
        });
        Ok(Response::new(sale.await?))
    }

    async fn schedule_sale(
        &self,
        request: Request<ScheduleSaleRequest>,
    ) -> Result<Response<Sale>, Status> {
        let name = self.own_sale(request.metadata(), &request.get_ref().name).await?;
        let sale = self.act(&name, Act::Schedule, |sale, now_ms| {
            Terms::of(sale).ahead(now_ms).map_err(|late| Fault {
                field: late.field,
                ..Fault::new(Reason::SaleStateConflict)
            })?;
            sale.set_state(State::Scheduled);
            Ok(())
        });
        Ok(Response::new(sale.await?))
    }

    async fn pause_sale(
        &self,
        request: Request<PauseSaleRequest>,
    ) -> Result<Response<Sale>, Status> {
        let name = self.own_sale(request.metadata(), &request.get_ref().name).await?;
        let sale = self.act(&name, Act::Pause, |sale, _| {
            sale.paused = true;
            Ok(())
        });
        Ok(Response::new(sale.await?))
    }

    async fn resume_sale(
        &self,
        request: Request<ResumeSaleRequest>,
    ) -> Result<Response<Sale>, Status> {
        let name = self.own_sale(request.metadata(), &request.get_ref().name).await?;
        let sale = self.act(&name, Act::Resume, |sale, _| {
            sale.paused = false;
            Ok(())
        });
        Ok(Response::new(sale.await?))
    }

    async fn cancel_sale(
        &self,
        request: Request<CancelSaleRequest>,
    ) -> Result<Response<Sale>, Status> {
        let name = self.own_sale(request.metadata(), &request.get_ref().name).await?;
        let sale = self.act(&name, Act::Cancel, |sale, _| {
            sale.set_state(State::Cancelled);
            Ok(())
        });
        Ok(Response::new(sale.await?))
    }

    async fn add_stock(&self, request: Request<AddStockRequest>) -> Result<Response<Sale>, Status> {
        let AddStockRequest { name, units, request_id } = request.get_ref();
        let name = self.own_sale(request.metadata(), name).await?;
        Ok(Response::new(self.change_stock(&name, Way::Add, *units, request_id).await?))
    }

    async fn surrender_stock(
        &self,
        request: Request<SurrenderStockRequest>,
    ) -> Result<Response<Sale>, Status> {
        let SurrenderStockRequest { name, units, request_id } = request.get_ref();
        let name = self.own_sale(request.metadata(), name).await?;
        Ok(Response::new(self.change_stock(&name, Way::Surrender, *units, request_id).await?))
    }
}

/// A sale's name whose org is the caller's.
struct Owned {
    org: OrgId,
    sale: SaleId,
}

impl Sales {
    async fn own_sale(&self, metadata: &MetadataMap, name: &str) -> Result<Owned, Fault> {
        let org = self.0.auth.merchant(metadata).await?;
        let sale = own(&org, parse_sale(name)?)?;
        Ok(Owned { org, sale })
    }

    async fn read(&self, name: &Owned) -> Result<Kept<SaleRecord>, Fault> {
        let sale = found(self.0.store.sale(&name.sale).await?)?;
        if sale.value.org == name.org.as_str() {
            Ok(sale)
        } else {
            Err(Fault::new(Reason::NotFound))
        }
    }

    fn view(&self, sale: &Kept<SaleRecord>) -> Sale {
        sale::view(&sale.value, sale.revision, self.0.clock.now_ms())
    }

    async fn create(&self, caller: OrgId, request: CreateSaleRequest) -> Result<Sale, Fault> {
        own(&caller, (parse_org(&request.parent)?, ()))?;
        let id = sale::id_of(&caller, request_id(&request.request_id)?);
        let asked = request.sale.unwrap_or_default();
        let request_hash = sale::hash_of(&asked);
        if let Some(made) = self.0.store.sale(&id).await? {
            return self.repeated(&made, &request_hash);
        }
        let now_ms = self.0.clock.now_ms();
        let terms = Terms::read(&asked)?;
        terms.ahead(now_ms)?;
        if self.0.store.unfinished_count(&caller).await? >= ORG_SALES_MAX {
            let complaint = format!("has {ORG_SALES_MAX} sales that are not settled; cancel some");
            return Err(Fault {
                field: Some(("parent", complaint)),
                ..Fault::new(Reason::SaleStateConflict)
            });
        }
        let origin = Origin {
            org: caller,
            sale: id.clone(),
            request_id: request.request_id.to_ascii_lowercase(),
            request_hash,
            now_ms,
            buyer_key: random()?,
        };
        let record = sale::draft(&terms, origin);
        if request.validate_only {
            return Ok(Sale { etag: String::new(), ..sale::view(&record, 0, now_ms) });
        }
        match self.0.store.create_sale(&record).await {
            Ok(revision) => Ok(self.view(&Kept { value: record, revision })),
            // The same request was faster on another connection.
            Err(StoreError::Conflict) => {
                let made = found(self.0.store.sale(&id).await?)?;
                self.repeated(&made, &record.request_hash)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn repeated(&self, made: &Kept<SaleRecord>, request_hash: &[u8]) -> Result<Sale, Fault> {
        if made.value.request_hash == request_hash {
            Ok(self.view(made))
        } else {
            Err(Fault::new(Reason::RequestIdReused))
        }
    }

    async fn list(
        &self,
        caller: OrgId,
        request: ListSalesRequest,
    ) -> Result<ListSalesResponse, Fault> {
        own(&caller, (parse_org(&request.parent)?, ()))?;
        let list = format!("orgs/{caller}/sales");
        let page = page::read(&list, request.page_size, &request.page_token)?;
        let (sales, more) = self.0.store.sales(&caller, &page).await?;
        let last = sales.last().filter(|_| more).map(|sale| page::token(&list, &sale.value.sale));
        Ok(ListSalesResponse {
            sales: sales.iter().map(|sale| self.view(sale)).collect(),
            next_page_token: last.unwrap_or_default(),
        })
    }

    /// Does an act that either is so already or changes the sale.
    async fn act(
        &self,
        name: &Owned,
        act: Act,
        change: impl Fn(&mut SaleRecord, u64) -> Result<(), Fault>,
    ) -> Result<Sale, Fault> {
        let sale = self.change(name, |sale, now_ms| {
            if lifecycle::allow(act, &sale.value, now_ms)? == Verdict::Already {
                return Ok(None);
            }
            let mut changed = sale.value.clone();
            change(&mut changed, now_ms)?;
            Ok(Some(changed))
        });
        sale.await
    }

    /// Writes what `change` makes of the sale, unless that is nothing; reads it again when another write came between.
    async fn change(
        &self,
        name: &Owned,
        change: impl Fn(&Kept<SaleRecord>, u64) -> Result<Option<SaleRecord>, Fault>,
    ) -> Result<Sale, Fault> {
        for _ in 0..RACES_MAX {
            let sale = self.read(name).await?;
            let now_ms = self.0.clock.now_ms();
            let Some(mut changed) = change(&sale, now_ms)? else { return Ok(self.view(&sale)) };
            sale::touch(&mut changed, now_ms);
            match self.0.store.replace_sale(&changed, sale.revision, None).await {
                Ok(revision) => return Ok(self.view(&Kept { value: changed, revision })),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }
}
