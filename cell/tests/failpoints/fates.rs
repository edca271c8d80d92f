//! What happens at each failpoint of the list: a death, a deposition, a lost reply.

use local::{FailpointAction, FailpointKind};

use crate::play::Play;
use crate::scene::hit;

#[tokio::test]
async fn inv_6_a_process_may_die_at_every_step() {
    let mut play = Play::start(&["p1"]).await;
    for point in play.points().await {
        hit(&mut play, &point, FailpointAction::Crash).await;
    }
    play.end().await;
}

#[tokio::test]
async fn inv_8_a_keeper_may_be_deposed_at_every_step() {
    let mut play = Play::start(&["p1", "p2"]).await;
    for point in play.points().await {
        hit(&mut play, &point, FailpointAction::Pause).await;
    }
    play.end().await;
}

#[tokio::test]
async fn inv_3_every_reply_may_be_lost() {
    let mut play = Play::start(&["p1", "p2"]).await;
    let points = play.points().await;
    for point in points.iter().filter(|point| point.kind == FailpointKind::Reply) {
        hit(&mut play, point, FailpointAction::Lose).await;
    }
    play.end().await;
}
