//! Who a caller is: keys of orgs and of the platform, and the tokens they sign.
//!
//! Tokens of a whole crowd are signed before the sale starts, as shops do when their buyers log in.

use proto::token::{self, Claims, PLATFORM, Role};
use ring::signature::{Ed25519KeyPair, KeyPair};
use tonic::metadata::{Ascii, MetadataValue};

/// A key that cannot be one.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("not an Ed25519 key; give 32 bytes of seed, or PKCS#8")]
pub struct BadKey;

/// A key that signs tokens.
#[derive(Debug)]
pub struct Signer {
    issuer: String,
    kid: String,
    pair: Ed25519KeyPair,
}

impl Signer {
    /// The key of an org (`orgs/{org}`), from its 32 bytes of seed.
    ///
    /// # Errors
    /// [`BadKey`] when they make none.
    pub fn of_org(org: &str, kid: &str, seed: &[u8; 32]) -> Result<Signer, BadKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey)?;
        Ok(Signer { issuer: format!("orgs/{org}"), kid: kid.to_owned(), pair })
    }

    /// The platform's own key, from the file that its control plane was started with (PKCS#8, DER).
    ///
    /// # Errors
    /// [`BadKey`] when the bytes hold none.
    pub fn of_platform(pkcs8: &[u8]) -> Result<Signer, BadKey> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8).map_err(|_| BadKey)?;
        Ok(Signer { issuer: PLATFORM.to_owned(), kid: PLATFORM.to_owned(), pair })
    }

    /// The raw public half, 32 bytes.
    pub fn public(&self) -> Vec<u8> {
        self.pair.public_key().as_ref().to_vec()
    }

    /// The `kid` of its tokens.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A token for `subject` that is good until `expires_s` (unix seconds).
    pub fn token(&self, subject: &str, role: Role, expires_s: u64) -> String {
        let claims = Claims::new(self.issuer.as_str(), subject, role, expires_s);
        token::sign(&self.pair, &self.kid, &claims)
    }
}

/// A token as the `authorization` of a call.
///
/// # Errors
/// When it holds anything but visible ASCII.
pub fn bearer(
    token: &str,
) -> Result<MetadataValue<Ascii>, tonic::metadata::errors::InvalidMetadataValue> {
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse()?;
    // Keeps one buyer's token from pushing everybody else's headers out of the connection's table.
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::token::{Algorithm, PublicKey};

    #[test]
    fn a_token_is_what_the_planes_accept() {
        let signer = Signer::of_org("acme", "k1", &[7; 32]).unwrap();
        let text = signer.token("buyer-1", Role::Buyer, 2_000);
        let public = PublicKey::new(Algorithm::EdDsa, &signer.public()).unwrap();
        let caller = token::read(&text).unwrap().verify(&public, 1_000_000).unwrap();
        assert_eq!(caller.org.unwrap().as_str(), "acme");
        assert_eq!((&*caller.subject, caller.role), ("buyer-1", Role::Buyer));
        assert!(bearer(&text).unwrap().is_sensitive());
    }
}
