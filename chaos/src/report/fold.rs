//! Folds sentences so that they fit the width of the report.

use std::io::{self, Write};

/// The widest line, in columns.
pub(super) const COLUMNS: usize = 100;

/// Writes a sentence in as few lines as it fits in; all but the first begin with `indent` spaces.
pub(super) fn write(out: &mut impl Write, text: &str, indent: usize) -> io::Result<()> {
    for line in lines(text, indent) {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// The lines of a sentence. It is broken at single spaces only; a word that is too long stays whole.
pub(super) fn lines(text: &str, indent: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
            Some(_) => lines.push(" ".repeat(indent) + word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_folded_and_lose_nothing() {
        assert_eq!(lines("  one  two", 4), ["  one  two"]);
        let text = "word ".repeat(50);
        let folded = lines(text.trim_end(), 2);
        assert_eq!(folded.len(), 3);
        assert!(folded.iter().all(|line| line.len() <= COLUMNS));
        assert!(folded[1].starts_with("  word"));
        assert_eq!(folded.concat().matches("word").count(), 50);
        assert_eq!(lines(&"x".repeat(150), 2), ["x".repeat(150)]);
    }
}
