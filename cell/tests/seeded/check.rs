//! Checks: tests of this crate, each run as a program of its own, with a bug planted or without.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// No check takes longer, bug or not.
const LIMIT: Duration = Duration::from_secs(180);
const VARIABLE: &str = "FLOODGATE_SEEDED_BUG";
/// Another crate may have tests of the same names.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");

/// A check that failed.
pub(crate) struct Ran {
    pub(crate) check: &'static str,
    /// The first thing that it complained of.
    pub(crate) said: String,
}

/// A check: its program and its name.
pub(crate) type Check = (&'static str, &'static str);

/// The checks, and where their programs are.
pub(crate) struct Checks {
    checks: &'static [Check],
    programs: BTreeMap<String, PathBuf>,
}

impl Checks {
    /// Has cargo build the tests, with the features that this one was built with, and say where they are.
    pub(crate) fn build(checks: &'static [Check]) -> Checks {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["test", "--locked", "--no-run", "--message-format=json", "--workspace"]);
        build.args(["--features", "floodgate-cell/drills"]);
        // What cargo has told this program is not for the next cargo: build scripts look at it.
        let told = std::env::vars().map(|(name, _)| name);
        let told = told.filter(|name| name.starts_with("CARGO_PKG") || name.starts_with("CARGO_M"));
        for name in told {
            build.env_remove(name);
        }
        let mut wanted: Vec<&str> = checks.iter().map(|(program, _)| *program).collect();
        wanted.dedup();
        for program in wanted {
            build.args(["--test", program]);
        }
        let built = build.stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "the checks are not built");
        let mut programs = BTreeMap::new();
        for line in String::from_utf8_lossy(&built.stdout).lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let ours = message["manifest_path"].as_str() == Some(MANIFEST);
            let name = message["target"]["name"].as_str().filter(|_| ours);
            if let Some((name, program)) = name.zip(message["executable"].as_str()) {
                programs.insert(name.to_owned(), PathBuf::from(program));
            }
        }
        Checks { checks, programs }
    }

    /// All of them, those whose names begin with `first` before the others.
    pub(crate) fn in_order(&self, first: &str) -> impl Iterator<Item = Check> + use<> {
        let (mut order, others): (Vec<Check>, Vec<Check>) =
            self.checks.iter().partition(|(_, name)| name.starts_with(first));
        assert!(!order.is_empty(), "no check begins with {first}");
        order.extend(others);
        order.into_iter()
    }

    /// Runs one. None: it found nothing wrong.
    pub(crate) fn run(&self, (program, check): Check, bug: Option<&str>) -> Option<Ran> {
        let mut command = Command::new(&self.programs[program]);
        command.args(["--exact", check, "--nocapture"]).env(VARIABLE, bug.unwrap_or_default());
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        let output = tempfile::tempfile().unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
        let began = Instant::now();
        let mut child = command.spawn().unwrap();
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if began.elapsed() > LIMIT => break None,
                None => pause(),
            }
        };
        if ended.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let said = text(output);
        let passed = ended.is_some_and(|status| status.success()) && said.contains("1 passed");
        let outcome = if passed { "finds nothing" } else { "complains" };
        let took = began.elapsed();
        println!("{} | {check} {outcome} after {took:.1?}", bug.unwrap_or("no bug"));
        (!passed).then(|| Ran { check, said: complaint(&said, ended.is_none()) })
    }
}

fn text(mut output: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut said = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut said).unwrap();
    String::from_utf8_lossy(&said).into_owned()
}

#[expect(clippy::disallowed_methods, reason = "there is no other thread here")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// The lines of the first panic.
fn complaint(said: &str, late: bool) -> String {
    let after = said.split_once("panicked at ").and_then(|(_, after)| after.split_once('\n'));
    let lines = after.map(|(_, after)| after.lines());
    let lines = lines.into_iter().flatten().take_while(|line| !line.starts_with("note: "));
    let what: Vec<&str> = lines.map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    match (what.is_empty(), late) {
        (false, _) => what.join("; "),
        (true, true) => format!("it did not end within {LIMIT:?}"),
        (true, false) => "it failed without a word".to_owned(),
    }
}
