//! Exports of ledgers, as `floodgate ledger verify` reads them from whoever shows one.
//!
//! An input is a file, when it begins with `{`; otherwise its first byte says which file of a random sale is changed, and
//! the rest are the changes.

/// What its own module says besides is about files on disk.
mod evidence {
    pub(crate) type PublicKey = [u8; 32];
}
#[path = "../../../control-plane/cli/src/ledger/file.rs"]
#[allow(dead_code, reason = "the command line writes files too")]
mod file;
#[path = "../../../control-plane/cli/src/ledger/verify/tests/random_sale.rs"]
#[allow(
    dead_code,
    clippy::cast_possible_truncation,
    reason = "the tests of the command line use all of it; numbers are small"
)]
mod random_sale;
#[path = "../../../control-plane/cli/src/ledger/sale.rs"]
#[allow(dead_code, reason = "the command line shows all of it")]
mod sale;
#[path = "../../../control-plane/cli/src/ledger/verify.rs"]
#[allow(dead_code, reason = "the command line shows all of it")]
mod verify;

use std::io::Cursor;
use std::sync::LazyLock;

use proto::chain::Row;
use rand::SeedableRng;
use rand::rngs::StdRng;
use ring::signature::KeyPair;

use crate::Seed;
use crate::bounded::within;
use crate::edits::edited;
use random_sale::RandomSale;
use verify::{Against, verify};

/// What a check may hold: rows of JSON, of bytes, and of entries, and what a bucket has sold.
const HOLDS: (usize, usize) = (96, 64 * 1_024);

/// A sale as it was exported.
struct Genuine {
    files: Vec<Vec<u8>>,
    kept: Vec<String>,
    stock: u64,
}

/// A random sale, and a small one.
static GENUINE: LazyLock<[Genuine; 2]> = LazyLock::new(|| {
    [drawn(), RandomSale::with_transfer()].map(|sale| Genuine {
        files: sale.files().into_iter().map(String::into_bytes).collect(),
        kept: sale.heads_at(|last| last),
        stock: sale.stock(),
    })
});

fn drawn() -> RandomSale {
    RandomSale::draw(&mut StdRng::seed_from_u64(7))
}

/// The public key of whoever signed.
pub(crate) fn public() -> [u8; 32] {
    random_sale::key(1).public_key().as_ref().try_into().unwrap()
}

/// A bucket of the random sale, and the head that was signed for so many rows of it.
pub(crate) fn bucket(rows: impl Fn(usize) -> usize) -> (Vec<Row>, String) {
    let sale = drawn();
    let rows = rows(sale.buckets[0].len());
    (sale.buckets[0][..rows].to_vec(), sale.head(0, rows))
}

/// What is not the very export that was signed is found out.
///
/// # Panics
/// When a promise is broken.
pub fn ledger(bytes: &[u8]) {
    let [drawn, small] = &*GENUINE;
    if bytes.first() == Some(&b'{') {
        return check(small, vec![bytes.to_vec()]);
    }
    let Some((which, edits)) = bytes.split_first() else { return };
    let texts = |genuine: &'static Genuine| {
        genuine.files.iter().map(|file| std::str::from_utf8(file).unwrap())
    };
    let others: Vec<&str> = texts(drawn).chain(texts(small)).collect();
    let which = usize::from(*which) % drawn.files.len();
    let mut files = drawn.files.clone();
    files[which] = edited(others[which], &others, edits).into_bytes();
    check(drawn, files);
}

fn check(genuine: &Genuine, files: Vec<Vec<u8>>) {
    let against = Against { keys: &[public()], kept: &genuine.kept, stock: Some(genuine.stock) };
    let bytes = files.iter().map(Vec::len).sum();
    let read = || files.iter().map(|file| ("file".to_owned(), Cursor::new(file))).collect();
    let verdict = within(bytes, HOLDS, || verify(read(), &against));
    for finding in &verdict.findings {
        assert!(!finding.to_string().is_empty());
    }
    if verdict.findings.is_empty() && verdict.doubts.is_empty() {
        let shown = || files.iter().map(|file| String::from_utf8_lossy(file)).collect::<String>();
        assert!(files == genuine.files, "it is believed:\n{}", shown());
    } else {
        assert!(files != genuine.files, "it is not believed: {:?}", verdict.findings);
    }
}

/// Exports, and what somebody may make of them.
pub fn seeds() -> Vec<Seed> {
    let small = GENUINE[1].files[0].clone();
    let lines: Vec<&[u8]> = small.split_inclusive(|byte| *byte == b'\n').collect();
    let of = |lines: &[&[u8]]| lines.concat();
    let huge = br#"{"buckets":18446744073709551615,"rows":18446744073709551615}"#;
    vec![
        ("an export", small.clone()),
        ("without its end", of(&lines[..lines.len() - 1])),
        ("only its end", of(&lines[lines.len() - 1..])),
        (
            "an end that lies",
            of(&[&lines[..lines.len() - 1].concat(), b"{\"buckets\":2,\"rows\":5}\n"]),
        ),
        ("twice", of(&[&small, &small])),
        ("nothing but a beginning", of(&lines[..1])),
        ("huge numbers", of(&[lines[0], huge, b"\n"])),
        ("a bucket without rows", of(&[lines[0], lines[1], b"{\"buckets\":1,\"rows\":0}\n"])),
        ("rows that end in noise", of(&[lines[0], lines[1], lines[2], b"{\xff\n"])),
        ("untouched", vec![0]),
        ("a line taken out", vec![0, 0, 0, 5, 0]),
        ("lines exchanged", vec![1, 1, 0, 2, 4]),
        ("a line twice", vec![1, 2, 0, 3, 4]),
        ("a line of another sale", vec![0, 3, 0, 200, 3]),
        ("a bit turned", vec![0, 4, 4, 0, 3]),
        ("a digit replaced", vec![1, 5, 3, 0, b'7']),
        ("bytes cut out", vec![0, 6, 2, 0, 40]),
        ("a byte put in", vec![0, 7, 2, 0, b' ']),
    ]
}
