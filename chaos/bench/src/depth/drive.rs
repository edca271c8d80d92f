//! Drives one sale's bucket over the link: as fast as the cell answers, or at a pace of its own.

use anyhow::{Result, bail, ensure};
use futures_util::StreamExt;
use proto::fault::Reason;
use proto::wire::cell::link_service_client::LinkServiceClient;
use proto::wire::cell::{Answer, Call, Cancel, Frame, answer, call};
use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_stream::wrappers::ReceiverStream;

/// Calls that a paced driver has under way at most: beyond it the cell is not keeping up.
const PACED_UNDER_WAY_MAX: usize = 20_000;
/// How often a paced driver sends what is due, as a router would gather it.
const PACED_EVERY: Duration = Duration::from_millis(1);

/// When the next call is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many calls are under way at any moment.
    UnderWay(usize),
    /// So many holds a second, whether or not those before were answered.
    PerSecond(f64),
}

/// What to drive.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The keeper.
    pub(crate) address: String,
    /// Reserves, prepared.
    pub(crate) calls: Vec<Call>,
    pub(crate) pace: Pace,
    /// At most so many in a frame.
    pub(crate) frame_calls_max: usize,
    /// Whether every hold is cancelled as soon as it is there.
    pub(crate) release: bool,
    /// What is answered before does not count.
    pub(crate) from: Instant,
    pub(crate) until: Instant,
}

/// What was counted between `from` and `until`.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) holds: u64,
    pub(crate) releases: u64,
    /// From when a hold was due to its answer, in microseconds.
    pub(crate) hold_us: Vec<u32>,
}

struct UnderWay {
    due: Instant,
    call: Call,
}

struct Driver {
    lane: Lane,
    waiting: VecDeque<Call>,
    under_way: HashMap<u64, UnderWay>,
    next_id: u64,
    began: Instant,
    paced: u64,
    ran: Ran,
}

/// Drives it until its time is over.
pub(crate) async fn drive(mut lane: Lane) -> Result<Ran> {
    let channel = tonic::transport::Endpoint::from_shared(lane.address.clone())?
        .initial_connection_window_size(16 * 1024 * 1024)
        .initial_stream_window_size(16 * 1024 * 1024)
        .connect()
        .await?;
    let (send, sent) = mpsc::channel(64);
    let mut answers =
        LinkServiceClient::new(channel).flash(ReceiverStream::new(sent)).await?.into_inner();
    let waiting = std::mem::take(&mut lane.calls).into();
    let began = Instant::now();
    let until = lane.until;
    let mut driver = Driver {
        lane,
        waiting,
        under_way: HashMap::new(),
        next_id: 1_000_000_000,
        began,
        paced: 0,
        ran: Ran::default(),
    };
    let mut tick = interval_at(began, PACED_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let is_paced = matches!(driver.lane.pace, Pace::PerSecond(_));
    let mut released = Vec::new();
    loop {
        for frame in driver.due(&mut released)? {
            if send.send(frame).await.is_err() {
                bail!("the stream has ended");
            }
        }
        tokio::select! {
            answered = answers.next() => {
                let Some(answered) = answered else { bail!("the stream has ended") };
                for answer in answered?.answers {
                    driver.take(answer, &mut released)?;
                }
            }
            _ = tick.tick(), if is_paced => {}
            () = tokio::time::sleep_until(until) => return Ok(driver.ran),
        }
    }
}

impl Driver {
    /// What is to be sent now.
    fn due(&mut self, released: &mut Vec<Call>) -> Result<Vec<Frame>> {
        let now = Instant::now();
        let mut calls: Vec<Call> = Vec::new();
        for call in released.drain(..) {
            self.under_way.insert(call.id, UnderWay { due: now, call: call.clone() });
            calls.push(call);
        }
        match self.lane.pace {
            Pace::UnderWay(most) => {
                while self.under_way.len() < most {
                    calls.push(self.next(now)?);
                }
            }
            Pace::PerSecond(rate) => {
                let planned = |number: u64| {
                    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
                    let seconds = number as f64 / rate;
                    self.began + Duration::from_secs_f64(seconds)
                };
                let mut due = Vec::new();
                while planned(self.paced + due.len() as u64) <= now {
                    due.push(planned(self.paced + due.len() as u64));
                }
                self.paced += due.len() as u64;
                for at in due {
                    calls.push(self.next(at)?);
                }
                ensure!(self.under_way.len() <= PACED_UNDER_WAY_MAX, "the cell does not keep up");
            }
        }
        Ok(calls.chunks(self.lane.frame_calls_max).map(Frame::of).collect())
    }

    fn next(&mut self, due: Instant) -> Result<Call> {
        let Some(call) = self.waiting.pop_front() else { bail!("not enough calls were prepared") };
        self.under_way.insert(call.id, UnderWay { due, call: call.clone() });
        Ok(call)
    }

    fn take(&mut self, answer: Answer, released: &mut Vec<Call>) -> Result<()> {
        let Some(UnderWay { due, call }) = self.under_way.remove(&answer.id) else { return Ok(()) };
        let now = Instant::now();
        let counts = due >= self.lane.from;
        match (&answer.kind, &call.kind) {
            (Some(answer::Kind::Order(order)), Some(call::Kind::Reserve(_))) => {
                if counts {
                    let took = u32::try_from((now - due).as_micros()).unwrap_or(u32::MAX);
                    self.ran.holds += 1;
                    self.ran.hold_us.push(took);
                }
                if self.lane.release {
                    self.next_id += 1;
                    let cancel = Cancel { order: order.order.to_vec() };
                    released.push(Call {
                        id: self.next_id,
                        kind: Some(call::Kind::Cancel(cancel)),
                        ..call
                    });
                }
            }
            (Some(answer::Kind::Order(_)), _) => self.ran.releases += u64::from(counts),
            (Some(answer::Kind::Refusal(refusal)), _) => {
                let reason = Reason::from_number(refusal.reason);
                let passes = matches!(reason, Some(Reason::BucketMoving | Reason::NoUnitNow));
                ensure!(passes || !counts, "a call was refused: {reason:?}");
            }
            (kind, _) => bail!("an odd answer: {kind:?}"),
        }
        Ok(())
    }
}
