//! `floodgate orders`: what a merchant does about a buyer's order, asked of the router.

use proto::wire::storefront::RefundOrderRequest;
use proto::wire::storefront::storefront_service_client::StorefrontServiceClient;

use crate::failure::Failure;
use crate::line::Reach;
use crate::output::Output;

/// What can be done with orders.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Orders {
    /// Give a paid order's money back; its units are free again unless the sale is settled. Safe to repeat
    Refund {
        /// `orgs/{org}/sales/{sale}/orders/{order}`
        order: String,
        /// Whose it is: the `sub` of that buyer's tokens
        #[arg(long)]
        buyer: String,
    },
}

impl Orders {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        let Orders::Refund { order, buyer } = self;
        let mut client = StorefrontServiceClient::new(reach.router()?);
        let request = RefundOrderRequest { name: order, buyer };
        output.one(&client.refund_order(request).await?.into_inner())
    }
}
