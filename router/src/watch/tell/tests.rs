//! Tellers, whose time is the test's.

use super::*;
use bytes::Bytes;
use proto::wire::storefront::SaleState;
use proto::wire::storefront::sale_state::Phase;
use std::sync::Mutex;
use tokio::sync::watch::Sender;

const START_MS: u64 = 60_000;
const END_MS: u64 = 90_000;

/// A sale, and a watcher of it.
struct Scene {
    free: Arc<Mutex<u64>>,
    spoke: Sender<u64>,
    end: CancellationToken,
    teller: tokio::task::JoinHandle<()>,
    told: watch::Receiver<super::super::board::Told>,
}

fn view(free: u64, now_ms: u64) -> View {
    let phase = match now_ms {
        ..START_MS => Phase::Upcoming,
        START_MS..END_MS => Phase::Open,
        _ => Phase::Ended,
    };
    let left = |left_ms| prost_types::Duration {
        seconds: i64::try_from(left_ms / 1_000_u64).unwrap(),
        nanos: 0,
    };
    let opens_in = START_MS.checked_sub(now_ms).filter(|left_ms| *left_ms > 0).map(left);
    let page = SaleState { phase: phase.into(), free, opens_in, ..SaleState::default() };
    View::new(page, (START_MS, END_MS), now_ms)
}

fn begin(began_ms: u64) -> Scene {
    let (began, free) = (Instant::now(), Arc::new(Mutex::new(0)));
    let seen = free.clone();
    let look = move || {
        let now_ms = began_ms + u64::try_from(began.elapsed().as_millis()).unwrap();
        view(*seen.lock().unwrap(), now_ms)
    };
    let (spoke, changed) = watch::channel(0);
    let (board, end) = (Arc::<Board>::default(), CancellationToken::new());
    let joined = board.join(&look);
    let teller = Teller { board, pace: Arc::default(), changed, look };
    let teller = tokio::spawn(teller.tell(joined.begins.unwrap(), end.clone()));
    Scene { free, spoke, end, teller, told: joined.changes }
}

impl Scene {
    fn says(&self, free: u64) {
        *self.free.lock().unwrap() = free;
        self.spoke.send_modify(|version| *version += 1);
    }

    /// What is told within so many milliseconds, and after how many each.
    async fn hears(&mut self, for_ms: u64) -> Vec<(u64, Bytes)> {
        let (began, mut heard) = (Instant::now(), Vec::new());
        let over = began + Duration::from_millis(for_ms);
        while let Ok(told) = tokio::time::timeout_at(over, self.told.changed()).await {
            told.unwrap();
            let at_ms = u64::try_from(began.elapsed().as_millis()).unwrap();
            heard.push((at_ms, self.told.borrow_and_update().frame.clone()));
        }
        heard
    }
}

#[tokio::test(start_paused = true)]
async fn time_that_only_passes_is_no_news() {
    let mut scene = begin(1_000);
    assert_eq!(scene.hears(WATCH_ALIVE_MS - 100).await, []);
    // Then the same again, so that they know that they still watch; with the time that is left now.
    let [(at_ms, frame)] = &scene.hears(WATCH_ALIVE_MS).await[..] else { panic!("not once") };
    assert!((100..=102).contains(at_ms), "{at_ms}");
    assert_eq!(*frame, view(0, 1_000 + WATCH_ALIVE_MS).frame());
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_at_once_and_four_a_second_at_most() {
    let mut scene = begin(START_MS + 1);
    assert_eq!(scene.hears(500).await, []);
    scene.says(5);
    let heard = scene.hears(100).await;
    assert!(heard.len() == 1 && heard[0].0 < 3, "{heard:?}");
    let (mut frames, mut last) = (0, None);
    for free in 1..=200 {
        scene.says(free);
        for (_, frame) in scene.hears(10).await {
            (frames, last) = (frames + 1, Some(frame));
        }
    }
    assert!((7..=8).contains(&frames), "{frames} in two seconds");
    let rest = scene.hears(1_000).await;
    let newest = rest.last().map(|(_, frame)| frame.clone()).or(last);
    assert_eq!(newest, Some(view(200, START_MS + 1).frame()));
}

#[tokio::test(start_paused = true)]
async fn openings_and_ends_are_told_at_their_moment() {
    let mut scene = begin(START_MS - 5_500);
    let heard = scene.hears(5_600).await;
    assert!(heard.len() == 1 && (5_500..5_503).contains(&heard[0].0), "{heard:?}");
    assert_eq!(heard[0].1, view(0, START_MS).frame());
    let mut scene = begin(END_MS - 700);
    let heard = scene.hears(5_000).await;
    assert!(heard.len() == 1 && (700..703).contains(&heard[0].0), "{heard:?}");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_nobody_watches_and_when_the_process_does() {
    let scene = begin(START_MS);
    drop(scene.told);
    scene.teller.await.unwrap();
    let mut scene = begin(START_MS);
    scene.end.cancel();
    scene.teller.await.unwrap();
    assert!(scene.told.changed().await.is_err());
}
