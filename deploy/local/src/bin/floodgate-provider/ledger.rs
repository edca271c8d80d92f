//! The provider's ledger: the file `ledger.jsonl` in the data folder, which says what happened to money.
//!
//! # Format
//! UTF-8, one JSON object a line, each line ended by `\n`, only ever appended to. A line is written when
//! an intent changes, and is on disk (fdatasync) before anybody is told: neither the caller nor a reader
//! of the API. The fields of every line:
//!
//! | field      | type           | meaning                                                              |
//! |------------|----------------|----------------------------------------------------------------------|
//! | `seq`      | integer        | 1, 2, 3, … without a gap                                              |
//! | `at_ms`    | integer        | the provider's clock, milliseconds since 1970; never goes back        |
//! | `intent`   | string         | the intent's id, `pi_…`                                               |
//! | `event`    | string         | `created`, `confirmed`, `declined`, `captured`, `canceled`, `refunded`|
//! | `amount`   | integer        | money that this line is about, in the currency's minor unit           |
//! | `currency` | string         | three lower-case letters                                              |
//! | `order`    | string or null | the intent's `metadata[order]`                                        |
//! | `key`      | string or null | the `Idempotency-Key` of the call                                     |
//!
//! `amount` is the intent's amount in `created`, `confirmed` (now held on the card), `declined` and
//! `canceled`; the money taken in `captured`; the money given back by this one refund in `refunded`.
//! With `capture_method=automatic` a successful confirm is one line, `captured`, and no `confirmed`.
//! Money taken and not given back for an intent = `captured` − sum of `refunded`.
//!
//! Lines may hold more fields, which serve only to start again from this file: `request` (a hash of the
//! call, for the idempotency key), `capture_method`, `payment_method`, `metadata`, `decline_code`,
//! `refund` (its id), `reason`. Readers must ignore fields they do not know. A reader of a live or torn
//! file must ignore a last line without `\n`; at the next start it is cut off: it was told to nobody.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// Lines that share one fdatasync at most, and lines that may wait for it.
const BATCH_LINES_MAX: usize = 1024;

/// What happened to an intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    Created,
    Confirmed,
    Declined,
    Captured,
    Canceled,
    Refunded,
}

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// This and the time are given by the writer.
    pub(crate) seq: u64,
    pub(crate) at_ms: u64,
    pub(crate) intent: Arc<str>,
    pub(crate) event: Event,
    pub(crate) amount: u64,
    pub(crate) currency: Arc<str>,
    pub(crate) order: Option<String>,
    pub(crate) key: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) capture_method: Option<CaptureMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payment_method: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) decline_code: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refund: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Arc<str>>,
}

/// When the money is taken: by the confirm itself or by a later capture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CaptureMethod {
    #[default]
    Automatic,
    Manual,
}

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("could not {doing} {}: {source}; is the folder there and writable?", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged at line {line} ({why}); move it away to begin with an empty one", path.display())]
    Damaged { path: PathBuf, line: usize, why: String },
    #[error("the ledger's writer has ended; start the provider again")]
    Ended,
}

type Append = (Line, oneshot::Sender<()>);

/// The way to the ledger's one writer.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    queue: mpsc::Sender<Append>,
}

impl Ledger {
    /// Reads the file from its beginning, giving each line to `apply`, and starts the writer, which goes
    /// on giving lines to `apply`, in the file's order, when they are on disk.
    pub(crate) fn open(
        folder: &Path,
        mut apply: impl FnMut(&[Line]) + Send + 'static,
    ) -> Result<Self, LedgerError> {
        let path = folder.join("ledger.jsonl");
        let failed = |doing| {
            let path = path.clone();
            move |source| LedgerError::Io { doing, path, source }
        };
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(&path).map_err(failed("open"))?;
        // So that a new file's name survives, too.
        File::open(folder).and_then(|it| it.sync_all()).map_err(failed("sync the folder of"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let (lines, whole) = parse(&bytes).map_err(|(line, why)| LedgerError::Damaged {
            path: path.clone(),
            line,
            why,
        })?;
        cut_at(&mut file, whole, bytes.len()).map_err(failed("cut the torn last line off"))?;
        let (seq, at_ms) = lines.last().map_or((0, 0), |line| (line.seq, line.at_ms));
        let writer = Writer { file, seq, at_ms };
        apply(&lines);

        let (queue, appends) = mpsc::channel::<Append>(BATCH_LINES_MAX);
        let work = move || writer.run(appends, apply);
        let spawned = thread::Builder::new().name("ledger".to_owned()).spawn(work);
        spawned.map_err(failed("start the writer of"))?;
        Ok(Self { queue })
    }

    /// Appends a line; returns when it is on disk and has been applied.
    pub(crate) async fn append(&self, line: Line) -> Result<(), LedgerError> {
        let (reply, written) = oneshot::channel();
        self.queue.send((line, reply)).await.map_err(|_| LedgerError::Ended)?;
        written.await.map_err(|_| LedgerError::Ended)
    }
}

struct Writer {
    file: File,
    /// Of the last line.
    seq: u64,
    at_ms: u64,
}

impl Writer {
    /// Writes what comes until nobody can append any more; whatever waits shares one sync.
    fn run(mut self, mut appends: mpsc::Receiver<Append>, mut apply: impl FnMut(&[Line])) {
        while let Some(first) = appends.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_LINES_MAX
                && let Ok(next) = appends.try_recv()
            {
                batch.push(next);
            }
            let (mut lines, replies): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            if let Err(error) = self.write(&mut lines) {
                // What is on disk is unknown now, so nobody may be told anything any more.
                eprintln!("the ledger cannot be written: {error}");
                std::process::abort();
            }
            apply(&lines);
            for reply in replies {
                // A caller that does not wait any more finds the change when it asks again.
                reply.send(()).ok();
            }
        }
    }

    fn write(&mut self, lines: &mut [Line]) -> io::Result<()> {
        let mut bytes = Vec::new();
        self.at_ms = self.at_ms.max(now_ms());
        for line in lines {
            self.seq += 1;
            (line.seq, line.at_ms) = (self.seq, self.at_ms);
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        self.file.write_all(&bytes)?;
        self.file.sync_data()
    }
}

/// All whole lines, and how many bytes they are; or which line is wrong, and why.
fn parse(bytes: &[u8]) -> Result<(Vec<Line>, usize), (usize, String)> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let mut lines: Vec<Line> = Vec::new();
    for text in bytes.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
        let number = lines.len() + 1;
        let line: Line =
            serde_json::from_slice(text).map_err(|error| (number, error.to_string()))?;
        if usize::try_from(line.seq) != Ok(number) {
            return Err((number, format!("its seq is {}", line.seq)));
        }
        lines.push(line);
    }
    Ok((lines, whole))
}

/// Cuts a torn last line off; the file then ends where the next line goes.
fn cut_at(file: &mut File, whole: usize, length: usize) -> io::Result<()> {
    if whole < length {
        eprintln!("the ledger's last line is torn and was told to nobody; it is cut off");
        file.set_len(u64::try_from(whole).map_err(io::Error::other)?)?;
        file.sync_all()?;
    }
    file.seek(SeekFrom::End(0)).map(drop)
}

/// The provider's own clock; it is another company's machine.
#[expect(clippy::disallowed_methods, reason = "the provider has no runtime clock to share")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn line(intent: &str) -> Line {
        Line {
            seq: 0,
            at_ms: 7,
            intent: intent.into(),
            event: Event::Created,
            amount: 500,
            currency: "eur".into(),
            order: Some("o-1".to_owned()),
            key: None,
            request: None,
            capture_method: Some(CaptureMethod::Manual),
            payment_method: None,
            metadata: BTreeMap::new(),
            decline_code: None,
            refund: None,
            reason: None,
        }
    }

    type Seen = Arc<Mutex<Vec<Line>>>;

    fn open(folder: &Path) -> Result<(Ledger, Seen), LedgerError> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let ledger =
            Ledger::open(folder, move |lines| sink.lock().unwrap().extend_from_slice(lines));
        Ok((ledger?, seen))
    }

    #[test]
    fn the_format_is_frozen() {
        let written = serde_json::to_string(&line("pi_1")).unwrap();
        assert_eq!(
            written,
            r#"{"seq":0,"at_ms":7,"intent":"pi_1","event":"created","amount":500,"currency":"eur","order":"o-1","key":null,"capture_method":"manual"}"#
        );
    }

    #[tokio::test]
    async fn lines_are_numbered_applied_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (ledger, seen) = open(folder.path()).unwrap();
        let appends = (0..200).map(|number| ledger.append(line(&format!("pi_{number}"))));
        futures_util::future::try_join_all(appends).await.unwrap();
        let live = seen.lock().unwrap().clone();
        assert_eq!(
            live.iter().map(|line| line.seq).collect::<Vec<_>>(),
            (1..=200).collect::<Vec<_>>()
        );

        let (_ledger, seen) = open(folder.path()).unwrap();
        assert_eq!(*seen.lock().unwrap(), live);
    }

    #[tokio::test]
    async fn a_torn_last_line_is_cut_off_and_a_torn_middle_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let (ledger, _) = open(folder.path()).unwrap();
        ledger.append(line("pi_1")).await.unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();

        std::fs::write(&path, format!("{whole}{{\"seq\":2,\"at_")).unwrap();
        let (ledger, seen) = open(folder.path()).unwrap();
        assert_eq!(seen.lock().unwrap().len(), 1);
        ledger.append(line("pi_2")).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);

        std::fs::write(&path, format!("{{\"seq\":1,\"at_\n{whole}")).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, LedgerError::Damaged { line: 1, .. }), "{error}");
    }
}
