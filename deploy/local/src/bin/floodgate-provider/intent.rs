//! A payment intent and what may happen to it: pure decisions, no clock, no chance, no disk.
//!
//! ```text
//! requires_payment_method ─confirm with a method─┐            ┌─▶ requires_capture ─capture─▶ succeeded
//! requires_confirmation ──────────confirm────────┴─ accepted ─┤   (manual)                       ▲
//!          ▲                                     │            └──────────── (automatic) ─────────┘
//!          └─ requires_payment_method ◀─ declined┘      every state before succeeded ─cancel─▶ canceled
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::ledger::{CaptureMethod, Event, Line};

/// Where an intent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    RequiresPaymentMethod,
    RequiresConfirmation,
    RequiresCapture,
    /// Shown, never stored: a confirm is under way.
    Processing,
    Succeeded,
    Canceled,
}

/// What never changes about an intent.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) id: Arc<str>,
    pub(crate) amount: u64,
    pub(crate) currency: Arc<str>,
    pub(crate) capture_method: CaptureMethod,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) created_s: u64,
}

/// An intent at one moment; cheap to copy, since answers are remembered as they were given.
#[derive(Debug, Clone)]
pub(crate) struct Intent {
    pub(crate) terms: Arc<Terms>,
    pub(crate) status: Status,
    pub(crate) payment_method: Option<Arc<str>>,
    pub(crate) received: u64,
    pub(crate) refunded: u64,
    pub(crate) decline_code: Option<Arc<str>>,
    pub(crate) cancellation_reason: Option<Arc<str>>,
}

/// How a card behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Card {
    Good,
    Declines(&'static str),
}

impl Card {
    /// The card behind a payment method's name.
    pub(crate) fn of(payment_method: &str) -> Result<Self, Answer> {
        match payment_method {
            "pm_card_visa" => Ok(Self::Good),
            "pm_card_chargeDeclined" => Ok(Self::Declines("generic_decline")),
            "pm_card_chargeDeclinedInsufficientFunds" => Ok(Self::Declines("insufficient_funds")),
            other => {
                let message = format!("no such PaymentMethod: '{other}'");
                Err(Answer::invalid("resource_missing", &message))
            }
        }
    }
}

/// What a call wants to happen to an intent that exists.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Confirm {
        payment_method: Option<Arc<str>>,
    },
    Capture {
        amount: Option<u64>,
    },
    Cancel {
        reason: Option<Arc<str>>,
    },
    Refund {
        id: Arc<str>,
        amount: Option<u64>,
        reason: Option<Arc<str>>,
        metadata: BTreeMap<String, String>,
    },
}

impl Intent {
    /// The intent that a `created` line begins; `None` when the line begins none.
    pub(crate) fn begin(line: &Line) -> Option<Self> {
        let terms = Terms {
            id: Arc::clone(&line.intent),
            amount: line.amount,
            currency: Arc::clone(&line.currency),
            capture_method: line.capture_method?,
            metadata: line.metadata.clone(),
            created_s: line.at_ms / 1000,
        };
        let status = match line.payment_method {
            Some(_) => Status::RequiresConfirmation,
            None => Status::RequiresPaymentMethod,
        };
        Some(Self {
            terms: Arc::new(terms),
            status,
            payment_method: line.payment_method.clone(),
            received: 0,
            refunded: 0,
            decline_code: None,
            cancellation_reason: None,
        })
    }

    /// What a step does, as the line to write; or the refusal. `chance_declines`: the provider is in a
    /// mood to decline good cards, or to refuse refunds.
    pub(crate) fn decide(&self, step: &Step, chance_declines: bool) -> Result<Line, Answer> {
        match step {
            Step::Confirm { payment_method } => {
                self.confirm(payment_method.as_ref(), chance_declines)
            }
            Step::Capture { amount } => self.capture(*amount),
            Step::Cancel { reason } => self.cancel(reason.as_ref()),
            Step::Refund { id, amount, reason, metadata } => {
                let line = self.refund(*amount)?;
                if chance_declines {
                    let message = format!("the charge of '{}' is disputed", self.terms.id);
                    return Err(Answer::invalid("charge_disputed", &message));
                }
                let (refund, reason) = (Some(Arc::clone(id)), reason.clone());
                Ok(Line { refund, reason, metadata: metadata.clone(), ..line })
            }
        }
    }

    /// Takes note of a line that was written.
    pub(crate) fn apply(&mut self, line: &Line) {
        if let Some(method) = &line.payment_method {
            self.payment_method = Some(Arc::clone(method));
        }
        match line.event {
            Event::Created => {}
            Event::Confirmed => self.status = Status::RequiresCapture,
            Event::Declined => {
                self.status = Status::RequiresPaymentMethod;
                self.decline_code = line.decline_code.clone();
                self.payment_method = None;
            }
            Event::Captured => {
                self.status = Status::Succeeded;
                self.received = line.amount;
            }
            Event::Canceled => {
                self.status = Status::Canceled;
                self.cancellation_reason = line.reason.clone();
            }
            Event::Refunded => self.refunded += line.amount,
        }
        if matches!(line.event, Event::Confirmed | Event::Captured) {
            self.decline_code = None;
        }
    }

    /// How it is shown.
    pub(crate) fn body(&self) -> Value {
        let capturable = if self.status == Status::RequiresCapture { self.terms.amount } else { 0 };
        json!({
            "id": self.terms.id,
            "object": "payment_intent",
            "amount": self.terms.amount,
            "amount_capturable": capturable,
            "amount_received": self.received,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.terms.capture_method,
            "created": self.terms.created_s,
            "currency": self.terms.currency,
            "last_payment_error": self.decline_code.as_deref().map(payment_error),
            "livemode": false,
            "metadata": self.terms.metadata,
            "payment_method": self.payment_method,
            "status": self.status,
        })
    }

    fn confirm(&self, given: Option<&Arc<str>>, chance_declines: bool) -> Result<Line, Answer> {
        if !matches!(self.status, Status::RequiresPaymentMethod | Status::RequiresConfirmation) {
            return Err(self.refuse("confirmed"));
        }
        let Some(method) = given.or(self.payment_method.as_ref()) else {
            return Err(self.refuse("confirmed without a payment method"));
        };
        let declines = match Card::of(method)? {
            Card::Declines(code) => Some(code),
            Card::Good => chance_declines.then_some("generic_decline"),
        };
        let event = match (declines, self.terms.capture_method) {
            (Some(_), _) => Event::Declined,
            (None, CaptureMethod::Manual) => Event::Confirmed,
            (None, CaptureMethod::Automatic) => Event::Captured,
        };
        let line = self.line(event, self.terms.amount);
        let payment_method = Some(Arc::clone(method));
        Ok(Line { payment_method, decline_code: declines.map(Arc::from), ..line })
    }

    fn capture(&self, amount: Option<u64>) -> Result<Line, Answer> {
        if self.status != Status::RequiresCapture {
            return Err(self.refuse("captured"));
        }
        let amount = amount.unwrap_or(self.terms.amount);
        if amount == 0 || amount > self.terms.amount {
            return Err(Answer::invalid_parameter("amount_to_capture", &amount.to_string()));
        }
        Ok(self.line(Event::Captured, amount))
    }

    fn cancel(&self, reason: Option<&Arc<str>>) -> Result<Line, Answer> {
        if matches!(self.status, Status::Succeeded | Status::Canceled) {
            return Err(self.refuse("canceled"));
        }
        Ok(Line { reason: reason.cloned(), ..self.line(Event::Canceled, self.terms.amount) })
    }

    fn refund(&self, amount: Option<u64>) -> Result<Line, Answer> {
        if self.status != Status::Succeeded {
            return Err(self.refuse("refunded"));
        }
        let left = self.received.saturating_sub(self.refunded);
        if left == 0 {
            let message = format!("'{}' has already been refunded", self.terms.id);
            return Err(Answer::invalid("charge_already_refunded", &message));
        }
        let amount = amount.unwrap_or(left);
        if amount == 0 || amount > left {
            return Err(Answer::invalid_parameter("amount", &amount.to_string()));
        }
        Ok(self.line(Event::Refunded, amount))
    }

    fn refuse(&self, what: &str) -> Answer {
        let status = serde_json::to_value(self.status).unwrap_or_default();
        let message = format!("this intent cannot be {what}: its status is {status}");
        Answer::unexpected_state(&message, self.body())
    }

    /// A line about this intent; the call fills in the rest.
    fn line(&self, event: Event, amount: u64) -> Line {
        Line {
            seq: 0,
            at_ms: 0,
            intent: Arc::clone(&self.terms.id),
            event,
            amount,
            currency: Arc::clone(&self.terms.currency),
            order: self.terms.metadata.get("order").cloned(),
            key: None,
            request: None,
            capture_method: None,
            payment_method: None,
            metadata: BTreeMap::new(),
            decline_code: None,
            refund: None,
            reason: None,
        }
    }
}

fn payment_error(decline_code: &str) -> Value {
    let message = match decline_code {
        "insufficient_funds" => "your card has insufficient funds.",
        _ => "your card was declined.",
    };
    json!({"type": "card_error", "code": "card_declined", "decline_code": decline_code,
        "message": message})
}
