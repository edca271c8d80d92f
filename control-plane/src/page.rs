//! Page tokens: where a list goes on.
//!
//! A token is opaque to callers and good for the list that gave it only. It is no secret and gives no right: whoever
//! makes one up gets another place in the same list of their own.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proto::fault::Fault;
use proto::limits::PAGE_MAX;
use ring::digest;

use crate::store::Page;

/// Entries on a page when nothing is asked for.
const PAGE_DEFAULT: usize = 50;
const SEAL_BYTES: usize = 8;
/// Longer than any name in a list.
const TOKEN_BYTES_MAX: usize = 256;

/// The page of `list` that was asked for; more than [`PAGE_MAX`] entries means that many.
///
/// # Errors
/// A complaint about `page_size` when it is negative, about `page_token` when `list` did not give it.
pub(crate) fn read(list: &str, size: i32, token: &str) -> Result<Page, Fault> {
    let size = match usize::try_from(size) {
        Ok(0) => PAGE_DEFAULT,
        Ok(size) => size.min(PAGE_MAX),
        Err(_) => return Err(Fault::field("page_size", "must not be negative")),
    };
    let after = match token {
        "" => None,
        token => Some(open(list, token).ok_or_else(|| {
            Fault::field("page_token", "is not of this list; take it from the last answer")
        })?),
    };
    Ok(Page { after, size })
}

/// The token of the page behind `last`.
pub(crate) fn token(list: &str, last: &str) -> String {
    let mut bytes = seal(list, last).to_vec();
    bytes.extend_from_slice(last.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open(list: &str, token: &str) -> Option<String> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (found, last) = bytes.split_at_checked(SEAL_BYTES)?;
    let last = std::str::from_utf8(last).ok()?;
    (found == seal(list, last)).then(|| last.to_owned())
}

fn seal(list: &str, last: &str) -> [u8; SEAL_BYTES] {
    let hash = digest::digest(&digest::SHA256, format!("page\0{list}\0{last}").as_bytes());
    let mut seal = [0; SEAL_BYTES];
    seal.copy_from_slice(&hash.as_ref()[..SEAL_BYTES]);
    seal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(asked: i32) -> Option<usize> {
        read("orgs", asked, "").ok().map(|page| page.size)
    }

    #[test]
    fn sizes() {
        assert_eq!(size(0), Some(50));
        assert_eq!(size(7), Some(7));
        assert_eq!(size(200), Some(200));
        assert_eq!(size(i32::MAX), Some(200));
        assert_eq!(size(-1), None);
    }

    #[test]
    fn a_token_is_good_for_its_list_only() {
        let token = token("orgs/acme/sales", "s01");
        let page = read("orgs/acme/sales", 5, &token).unwrap();
        assert_eq!(page, Page { after: Some("s01".into()), size: 5 });
        let other = read("orgs/other/sales", 5, &token).unwrap_err();
        assert_eq!(other.field.unwrap().0, "page_token");
    }

    #[test]
    fn tokens_that_nobody_gave_are_refused() {
        let good = token("orgs", "acme");
        for bad in ["x", "####", "AAAA", &good[1..], &format!("{good}A"), &"A".repeat(5_000)] {
            assert!(read("orgs", 5, bad).is_err(), "{bad}");
        }
    }
}
