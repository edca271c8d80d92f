//! `floodgate keys`: Ed25519 key pairs. The private half goes into a file that only its owner may read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use crate::failure::Failure;
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
    },
}

/// A key pair's name and public half.
struct Generated {
    kid: String,
    public: String,
}

impl View for Generated {
    const BRIEF: &'static [&'static str] = &["kid", "public", "key"];

    fn json(&self) -> Value {
        json!({ "kid": self.kid, "public": self.public, "key": format!("{}={}", self.kid, self.public) })
    }

    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("kid", self.kid.clone()),
            ("public", self.public.clone()),
            ("key", format!("{}={}", self.kid, self.public)),
        ]
    }
}

impl Keys {
    pub(crate) fn run(self, output: &Output) -> Result<(), Failure> {
        let Keys::Generate { out, public_out, kid } = self;
        let defect = || Failure::io("make a key")(std::io::Error::other("no randomness"));
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| defect())?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| defect())?;
        let public = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        write_new(&out, 0o600, pkcs8.as_ref())?;
        if let Some(file) = public_out {
            write_new(&file, 0o644, format!("{public}\n").as_bytes())?;
        }
        output.one(&Generated { kid: kid.unwrap_or_else(|| kid_of(&pair)), public })
    }
}

fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let doing = || Failure::io(format!("write the new file {}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = file.map_err(doing())?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(doing())
}

/// The name that a key has by itself.
pub(super) fn kid_of(pair: &Ed25519KeyPair) -> String {
    proto::token::kid_of(pair.public_key().as_ref())
}

/// The key pair in a file: PKCS#8, with or without the public half.
pub(super) fn read_pair(path: &Path) -> Result<Ed25519KeyPair, Failure> {
    let bytes = std::fs::read(path).map_err(Failure::io(format!("read {}", path.display())))?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).map_err(|_| {
        Failure::Usage(format!("{} is no Ed25519 private key in PKCS#8 (DER)", path.display()))
    })
}
