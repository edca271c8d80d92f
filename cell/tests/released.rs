//! What is released has no failpoint and no seeded bug in it: their names are looked for in the program, with the
//! feature, where all must be found, and without it, where none may be.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

/// The lists as they are written.
const LISTS: [&str; 2] =
    [include_str!("../src/failpoint.rs"), include_str!("../src/seeded/plant.rs")];
/// What steers them.
const CONTROLS: [&str; 2] = ["/failpoints/{name}", "FLOODGATE_SEEDED_BUG"];

/// The names in the lists: `Something = "name", …;`
fn names() -> Vec<&'static str> {
    let lines = LISTS.iter().flat_map(|list| list.lines());
    let entries = lines.filter(|line| line.trim_end().ends_with(';'));
    let names = entries.filter_map(|line| line.split_once(" = \"")?.1.split('"').next());
    // Whatever is not a name of two parts could stand in any program.
    names.filter(|name| name.contains(['.', '-'])).chain(CONTROLS).collect()
}

#[test]
fn drills_are_in_the_program_for_drills_and_in_no_other() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_floodgate-cell")).unwrap();
    let program = String::from_utf8_lossy(&program);
    let names = names();
    assert!(names.len() > 45, "the lists are written in another way: {names:?}");
    let found: Vec<_> = names.iter().filter(|name| program.contains(**name)).collect();
    if cfg!(feature = "drills") {
        assert_eq!(found.len(), names.len(), "only these were found: {found:?}");
    } else {
        assert!(found.is_empty(), "{found:?}");
    }
}
