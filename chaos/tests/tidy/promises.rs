//! Promises: each invariant stands in code, in tests, in an alert and in the README, under the same ID and sentence.

use proto::invariant::Invariant;

use super::assert_none;
use super::repo::{File, file, files, flat, has_word, top};

/// Where the planes' own code lies.
const PLANES: &[&str] =
    &["proto/src", "router/src", "cell/src", "control-plane/src", "deploy/runtime/src"];

/// Whether a text names an invariant, as people or as code do.
fn names(text: &str, invariant: Invariant) -> bool {
    has_word(text, invariant.id()) || has_word(text, &format!("{invariant:?}"))
}

fn is_registry(file: &File) -> bool {
    file.path == "proto/src/invariant.rs"
}

#[test]
fn every_invariant_stands_in_code_and_in_a_test() {
    let mut missing = Vec::new();
    for &invariant in Invariant::ALL {
        let kept =
            |file: &File| file.is_src() && !is_registry(file) && names(file.code(), invariant);
        if !files().iter().any(kept) {
            missing.push(format!("{invariant} in no code"));
        }
        let tried = |file: &File| file.extension() == "rs" && names(file.tests(), invariant);
        if !files().iter().any(tried) {
            missing.push(format!("{invariant} in no test"));
        }
    }
    assert_none(&missing, "say where the promise is kept, and try it");
}

#[test]
fn every_invariant_has_its_sentence_in_the_readme_and_an_alert() {
    for path in ["README.md", "deploy/alerts.yaml"] {
        let text = flat(&file(path).text);
        let there = |invariant: &&Invariant| {
            has_word(&text, invariant.id()) && text.contains(invariant.sentence())
        };
        let missing = Invariant::ALL.iter().filter(|invariant| !there(invariant));
        let missing: Vec<_> = missing.map(ToString::to_string).collect();
        assert_none(&missing, &format!("{path} does not have these in the words of invariant.rs"));
    }
}

#[test]
fn alerts_look_at_metrics_that_exist() {
    let alerts = &file("deploy/alerts.yaml").text;
    let expressions = alerts.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut missing = Vec::new();
    let (mut rules, mut looked) = (0, 0);
    for line in expressions {
        rules += usize::from(line.trim_start().starts_with("- alert:"));
        for word in line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if !word.starts_with("floodgate_") {
                continue;
            }
            looked += 1;
            let name = word.trim_end_matches("_bucket").trim_end_matches("_count");
            let quoted = format!("\"{name}\"");
            if !files().iter().any(|file| file.is_src() && file.code().contains(&quoted)) {
                missing.push(name.to_owned());
            }
        }
    }
    assert_none(&missing, "nothing exports these");
    assert!(rules > 0 && looked >= rules, "{rules} alerts look at {looked} metrics");
    assert_eq!(alerts.matches("runbook:").count(), rules, "an alert does not say what to do");
}

/// INV-11, the part of it that can be read: what waits, waits in something whose room is a named constant.
#[test]
fn every_queue_has_a_named_limit() {
    let queues =
        ["mpsc::channel", "broadcast::channel", "broadcast::Sender::new", "Semaphore::new"];
    let mut unnamed = Vec::new();
    let mut found = 0;
    for file in
        files().iter().filter(|file| PLANES.iter().any(|plane| file.path.starts_with(plane)))
    {
        assert!(!file.code().contains("unbounded"), "{} has a queue without a limit", file.path);
        for queue in queues {
            for (at, _) in file.code().match_indices(queue) {
                let after = &file.code()[at + queue.len()..];
                let Some((_, after)) = after.split_once('(') else { continue };
                let room = after.split(')').next().unwrap_or_default();
                found += 1;
                // A constant, or a field that carries one.
                let words = room.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                let named = |word: &str| {
                    word.ends_with("_max") || word.ends_with("_MAX") || word.ends_with("_WAITING")
                };
                if !words.into_iter().any(named) {
                    unnamed.push(format!("{}: {queue}({room})", file.path));
                }
            }
        }
    }
    assert!(found > 0, "no queue was found: has their way of writing changed?");
    assert_none(&unnamed, "give the room of these a name that ends in _MAX");
}

#[test]
fn files_that_the_readme_names_are_there() {
    let readme = &file("README.md").text;
    let ends = [".rs", ".lua", ".sql", ".sh", ".yaml", ".toml", ".proto", ".env", "/"];
    // Every second part lies between two backticks.
    let named = readme.split('`').skip(1).step_by(2);
    let paths = named.filter(|name| !name.contains(char::is_whitespace) && !name.contains('*'));
    let paths =
        paths.filter(|name| name.contains('/') && ends.iter().any(|end| name.ends_with(end)));
    let gone: Vec<_> = paths.filter(|path| !top().join(path).exists()).map(str::to_owned).collect();
    assert_none(&gone, "the README names these");
}
