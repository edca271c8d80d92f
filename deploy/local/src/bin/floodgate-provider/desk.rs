//! The desk where changing calls are served: once each, whatever the caller does meanwhile.
//!
//! A call is let in (one at a time for each idempotency key and each intent), waits as long as the faults
//! say, is decided, is written to the ledger, and only then answered. It runs to its end even when its
//! caller has gone, as at any real provider; that is what makes outcomes unknown.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use floodgate_local::Faults;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::answer::Answer;
use crate::book::{Book, Call};
use crate::intent::Step;
use crate::ledger::{Ledger, LedgerError, Line};

/// What a changing call asks for.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// A new intent; the line says which.
    Create(Box<Line>),
    /// Something for an intent that exists.
    Step(Step),
}

/// How a call ends for its caller.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answer(Answer),
    /// It was done; the caller is not told.
    LostReply,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy)]
struct Fate {
    latency: Duration,
    error: bool,
    decline: bool,
    lost_reply: bool,
}

#[derive(Debug)]
struct Luck {
    faults: Faults,
    draws: StdRng,
}

/// All that calls share.
#[derive(Debug)]
pub(crate) struct Desk {
    book: Arc<Mutex<Book>>,
    ledger: Ledger,
    luck: Mutex<Luck>,
}

impl Desk {
    pub(crate) fn open(folder: &std::path::Path, faults: Faults) -> Result<Self, LedgerError> {
        let book = Arc::new(Mutex::new(Book::default()));
        let reader = Arc::clone(&book);
        let ledger = Ledger::open(folder, move |lines| {
            let mut book = lock(&reader);
            lines.iter().for_each(|line| book.apply(line));
        })?;
        Ok(Self { book, ledger, luck: Mutex::new(Luck::new(faults)) })
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub(crate) fn faults(&self) -> Faults {
        lock(&self.luck).faults
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        *lock(&self.luck) = Luck::new(faults);
    }

    /// Serves one call in a task of its own.
    pub(crate) async fn serve(self: Arc<Self>, call: Call, work: Work) -> Outcome {
        let task = tokio::spawn(async move {
            let fate = lock(&self.luck).draw(&work);
            let begun = self.book().begin(&call);
            let answer = match begun {
                Err(answer) => answer,
                Ok(()) => {
                    let answer = self.run(&call, work, fate).await;
                    self.book().end(&call);
                    answer
                }
            };
            // A refusal with 5xx did nothing, so nothing is lost with it but time.
            if fate.lost_reply { Outcome::LostReply } else { Outcome::Answer(answer) }
        });
        task.await.unwrap_or_else(|error| Outcome::Answer(Answer::broken(&error.to_string())))
    }

    async fn run(&self, call: &Call, work: Work, fate: Fate) -> Answer {
        if fate.error {
            return Answer::broken("the provider has a bad moment; nothing was done");
        }
        tokio::time::sleep(fate.latency).await;
        let decided = match work {
            Work::Create(line) => Ok(*line),
            Work::Step(step) => self.decide(call, &step, fate.decline),
        };
        let line = match decided {
            Ok(line) => line,
            Err(refusal) => {
                self.book().remember_refusal(call, &refusal);
                return refusal;
            }
        };
        let key = call.key.clone();
        let request = key.is_some().then(|| Arc::clone(&call.request));
        let line = Line { key, request, ..line };
        match self.ledger.append(line.clone()).await {
            Ok(()) => self.book().answer_to(&line),
            Err(error) => Answer::broken(&error.to_string()),
        }
    }

    fn decide(&self, call: &Call, step: &Step, chance_declines: bool) -> Result<Line, Answer> {
        let id = call.intent.as_deref().unwrap_or_default();
        let book = self.book();
        let intent = book.intent(id).ok_or_else(|| Answer::no_such("payment_intent", id))?;
        intent.decide(step, chance_declines)
    }
}

impl Luck {
    fn new(faults: Faults) -> Self {
        Self { faults, draws: StdRng::seed_from_u64(faults.seed) }
    }

    /// Every call draws the same number of times, so that one rate does not shift another's draws.
    fn draw(&mut self, work: &Work) -> Fate {
        let faults = self.faults;
        let (least, most) = (
            faults.latency_ms.saturating_sub(faults.latency_jitter_ms),
            faults.latency_ms.saturating_add(faults.latency_jitter_ms),
        );
        let latency_ms = self.draws.random_range(least..=most);
        let mut happens = |rate: f64| self.draws.random_bool(rate);
        let slow = faults.latency_all
            || matches!(work, Work::Step(Step::Confirm { .. } | Step::Capture { .. }));
        let is_refund = matches!(work, Work::Step(Step::Refund { .. }));
        Fate {
            latency: Duration::from_millis(if slow { latency_ms } else { 0 }),
            error: happens(faults.error_rate),
            decline: happens(if is_refund {
                faults.refund_refuse_rate
            } else {
                faults.decline_rate
            }),
            lost_reply: happens(faults.lost_reply_rate),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
