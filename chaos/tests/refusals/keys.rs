//! Keys of every algorithm that signs tokens: registered beside an org's first one, they carry a whole purchase, and are
//! void once they are removed.

use anyhow::{Context, ensure};
use proto::fault::Reason;
use proto::token::{Claims, KeyPair, Role};
use proto::wire::admin::GetSaleRequest;
use proto::wire::fleet::{AddOrgKeyRequest, PublicKey, RemoveOrgKeyRequest};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::attacks::reason;
use crate::row::{Outcome, Row, refused, row};
use crate::shop::{InAWord, POLL, SOON, Shop, word};
use crate::stage::{Stage, Tenant, stock};

/// Keys that nobody needs to keep.
const ES256: &[u8] = include_bytes!("../../../proto/src/token/fixtures/es256.p8");
const RS256: &[u8] = include_bytes!("../../../proto/src/token/fixtures/rs256.p8");
/// The name of the second key.
const KID: &str = "shop";

/// The rows.
pub(crate) fn rows() -> Vec<Row> {
    let void = || refused(Code::Unauthenticated, Reason::TokenWrongKey);
    vec![
        row("key: ES256 buys, and is void once removed", void(), async |s: &Stage| {
            purchase(s, "es256", ES256, 21).await
        }),
        row("key: RS256 buys, and is void once removed", void(), async |s: &Stage| {
            purchase(s, "rs256", RS256, 22).await
        }),
    ]
}

async fn purchase(s: &Stage, org: &str, key: &[u8], seed: u8) -> Outcome {
    let tenant = Tenant::new(org, seed)?;
    s.register(&tenant).await?;
    let sale = s.sale_of(&tenant, stock(100)).await?;
    let pair = KeyPair::from_pkcs8(key)?;
    let token = |role| {
        let claims = Claims::new(format!("orgs/{org}"), "ada", role, s.now_s() + 3_600);
        pair.sign(KID, &claims)
    };
    let (name, buyer) = (format!("orgs/{org}"), s.shop(&token(Role::Buyer)?)?);
    let early = buyer.state(&sale).await;
    ensure!(early.is_err_and(|status| reason(&status) == Some(Reason::TokenWrongKey)), "early");
    let key = Some(PublicKey::named(KID, &pair.public()?));
    s.orgs()
        .add_org_key(AddOrgKeyRequest { name: name.clone(), key })
        .await
        .context("AddOrgKey")?;
    known(&buyer, &sale).await?;

    let order = buyer.buys(&sale, 2).await?;
    let merchant = token(Role::Merchant)?;
    let refunded = s.shop(&merchant)?.refund(&order, "ada").await.context("RefundOrder")?;
    ensure!(refunded.get_ref().word() == "REFUNDED", "{refunded:?}");
    let mut office = s.sales_saying(Some(&format!("Bearer {merchant}")))?;
    let seen = office.get_sale(GetSaleRequest { name: sale.clone() }).await.context("GetSale")?;
    ensure!(seen.get_ref().name == sale, "{seen:?}");

    let kid = KID.to_owned();
    s.orgs().remove_org_key(RemoveOrgKeyRequest { name, kid }).await.context("RemoveOrgKey")?;
    let deadline = Instant::now() + SOON;
    loop {
        let answer = word(buyer.state(&sale).await)?;
        if answer.is_err() || Instant::now() > deadline {
            s.buyer_of(&tenant).state(&sale).await.context("by the first key")?;
            return Ok(answer);
        }
        sleep(POLL).await;
    }
}

/// Waits until the router has heard of a buyer's key.
async fn known(buyer: &Shop, sale: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + SOON;
    while let Err(status) = buyer.state(sale).await {
        let waits = reason(&status) == Some(Reason::TokenWrongKey) && Instant::now() < deadline;
        ensure!(waits, "{status:?}");
        sleep(POLL).await;
    }
    Ok(())
}

impl Tenant {
    /// An org whose first key has this seed.
    fn new(id: &str, seed: u8) -> anyhow::Result<Tenant> {
        let signer = floodgate_chaos::identity::Signer::of_org(id, "k1", &[seed; 32])?;
        Ok(Tenant { id: id.to_owned(), signer })
    }
}
