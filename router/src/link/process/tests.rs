//! Processes of a cell, and what becomes of them when their calls fail.

use super::*;
use crate::link::metrics::LinkMetrics;
use proto::limits::{EJECT_FAILURES_MIN, EJECT_MS, REPEATS_PER_S};
use proto::wire::cell::{Checkout, Probe, Reserve, call};
use runtime::metric::Metrics;
use runtime::server::Lateness;

fn cell(processes: usize) -> (Vec<Arc<Process>>, Metrics) {
    let metrics = Metrics::new("test", "0").unwrap();
    let (link, siblings) =
        (LinkMetrics::new(&metrics, Lateness::default()), Arc::<Siblings>::default());
    let process = |number| {
        let entry = ProcessEntry {
            cell: "cell-1".into(),
            process: format!("p{number}").into(),
            address: "http://127.0.0.1:1".into(),
        };
        let process = Arc::new(Process::new(entry, siblings.clone(), &link));
        process.wires.iter().for_each(|wire| wire.rise());
        process
    };
    ((0..processes).map(process).collect(), metrics)
}

async fn asks(process: &Process, kind: call::Kind, patience_ms: u64) -> Reason {
    let call = Call { kind: Some(kind), ..Call::default() };
    let deadline = Instant::now() + Duration::from_millis(patience_ms);
    let asked = process.call(Kind::Flash, Asking { call: &call, org: 1, deadline }).await;
    let Err(Miss::Refused(fault)) = asked else { panic!("{asked:?}") };
    fault.reason
}

#[tokio::test(start_paused = true)]
async fn who_answers_nobody_is_taken_out_and_comes_back_by_a_probe() {
    let (processes, metrics) = cell(2);
    let [silent, other] = &processes[..] else { panic!() };
    let rows = [
        // Callers without patience, and those who wait for the provider, say nothing of the process.
        (call::Kind::Probe(Probe::default()), EJECT_PATIENCE_MS - 1, true),
        (call::Kind::Checkout(Checkout::default()), 3 * EJECT_PATIENCE_MS, true),
        (call::Kind::Reserve(Reserve::default()), EJECT_PATIENCE_MS, false),
    ];
    for (kind, patience_ms, takes) in rows {
        let tasks: Vec<_> = (0..EJECT_FAILURES_MIN)
            .map(|_| {
                let (silent, kind) = (silent.clone(), kind.clone());
                tokio::spawn(async move { asks(&silent, kind, patience_ms).await })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Reason::DeadlinePassed);
        }
        assert_eq!(silent.takes(Kind::Flash), takes, "{kind:?}");
    }
    assert!(metrics.text().unwrap().contains(r#"processes_out{cell="cell-1"} 1"#));
    assert!(other.takes(Kind::Flash));
    let began = Instant::now();
    silent.until_probe().await;
    let waited_ms = began.elapsed().as_millis();
    assert!(
        waited_ms <= EJECT_MS.0.into() && waited_ms >= (EJECT_MS.0 / 2 - 1).into(),
        "{waited_ms}"
    );
    silent.probed(false);
    assert!(!silent.takes(Kind::Flash) && silent.away() > Duration::ZERO);
    silent.until_probe().await;
    silent.probed(true);
    assert!(silent.takes(Kind::Flash) && silent.away() == Duration::ZERO);
    assert!(metrics.text().unwrap().contains(r#"processes_out{cell="cell-1"} 0"#));
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_after_long_enough_speaks_against_the_process_too() {
    for (patience_ms, takes) in [(EJECT_PATIENCE_MS - 1, true), (EJECT_PATIENCE_MS, false)] {
        let (processes, _metrics) = cell(2);
        let goes_away = async |process: Arc<Process>| {
            let asking = asks(&process, call::Kind::Reserve(Reserve::default()), 60_000);
            let patience = Duration::from_millis(patience_ms);
            assert!(tokio::time::timeout(patience, asking).await.is_err());
        };
        let all = (0..EJECT_FAILURES_MIN).map(|_| goes_away(processes[0].clone()));
        futures_util::future::join_all(all).await;
        assert_eq!(processes[0].takes(Kind::Flash), takes, "after {patience_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_ones_of_a_cell_are_asked_whatever_becomes_of_it() {
    for (count, out) in [(1, 0), (2, 1), (3, 1), (5, 2)] {
        let (processes, _metrics) = cell(count);
        for process in &processes {
            (0..2 * EJECT_FAILURES_MIN).for_each(|_| process.failed());
        }
        let asked = processes.iter().filter(|process| process.takes(Kind::Join)).count();
        assert_eq!(asked, count - out, "of {count}");
        // Who is given up makes no room for another one.
        processes[0].give_up();
        processes[0].give_up();
        processes.iter().for_each(|process| process.failed());
        let asked = processes[1..].iter().filter(|process| process.takes(Kind::Join)).count();
        assert!(asked * 2 >= count - 1, "of {} others {asked} are asked", count - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_break_is_one_failure_however_many_calls_it_cost() {
    let (processes, _metrics) = cell(2);
    let process = &processes[0];
    for breaks in 1..EJECT_FAILURES_MIN {
        [900, 90, 9].into_iter().for_each(|lost| process.fell(lost));
        process.broke();
        assert!(process.takes(Kind::Flash), "after {breaks} breaks");
    }
    [0, 0, 0].into_iter().for_each(|lost| process.fell(lost));
    process.broke();
    assert!(process.takes(Kind::Flash), "nobody was lost");
    process.fell(1);
    process.broke();
    assert!(!process.takes(Kind::Flash));
}

#[tokio::test(start_paused = true)]
async fn away_is_as_long_as_nobody_could_ask() {
    let (processes, _metrics) = cell(1);
    let process = &processes[0];
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(process.away(), Duration::ZERO);
    for kind in [Kind::Join, Kind::Flash, Kind::Standard] {
        process.fell(process.wire(kind).fall());
    }
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(process.away(), Duration::from_secs(3));
    process.wire(Kind::Flash).rise();
    assert_eq!(process.away(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_repeated_is_safe_and_within_the_budget() {
    let (processes, _metrics) = cell(1);
    let call = |kind| Call { kind: Some(kind), ..Call::default() };
    let (reserve, checkout) = (
        call(call::Kind::Reserve(Reserve::default())),
        call(call::Kind::Checkout(Checkout::default())),
    );
    assert!(!processes[0].may_repeat(&checkout, true));
    assert!(processes[0].may_repeat(&checkout, false));
    let more = (0..100).filter(|_| processes[0].may_repeat(&reserve, true)).count();
    assert_eq!(more as u64, REPEATS_PER_S - 1);
}
