//! When parts of the platform are gone. These are tried last, one after another, and leave it broken.

use anyhow::Context;
use floodgate_chaos::identity::Signer;
use proto::fault::Reason;
use proto::token::{self, Claims, Role};
use proto::wire::admin::{GetSaleRequest, RevokeTokenRequest, RevokedToken, Sale};
use ring::signature::Ed25519KeyPair;
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::row::{Expected, Outcome, Row, refused, row};
use crate::shop::{POLL, SOON, fresh_id, word};
use crate::stage::{Stage, Tenant, in_ms, stock};

/// The router that is started again without etcd.
const ALONE: &str = "router-alone";

fn away(reason: Reason) -> Expected {
    refused(Code::Unavailable, reason)
}

/// The rows, in their order.
pub(crate) fn rows() -> Vec<Row> {
    let revoked = refused(Code::Unauthenticated, Reason::TokenRevoked);
    vec![
        row("GetSaleState: etcd is away, the token was withdrawn before", revoked, withdrawn),
        row("GetSaleState: etcd is away, the router knows no such sale", away(Reason::NotReady), {
            async |s: &Stage| {
                restarted_alone(s, async |router| {
                    let unheard_of = "orgs/acme/sales/s0000000000000000";
                    let page = s.buyer_at(router)?.state(&s.open).await;
                    page.context("what it knows it shows")?;
                    word(s.buyer_at(router)?.state(unheard_of).await)
                })
                .await
            }
        }),
        row("Join: etcd is away, the router knows no such org", away(Reason::NotReady), {
            async |s: &Stage| {
                restarted_alone(s, async |router| {
                    let signer = Signer::of_org("unheard-of", "k1", &[3; 32])?;
                    let org = Tenant { id: "unheard-of".to_owned(), signer };
                    word(s.buyer_of_at(&org, router)?.join(&s.open).await)
                })
                .await
            }
        }),
        row(
            "Reserve: every process of the org's cells is dead",
            away(Reason::BucketMoving),
            async |s| {
                let buyer = s.buyer();
                let ticket = buyer.admitted(&s.open).await?;
                for cell in s.cells_of(&s.acme).await? {
                    let cell = cell.trim_start_matches("cells/");
                    for process in ["p1", "p2"] {
                        s.platform.stack().kill(&format!("{cell}/{process}")).await?;
                    }
                }
                word(buyer.reserve(&s.open, &ticket, 1, &fresh_id()).await)
            },
        ),
        row("Join: the sale has begun, its cells are dead", away(Reason::SaleNotWarm), async |s| {
            let sale = Sale { start_time: in_ms(500), ..stock(100) };
            let sale = s.scheduled(&s.acme, sale).await?;
            let (buyer, deadline) = (s.buyer(), Instant::now() + SOON);
            // The router must have heard of the sale, and its start must have come.
            loop {
                let page = buyer.state(&sale).await;
                let begun = page.as_ref().is_ok_and(|page| page.get_ref().opens_in.is_none());
                if begun {
                    return word(buyer.join(&sale).await);
                }
                anyhow::ensure!(Instant::now() < deadline, "never begun: {page:?}");
                sleep(POLL).await;
            }
        }),
        row("GetSale: etcd does not answer", away(Reason::Overloaded), async |s: &Stage| {
            s.platform.stack().pause("etcd").await.context("pause etcd")?;
            let answer = s.sales().get_sale(GetSaleRequest { name: s.open.clone() }).await;
            s.platform.stack().resume("etcd").await.context("resume etcd")?;
            word(answer)
        }),
    ]
}

/// What was withdrawn stays so at a router that knows nothing but what it had kept on disk.
async fn withdrawn(s: &Stage) -> Outcome {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let until = s.now_s() + 600;
    let jti = Some("withdrawn-before".to_owned());
    let claims = Claims { jti, ..Claims::new("orgs/acme", "ada", Role::Buyer, until) };
    let token = token::sign(&pair, "k1", &claims);
    let expire_time = Some(prost_types::Timestamp { seconds: until.try_into()?, nanos: 0 });
    let revoked = RevokedToken { jti: "withdrawn-before".to_owned(), expire_time };
    let request = RevokeTokenRequest { parent: "orgs/acme".to_owned(), token: Some(revoked) };
    s.tokens().revoke_token(request).await.context("RevokeToken")?;
    s.another_router(ALONE, &[]).await?;
    let deadline = Instant::now() + SOON;
    while s.shop_at(ALONE, &token)?.state(&s.open).await.is_ok() {
        anyhow::ensure!(Instant::now() < deadline, "not heard of");
        sleep(POLL).await;
    }
    restarted_alone(s, async |router| {
        s.buyer_at(router)?.state(&s.open).await.context("another token")?;
        word(s.shop_at(router, &token)?.state(&s.open).await)
    })
    .await
}

/// Asks a router that was started again while etcd is away, so that all it knows is what it had kept on disk.
async fn restarted_alone(s: &Stage, ask: impl AsyncFnOnce(&str) -> Outcome) -> Outcome {
    let stack = s.platform.stack();
    if !stack.names().iter().any(|name| name == ALONE) {
        s.another_router(ALONE, &[]).await?;
    }
    stack.pause("etcd").await.context("pause etcd")?;
    let restarted = stack.restart(ALONE).await.context("restart the router");
    let answer = match restarted {
        Ok(()) => ask(ALONE).await,
        Err(error) => Err(error),
    };
    stack.resume("etcd").await.context("resume etcd")?;
    answer
}
