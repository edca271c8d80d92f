//! Connections that are made anew when they break, as those of real callers are: a load that stays broken is no load.

use crate::calls::{Line, ended};
use crate::open::End;
use anyhow::Result;
use http::HeaderValue;
use prost::Message;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long whoever could not connect waits.
const AGAIN: Duration = Duration::from_millis(100);

/// A connection to one address, or the next one.
#[derive(Clone, Debug)]
pub(crate) struct Road(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    deadline: Duration,
    line: Mutex<Line>,
    mending: AtomicBool,
}

impl Road {
    /// So many, whose calls say that they wait no longer than `deadline`.
    pub(crate) async fn many(url: &str, count: usize, deadline: Duration) -> Result<Vec<Road>> {
        let lines = Line::many(url, count, deadline).await?;
        let road = |line| {
            let (line, mending) = (Mutex::new(line), AtomicBool::new(false));
            Road(Arc::new(Inner { url: url.to_owned(), deadline, line, mending }))
        };
        Ok(lines.into_iter().map(road).collect())
    }

    /// As [`Line::call`].
    pub(crate) async fn call<Answer: Message + Default>(
        &self,
        path: &'static str,
        token: &HeaderValue,
        message: &impl Message,
    ) -> Result<Answer> {
        let line = self.line().clone();
        let answer = line.call(path, token, message).await;
        if ended(&answer) == End::Broken && !self.0.mending.swap(true, Ordering::Relaxed) {
            // The caller may be gone before it is mended.
            tokio::spawn(self.clone().mend());
        }
        answer
    }

    async fn mend(self) {
        loop {
            match Line::many(&self.0.url, 1, self.0.deadline).await {
                Ok(mut lines) => {
                    if let Some(line) = lines.pop() {
                        *self.line() = line;
                    }
                    self.0.mending.store(false, Ordering::Relaxed);
                    return;
                }
                // For as long as somebody still wants to go there.
                Err(_) if Arc::strong_count(&self.0) > 1 => tokio::time::sleep(AGAIN).await,
                Err(_) => return,
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
