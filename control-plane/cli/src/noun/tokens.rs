//! `floodgate tokens`: tokens to call with, signed by a key on this machine, and withdrawn before they expire.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use prost_types::Duration;
use proto::token::{self, Claims, PLATFORM, Role};
use proto::wire::admin::token_service_client::TokenServiceClient;
use proto::wire::admin::{ListRevokedTokensRequest, RevokeTokenRequest, RevokedToken};
use serde_json::{Value, json};

use super::keys::read_pair;
use crate::failure::Failure;
use crate::input::{duration, named, time};
use crate::line::Reach;
use crate::output::{Format, Output};
use crate::view::View;

/// What can be done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tokens {
    /// Sign a token and write it to standard output
    Mint {
        /// File with the private key, as `floodgate keys generate` made it
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The key's name; made from the key when left out, as `keys generate` does
        #[arg(long)]
        kid: Option<String>,
        /// Who issues it: platform, or an org as orgs/acme
        #[arg(long, value_name = "ISSUER")]
        iss: String,
        /// What its bearer may do
        #[arg(long, value_enum)]
        role: RoleArg,
        /// Who its bearer is, in the issuer's words
        #[arg(long, value_name = "SUBJECT")]
        sub: String,
        /// How long it is good, like 1h
        #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
        ttl: Duration,
        /// Its own id, by which it can be withdrawn
        #[arg(long, value_name = "ID")]
        jti: Option<String>,
    },
    /// Withdraw a token of an org: no router takes it any more (merchants)
    Revoke {
        /// The org
        org: String,
        /// The token itself; what it says of its id and its expiry is used
        #[arg(long = "jws", value_name = "JWS", conflicts_with_all = ["jti", "expire"], required_unless_present = "jti")]
        jws: Option<String>,
        /// Its own id (jti)
        #[arg(long, value_name = "ID", requires = "expire")]
        jti: Option<String>,
        /// When it expires by itself, like 2026-11-22T12:00:00Z or +1h
        #[arg(long, value_name = "TIME", value_parser = time)]
        expire: Option<prost_types::Timestamp>,
    },
    /// Show the tokens of an org that are withdrawn and have not expired (merchants)
    Revoked {
        /// The org
        org: String,
    },
}

/// What a bearer may do.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum RoleArg {
    /// Joins, reserves, pays.
    Buyer,
    /// Plans and steers an org's sales.
    Merchant,
    /// Runs the platform.
    Operator,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Role {
        match role {
            RoleArg::Buyer => Role::Buyer,
            RoleArg::Merchant => Role::Merchant,
            RoleArg::Operator => Role::Operator,
        }
    }
}

struct Minted {
    token: String,
    expires: String,
}

impl View for Minted {
    const BRIEF: &'static [&'static str] = &["token"];

    fn json(&self) -> Value {
        json!({ "token": self.token, "expireTime": self.expires })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("token", self.token.clone())]
    }
}

impl Tokens {
    pub(crate) async fn run(self, reach: &Reach, output: &Output) -> Result<(), Failure> {
        match self {
            Tokens::Mint { key, kid, iss, role, sub, ttl, jti } => {
                let iss = if iss == PLATFORM { iss } else { named("orgs", &iss) };
                let expires = i64::checked_add(Timestamp::now().as_second(), ttl.seconds)
                    .and_then(|seconds| Timestamp::from_second(seconds).ok())
                    .ok_or_else(|| Failure::Usage("the ttl is too long".to_owned()))?;
                let exp = u64::try_from(expires.as_second()).unwrap_or(0);
                let claims = Claims { jti, ..Claims::new(iss, sub, role.into(), exp) };
                mint(&key, kid, &claims, expires, output)
            }
            Tokens::Revoke { org, jws, jti, expire } => {
                let token = match (jws, jti) {
                    (Some(jws), _) => of_token(&jws)?,
                    (None, jti) => {
                        RevokedToken { jti: jti.unwrap_or_default(), expire_time: expire }
                    }
                };
                let mut client = TokenServiceClient::new(reach.control_plane()?);
                let (parent, token) = (named("orgs", &org), Some(token));
                let request = RevokeTokenRequest { parent, token };
                output.one(&client.revoke_token(request).await?.into_inner())
            }
            Tokens::Revoked { org } => {
                let mut client = TokenServiceClient::new(reach.control_plane()?);
                let request = ListRevokedTokensRequest { parent: named("orgs", &org) };
                let list = client.list_revoked_tokens(request).await?.into_inner();
                output.many("tokens", &list.tokens)
            }
        }
    }
}

fn mint(
    key: &Path,
    kid: Option<String>,
    claims: &Claims,
    expires: Timestamp,
    output: &Output,
) -> Result<(), Failure> {
    let (pair, public) = read_pair(key)?;
    let kid = kid.unwrap_or_else(|| public.kid());
    let token = pair.sign(&kid, claims).map_err(|bad| Failure::Usage(bad.to_string()))?;
    let minted = Minted { token, expires: expires.to_string() };
    // Alone on its line, so that a shell can take it.
    if output.format() == Format::Table { output.text(&minted.token) } else { output.one(&minted) }
}

/// What a token says of its own id and expiry; whether it is good does not matter for that.
fn of_token(jws: &str) -> Result<RevokedToken, Failure> {
    let token = token::read(jws.trim())
        .map_err(|reason| Failure::Usage(format!("it cannot be read: {}", reason.message())))?;
    let claims = token.claims();
    let jti = claims.jti.clone().ok_or_else(|| {
        let what =
            "the token has no id (jti), so only its key can be revoked: floodgate orgs keys remove";
        Failure::Usage(what.to_owned())
    })?;
    let seconds = i64::try_from(claims.exp).unwrap_or(i64::MAX);
    Ok(RevokedToken { jti, expire_time: Some(prost_types::Timestamp { seconds, nanos: 0 }) })
}
