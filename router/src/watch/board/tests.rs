//! Boards under many watchers, some of whom read slowly.

use super::super::seats::{Seats, Who};
use super::super::watching::Watching;
use super::*;
use futures_util::{FutureExt, StreamExt};
use proto::wire::storefront::SaleState;
use runtime::metric::Metrics;
use runtime::server::Leaving;
use std::sync::Arc;

fn view(free: u64) -> View {
    let sale = "orgs/acme/sales/s01".to_owned();
    View::new(SaleState { sale, free, ..SaleState::default() }, (0, 0), 1)
}

fn seats() -> Seats {
    Seats::new(usize::MAX, &Metrics::new("test", "0").unwrap())
}

fn watch(board: &Board, seats: &Seats) -> Watching {
    watch_on(None, board, seats)
}

fn watch_on(leaving: Option<Leaving>, board: &Board, seats: &Seats) -> Watching {
    let joined = board.join(|| view(0));
    Watching::new(
        joined.told,
        joined.changes,
        leaving,
        seats.take(Who::of(&http::Extensions::new())).unwrap(),
    )
}

/// What a watcher is told when they look now; None: nothing, or nothing any more.
fn now(watching: &mut Watching) -> Option<Bytes> {
    // However many look in one go.
    tokio::task::unconstrained(watching.next()).now_or_never().flatten()
}

#[tokio::test(start_paused = true)]
async fn who_reads_slowly_is_told_the_newest_and_nothing_is_kept_for_them() {
    let (board, pace, seats) = (Board::default(), Pace::default(), seats());
    let (mut quick, mut slow) = (watch(&board, &seats), watch(&board, &seats));
    assert_eq!(now(&mut slow), Some(view(0).frame()));
    assert_eq!(now(&mut quick), Some(view(0).frame()));
    for free in 1..=1_000 {
        board.tell(&view(free), &pace).await;
        assert_eq!(now(&mut quick), Some(view(free).frame()));
        assert_eq!(now(&mut quick), None);
    }
    assert_eq!(now(&mut slow), Some(view(1_000).frame()));
    assert_eq!(now(&mut slow), None);
}

#[tokio::test(start_paused = true)]
async fn all_get_the_same_bytes_a_slice_at_a_time() {
    const SLICES: usize = 3;
    let (board, pace, seats) = (Arc::new(Board::default()), Arc::new(Pace::default()), seats());
    let mut all: Vec<_> = (0..SLICES * WATCHERS_SLICE_MAX).map(|_| watch(&board, &seats)).collect();
    assert!(all.iter_mut().all(|one| now(one).is_some()));
    let (telling, paced) = (board.clone(), pace.clone());
    let round = tokio::spawn(async move { telling.tell(&view(7), &paced).await });
    let mut frames = Vec::new();
    for slice in 1..=SLICES {
        // Whatever else is due has its turn, as this test has.
        yield_now().await;
        frames.extend(all.iter_mut().filter_map(now));
        assert_eq!(frames.len(), slice * WATCHERS_SLICE_MAX);
    }
    round.await.unwrap();
    assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()));
    assert_eq!(frames[0], view(7).frame());
}

#[tokio::test(start_paused = true)]
async fn who_comes_during_a_round_is_told_nothing_twice() {
    let (board, pace, seats) = (Arc::new(Board::default()), Arc::new(Pace::default()), seats());
    let mut early: Vec<_> = (0..2 * WATCHERS_SLICE_MAX).map(|_| watch(&board, &seats)).collect();
    assert!(early.iter_mut().all(|one| now(one).is_some()));
    // There is a place in a group whose turn in the round has not come.
    drop(early.pop());
    let (telling, paced) = (board.clone(), pace.clone());
    let round = tokio::spawn(async move { telling.tell(&view(7), &paced).await });
    yield_now().await;
    let mut late = watch(&board, &seats);
    assert_eq!(now(&mut late), Some(view(7).frame()));
    let told = early.iter_mut().filter_map(now).count();
    assert_eq!(told, WATCHERS_SLICE_MAX, "the round is under way");
    round.await.unwrap();
    assert_eq!(now(&mut late), None);
    board.tell(&view(8), &pace).await;
    assert_eq!(now(&mut late), Some(view(8).frame()));
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_all_have_left_is_the_first_again() {
    let (board, seats) = (Board::default(), seats());
    assert!(board.join(|| view(1)).begins.is_some());
    assert!(board.is_left());
    let first = board.join(|| view(2));
    assert_eq!((first.begins.is_some(), first.told.frame), (true, view(2).frame()));
    let second = board.join(|| view(3));
    assert_eq!((second.begins.is_some(), second.told.frame), (false, view(2).frame()));
    assert!(!board.is_left());
    drop(watch(&board, &seats));
    drop((first.changes, second.changes));
    assert!(board.is_left());
}

#[tokio::test(start_paused = true)]
async fn streams_end_with_the_board_and_so_do_those_that_come_late() {
    let (board, pace, seats) = (Board::default(), Pace::default(), seats());
    let mut early = watch(&board, &seats);
    board.close(&pace).await;
    for mut watching in [watch(&board, &seats)] {
        assert_eq!(watching.next().await, Some(view(0).frame()));
        assert_eq!(watching.next().await, None);
    }
    assert_eq!(early.next().await, Some(view(0).frame()));
    assert_eq!(early.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_watches_on_a_connection_that_leaves_is_told_the_newest_and_then_the_end() {
    let (board, pace, seats) = (Board::default(), Pace::default(), seats());
    let leaving = Leaving::default();
    let mut leaver = watch_on(Some(leaving.clone()), &board, &seats);
    let mut stayer = watch_on(Some(Leaving::default()), &board, &seats);
    leaving.begin();
    // Nobody comes in vain, not even at the last moment.
    assert_eq!(now(&mut leaver), Some(view(0).frame()));
    assert_eq!(leaver.next().await, None);
    assert_eq!(now(&mut stayer), Some(view(0).frame()));
    assert_eq!(now(&mut stayer), None);
    board.tell(&view(1), &pace).await;
    assert_eq!(now(&mut stayer), Some(view(1).frame()));
}
