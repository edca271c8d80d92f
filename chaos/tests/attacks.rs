//! Every attack on a router's port is turned away: connections are closed, messages that are none are refused with a
//! reason, the router's memory stays, and honest clients beside are served.
//!
//! Each connection is attacked on once, and nothing is timed: a busy machine may be slow.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "tests")]

use floodgate_chaos::attack::{self, Attack, AttackPlan};
use floodgate_chaos::report::Proof;

const CONNECTIONS: usize = 20;

#[tokio::test]
async fn every_attack_is_turned_away() {
    let plan = AttackPlan {
        connections: CONNECTIONS,
        lasts: None,
        ..AttackPlan::new(Attack::ALL.to_vec())
    };
    let mut out = Vec::new();
    let proof = attack::run(&plan, &mut out).await.unwrap();
    let drawn = String::from_utf8(out).unwrap();
    eprintln!("{drawn}");
    assert_eq!(proof, Proof::Kept, "{drawn}");
}
