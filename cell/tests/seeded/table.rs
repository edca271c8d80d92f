//! What was caught by what, for people.

use crate::check::Ran;

/// Signs of what a check said; the rest is in its own output.
const SAID_MAX: usize = 110;

/// A line of the table.
pub(crate) struct Row {
    bug: String,
    caught_by: String,
    said: String,
    pub(crate) is_as_it_should_be: bool,
}

impl Row {
    /// Of a run without a bug, in which nothing should be caught.
    pub(crate) fn clean(caught: Option<Ran>) -> Row {
        Row { is_as_it_should_be: caught.is_none(), ..Row::of("none", caught, "nothing, rightly") }
    }

    /// Of a bug, which should be caught.
    pub(crate) fn bug(name: &str, sentence: &str, caught: Option<Ran>) -> Row {
        let is_as_it_should_be = caught.is_some();
        let nothing = format!("NOTHING, although: {sentence}");
        Row { is_as_it_should_be, ..Row::of(name, caught, &nothing) }
    }

    /// Of a bug with which nothing runs, so that nothing can be said of it.
    pub(crate) fn not_run(name: &str, ran: Ran) -> Row {
        Row {
            caught_by: "NOTHING: the cell does not run with it".into(),
            ..Row::of(name, Some(ran), "")
        }
    }

    fn of(bug: &str, caught: Option<Ran>, nothing: &str) -> Row {
        let (caught_by, said) = caught
            .map_or((nothing.to_owned(), String::new()), |ran| (ran.check.to_owned(), ran.said));
        let said = said.chars().take(SAID_MAX).collect();
        Row { bug: bug.to_owned(), caught_by, said, is_as_it_should_be: false }
    }
}

/// The table.
pub(crate) fn print(rows: &[Row]) -> String {
    let width =
        |of: fn(&Row) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0);
    let (bugs, checks) = (width(|row| &row.bug), width(|row| &row.caught_by));
    let mut lines = vec![format!("{:bugs$} | {:checks$} | what it said", "bug", "caught by")];
    for Row { bug, caught_by, said, .. } in rows {
        lines.push(format!("{bug:bugs$} | {caught_by:checks$} | {said}"));
    }
    lines.join("\n")
}
