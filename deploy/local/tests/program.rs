//! The program `floodgate-local`: a platform that people start, hurt from a second terminal, and leave.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use floodgate_local::control::{self, ControlRequest, ServerReport};
use floodgate_local::{PlaneBinaries, PlaneExtras, Platform, PlatformPlan, ServerState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Long enough for a slow machine; no test waits that long unless it fails.
const DEADLINE: Duration = Duration::from_secs(30);

const PROGRAM: &str = env!("CARGO_BIN_EXE_floodgate-local");

/// A running `up`, ended with its test.
struct Up {
    child: Child,
    folder: PathBuf,
}

impl Up {
    fn start(args: &[&str]) -> Self {
        Self::wait(Command::new(PROGRAM).arg("up").args(args).stdout(Stdio::piped()).spawn())
    }

    fn wait(spawned: std::io::Result<Child>) -> Self {
        let mut child = spawned.unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut folder = None;
        for line in lines.map(Result::unwrap) {
            if let Some(path) = line.strip_prefix("files and logs: ") {
                folder = Some(PathBuf::from(path));
            }
            if line.starts_with("Ctrl-C") {
                break;
            }
        }
        Self { child, folder: folder.expect("up said where its files are") }
    }

    async fn ps(&self) -> Vec<ServerReport> {
        control::ask(&self.folder, &ControlRequest::Ps).await.unwrap()
    }

    /// Runs the program as a person would; returns whether it was content, and what it said.
    fn run(&self, args: &[&str]) -> (bool, String) {
        let output =
            Command::new(PROGRAM).args(args).arg("--folder").arg(&self.folder).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn working_in(folder: &Path) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let inside = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    };
    pids.filter(inside).collect()
}

#[tokio::test]
async fn servers_die_with_a_program_that_is_killed() {
    let mut up = Up::start(&["--stores-only", "--cells", "1"]);
    let all = working_in(&up.folder);
    assert!(all.len() > 6, "etcd, provider, Redis, Postgres with its backends: {all:?}");

    send(up.child.id(), Signal::SIGKILL);
    up.child.wait().unwrap();

    until("every server is gone", || !all.iter().any(|pid| is_alive(*pid))).await;
}

#[tokio::test]
async fn the_next_stack_clears_what_a_killed_one_left() {
    let mut up = Up::start(&["--stores-only"]);
    let (content, said) = up.run(&["pause", "cell-1/postgres"]);
    assert!(content, "{said}");
    let all = working_in(&up.folder);
    send(up.child.id(), Signal::SIGKILL);
    up.child.wait().unwrap();
    assert!(up.folder.exists());

    let options = floodgate_local::StackOptions::default();
    let _stack = floodgate_local::Stack::new(options).await.unwrap();

    // Or the next but one: another test's stack may have been faster and be at it still.
    until("paused backends are gone", || !all.iter().any(|pid| is_alive(*pid))).await;
    until("their folder is gone", || !up.folder.exists()).await;
}

#[tokio::test]
async fn a_second_terminal_hurts_and_heals() {
    let mut up = Up::start(&["--stores-only", "--cells", "2"]);
    let names: Vec<String> = up.ps().await.into_iter().map(|one| one.name).collect();
    let expected =
        ["cell-1/postgres", "cell-1/redis", "cell-2/postgres", "cell-2/redis", "etcd", "provider"];
    assert_eq!(names, expected);

    let steps = [
        ("pause", "cell-1/postgres", "paused"),
        ("resume", "cell-1/postgres", "running"),
        ("kill", "cell-2/redis", "down"),
        ("restart", "cell-2/redis", "running"),
        ("stop", "etcd", "down"),
    ];
    for (step, name, state) in steps {
        let (content, said) = up.run(&[step, name]);
        assert!(content && said.contains(name) && said.contains(state), "{step} {name}: {said}");
        let servers = up.ps().await;
        let server = servers.iter().find(|one| one.name == name).unwrap();
        assert_eq!(server.state, state, "{step} {name}");
        assert_eq!(server.pid.is_some(), state != "down");
    }
    let (content, said) = up.run(&["kill", "cell-7/redis"]);
    assert!(!content && said.contains("no server is named cell-7/redis"), "{said}");
    let (content, said) = up.run(&["pause", "etcd"]);
    assert!(!content && said.contains("etcd is down; it cannot be paused"), "{said}");

    let all = working_in(&up.folder);
    send(up.child.id(), Signal::SIGTERM);
    assert!(up.child.wait().unwrap().success());
    assert!(!all.iter().any(|pid| is_alive(*pid)));
    assert!(!up.folder.exists());
}

#[tokio::test]
async fn many_may_be_the_first_on_a_machine_and_strict_about_files() {
    let cache = tempfile::tempdir().unwrap();
    let spawn = || {
        let mut strict = Command::new("sh");
        strict.args(["-c", "umask 077; exec \"$0\" up --stores-only", PROGRAM]);
        strict.env("XDG_CACHE_HOME", cache.path()).stdout(Stdio::piped()).spawn()
    };
    let all: Vec<_> = (0..3).map(|_| spawn()).collect();
    let all: Vec<Up> = all.into_iter().map(Up::wait).collect();
    for up in &all {
        assert!(up.ps().await.iter().all(|server| server.state == "running"));
    }
    let cached = std::fs::read_dir(cache.path().join("floodgate")).unwrap().flatten();
    let mut cached: Vec<_> = cached.map(|entry| entry.file_name().into_string().unwrap()).collect();
    cached.sort();
    assert_eq!(cached.len(), 2, "one template and its lock: {cached:?}");
    assert_eq!(cached[1], "postgres-template.lock");
}

#[tokio::test]
async fn a_chosen_folder_is_kept() {
    let parent = tempfile::tempdir().unwrap();
    // Postgres' own user must be able to get there.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(parent.path(), open).unwrap();
    let folder = parent.path().join("run");
    let mut up = Up::start(&["--stores-only", "--folder", folder.to_str().unwrap()]);
    send(up.child.id(), Signal::SIGTERM);
    assert!(up.child.wait().unwrap().success());
    assert!(folder.join("logs/cell-1.redis.log").exists());
    assert!(folder.join("platform.key").exists());
    let log = std::fs::read_to_string(folder.join("logs/cell-1.postgres.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

/// Where a stand-in finds its command line.
const STAND_IN: &str = "FLOODGATE_STAND_IN";

/// No test but a plane's stand-in: this program is started as one by `stand_in_program`. It notes how it
/// was started and answers `/readyz`.
#[test]
fn stand_in() {
    let Ok(line) = std::env::var(STAND_IN) else { return };
    let words: Vec<&str> = line.split(' ').collect();
    let flags: BTreeMap<&str, &str> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let env: BTreeMap<String, String> = std::env::vars().collect();
    let started = serde_json::json!({"flags": flags, "env": env}).to_string();
    std::fs::write(Path::new(flags["--data-dir"]).join("started.json"), started).unwrap();
    for stream in TcpListener::bind(flags["--metrics-listen"]).unwrap().incoming() {
        let mut stream = stream.unwrap();
        let mut request = String::new();
        BufReader::new(&stream).read_line(&mut request).unwrap();
        assert_eq!(request, "GET /readyz HTTP/1.1\r\n");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}

fn stand_in_program() -> String {
    let this = std::env::current_exe().unwrap();
    let this = this.display();
    format!("#!/bin/sh\n{STAND_IN}=\"$*\" exec {this} --exact stand_in --nocapture\n")
}

#[tokio::test]
async fn a_platform_starts_every_plane_with_the_flags_it_expects() {
    let folder = tempfile::tempdir().unwrap();
    for program in ["floodgate-control-plane", "floodgate-router", "floodgate-cell"] {
        let path = folder.path().join(program);
        std::fs::write(&path, stand_in_program()).unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, open).unwrap();
    }
    let plan = PlatformPlan {
        cells: 2,
        processes: 2,
        routers: 2,
        binaries: PlaneBinaries::within(folder.path().to_owned()),
        cell: PlaneExtras {
            args: vec!["--more".to_owned(), "this".to_owned()],
            env: vec![("FLOODGATE_TEST".to_owned(), "yes".to_owned())],
        },
        ..PlatformPlan::default()
    };
    let platform = Platform::start(plan).await.unwrap();
    let stack = platform.stack();
    let url = |name: &str| stack.endpoint(name).unwrap().url;

    let started = |name: &str| {
        let path = stack.folder().join(name).join("started.json");
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    };
    for name in
        ["control-plane", "router", "router-2", "cell-1/p1", "cell-1/p2", "cell-2/p1", "cell-2/p2"]
    {
        let flags = &started(name)["flags"];
        let endpoint = stack.endpoint(name).unwrap();
        assert_eq!(flags["--listen"], endpoint.address.to_string(), "{name}");
        assert_eq!(flags["--metrics-listen"], endpoint.metrics.unwrap().to_string(), "{name}");
        assert_eq!(flags["--etcd"], url("etcd"), "{name}");
        assert_eq!(stack.state(name).unwrap(), ServerState::Running);
    }
    let key = started("control-plane")["flags"]["--platform-key"].as_str().unwrap().to_owned();
    assert_eq!(Path::new(&key), platform.key().public);
    let cell = started("cell-2/p1");
    let flags = &cell["flags"];
    assert_eq!((&flags["--cell"], &flags["--process"]), (&"cell-2".into(), &"p1".into()));
    let ledger = flags["--ledger-key"].as_str().unwrap();
    assert!(ledger.ends_with("cell-2.ledger.key") && Path::new(ledger).exists(), "{ledger}");
    assert_eq!(cell["env"]["FLOODGATE_REDIS"], url("cell-2/redis"), "its password is no argument");
    assert_eq!(flags["--postgres"], url("cell-2/postgres"));
    assert_eq!(flags["--postgres-owner"], stack.postgres_owner_url("cell-2").unwrap());
    assert_eq!(flags["--provider"], url("provider"));
    assert_eq!((&flags["--more"], &cell["env"]["FLOODGATE_TEST"]), (&"this".into(), &"yes".into()));
    assert!(cell["env"].get("HOME").is_none(), "the developer's environment leaked in");
    platform.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_platform_that_is_not_built_says_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let plan = PlatformPlan {
        binaries: PlaneBinaries::within(folder.path().to_owned()),
        ..PlatformPlan::default()
    };
    let error = Platform::start(plan).await.unwrap_err().to_string();
    assert!(error.contains("cargo build --workspace"), "{error}");
}
