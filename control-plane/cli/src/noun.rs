//! What can be spoken of, one module a noun.

mod cells;
mod keys;
mod ledger;
mod orders;
mod orgs;
mod placements;
mod sale_state;
mod sales;
mod tokens;

use crate::failure::Failure;
use crate::line::Reach;
use crate::output::Output;

/// Entries that one request of a list asks for.
const PAGE_SIZE: i32 = 200;

/// What is spoken of.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Noun {
    /// Tenants (operators)
    #[command(subcommand)]
    Orgs(orgs::Orgs),
    /// Key pairs that sign tokens
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Tokens to call with
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Sales (merchants)
    #[command(subcommand)]
    Sales(Box<sales::Sales>),
    /// Ledgers of sales as evidence
    #[command(subcommand)]
    Ledger(ledger::Ledgers),
    /// Cells of the fleet (operators)
    #[command(subcommand)]
    Cells(cells::Cells),
    /// Which orgs live in which cells (operators)
    #[command(subcommand)]
    Placements(placements::Placements),
    /// Orders of buyers (merchants)
    #[command(subcommand)]
    Orders(orders::Orders),
    /// What a sale's page shows
    #[command(subcommand)]
    SaleState(sale_state::SaleStates),
}

impl Noun {
    /// Does what was asked and writes the answer.
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        match self {
            Noun::Orgs(orgs) => orgs.run(reach, output).await,
            Noun::Keys(keys) => keys.run(output),
            Noun::Tokens(tokens) => tokens.run(reach, output).await,
            Noun::Sales(sales) => sales.run(reach, output).await,
            Noun::Ledger(ledgers) => ledgers.run(output).await,
            Noun::Cells(cells) => cells.run(reach, output).await,
            Noun::Placements(placements) => placements.run(reach, output).await,
            Noun::Orders(orders) => orders.run(reach, output).await,
            Noun::SaleState(states) => states.run(reach, output).await,
        }
    }
}

/// A new request id, when none was given.
fn request_id(given: Option<String>) -> String {
    given.unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
}
