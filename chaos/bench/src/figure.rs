//! A figure, as it is printed.

use std::fmt;

/// What a figure must not exceed, or must reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    AtMost(f64),
    AtLeast(f64),
    /// A yardstick: nothing is asked of it.
    None,
}

/// One measured figure.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) budget: Budget,
    /// How it was taken: command, connections, threads, sizes, settings.
    pub(crate) how: String,
}

impl Figure {
    /// Says it.
    #[expect(clippy::print_stdout, reason = "figures are what this program is for")]
    pub(crate) fn say(&self) {
        println!("{self}");
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { name, value, unit, budget, how } = self;
        let (asked, verdict) = match budget {
            Budget::AtMost(most) => {
                (format!("<= {most}"), if value <= most { "ok" } else { "short" })
            }
            Budget::AtLeast(least) => {
                (format!(">= {least}"), if value >= least { "ok" } else { "short" })
            }
            Budget::None => ("none".to_owned(), "ok"),
        };
        write!(f, "bench {name} {value:.2} {unit} (budget {asked}) {verdict}\n    how: {how}")
    }
}
