//! `floodgate sale-state`: what a sale's page shows, asked of the router.

use proto::wire::storefront::GetSaleStateRequest;
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;

use crate::failure::Failure;
use crate::line::Reach;
use crate::output::Output;

/// What can be done with the state of a sale.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SaleStates {
    /// Show it once; `floodgate sales watch` follows it
    Get {
        /// `orgs/{org}/sales/{sale}`
        sale: String,
    },
}

impl SaleStates {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        let SaleStates::Get { sale } = self;
        let mut client = StorefrontServiceClient::new(reach.router()?);
        output.one(&client.get_sale_state(GetSaleStateRequest { sale }).await?.into_inner())
    }
}
