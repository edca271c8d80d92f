//! Who calls, by the token that came along.
//!
//! Operators' tokens are verified with the key that the process was started with, merchants' with their org's registered
//! keys as they are in etcd now: a revoked key is void at once, and so is a withdrawn token. The org of a call is the
//! token's; what an org may name is decided by [`own`], which answers for a foreign name exactly as for one that does
//! not exist.

use proto::fault::{Fault, Reason};
use proto::id::OrgId;
use proto::token::{self, Caller, PublicKey, Role};
use runtime::clock::Clock;
use tonic::metadata::MetadataMap;

use crate::store::Store;

/// Verifies tokens.
#[derive(Clone, Debug)]
pub(crate) struct Auth {
    store: Store,
    platform_key: PublicKey,
    clock: Clock,
}

impl Auth {
    /// Tokens of the platform are signed by `platform_key`; those of orgs by the keys in `store`.
    pub(crate) fn new(store: Store, platform_key: PublicKey, clock: Clock) -> Auth {
        Auth { store, platform_key, clock }
    }

    /// The org whose merchant calls.
    ///
    /// # Errors
    /// The reason for which the token is refused; [`Reason::RoleNotAllowed`] for a buyer's or an operator's.
    pub(crate) async fn merchant(&self, metadata: &MetadataMap) -> Result<OrgId, Fault> {
        match self.caller(metadata).await? {
            Caller { role: Role::Merchant, org: Some(org), .. } => Ok(org),
            _ => Err(Fault::new(Reason::RoleNotAllowed)),
        }
    }

    /// Lets operators pass.
    ///
    /// # Errors
    /// As [`Self::merchant`]; [`Reason::RoleNotAllowed`] for a buyer's or a merchant's.
    pub(crate) async fn operator(&self, metadata: &MetadataMap) -> Result<(), Fault> {
        match self.caller(metadata).await? {
            Caller { role: Role::Operator, org: None, .. } => Ok(()),
            _ => Err(Fault::new(Reason::RoleNotAllowed)),
        }
    }

    async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Fault> {
        let token = token::read(bearer(metadata)?)?;
        let now_ms = self.clock.now_ms();
        let Some(org) = token.org()? else {
            return Ok(token.verify(&self.platform_key, now_ms)?);
        };
        let org = self.store.org(&org).await?.ok_or(Reason::TokenWrongKey)?.value;
        let key = org.keys.iter().find(|key| key.kid == token.kid());
        let key = key.and_then(|key| key.public_key().ok()).ok_or(Reason::TokenWrongKey)?;
        let caller = token.verify(&key, now_ms)?;
        let withdrawn = |id: &str| org.revoked_tokens.iter().any(|one| one.jti == id);
        if caller.token_id.as_deref().is_some_and(withdrawn) {
            return Err(Reason::TokenRevoked.into());
        }
        Ok(caller)
    }
}

fn bearer(metadata: &MetadataMap) -> Result<&str, Reason> {
    let value = metadata.get("authorization").ok_or(Reason::TokenMissing)?;
    let (scheme, token) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Reason::TokenMalformed)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token) } else { Err(Reason::TokenMalformed) }
}

/// What a name stands for, if it belongs to the caller's org.
///
/// # Errors
/// [`Reason::NotFound`] when `found` is another org's.
pub(crate) fn own<T>(caller: &OrgId, found: (OrgId, T)) -> Result<T, Fault> {
    if found.0 == *caller { Ok(found.1) } else { Err(Fault::new(Reason::NotFound)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Result<String, Reason> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        bearer(&metadata).map(str::to_owned)
    }

    #[test]
    fn the_header_is_read_strictly() {
        assert_eq!(read("Bearer a.b.c"), Ok("a.b.c".to_owned()));
        assert_eq!(read("bearer a.b.c"), Ok("a.b.c".to_owned()));
        assert_eq!(read("Basic a.b.c"), Err(Reason::TokenMalformed));
        assert_eq!(read("a.b.c"), Err(Reason::TokenMalformed));
        assert_eq!(bearer(&MetadataMap::new()), Err(Reason::TokenMissing));
    }

    #[test]
    fn foreign_names_do_not_exist() {
        let org = |name: &str| name.parse::<OrgId>().unwrap();
        assert_eq!(own(&org("acme"), (org("acme"), 1)), Ok(1));
        assert_eq!(own(&org("acme"), (org("other"), 1)), Err(Fault::new(Reason::NotFound)));
    }
}
