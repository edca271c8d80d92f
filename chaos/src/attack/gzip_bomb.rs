//! A gzip bomb: a message within the limit that would become a hundred times as much.

use super::message::{Lie, compressed};

/// Copies of 258 bytes each.
const COPIES: u32 = 9_000;

pub(super) const HYPOTHESIS: &str = "a compressed message is refused before anything is unpacked";

pub(super) fn lies() -> Vec<Lie> {
    let bomb = compressed(&gzip_of_zeros(COPIES));
    vec![
        Lie::new("said in the headers", bomb.clone()).header("grpc-encoding", "gzip"),
        Lie::new("not said", bomb),
    ]
}

/// Zeros in gzip: one, and then "the same 258 bytes again" in 13 bits each. What is checked at the end is left out,
/// since nobody should come there.
fn gzip_of_zeros(copies: u32) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff], used: 8 };
    // The last block, in the codes that everybody knows; then a zero, codes from their highest bit.
    bits.push([true, true, false]);
    bits.push([false, false, true, true, false, false, false, false]);
    for _ in 0..copies {
        bits.push([true, true, false, false, false, true, false, true]);
        bits.push([false; 5]);
    }
    bits.push([false; 7]);
    bits.bytes
}

struct Bits {
    bytes: Vec<u8>,
    used: u8,
}

impl Bits {
    fn push<const N: usize>(&mut self, bits: [bool; N]) {
        for bit in bits {
            if self.used == 8 {
                self.bytes.push(0);
                self.used = 0;
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= u8::from(bit) << self.used;
            }
            self.used += 1;
        }
    }
}
