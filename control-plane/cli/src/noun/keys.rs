//! `floodgate keys`: key pairs. The private half goes into a file that only its owner may read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::token::{BadKey, KeyPair, PublicKey};
use proto::wire::fleet;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::input::{AlgorithmArg, written};
use crate::output::Output;
use crate::view::View;

/// What can be done with keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Keys {
    /// Make a key pair: the private half into a new file (PKCS#8, mode 0600), the public half to standard output
    Generate {
        /// File for the private half; it must not exist
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// File for the public half as the control plane's --platform-key takes it; it must not exist
        #[arg(long, value_name = "FILE")]
        public_out: Option<PathBuf>,
        /// Its name; made from the key when left out
        #[arg(long)]
        kid: Option<String>,
        /// What it signs; keys for rs256 come from elsewhere, as from `openssl genpkey`
        #[arg(long, value_enum, default_value_t = AlgorithmArg::Ed25519)]
        alg: AlgorithmArg,
    },
}

/// A key pair's name and public half.
struct Generated {
    kid: String,
    public: String,
    key: String,
}

impl View for Generated {
    const BRIEF: &'static [&'static str] = &["kid", "public", "key"];

    fn json(&self) -> Value {
        json!({ "kid": self.kid, "public": self.public, "key": self.key })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![("kid", self.kid.clone()), ("public", self.public.clone()), ("key", self.key.clone())]
    }
}

impl Keys {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let Keys::Generate { out, public_out, kid, alg } = self;
        let pkcs8 = generate(alg)?;
        let public =
            KeyPair::from_pkcs8(&pkcs8).and_then(|pair| pair.public()).map_err(unusable)?;
        let text = URL_SAFE_NO_PAD.encode(public.bytes());
        write_new(&out, 0o600, &pkcs8)?;
        if let Some(file) = public_out {
            write_new(&file, 0o644, format!("{text}\n").as_bytes())?;
        }
        let kid = kid.unwrap_or_else(|| public.kid());
        let key = written(&fleet::PublicKey::named(kid.as_str(), &public));
        output.one(&Generated { kid, public: text, key })
    }
}

/// A new private key, as PKCS#8 (DER).
fn generate(alg: AlgorithmArg) -> Result<Vec<u8>, Failure> {
    let random = SystemRandom::new();
    let made = match alg {
        AlgorithmArg::Ed25519 => Ed25519KeyPair::generate_pkcs8(&random),
        AlgorithmArg::Es256 => {
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
        }
        AlgorithmArg::Rs256 => {
            let elsewhere = "make a key for rs256 with `openssl genpkey -algorithm RSA`, and write it with \
                             `openssl pkcs8 -topk8 -nocrypt -outform DER`";
            return Err(Failure::Usage(elsewhere.to_owned()));
        }
    };
    let made = made.map_err(|_| BadKey("could not be made: this machine has no randomness"));
    Ok(made.map_err(unusable)?.as_ref().to_vec())
}

fn unusable(bad: BadKey) -> Failure {
    Failure::io("make a key")(std::io::Error::other(bad))
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let doing = || Failure::io(format!("write the new file {}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(doing())?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(doing())
}

/// The key pair in a file: PKCS#8 of any kind that signs tokens, with or without the public half, and that half.
pub(super) fn read_pair(path: &Path) -> Result<(KeyPair, PublicKey), Failure> {
    let bytes = std::fs::read(path).map_err(Failure::io(format!("read {}", path.display())))?;
    let read = KeyPair::from_pkcs8(&bytes).and_then(|pair| {
        let public = pair.public()?;
        Ok((pair, public))
    });
    read.map_err(|bad| Failure::Usage(format!("{}: {bad}", path.display())))
}
