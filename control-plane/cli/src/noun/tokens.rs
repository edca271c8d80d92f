//! `floodgate tokens`: tokens to call with, signed by a key on this machine.

use std::path::PathBuf;

use jiff::Timestamp;
use prost_types::Duration;
use proto::token::{self, AUDIENCE, Claims, PLATFORM, Role};
use serde_json::{Value, json};

use super::keys::{kid_of, read_pair};
use crate::failure::Failure;
use crate::input::{duration, named};
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
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let Tokens::Mint { key, kid, iss, role, sub, ttl } = self;
        let pair = read_pair(&key)?;
        let iss = if iss == PLATFORM { iss } else { named("orgs", &iss) };
        let expires = i64::checked_add(Timestamp::now().as_second(), ttl.seconds)
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or_else(|| Failure::Usage("the ttl is too long".to_owned()))?;
        let claims = Claims {
            iss,
            aud: AUDIENCE.to_owned(),
            sub,
            role: role.into(),
            exp: u64::try_from(expires.as_second()).unwrap_or(0),
        };
        let kid = kid.unwrap_or_else(|| kid_of(&pair));
        let minted =
            Minted { token: token::sign(&pair, &kid, &claims), expires: expires.to_string() };
        // Alone on its line, so that a shell can take it.
        if output.format() == Format::Table {
            output.text(&minted.token)
        } else {
            output.one(&minted)
        }
    }
}
