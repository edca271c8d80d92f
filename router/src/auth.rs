//! Who a caller is: a token is verified once and then remembered, because a signature costs more than all the rest of
//! a call.
//!
//! What is remembered ([`remembered`]) is good for as long as the token is, as the key that signed it stays registered, and
//! as its org has not withdrawn it. Both are looked up in the directory at each call, so a revoked key and a withdrawn
//! token are void as soon as this router has heard of it, however often they were good before.

mod remembered;

use crate::directory::{Directory, OrgEntry};
use http::HeaderMap;
use proto::fault::Reason;
use proto::token::{self, Caller, Role};
use remembered::{Known, Remembered};
use std::sync::Arc;

/// Verifies tokens.
#[derive(Debug)]
pub(crate) struct Auth {
    remembered: Remembered,
}

impl Auth {
    /// Nobody is known yet.
    pub(crate) fn new() -> Auth {
        Auth { remembered: Remembered::new() }
    }

    /// The caller of a call, in one of `roles` of some org, and that org.
    pub(crate) fn caller<'a>(
        &self,
        headers: &HeaderMap,
        roles: &[Role],
        directory: &'a Directory,
        now_ms: u64,
    ) -> Result<(Arc<Caller>, &'a OrgEntry), Reason> {
        let header = headers.get(http::header::AUTHORIZATION).ok_or(Reason::TokenMissing)?;
        let token = header.to_str().ok().and_then(bearer).ok_or(Reason::TokenMalformed)?;
        let (caller, org) =
            self.verified(token, directory, now_ms).map_err(|reason| match reason {
                // The org or its key may have been registered while nobody told this router.
                Reason::TokenWrongKey => directory.missing(reason),
                reason => reason,
            })?;
        if org.has_revoked(caller.token_id.as_deref()) {
            return Err(Reason::TokenRevoked);
        }
        if roles.contains(&caller.role) { Ok((caller, org)) } else { Err(Reason::RoleNotAllowed) }
    }

    fn verified<'a>(
        &self,
        token: &str,
        directory: &'a Directory,
        now_ms: u64,
    ) -> Result<(Arc<Caller>, &'a OrgEntry), Reason> {
        let place = self.remembered.place(token);
        if let Some(Known { caller, key }) = self.remembered.get(place)
            && caller.expires_ms > now_ms
            && let Some(org) = caller.org.as_ref().and_then(|org| directory.org(org))
            && org.has_key(&key)
        {
            return Ok((caller, org));
        }
        let unverified = token::read(token)?;
        // Operators speak to the control plane; here everybody belongs to an org.
        let org = unverified.org()?.ok_or(Reason::RoleNotAllowed)?;
        let org = directory.org(&org).ok_or(Reason::TokenWrongKey)?;
        let key = org.key(unverified.kid()).ok_or(Reason::TokenWrongKey)?;
        let caller = Arc::new(unverified.verify(key, now_ms)?);
        self.remembered.put(place, Known { caller: caller.clone(), key: key.clone() });
        Ok((caller, org))
    }
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim_start())
}

#[cfg(test)]
mod tests;
