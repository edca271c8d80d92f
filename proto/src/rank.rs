//! The order of a line: a ticket's rank is a pure function of its window and its index there.
//!
//! FIFO is the identity within one window. The keeper hands indices out and the gate compares ranks; neither needs
//! to know which rule made them.

/// The rule by which a window orders its tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// First come, first served.
    Fifo,
}

/// The rank of the ticket with `index` in a window that begins at rank `base`.
pub const fn rank(rule: Rule, base: u64, index: u64) -> u64 {
    match rule {
        Rule::Fifo => base + index,
    }
}

/// Where a rank stands against a gate whose admitted ranks are `tail..cursor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This many ranks are admitted before it.
    Waiting(u64),
    /// Its turn is now.
    Admitted,
    /// Its turn has passed.
    Passed,
}

/// Compares a rank with a gate.
pub const fn standing(rank: u64, tail: u64, cursor: u64) -> Standing {
    if rank < tail {
        Standing::Passed
    } else if rank < cursor {
        Standing::Admitted
    } else {
        Standing::Waiting(rank - cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standings() {
        let rows = [
            (0, 0, 0, Standing::Waiting(0)),
            (0, 0, 1, Standing::Admitted),
            (4, 5, 9, Standing::Passed),
            (5, 5, 9, Standing::Admitted),
            (8, 5, 9, Standing::Admitted),
            (9, 5, 9, Standing::Waiting(0)),
            (12, 5, 9, Standing::Waiting(3)),
        ];
        for (rank, tail, cursor, expected) in rows {
            assert_eq!(standing(rank, tail, cursor), expected, "{rank} against {tail}..{cursor}");
        }
    }
}
