//! The end of a certificate's time, off its DER: nothing else of it is read here, and nothing follows from it but a chart.

/// Tags of DER.
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate runs out, in unix seconds; none when it is no certificate.
pub(super) fn until_s(certificate: &[u8]) -> Option<u64> {
    let mut outer = Der(certificate).take(SEQUENCE)?;
    let mut inner = outer.take(SEQUENCE)?;
    if inner.0.first() == Some(&VERSION) {
        inner.take(VERSION)?;
    }
    inner.take(INTEGER)?;
    // The signature's algorithm and who issued it.
    inner.take(SEQUENCE)?;
    inner.take(SEQUENCE)?;
    let mut period = inner.take(SEQUENCE)?;
    period.next()?;
    let (tag, time) = period.next()?;
    let text = std::str::from_utf8(time.0).ok()?.strip_suffix('Z')?;
    match tag {
        // Years before 50 are of this century.
        UTC_TIME => {
            let century = if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
            unix_s(&format!("{century}{text}"))
        }
        GENERALIZED_TIME => unix_s(text),
        _ => None,
    }
}

/// `YYYYMMDDHHMMSS` in unix seconds.
fn unix_s(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let [year, month, day] = [number(0, 4)?, number(4, 6)?, number(6, 8)?];
    let [hour, minute, second] = [number(8, 10)?, number(10, 12)?, number(12, 14)?];
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leaps + (month * 153 + 2) / 5 + day - 1;
    // Days from that March of the year 0 to the beginning of 1970.
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Bytes of DER that are left.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// What comes next, which must be of this tag.
    fn take(&mut self, tag: u8) -> Option<Der<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn next(&mut self) -> Option<(u8, Der<'a>)> {
        let (tag, rest) = self.0.split_first()?;
        let (first, mut rest) = rest.split_first()?;
        let mut length = usize::from(*first);
        if length >= 0x80 {
            let (bytes, after) = rest.split_at_checked(length - 0x80)?;
            if bytes.len() > size_of::<u32>() {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, Der(content)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_as_it_was_written() {
        for (year, month, day, expected) in [
            (2026, 11, 22, 1_795_305_600),
            (2028, 2, 29, 1_835_395_200),
            (2049, 12, 31, 2_524_521_600),
            (2050, 1, 1, 2_524_608_000),
            (2100, 3, 1, 4_107_542_400),
        ] {
            let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(until_s(certificate.der()), Some(expected), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn what_is_cut_short_has_no_end() {
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let whole = key.cert.der();
        let read = (0..whole.len()).filter(|length| until_s(&whole[..*length]).is_some());
        assert_eq!(read.count(), 0);
    }
}
