//! Style is a test: what the repository promises its readers, read off its files. No server is started.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "tidy/crates.rs"]
mod crates;
#[path = "tidy/promises.rs"]
mod promises;
#[path = "tidy/repo.rs"]
mod repo;
#[path = "tidy/variables.rs"]
mod variables;

use repo::{File, files};

/// Lines of one source file.
const LINES_MAX: usize = 400;

/// Longer files, each with the reason why it is one thing.
const LONGER: &[(&str, &str)] = &[];

/// What says that something was left open. Put together here, so that this file does not say it.
const LEFT_OPEN: &[&str] =
    &[concat!("FIX", "ME"), concat!("TO", "DO"), concat!("X", "XX"), concat!("HA", "CK")];

/// What is a matter of how a project is made, and not of what it is.
const FOREIGN: &[&str] =
    &[concat!("A", "I"), concat!("L", "LM"), concat!("age", "nt"), concat!("help", "er")];

/// Fails with every offender at once.
fn assert_none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn every_source_file_opens_with_what_it_is() {
    let opens = |file: &File| {
        let first = file.text.lines().next().unwrap_or_default();
        let mark = match file.extension() {
            "rs" => "//! ",
            "lua" | "sql" => "-- ",
            "proto" => "// ",
            "sh" => return file.text.lines().nth(1).is_some_and(|line| line.starts_with("# ")),
            _ => return true,
        };
        first.len() > mark.len() && first.starts_with(mark)
    };
    let ours = files().iter().filter(|file| !file.path.starts_with("proto/google/"));
    let closed: Vec<_> = ours.filter(|file| !opens(file)).map(|file| file.path.clone()).collect();
    assert_none(&closed, "these do not begin with a comment that says what they are");
}

#[test]
fn every_redis_function_says_what_it_takes_and_returns() {
    let mut silent = Vec::new();
    for file in files().iter().filter(|file| file.extension() == "lua") {
        let registers = file.text.contains("redis.register_function");
        let says =
            |word: &str| file.text.lines().any(|line| line.starts_with(&format!("-- {word}")));
        if registers && !(says("KEYS") && says("ARGV") && says("Returns")) {
            silent.push(file.path.clone());
        }
    }
    assert_none(&silent, "these name no KEYS, ARGV or Returns at the head of their functions");
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for file in files().iter().filter(|file| ["rs", "lua", "sql", "sh"].contains(&file.extension()))
    {
        let lines = file.text.lines().count();
        let excused = LONGER.iter().any(|(path, _)| *path == file.path);
        if (lines > LINES_MAX) != excused {
            let what = if excused { "needs no excuse any more" } else { "is longer" };
            wrong.push(format!("{}: {lines} lines, {what}", file.path));
        }
    }
    assert_none(&wrong, "a file has at most 400 lines");
}

#[test]
fn modules_are_named_after_their_file() {
    let named = |file: &&File| file.path.ends_with("/mod.rs");
    let wrong: Vec<_> = files().iter().filter(named).map(|file| file.path.clone()).collect();
    assert_none(&wrong, "name it x.rs, beside the folder x");
}

#[test]
fn nothing_is_left_open() {
    let stubs = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("#[ig", "nore")];
    let mut open = Vec::new();
    for (file, number, line) in repo::lines() {
        // In a string, such a word may be data.
        let comment = ["//", "#", "--"].iter().filter_map(|begin| line.find(begin)).min();
        let remark = if file.extension() == "md" { Some(0) } else { comment };
        let marked =
            remark.is_some_and(|at| LEFT_OPEN.iter().any(|mark| repo::has_word(&line[at..], mark)));
        let stub = file.extension() == "rs" && stubs.iter().any(|stub| line.contains(stub));
        if marked || stub {
            open.push(format!("{}:{number}: {}", file.path, line.trim()));
        }
    }
    assert_none(&open, "finish it, or say in the README that it is not there");
}

#[test]
fn the_project_speaks_of_itself_only() {
    let paths = [concat!("/wo", "rk/"), concat!("/tmp/ba", "sh_jobs")];
    let labels: Vec<String> = (1..=9).map(|number| format!("D{number}")).collect();
    let mut strange = Vec::new();
    for (file, number, line) in repo::lines() {
        let word = |word: &str| repo::has_word(line, word);
        let label = |label: &String| repo::has_word(line, label);
        let numbered = line.to_lowercase().contains(concat!("se", "ed 00"));
        if paths.iter().any(|path| line.contains(path))
            || FOREIGN.iter().any(|foreign| word(foreign))
            || labels.iter().any(label)
            || numbered
        {
            strange.push(format!("{}:{number}: {}", file.path, line.trim()));
        }
    }
    assert_none(&strange, "a reader cannot know what these mean");
}
