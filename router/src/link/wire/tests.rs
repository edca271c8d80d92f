//! A stream without a connection: the test takes frames and gives answers.

use super::*;
use proto::frame::read_call;
use proto::wire::cell::{Answer, Checkout, Probe, Refusal, call};
use runtime::metric::{Gauge, Metrics};
use runtime::server::Lateness;
use std::time::Duration;
use tokio::task::{JoinHandle, yield_now};

/// A stream that is up, and how many calls are under way on it.
fn wire() -> (Arc<Wire>, Gauge) {
    let metrics = Metrics::new("test", "0").unwrap();
    let gauge = |name| Gauge::new(&metrics, name, "", &[]);
    let under_way = gauge("floodgate_under_way");
    let class = Concurrency::new(gauge("floodgate_limit"), under_way.clone(), Lateness::default());
    let wire = Arc::new(Wire::new(Arc::new(class)));
    wire.rise();
    (wire, under_way)
}

fn probe(text: &str) -> Call {
    let payload = text.to_owned().into();
    Call { kind: Some(call::Kind::Probe(Probe { payload })), ..Call::default() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

type Asked = JoinHandle<Result<answer::Kind, Miss>>;

fn ask(wire: &Arc<Wire>, org: u64, call: Call, deadline: Instant) -> Asked {
    let wire = wire.clone();
    tokio::spawn(async move {
        let asking = Asking { call: &call, org, deadline };
        wire.call(asking, Instant::now()).await
    })
}

async fn sent(wire: &Arc<Wire>) -> Vec<Call> {
    let frame = wire.clone().frame().await;
    frame.calls.into_iter().map(|call| read_call(call).unwrap()).collect()
}

fn echo(call: Call) -> Answer {
    let Some(call::Kind::Probe(probe)) = call.kind else { panic!() };
    Answer { id: call.id, kind: Some(answer::Kind::Probe(probe)) }
}

fn reason(missed: Result<answer::Kind, Miss>) -> Reason {
    let Err(Miss::Refused(fault)) = missed else { panic!("{missed:?}") };
    fault.reason
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_callers_in_any_order() {
    let (wire, under_way) = wire();
    let (first, second) =
        (ask(&wire, 1, probe("first"), soon()), ask(&wire, 2, probe("second"), soon()));
    yield_now().await;
    let calls = sent(&wire).await;
    assert_eq!((calls.len(), under_way.value()), (2, 2));
    let answers: Vec<_> = calls.into_iter().rev().map(echo).collect();
    // Answers twice, and to nobody.
    let strangers = [answers[0].clone(), Answer { id: 77, kind: None }];
    wire.hand_out(Answers { answers: answers.into_iter().chain(strangers).collect() });
    for (task, text) in [(first, "first"), (second, "second")] {
        let Ok(answer::Kind::Probe(probe)) = task.await.unwrap() else { panic!() };
        assert_eq!(probe.payload, text);
    }
    assert_eq!(under_way.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_break_tells_each_caller_whether_the_call_was_sent() {
    let (wire, under_way) = wire();
    let first = ask(&wire, 1, probe("first"), soon());
    yield_now().await;
    assert_eq!(sent(&wire).await.len(), 1);
    let second = ask(&wire, 1, probe("second"), soon());
    yield_now().await;
    assert_eq!(wire.fall(), 1, "one was sent");
    assert!(matches!(first.await.unwrap(), Err(Miss::Lost { sent: true })));
    assert!(matches!(second.await.unwrap(), Err(Miss::Lost { sent: false })));
    let third = ask(&wire, 1, probe("third"), soon());
    assert!(matches!(third.await.unwrap(), Err(Miss::Down)), "it is down");
    assert_eq!((under_way.value(), wire.asked()), (0, 2));
    // Nothing is kept for the next connection, and no id is used again.
    wire.rise();
    let fourth = ask(&wire, 1, probe("fourth"), soon());
    yield_now().await;
    let calls = sent(&wire).await;
    assert_eq!(calls.len(), 1);
    let late = Answer { id: calls[0].id - 1, kind: Some(answer::Kind::Probe(Probe::default())) };
    wire.hand_out(Answers { answers: vec![late] });
    assert!(!fourth.is_finished());
}

#[tokio::test(start_paused = true)]
async fn calls_say_how_much_time_is_left_when_they_are_sent() {
    let (wire, _) = wire();
    let deadline = Instant::now() + Duration::from_millis(500);
    let waits = ask(&wire, 1, probe("waits"), deadline);
    let late = ask(&wire, 1, probe("late"), Instant::now() + Duration::from_millis(100));
    yield_now().await;
    tokio::time::advance(Duration::from_millis(200)).await;
    let calls = sent(&wire).await;
    let left: Vec<_> = calls.iter().map(|call| call.time_left_ms).collect();
    assert_eq!(left, [300], "the late one is not sent");
    assert_eq!(reason(late.await.unwrap()), Reason::DeadlinePassed);
    wire.hand_out(Answers { answers: calls.into_iter().map(echo).collect() });
    assert!(waits.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn whoever_goes_away_is_forgotten_and_their_call_not_sent() {
    let (wire, under_way) = wire();
    let (goes, stays) =
        (ask(&wire, 1, probe("goes"), soon()), ask(&wire, 2, probe("stays"), soon()));
    yield_now().await;
    goes.abort();
    assert!(goes.await.is_err());
    assert_eq!(under_way.value(), 1);
    assert_eq!(sent(&wire).await.len(), 1);
    assert!(!stays.is_finished());
    let refused = ask(&wire, 1, probe("late"), Instant::now() + Duration::from_millis(10));
    assert_eq!(reason(refused.await.unwrap()), Reason::DeadlinePassed);
    assert_eq!(under_way.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_org_that_floods_blocks_nobody() {
    let (wire, _) = wire();
    let checkout =
        Call { kind: Some(call::Kind::Checkout(Checkout::default())), ..Call::default() };
    let flood: Vec<_> = (0..6_000).map(|_| ask(&wire, 1, checkout.clone(), soon())).collect();
    let done = || flood.iter().filter(|task| task.is_finished()).count() as u64;
    while wire.asked() + done() < 6_000 {
        yield_now().await;
    }
    let other = ask(&wire, 2, probe("other"), soon());
    yield_now().await;
    // The flood has more than it can be given; who comes behind it is in the next frame all the same.
    let calls = sent(&wire).await;
    let answers = calls.iter().filter(|call| matches!(call.kind, Some(call::Kind::Probe(_))));
    wire.hand_out(Answers { answers: answers.cloned().map(echo).collect() });
    assert!(other.await.unwrap().is_ok());
    let mut refused = 0_usize;
    for task in flood {
        if task.is_finished() {
            assert_eq!(reason(task.await.unwrap()), Reason::Overloaded);
            refused += 1;
        }
    }
    let let_in = 6_000 - refused;
    let most = proto::limits::LINK_PAYMENTS_UNDER_WAY_MAX as usize;
    assert!(let_in.abs_diff(most * 8 / 9) <= 1, "{let_in} of {most}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_too_large_costs_its_caller_alone() {
    let (wire, under_way) = wire();
    let large = ask(&wire, 1, probe(&"x".repeat(4_000)), soon());
    let small = ask(&wire, 1, probe("x"), soon());
    assert_eq!(reason(large.await.unwrap()), Reason::MessageTooLarge);
    assert_eq!(under_way.value(), 1);
    let calls = sent(&wire).await;
    let refusal = Refusal { reason: Reason::SoldOut as u32, retry_after_ms: 0 };
    let kind = Some(answer::Kind::Refusal(refusal));
    wire.hand_out(Answers { answers: vec![Answer { id: calls[0].id, kind }] });
    assert!(matches!(small.await.unwrap(), Ok(answer::Kind::Refusal(_))));
}
