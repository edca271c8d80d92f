//! Everything the provider remembers, in memory: intents, refunds, answers to idempotency keys. All of it
//! comes from the ledger's lines, live and at start alike, but for two things that end with the process:
//! which calls are under way, and refusals remembered for their key.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::intent::{Intent, Status};
use crate::ledger::{Event, Line};

/// Intents and keys this simulator keeps, together a few gigabytes; it says 429 beyond.
const INTENTS_MAX: usize = 3_000_000;
const KEYS_MAX: usize = 12_000_000;

/// Calls under way at a time.
const CALLS_MAX: usize = 10_000;

/// Stripe's limits of a page.
const PAGE_DEFAULT: u64 = 10;
const PAGE_MAX: u64 = 100;

/// Money given back.
#[derive(Debug, Clone)]
pub(crate) struct Refund {
    intent: Arc<str>,
    line: Arc<Line>,
}

/// An answer to a key, as it was given.
#[derive(Debug, Clone)]
enum Given {
    Intent(StatusCode, Intent),
    Refund(Refund),
    Refusal(Arc<Answer>),
}

#[derive(Debug)]
struct Remembered {
    request: Arc<str>,
    given: Given,
}

/// What a list is asked for.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) limit: Option<u64>,
    pub(crate) starting_after: Option<String>,
    pub(crate) created_from_s: Option<u64>,
    pub(crate) intent: Option<String>,
}

/// The provider's memory.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// In the order of creation.
    intents: Vec<Intent>,
    intent_at: HashMap<Arc<str>, usize>,
    refunds: Vec<Refund>,
    refund_at: HashMap<Arc<str>, usize>,
    keys: HashMap<Arc<str>, Remembered>,
    busy_keys: HashSet<Arc<str>>,
    /// Intents that a call is changing, and whether it is a confirm.
    busy_intents: HashMap<Arc<str>, bool>,
    calls: usize,
}

/// A changing call's identity.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) key: Option<Arc<str>>,
    /// A hash of what is asked.
    pub(crate) request: Arc<str>,
    /// The intent it changes; none for a create.
    pub(crate) intent: Option<Arc<str>>,
    pub(crate) is_confirm: bool,
}

impl Book {
    /// Takes note of a line that is on disk.
    pub(crate) fn apply(&mut self, line: &Line) {
        let given = match line.event {
            Event::Created => self.apply_created(line),
            _ => self.apply_step(line),
        };
        if let (Some(given), Some(key), Some(request)) = (given, &line.key, &line.request) {
            let remembered = Remembered { request: Arc::clone(request), given };
            self.keys.insert(Arc::clone(key), remembered);
        }
    }

    fn apply_created(&mut self, line: &Line) -> Option<Given> {
        let intent = Intent::begin(line)?;
        self.intent_at.insert(Arc::clone(&line.intent), self.intents.len());
        self.intents.push(intent.clone());
        Some(Given::Intent(StatusCode::OK, intent))
    }

    fn apply_step(&mut self, line: &Line) -> Option<Given> {
        let intent = self.intent_at.get(&line.intent).and_then(|at| self.intents.get_mut(*at))?;
        intent.apply(line);
        if let (Event::Refunded, Some(id)) = (line.event, &line.refund) {
            let intent = Arc::clone(&intent.terms.id);
            let refund = Refund { intent, line: Arc::new(line.clone()) };
            self.refund_at.insert(Arc::clone(id), self.refunds.len());
            self.refunds.push(refund.clone());
            return Some(Given::Refund(refund));
        }
        let declined = line.event == Event::Declined;
        let status = if declined { StatusCode::PAYMENT_REQUIRED } else { StatusCode::OK };
        Some(Given::Intent(status, intent.clone()))
    }

    /// The answer to a call whose line has been applied.
    pub(crate) fn answer_to(&self, line: &Line) -> Answer {
        let keyed = line.key.as_ref().and_then(|key| self.keys.get(key));
        if let Some(remembered) = keyed {
            return remembered.given.answer();
        }
        let refund = line.refund.as_ref().and_then(|id| self.refund_at.get(id));
        if let Some(refund) = refund.and_then(|at| self.refunds.get(*at)) {
            return Answer::ok(&refund.body());
        }
        match self.intent(&line.intent) {
            Some(intent) if line.event == Event::Declined => Answer::declined(intent.body()),
            Some(intent) => Answer::ok(&intent.body()),
            None => Answer::no_such("payment_intent", &line.intent),
        }
    }

    /// Lets a call in, or answers it at once: from memory, or because it must not run now.
    pub(crate) fn begin(&mut self, call: &Call) -> Result<(), Answer> {
        if let Some(key) = &call.key {
            if let Some(known) = self.keys.get(key) {
                let same = known.request == call.request;
                return Err(if same { known.given.again() } else { Answer::key_mismatch(key) });
            }
            if self.busy_keys.contains(key) {
                return Err(Answer::key_in_use(key));
            }
        }
        if let Some(id) = &call.intent {
            if !self.intent_at.contains_key(id) {
                return Err(Answer::no_such("payment_intent", id));
            }
            if self.busy_intents.contains_key(id) {
                return Err(Answer::locked(id));
            }
        }
        if self.calls >= CALLS_MAX {
            return Err(Answer::too_many("requests"));
        }
        if self.intents.len() >= INTENTS_MAX || self.keys.len() >= KEYS_MAX {
            return Err(Answer::too_many("intents in this simulator; start a new one"));
        }
        self.calls += 1;
        self.busy_keys.extend(call.key.clone());
        self.busy_intents.extend(call.intent.clone().map(|id| (id, call.is_confirm)));
        Ok(())
    }

    /// Ends a call that was let in.
    pub(crate) fn end(&mut self, call: &Call) {
        self.calls = self.calls.saturating_sub(1);
        if let Some(key) = &call.key {
            self.busy_keys.remove(key);
        }
        if let Some(id) = &call.intent {
            self.busy_intents.remove(id);
        }
    }

    /// Remembers a refusal for the call's key.
    pub(crate) fn remember_refusal(&mut self, call: &Call, refusal: &Answer) {
        if let Some(key) = &call.key {
            let given = Given::Refusal(Arc::new(refusal.clone()));
            let remembered = Remembered { request: Arc::clone(&call.request), given };
            self.keys.insert(Arc::clone(key), remembered);
        }
    }

    /// The intent as it is stored.
    pub(crate) fn intent(&self, id: &str) -> Option<&Intent> {
        self.intents.get(*self.intent_at.get(id)?)
    }

    /// The intent as it is shown: `processing` while a confirm is under way.
    pub(crate) fn intent_body(&self, id: &str) -> Result<Value, Answer> {
        let intent = self.intent(id).ok_or_else(|| Answer::no_such("payment_intent", id))?;
        Ok(self.show(intent))
    }

    /// A page of intents, newest first.
    pub(crate) fn intents(&self, page: &Page) -> Result<Value, Answer> {
        let end = self.page_end(page, &self.intent_at, self.intents.len(), "payment_intent")?;
        let wanted = |intent: &&Intent| {
            page.created_from_s.is_none_or(|from| intent.terms.created_s >= from)
        };
        let newest_first = self.intents.iter().take(end).rev().filter(wanted);
        page.body("/v1/payment_intents", newest_first.map(|intent| self.show(intent)))
    }

    pub(crate) fn refund_body(&self, id: &str) -> Result<Value, Answer> {
        let refund = self.refund_at.get(id).and_then(|at| self.refunds.get(*at));
        refund.map(Refund::body).ok_or_else(|| Answer::no_such("refund", id))
    }

    /// A page of refunds, newest first.
    pub(crate) fn refunds(&self, page: &Page) -> Result<Value, Answer> {
        let end = self.page_end(page, &self.refund_at, self.refunds.len(), "refund")?;
        let wanted = |refund: &&Refund| {
            page.intent.as_deref().is_none_or(|intent| *refund.intent == *intent)
        };
        let newest_first = self.refunds.iter().take(end).rev().filter(wanted);
        page.body("/v1/refunds", newest_first.map(Refund::body))
    }

    fn show(&self, intent: &Intent) -> Value {
        if self.busy_intents.get(&intent.terms.id) == Some(&true) {
            return Intent { status: Status::Processing, ..intent.clone() }.body();
        }
        intent.body()
    }

    /// How many of the oldest entries may be on the page.
    fn page_end(
        &self,
        page: &Page,
        at: &HashMap<Arc<str>, usize>,
        length: usize,
        what: &str,
    ) -> Result<usize, Answer> {
        match page.starting_after.as_deref() {
            None => Ok(length),
            Some(id) => at.get(id).copied().ok_or_else(|| Answer::no_such(what, id)),
        }
    }
}

impl Page {
    fn body(&self, url: &str, entries: impl Iterator<Item = Value>) -> Result<Value, Answer> {
        let limit = self.limit.unwrap_or(PAGE_DEFAULT);
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(Answer::invalid_parameter("limit", &limit.to_string()));
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut data: Vec<Value> = entries.take(limit + 1).collect();
        let has_more = data.len() > limit;
        data.truncate(limit);
        Ok(json!({"object": "list", "url": url, "has_more": has_more, "data": data}))
    }
}

impl Refund {
    pub(crate) fn body(&self) -> Value {
        let line = &self.line;
        json!({
            "id": line.refund,
            "object": "refund",
            "amount": line.amount,
            "created": line.at_ms / 1000,
            "currency": line.currency,
            "metadata": line.metadata,
            "payment_intent": self.intent,
            "reason": line.reason,
            "status": "succeeded",
        })
    }
}

impl Given {
    fn answer(&self) -> Answer {
        match self {
            Self::Intent(StatusCode::PAYMENT_REQUIRED, intent) => Answer::declined(intent.body()),
            Self::Intent(status, intent) => Answer::new(*status, &intent.body()),
            Self::Refund(refund) => Answer::ok(&refund.body()),
            Self::Refusal(refusal) => (**refusal).clone(),
        }
    }

    fn again(&self) -> Answer {
        Answer { replayed: true, ..self.answer() }
    }
}
