//! Tokens: who a caller is, at both doors.

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use floodgate_chaos::identity::Signer;
use proto::fault::{Fault, Reason};
use proto::limits::TOKEN_LEEWAY_MS;
use proto::token::{self, Claims, KeyPair, Role};
use proto::wire::admin::{GetSaleRequest, RevokeTokenRequest, RevokedToken};
use proto::wire::fleet::{AddOrgKeyRequest, PublicKey, SetOrgKeysRequest};
use ring::hmac;
use ring::signature::Ed25519KeyPair;
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use crate::row::{Outcome, Row, refused, row, says};
use crate::shop::{POLL, SOON, word};
use crate::stage::{Stage, Tenant, registration};

/// A key that nobody needs to keep.
const ES256: &[u8] = include_bytes!("../../../proto/src/token/fixtures/es256.p8");

/// A well-made token of acme's, as it would be with these changes.
fn made(stage: &Stage, role: Role, change: impl FnOnce(&mut Claims)) -> String {
    let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let mut claims = claims(stage, role);
    change(&mut claims);
    token::sign(&key, "k1", &claims)
}

fn claims(stage: &Stage, role: Role) -> Claims {
    Claims::new("orgs/acme", "ada", role, stage.now_s() + 3_600)
}

/// A token put together by hand: a header, acme's claims, and what `sign` makes of both.
fn forged(stage: &Stage, role: Role, header: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let claims = serde_json::to_vec(&claims(stage, role)).unwrap();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())))
}

/// Asks at both doors with the same kind of token; both must refuse alike.
async fn both(s: &Stage, authorization: impl Fn(Role) -> Option<String>) -> Outcome {
    let value = authorization(Role::Buyer);
    let edge = word(s.shop_saying(value.as_deref())?.join(&s.open).await)?;
    let value = authorization(Role::Merchant);
    let request = GetSaleRequest { name: s.open.clone() };
    let control = word(s.sales_saying(value.as_deref())?.get_sale(request).await)?;
    match (edge, control) {
        (Err(edge), Err(control)) => {
            let told =
                |one: &Status| (one.code(), one.message().to_owned(), one.details().to_vec());
            ensure!(told(&edge) == told(&control), "{edge:?} at the edge, {control:?} behind it");
            Ok(Err(edge))
        }
        (edge, control) => bail!("{edge:?} at the edge, {control:?} behind it"),
    }
}

fn bearer(token: String) -> Option<String> {
    Some(format!("Bearer {token}"))
}

/// A row about one kind of token at both doors.
fn kind(
    what: &str,
    reason: Reason,
    token: impl Fn(&Stage, Role) -> Option<String> + 'static,
) -> Row {
    let code = match reason {
        Reason::RoleNotAllowed => Code::PermissionDenied,
        _ => Code::Unauthenticated,
    };
    row(format!("token: {what}"), refused(code, reason), async move |s: &Stage| {
        both(s, |role| token(s, role)).await
    })
}

/// Tokens that cannot be read, or that nobody registered signed.
pub(crate) fn rows() -> Vec<Row> {
    use Reason::{
        RoleNotAllowed, TokenExpired, TokenMalformed, TokenMissing, TokenWrongAudience,
        TokenWrongKey,
    };
    let none = r#"{"alg":"none","typ":"JWT","kid":"k1"}"#;
    let hs256 = r#"{"alg":"HS256","typ":"JWT","kid":"k1"}"#;
    let no_kid = r#"{"alg":"EdDSA","typ":"JWT"}"#;
    let own = |key: &Signer, s: &Stage, role| bearer(key.token("ada", role, s.now_s() + 3_600));
    let key = |org: &str, kid: &str, seed: u8| Signer::of_org(org, kid, &[seed; 32]).unwrap();
    vec![
        kind("none", TokenMissing, |_, _| None),
        kind("of another scheme", TokenMalformed, |_, _| Some("Basic YWRhOmFkYQ==".into())),
        kind("nonsense", TokenMalformed, |_, _| bearer("nonsense".into())),
        kind("alg none, unsigned", TokenMalformed, move |s, role| {
            bearer(forged(s, role, none, |_| Vec::new()))
        }),
        kind("HS256 under the public key", TokenMalformed, move |s, role| {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &s.acme.signer.public());
            bearer(forged(s, role, hs256, |text| hmac::sign(&secret, text).as_ref().to_vec()))
        }),
        kind("without a kid", TokenMalformed, move |s, role| {
            let key = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
            bearer(forged(s, role, no_kid, |text| key.sign(text).as_ref().to_vec()))
        }),
        kind("longer than any", TokenMalformed, |s, role| {
            bearer(made(s, role, |claims| claims.sub = "a".repeat(2_000)))
        }),
        kind("by a key of nobody's", TokenWrongKey, move |s, role| {
            own(&key("acme", "k1", 9), s, role)
        }),
        kind("by the right key under another kid", TokenWrongKey, move |s, role| {
            own(&key("acme", "k9", 1), s, role)
        }),
        kind("by another org's key", TokenWrongKey, move |s, role| {
            own(&key("acme", "k1", 2), s, role)
        }),
        kind("of an org that does not exist", TokenWrongKey, move |s, role| {
            own(&key("nobody", "k1", 1), s, role)
        }),
        kind("with other claims than were signed", TokenWrongKey, |s, role| {
            let (good, bad) = (made(s, role, |_| {}), made(s, role, |c| c.sub = "bob".into()));
            let (parts, other): (Vec<_>, Vec<_>) =
                (good.split('.').collect(), bad.split('.').collect());
            bearer(format!("{}.{}.{}", parts[0], other[1], parts[2]))
        }),
        kind("for another audience", TokenWrongAudience, |s, role| {
            bearer(made(s, role, |claims| claims.aud = "elsewhere".into()))
        }),
        kind("that has expired", TokenExpired, |s, role| {
            bearer(made(s, role, |claims| claims.exp = s.now_s() - 60))
        }),
        kind("an org's own operator", RoleNotAllowed, |s, _| {
            bearer(made(s, Role::Operator, |_| {}))
        }),
        kind("the platform's own buyer or merchant", RoleNotAllowed, |s, role| {
            bearer(s.platform_token(role))
        }),
        kind("the other role", RoleNotAllowed, |s, role| match role {
            Role::Buyer => bearer(made(s, Role::Merchant, |_| {})),
            _ => bearer(made(s, Role::Buyer, |_| {})),
        }),
        kind("an operator's", RoleNotAllowed, |s, _| bearer(s.operator_token())),
    ]
}

/// Who may do what else, and tokens that were good once.
pub(crate) fn more_rows() -> Vec<Row> {
    use Reason::{TokenMalformed, TokenTooEarly, TokenWrongKey};
    let not_allowed = || refused(Code::PermissionDenied, Reason::RoleNotAllowed);
    let unauthenticated = |reason| refused(Code::Unauthenticated, reason);
    vec![
        kind("that is not good yet", TokenTooEarly, |s, role| {
            bearer(made(s, role, |claims| claims.nbf = Some(s.now_s() + 60)))
        }),
        kind("an id without measure", TokenMalformed, |s, role| {
            bearer(made(s, role, |claims| claims.jti = Some("x".repeat(65))))
        }),
        kind("ES256 under the name of an Ed25519 key", TokenWrongKey, |s, role| {
            let key = KeyPair::from_pkcs8(ES256).unwrap();
            bearer(key.sign("k1", &claims(s, role)).unwrap())
        }),
        row("CreateOrg: by a merchant", not_allowed(), async |s: &Stage| {
            let token = s.token(&s.acme, "merchant", Role::Merchant);
            let tenant = tenant("upstart", 7);
            word(s.orgs_with(&token)?.create_org(registration(&tenant)).await)
        }),
        row("token: remembered, then too old", unauthenticated(Reason::TokenExpired), async |s| {
            let key = &s.acme.signer;
            let token = key.token("short", Role::Buyer, s.now_s() + 1);
            let shop = s.shop(&token)?;
            shop.state(&s.open).await.context("while it is good")?;
            let leeway = std::time::Duration::from_millis(TOKEN_LEEWAY_MS + 3_000);
            refused_within(leeway, async || shop.state(&s.open).await.map(|_| ())).await
        }),
        row("token: remembered, its key revoked", unauthenticated(TokenWrongKey), revoked),
        row("token: remembered, withdrawn", unauthenticated(Reason::TokenRevoked), withdrawn),
        row("token: by a second key, ES256", says("OPEN"), second_key),
    ]
}

async fn revoked(s: &Stage) -> Outcome {
    let tenant = tenant("careless", 8);
    s.register(&tenant).await?;
    let shop = s.buyer_of(&tenant);
    let nothing = format!("orgs/{}/sales/s0000000000000000", tenant.id);
    let known = shop.state(&nothing).await.err().and_then(|status| Fault::of_status(&status));
    ensure!(known.is_some_and(|fault| fault.reason == Reason::NotFound));
    let other = Signer::of_org(&tenant.id, "k2", &[88; 32])?;
    let keys = vec![PublicKey::ed25519("k2", other.public())];
    let request = SetOrgKeysRequest { name: format!("orgs/{}", tenant.id), keys };
    s.orgs().set_org_keys(request).await.context("SetOrgKeys")?;
    let began = Instant::now();
    let answer = async || match shop.state(&nothing).await {
        Err(status) if status.code() == Code::NotFound => Ok(()),
        answer => answer.map(|_| ()),
    };
    let refused = refused_within(SOON, answer).await;
    println!("a token by a revoked key is refused after {} ms", began.elapsed().as_millis());
    refused
}

/// Both doors took a token, its org withdraws it, and both refuse it; another one stays good.
async fn withdrawn(s: &Stage) -> Outcome {
    let until = s.now_s() + 600;
    let with_id = |role, id: &str| {
        made(s, role, |claims| (claims.exp, claims.jti) = (until, Some(id.to_owned())))
    };
    let (shop, other) =
        (s.shop(&with_id(Role::Buyer, "lost"))?, s.shop(&with_id(Role::Buyer, "kept"))?);
    for shop in [&shop, &other] {
        shop.state(&s.open).await.context("before")?;
    }
    let expire_time = Some(prost_types::Timestamp { seconds: until.try_into()?, nanos: 0 });
    let token = Some(RevokedToken { jti: "lost".to_owned(), expire_time });
    let request = RevokeTokenRequest { parent: "orgs/acme".to_owned(), token };
    let began = Instant::now();
    s.tokens().revoke_token(request).await.context("RevokeToken")?;
    let refused = refused_within(SOON, async || shop.state(&s.open).await.map(|_| ())).await?;
    println!("a withdrawn token is refused after {} ms", began.elapsed().as_millis());
    other.state(&s.open).await.context("another token")?;
    let merchant = bearer(with_id(Role::Merchant, "lost"));
    let request = GetSaleRequest { name: s.open.clone() };
    let behind = word(s.sales_saying(merchant.as_deref())?.get_sale(request).await)?;
    let told = |status: &Status| (status.code(), status.details().to_vec());
    let alike = behind.as_ref().err().map(told) == refused.as_ref().err().map(told);
    ensure!(alike, "{refused:?} at the edge, {behind:?} behind it");
    Ok(refused)
}

/// A second key beside the first, of another algorithm: tokens of both are good.
async fn second_key(s: &Stage) -> Outcome {
    let pair = KeyPair::from_pkcs8(ES256)?;
    let key = PublicKey::named("second", &pair.public()?);
    let request = AddOrgKeyRequest { name: "orgs/acme".to_owned(), key: Some(key) };
    s.orgs().add_org_key(request).await.context("AddOrgKey")?;
    let shop = s.shop(&pair.sign("second", &claims(s, Role::Buyer))?)?;
    let deadline = Instant::now() + SOON;
    loop {
        let answer = word(shop.state(&s.open).await)?;
        if answer.is_ok() || Instant::now() > deadline {
            s.buyer().state(&s.open).await.context("by the first key")?;
            return Ok(answer);
        }
        sleep(POLL).await;
    }
}

fn tenant(id: &str, seed: u8) -> Tenant {
    Tenant { id: id.to_owned(), signer: Signer::of_org(id, "k1", &[seed; 32]).unwrap() }
}

/// The refusal that comes sooner or later.
async fn refused_within(
    limit: std::time::Duration,
    ask: impl AsyncFn() -> Result<(), Status>,
) -> Outcome {
    let deadline = Instant::now() + limit;
    loop {
        match ask().await {
            Err(status) => return Ok(Err(status)),
            Ok(()) if Instant::now() > deadline => return Ok(Ok("still good".to_owned())),
            Ok(()) => sleep(POLL).await,
        }
    }
}
