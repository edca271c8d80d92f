//! What can go wrong, how it is told, and the exit code: 1 something else, 2 a mistake in what was typed, 3 no such
//! thing, 4 not in its present state, 5 not now, try again, 6 what was to be proven is not so.

use std::io::{self, Write};

use proto::fault::Fault;
use tonic::{Code, Status};
use tonic_types::StatusExt;

const OTHER: u8 = 1;
const USAGE: u8 = 2;
const NOT_FOUND: u8 = 3;
const PRECONDITION: u8 = 4;
const UNAVAILABLE: u8 = 5;
const UNPROVEN: u8 = 6;

/// How much of what is not so is told.
const FINDINGS_TOLD_MAX: usize = 50;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The machine refused something.
    #[error("could not {doing}: {source}")]
    Io {
        /// A verb phrase.
        doing: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Not now.
    #[error("{0}; try again in a moment")]
    Later(String),
    /// A cell's Postgres refused, or could not be reached.
    #[error("postgres: {0}")]
    Store(#[from] sqlx::Error),
    /// What was to be proven is not so, and why.
    #[error("{} findings", .0.len())]
    Unproven(Vec<String>),
    /// The platform refused the call, or could not be reached.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::Refused(Box::new(status))
    }
}

impl Failure {
    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        let doing = doing.into();
        move |source| Failure::Io { doing, source }
    }

    /// The code to exit with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => USAGE,
            Failure::Io { .. } => OTHER,
            Failure::NotFound(_) => NOT_FOUND,
            Failure::Later(_) => UNAVAILABLE,
            Failure::Store(sqlx::Error::Io(_)) => UNAVAILABLE,
            Failure::Store(_) => OTHER,
            Failure::Unproven(_) => UNPROVEN,
            Failure::Refused(status) => match status.code() {
                Code::InvalidArgument => USAGE,
                Code::NotFound => NOT_FOUND,
                Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => PRECONDITION,
                Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => UNAVAILABLE,
                _ => OTHER,
            },
        }
    }

    /// Tells it on standard error: reason, message, fields, and when to try again.
    pub(crate) fn tell(&self) {
        // Without a standard error there is nobody to tell.
        drop(io::stderr().write_all(self.lines().as_bytes()));
    }

    fn lines(&self) -> String {
        if let Failure::Unproven(findings) = self {
            let more = findings.len().saturating_sub(FINDINGS_TOLD_MAX);
            let told =
                findings.iter().take(FINDINGS_TOLD_MAX).map(|what| format!("false: {what}\n"));
            let rest = (more > 0).then(|| format!("false: and {more} more\n"));
            return told.chain(rest).collect();
        }
        let Failure::Refused(status) = self else { return format!("error: {self}\n") };
        let fault = Fault::of_status(status);
        let label = fault.as_ref().map_or_else(
            || format!("{:?}", status.code()).to_uppercase(),
            |fault| fault.reason.label().to_owned(),
        );
        let mut lines = format!("error: {label}: {}\n", status.message());
        for violation in
            status.get_details_bad_request().into_iter().flat_map(|bad| bad.field_violations)
        {
            lines.push_str(&format!("  {}: {}\n", violation.field, violation.description));
        }
        if let Some(fault) = fault.filter(|fault| fault.retry_after_ms > 0) {
            let seconds = f64::from(fault.retry_after_ms) / 1_000.0;
            lines.push_str(&format!("  try again after {seconds} s\n"));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::fault::Reason;

    #[test]
    fn refusals_are_told_and_exit_with_their_code() {
        let rows = [
            (Fault::new(Reason::NotFound), 3),
            (Fault::new(Reason::SaleStateConflict), 4),
            (Fault::new(Reason::EtagMismatch), 4),
            (Fault::new(Reason::AlreadyExists), 4),
            (Fault::new(Reason::Overloaded), 5),
            (Fault::new(Reason::BuyerRate), 5),
            (Fault::new(Reason::RoleNotAllowed), 1),
            (Fault::field("sale.cap", "must be 1 to 100"), 2),
        ];
        for (fault, code) in rows {
            let failure = Failure::from(Status::from(fault.clone()));
            assert_eq!(failure.exit_code(), code, "{fault:?}");
            assert!(failure.lines().contains(fault.reason.label()), "{}", failure.lines());
        }
        let field = Failure::from(Status::from(Fault::field("sale.cap", "must be 1 to 100")));
        assert!(field.lines().contains("\n  sale.cap: must be 1 to 100\n"), "{}", field.lines());
        let later = Failure::from(Status::from(Fault::later(Reason::Overloaded, 1_500)));
        assert!(later.lines().contains("try again after 1.5 s"), "{}", later.lines());
        assert_eq!(Failure::from(Status::unavailable("x")).lines(), "error: UNAVAILABLE: x\n");
    }
}
