//! What an RSA public key is: as much of DER as that needs.
//!
//! The signature library takes keys of up to 8,192 bits and any exponent from 3 on. Checking a signature of a long key
//! costs a router what a hundred calls do, so the length is looked at here, once, when a key is registered or read.

/// Bits of a modulus.
const BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;
/// 65,537.
const EXPONENT: [u8; 3] = [1, 0, 1];

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// What is wrong with the DER of an `RSAPublicKey`; none when nothing is.
pub(super) fn complaint(der: &[u8]) -> Option<&'static str> {
    let Some((modulus, exponent)) = read(der) else {
        return Some("must be the DER of RSA public keys (PKCS#1)");
    };
    if !BITS.contains(&bits(modulus)) {
        return Some("must be RSA keys of 2,048 to 4,096 bits");
    }
    (exponent != EXPONENT).then_some("must be RSA keys with the exponent 65,537")
}

/// Modulus and exponent, without leading zeros.
fn read(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, nothing) = part(SEQUENCE, der)?;
    let (modulus, rest) = part(INTEGER, key)?;
    let (exponent, end) = part(INTEGER, rest)?;
    (nothing.is_empty() && end.is_empty()).then_some(())?;
    Some((positive(modulus)?, positive(exponent)?))
}

/// What stands in the first part, which has this tag, and what follows it. Lengths are as short as can be.
fn part(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => {
            let (&length, rest) = rest.split_first()?;
            (usize::from(length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let shortest = match first {
        0x81 => length >= 0x80,
        0x82 => length >= 0x100,
        _ => true,
    };
    shortest.then(|| rest.split_at_checked(length))?
}

/// The digits of a positive number: one zero goes before a digit that would make it negative, and no other.
fn positive(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0, rest @ ..] => rest.first().filter(|digit| **digit >= 0x80).map(|_| rest),
        [first, ..] if *first < 0x80 => Some(integer),
        _ => None,
    }
}

fn bits(digits: &[u8]) -> usize {
    let first = digits.first().map_or(0, |digit| digit.leading_zeros() as usize);
    digits.len() * 8 - first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap();
        let head = match length.to_be_bytes() {
            [0, short @ 0..0x80] => vec![tag, short],
            [0, short] => vec![tag, 0x81, short],
            [long, short] => vec![tag, 0x82, long, short],
        };
        [&head, content].concat()
    }

    fn key(bits: usize, exponent: &[u8]) -> Vec<u8> {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] = 0xff >> ((8 - bits % 8) % 8);
        if modulus[0] >= 0x80 {
            modulus.insert(0, 0);
        }
        let inner = [tagged(INTEGER, &modulus), tagged(INTEGER, exponent)].concat();
        tagged(SEQUENCE, &inner)
    }

    #[test]
    fn lengths_and_exponents() {
        for bits in [2_048, 2_049, 3_072, 4_095, 4_096] {
            assert_eq!(complaint(&key(bits, &EXPONENT)), None, "{bits}");
        }
        for bits in [8, 512, 1_024, 2_047, 4_097, 8_192] {
            assert_eq!(complaint(&key(bits, &EXPONENT)), complaint(&key(1_024, &EXPONENT)));
            assert!(complaint(&key(bits, &EXPONENT)).unwrap().contains("bits"), "{bits}");
        }
        for exponent in [&[1][..], &[2], &[3], &[1, 0, 0], &[1, 0, 1, 1]] {
            assert!(complaint(&key(2_048, exponent)).unwrap().contains("exponent"), "{exponent:?}");
        }
    }

    #[test]
    fn whatever_is_cut_lengthened_or_altered_in_its_frame_is_no_key() {
        let good = key(2_048, &EXPONENT);
        let read = |der: &[u8]| complaint(der).map_or("", |complaint| &complaint[..11]);
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), "must be the", "{length}");
        }
        assert_eq!(read(&[&good[..], &[0]].concat()), "must be the");
        // The sequence's tag and length, then the modulus' tag and length.
        for at in 0..8 {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(complaint(&bad).is_some(), "byte {at} bit {bit}");
            }
        }
        let long = [&[SEQUENCE, 0x83, 0][..], &good[2..]].concat();
        assert_eq!(read(&long), "must be the");
    }
}
