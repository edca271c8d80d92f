//! A row of the table: what is asked, what must come back, and how to ask it.

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
use proto::fault::{DOMAIN, Reason, Retry};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::stage::Stage;

/// What came back: an answer in a word, or a refusal. An error means that the row could not be tried.
pub(crate) type Outcome = anyhow::Result<Result<String, Status>>;

/// What must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A refusal from the closed list, which complains about this field if about any.
    Refused { code: Code, reason: Reason, field: Option<&'static str> },
    /// No refusal: the answer, in a word.
    Says(&'static str),
    /// A refusal from below the list: it has no reason, and this in its message.
    Bare { code: Code, says: &'static str },
}

/// A refusal for `reason`.
pub(crate) fn refused(code: Code, reason: Reason) -> Expected {
    Expected::Refused { code, reason, field: None }
}

/// A refusal of a field that makes no sense.
pub(crate) fn field(name: &'static str) -> Expected {
    refused(Code::InvalidArgument, Reason::InvalidField).about(name)
}

/// There is no such thing, for this caller.
pub(crate) fn not_found() -> Expected {
    refused(Code::NotFound, Reason::NotFound)
}

/// An answer.
pub(crate) fn says(answer: &'static str) -> Expected {
    Expected::Says(answer)
}

impl Expected {
    /// The refusal complains about a field.
    pub(crate) fn about(self, name: &'static str) -> Expected {
        match self {
            Expected::Refused { code, reason, .. } => {
                Expected::Refused { code, reason, field: Some(name) }
            }
            other => other,
        }
    }

    /// What differs between this and what came back; nothing when it is as it must be.
    pub(crate) fn differs(&self, outcome: &Outcome) -> Option<String> {
        match (self, outcome) {
            (_, Err(error)) => Some(format!("could not be tried: {error:#}")),
            (Expected::Says(wanted), Ok(Ok(answer))) if answer == wanted => None,
            (_, Ok(Ok(answer))) => Some(format!("answered {answer}")),
            (Expected::Refused { code, reason, field }, Ok(Err(status))) => {
                refusal_differs(status, *code, *reason, *field)
            }
            (Expected::Bare { code, says }, Ok(Err(status))) => {
                let same = status.code() == *code
                    && status.message().contains(says)
                    && status.details().is_empty();
                (!same).then(|| told(status))
            }
            (Expected::Says(_), Ok(Err(status))) => Some(told(status)),
        }
    }

    fn label(&self) -> String {
        match self {
            Expected::Refused { code, reason, field } => {
                let about = field.map(|name| format!(" ({name})")).unwrap_or_default();
                format!("{code:?} {}{about}", reason.label())
            }
            Expected::Says(answer) => (*answer).to_owned(),
            Expected::Bare { code, says } => format!("{code:?}, no reason: {says}"),
        }
    }
}

/// A refusal is whole: code, reason, domain, message, when to try again and which field.
fn refusal_differs(
    status: &Status,
    code: Code,
    reason: Reason,
    field: Option<&str>,
) -> Option<String> {
    let details = status.get_error_details();
    let info = details.error_info().map(|info| (info.reason.as_str(), info.domain.as_str()));
    if status.code() != code || info != Some((reason.label(), DOMAIN)) {
        return Some(told(status));
    }
    let again = details.retry_info().and_then(|retry| retry.retry_delay);
    let later = again.is_some_and(|delay| !delay.is_zero());
    if later != (reason.retry() == Retry::Later) || details.retry_info().is_some() != later {
        return Some(format!("{}: when to try again is {again:?}", told(status)));
    }
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
    let fields: Vec<_> = violations.unwrap_or(&[]).iter().map(|one| one.field.as_str()).collect();
    if fields != field.as_slice() {
        return Some(format!("{}: complains about {fields:?}", told(status)));
    }
    let spoken = field.is_some() || status.message() == reason.message();
    (!spoken).then(|| told(status))
}

/// A refusal, for people.
pub(crate) fn told(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map_or("no reason", |info| info.reason.as_str());
    format!("{:?} {reason}: {}", status.code(), status.message())
}

type Act = Box<dyn for<'a> Fn(&'a Stage) -> LocalBoxFuture<'a, Outcome>>;

/// See the module.
pub(crate) struct Row {
    /// What is asked, in a few words.
    pub(crate) what: String,
    /// What must come back.
    pub(crate) expected: Expected,
    act: Act,
}

/// A row.
pub(crate) fn row<F>(what: impl Into<String>, expected: Expected, act: F) -> Row
where
    F: AsyncFn(&Stage) -> Outcome + 'static,
{
    let act = Rc::new(act);
    let act: Act = Box::new(move |stage| {
        let act = Rc::clone(&act);
        Box::pin(async move { act(stage).await })
    });
    Row { what: what.into(), expected, act }
}

impl Row {
    /// Tries the row: its line in the table, and whether all is as it must be.
    pub(crate) async fn run(&self, stage: &Stage) -> (String, bool) {
        let outcome = (self.act)(stage).await;
        let differs = self.expected.differs(&outcome);
        let verdict = differs.as_ref().map_or("ok".to_owned(), |how| format!("WRONG: {how}"));
        (format!("{:<62} {:<46} {verdict}", self.what, self.expected.label()), differs.is_none())
    }
}
