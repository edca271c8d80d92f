//! A sale's page: what everybody sees. Those who heed it leave when it says that nothing is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::wire::storefront::sale_state::Phase;
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;
use proto::wire::storefront::{SaleState, WatchSaleRequest};
use tokio::time::sleep;
use tonic::{Request, Status};

use super::Shop;
use crate::told::{PageTold, Said, Told};

/// Between a stream that broke and the next.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Watches until it is aborted.
pub(super) async fn watch(shop: Arc<Shop>) {
    loop {
        // A page that cannot be seen is looked at again: it may be the router's restart that is being drilled.
        follow(&shop).await.ok();
        sleep(AGAIN_AFTER).await;
    }
}

async fn follow(shop: &Shop) -> Result<(), Status> {
    let Some(line) = shop.balancer.line(0) else { return Ok(()) };
    let mut client = StorefrontServiceClient::new(line.channel);
    let mut request = Request::new(WatchSaleRequest { sale: shop.crowd.sale.clone() });
    request.metadata_mut().insert("authorization", shop.crowd.page_token.clone());
    let mut states = client.watch_sale(request).await?.into_inner();
    while let Some(state) = states.message().await? {
        show(shop, &state);
    }
    Ok(())
}

fn show(shop: &Shop, state: &SaleState) {
    let page = PageTold {
        free: state.free,
        held: state.held,
        sold: state.sold,
        sold_out: state.sold_out,
        stale: state.stale,
    };
    if let Some(live) = shop.shared.live.sale(shop.number) {
        live.show_page(page);
        let ended = matches!(state.phase(), Phase::Ended | Phase::Cancelled);
        if page.sold_out || ended {
            live.set_over();
            if shop.crowd.heeds_page {
                shop.closed.cancel();
            }
        }
    }
    shop.shared.told.add(Told {
        at_us: shop.shared.at_us(Instant::now()),
        sale: shop.number,
        buyer: None,
        call: 0,
        said: Said::Page(page),
    });
}
