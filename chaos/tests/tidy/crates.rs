//! Crates: who may know whom, and what each dependency is for.

use std::collections::BTreeSet;

use super::assert_none;
use super::repo::{file, files, has_word};

/// Which of our crates each one may know, and which more its tests may.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("proto", &[], &[]),
    ("router", &["proto", "runtime"], &["local"]),
    ("cell", &["proto", "runtime"], &["local"]),
    ("control-plane", &["proto", "runtime"], &["local"]),
    // The command line's tests serve a control plane in their own process.
    ("control-plane/cli", &["proto"], &["control-plane", "local", "runtime"]),
    ("deploy/runtime", &[], &["local"]),
    ("deploy/local", &[], &[]),
    // They know the planes by their APIs and stores only.
    ("chaos", &["local", "proto", "runtime"], &[]),
    ("chaos/bench", &["local", "proto", "runtime"], &[]),
    ("chaos/fuzz", &["proto", "runtime"], &[]),
];

/// Crates outside the workspace, and all that they may depend on: each is by itself, since nothing of the product needs
/// what it does.
const OUTSIDE: &[(&str, &[&str])] = &[("chaos/fuzz/engine", &["floodgate-fuzz", "libfuzzer-sys"])];

/// The entries of a manifest's section, each with its whole line.
fn section(
    manifest: &'static str,
    name: &str,
) -> impl Iterator<Item = (&'static str, &'static str)> {
    let header = format!("[{name}]");
    let lines = manifest.lines().skip_while(move |line| *line != header).skip(1);
    lines.take_while(|line| !line.starts_with('[')).filter_map(|line| {
        let (key, _) = line.split_once('=')?;
        let key = key.trim().trim_end_matches(".workspace");
        (!key.starts_with('#')).then_some((key, line))
    })
}

fn manifest(folder: &str) -> &'static str {
    &file(&format!("{folder}/Cargo.toml")).text
}

/// The names under which the workspace knows its own crates.
fn ours() -> BTreeSet<&'static str> {
    let all = section(&file("Cargo.toml").text, "workspace.dependencies");
    all.filter(|(_, line)| line.contains("path = ")).map(|(key, _)| key).collect()
}

#[test]
fn every_crate_has_its_edges() {
    let inside = EDGES.iter().map(|(folder, ..)| *folder);
    let known = inside.chain(OUTSIDE.iter().map(|(folder, _)| *folder));
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    let found = files().iter().filter_map(|file| file.path.strip_suffix("/Cargo.toml"));
    assert_eq!(known, found.map(str::to_owned).collect());
}

#[test]
fn crates_know_only_whom_they_may() {
    let (ours, mut strange) = (ours(), Vec::new());
    assert!(ours.contains("proto") && ours.contains("runtime"), "{ours:?}");
    for (folder, may, tests_may) in EDGES {
        for (kind, allowed) in [
            ("dependencies", may.to_vec()),
            ("build-dependencies", may.to_vec()),
            ("dev-dependencies", [*may, *tests_may].concat()),
        ] {
            for (name, line) in section(manifest(folder), kind) {
                // A crate of ours that came in by a path of its own is found as well.
                let is_ours = ours.contains(name) || line.contains("path =");
                if is_ours && !allowed.contains(&name) {
                    strange.push(format!("{folder} knows {name} ({kind})"));
                }
            }
        }
    }
    assert_none(&strange, "these crates must not know each other");
}

#[test]
fn versions_and_lints_stand_in_one_place() {
    let mut wrong = Vec::new();
    for (folder, ..) in EDGES {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let own =
                section(manifest(folder), kind).filter(|(_, line)| !has_word(line, "workspace"));
            wrong.extend(own.map(|(name, _)| format!("{folder}: {name}")));
        }
        if !section(manifest(folder), "lints").any(|(key, _)| key == "workspace") {
            wrong.push(format!("{folder}: lints"));
        }
    }
    assert_none(&wrong, "take these from the workspace");
}

#[test]
fn what_is_outside_the_workspace_is_by_itself() {
    let root = &file("Cargo.toml").text;
    for (folder, may) in OUTSIDE {
        let text = manifest(folder);
        assert!(text.lines().any(|line| line == "[workspace]"), "{folder} is in a workspace");
        assert!(root.contains(&format!("exclude = [\"{folder}\"]")), "{folder} is not excluded");
        let all: Vec<_> = section(text, "dependencies").collect();
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, *may, "{folder}");
        assert!(all.iter().all(|(_, line)| line.contains(" # ")), "{folder}: what are they for?");
    }
}

#[test]
fn every_dependency_has_a_job() {
    let all = section(&file("Cargo.toml").text, "workspace.dependencies");
    // What a crate of ours is for stands in its own manifest.
    let idle = all.filter(|(_, line)| !line.contains("path = ") && !line.contains(" # "));
    let idle: Vec<String> = idle.map(|(name, _)| name.to_owned()).collect();
    assert_none(&idle, "say at the end of the line what these are for");
    for (folder, ..) in EDGES {
        let described = section(manifest(folder), "package").any(|(key, _)| key == "description");
        assert!(described, "{folder} does not say what it is for");
    }
}
