//! The table of latencies: every call of one org, from when it was meant to begin.

use std::io::{self, Write};
use std::time::Duration;

use crate::load::{CallKind, Samples};

/// Draws the table of one sale's calls.
pub(super) fn table(
    out: &mut impl Write,
    org: &str,
    samples: &Samples,
    sale: u8,
) -> io::Result<()> {
    writeln!(
        out,
        "{org:<20} {:>9} {:>10} {:>10} {:>10} {:>10}",
        "calls", "p50", "p99", "p99.9", "max"
    )?;
    for call in CallKind::ALL {
        let latency = samples.latency(|sample| sample.sale == sale && sample.call == call);
        if latency.count() == 0 {
            continue;
        }
        writeln!(
            out,
            "  {call:<18} {:>9} {:>10} {:>10} {:>10} {:>10}",
            latency.count(),
            short(latency.at(0.5)),
            short(latency.at(0.99)),
            short(latency.at(0.999)),
            short(latency.max())
        )?;
    }
    writeln!(out)
}

/// Microseconds for people: three digits and a unit.
pub(super) fn short(us: u64) -> String {
    let seconds = Duration::from_micros(us).as_secs_f64();
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", seconds * 1e3),
        10_000..100_000 => format!("{:.1} ms", seconds * 1e3),
        100_000..1_000_000 => format!("{:.0} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let rows = [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_234, "1.23 ms"),
            (45_678, "45.7 ms"),
            (100_000, "100 ms"),
            (1_500_000, "1.50 s"),
        ];
        for (us, expected) in rows {
            assert_eq!(short(us), expected);
        }
    }
}
