//! The figures of watchers, taken with a few of them: that each sees every change and that one too many is told to poll
//! is a promise and no figure, and the program fails when it is broken.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::process::Command;

/// Two connections of gRPC, one of them not full, and clients of events.
const WATCHERS: &str = "200";
const SOCKETS: &str = "60";

#[test]
fn all_see_every_change_and_one_too_many_is_refused() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_floodgate-bench"));
    bench.args(["--only", "watchers", "--watchers", WATCHERS, "--sockets", SOCKETS]);
    let output = bench.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{why}");
    let figures: Vec<_> = said.lines().filter(|line| line.starts_with("bench ")).collect();
    assert!(figures[0].starts_with("bench watchers_on_sockets 60.00 "), "{said}");
    let count = |name: &str| figures.iter().filter(|line| line.contains(name)).count();
    assert_eq!([count("_memory"), count("_change_"), count("_call_")], [3, 4, 2], "{said}");
}
