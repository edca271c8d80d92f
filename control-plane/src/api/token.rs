//! `floodgate.admin.v1.TokenService`: merchants withdraw tokens of their org before they expire.
//!
//! What is withdrawn stands in the org's record, so that it goes the way of all decisions: routers watch it, keep it on
//! disk and need nobody to ask. It is forgotten when the token has expired anyway, and the list is bounded: who has lost
//! more tokens than that has lost a key.

use std::sync::Arc;

use proto::fault::Fault;
use proto::id::{OrgId, parse_org};
use proto::limits::{
    ORG_TOKENS_REVOKED_MAX, TOKEN_ID_BYTES_MAX, TOKEN_LEEWAY_MS, TOKEN_REVOKED_MS_MAX,
};
use proto::wire::admin::token_service_server::TokenService;
use proto::wire::admin::{
    ListRevokedTokensRequest, ListRevokedTokensResponse, RevokeTokenRequest, RevokedToken,
};
use proto::wire::cell::{OrgRecord, RevokedTokenRecord};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, async_trait};

use super::{Desk, found};
use crate::auth::own;
use crate::sale::{timestamp, unix_ms};

/// The service.
#[derive(Debug)]
pub(super) struct Tokens(pub(super) Arc<Desk>);

#[async_trait]
impl TokenService for Tokens {
    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokedToken>, Status> {
        let org = self.parent(request.metadata(), &request.get_ref().parent).await?;
        let now_ms = self.0.clock.now_ms();
        let token = read(request.into_inner().token.unwrap_or_default(), now_ms)?;
        let changed = self.0.change_org(&org, |org| revoke(org, &token, now_ms)).await?;
        let kept = found(changed.revoked_tokens.into_iter().find(|one| one.jti == token.jti))?;
        Ok(Response::new(view(kept)))
    }

    async fn list_revoked_tokens(
        &self,
        request: Request<ListRevokedTokensRequest>,
    ) -> Result<Response<ListRevokedTokensResponse>, Status> {
        let org = self.parent(request.metadata(), &request.get_ref().parent).await?;
        let record = self.0.store.org(&org).await.map_err(Fault::from)?;
        let mut tokens = found(record)?.value.revoked_tokens;
        let now_ms = self.0.clock.now_ms();
        tokens.retain(|one| is_due(one, now_ms));
        tokens.sort_by(|one, other| one.jti.cmp(&other.jti));
        let tokens = tokens.into_iter().map(view).collect();
        Ok(Response::new(ListRevokedTokensResponse { tokens }))
    }
}

impl Tokens {
    /// The caller's own org, which is the only one that they may name.
    async fn parent(&self, metadata: &MetadataMap, parent: &str) -> Result<OrgId, Fault> {
        let caller = self.0.auth.merchant(metadata).await?;
        own(&caller, (parse_org(parent)?, ()))?;
        Ok(caller)
    }
}

fn read(token: RevokedToken, now_ms: u64) -> Result<RevokedTokenRecord, Fault> {
    if token.jti.is_empty() || token.jti.len() > TOKEN_ID_BYTES_MAX {
        return Err(Fault::field("token.jti", "must have 1 to 64 bytes"));
    }
    let expire_ms = token.expire_time.as_ref().and_then(unix_ms);
    let expire_ms = expire_ms
        .filter(|at_ms| *at_ms <= now_ms.saturating_add(TOKEN_REVOKED_MS_MAX))
        .ok_or_else(|| {
            Fault::field("token.expire_time", "must be the token's exp, at most 400 days from now")
        })?;
    Ok(RevokedTokenRecord { jti: token.jti, expire_ms })
}

/// Withdraws a token, and forgets those that have expired.
fn revoke(org: &mut OrgRecord, token: &RevokedTokenRecord, now_ms: u64) -> Result<(), Fault> {
    org.revoked_tokens.retain(|one| is_due(one, now_ms) || one.jti == token.jti);
    if let Some(there) = org.revoked_tokens.iter_mut().find(|one| one.jti == token.jti) {
        there.expire_ms = there.expire_ms.max(token.expire_ms);
        return Ok(());
    }
    if org.revoked_tokens.len() >= ORG_TOKENS_REVOKED_MAX {
        let complaint =
            "would be one too many (1,000); let the operator remove the key that signs them";
        return Err(Fault::field("token", complaint));
    }
    org.revoked_tokens.push(token.clone());
    Ok(())
}

/// Whether a withdrawn token would be taken if it had not been.
fn is_due(one: &RevokedTokenRecord, now_ms: u64) -> bool {
    now_ms < one.expire_ms.saturating_add(TOKEN_LEEWAY_MS)
}

fn view(record: RevokedTokenRecord) -> RevokedToken {
    RevokedToken { jti: record.jti, expire_time: Some(timestamp(record.expire_ms)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(jti: &str, expire_ms: u64) -> RevokedTokenRecord {
        RevokedTokenRecord { jti: jti.to_owned(), expire_ms }
    }

    #[test]
    fn the_list_is_bounded_and_forgets_what_has_expired() {
        let mut org = OrgRecord::default();
        for number in 0..ORG_TOKENS_REVOKED_MAX {
            revoke(&mut org, &token(&number.to_string(), 10_000), 0).unwrap();
        }
        assert!(revoke(&mut org, &token("more", 10_000), 0).is_err());
        revoke(&mut org, &token("7", 20_000), 0).unwrap();
        revoke(&mut org, &token("7", 5_000), 0).unwrap();
        assert_eq!(org.revoked_tokens.len(), ORG_TOKENS_REVOKED_MAX);
        // As long as the token would be taken it stands there.
        let last_ms = 10_000 + TOKEN_LEEWAY_MS - 1;
        assert!(revoke(&mut org, &token("more", 50_000), last_ms).is_err());
        revoke(&mut org, &token("more", 50_000), last_ms + 1).unwrap();
        assert_eq!(org.revoked_tokens, [token("7", 20_000), token("more", 50_000)]);
    }
}
