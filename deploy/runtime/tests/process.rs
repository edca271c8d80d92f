//! A process as others see it: exit codes, log lines, ports, signals.
//!
//! Telemetry and signals belong to a whole process, so every test runs this program again as a child
//! whose only test is [`plane`], and which prints how it ended.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::Duration;

use floodgate_runtime::config::{self, BAD_CONFIG, ProcessArgs};
use floodgate_runtime::process::{self, Context};
use floodgate_runtime::readiness::SERVING;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[derive(Debug, clap::Parser)]
struct Args {
    #[command(flatten)]
    process: ProcessArgs,
}

/// Not a test of its own: the others run it in a process of its own, and say so by its arguments.
#[test]
fn plane() {
    let Ok(words) = std::env::var("PLANE_ARGS") else { return };
    let does = std::env::var("PLANE_DOES").unwrap();
    let code = match config::parse_from::<Args, _, _>(words.split(' ')) {
        Ok(args) => process::run("test", "1.2.3", &args.process, |context| run(context, does)),
        Err(code) => code,
    };
    println!("\nended {code:?}");
}

async fn run(context: Context, does: String) -> anyhow::Result<()> {
    assert!(context.data_dir.is_dir());
    context.readiness.set(SERVING, true);
    tracing::info!("serving");
    match does.as_str() {
        "fail" => anyhow::bail!("on purpose"),
        "panic" => panic!("on purpose"),
        "overrun" => std::future::pending().await,
        _ => context.drain.cancelled().await,
    }
    Ok(())
}

struct Ran {
    child: Child,
    output: BufReader<ChildStdout>,
    lines: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Ran {
    fn start(does: &str, args: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("made/for/it");
        let words = format!("plane --data-dir {} {args}", data.display());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "plane", "--nocapture"])
            .env("PLANE_DOES", does)
            .env("PLANE_ARGS", words.trim_end())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, lines: Vec::new(), _folder: folder }
    }

    /// Reads until a line has all of `parts`.
    fn line(&mut self, parts: &[&str]) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).unwrap();
            assert!(read > 0, "no line with {parts:?} in {:#?}", self.lines);
            self.lines.push(line.clone());
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }

    fn address(&mut self, port: &str) -> SocketAddr {
        let line = self.line(&["\"listening\"", &format!("\"port\":\"{port}\"")]);
        let (_, rest) = line.split_once("\"address\":\"").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn ends_with(&mut self, code: ExitCode) {
        let line = self.line(&["ended "]);
        assert_eq!(line.trim(), format!("ended {code:?}"), "{:#?}", self.lines);
        self.child.wait().unwrap();
    }
}

impl Drop for Ran {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn status(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_says_its_addresses_answers_and_ends_when_told() {
    for (signal, name) in [(Signal::SIGTERM, "SIGTERM"), (Signal::SIGINT, "SIGINT")] {
        let mut ran = Ran::start("wait", "--threads 1 --drain-notice-ms 60000");
        ran.line(&["\"message\":\"starting\"", "\"version\":\"1.2.3\"", "\"level\":\"INFO\""]);
        let listen = ran.address("listen");
        let metrics = ran.address("metrics");
        TcpStream::connect(listen).unwrap();
        ran.line(&["\"message\":\"serving\""]);
        assert!(status(metrics, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(status(metrics, "/metrics").contains(r#"plane="test",version="1.2.3""#));
        ran.signal(signal);
        ran.line(&["\"message\":\"told to stop\"", name]);
        // It is in its notice: unready, and still working.
        assert!(status(metrics, "/readyz").starts_with("HTTP/1.1 503"));
        TcpStream::connect(listen).unwrap();
        ran.signal(signal);
        ran.ends_with(ExitCode::SUCCESS);
    }
}

#[test]
fn a_plane_that_overruns_its_grace_is_named() {
    let mut ran = Ran::start("overrun", "--drain-grace-ms 100");
    ran.address("metrics");
    ran.signal(Signal::SIGTERM);
    ran.line(&["\"level\":\"WARN\"", "the drain's grace ran out", "plane: 1"]);
    ran.ends_with(ExitCode::FAILURE);
}

#[test]
fn a_plane_that_fails_or_panics_ends_its_process() {
    let mut ran = Ran::start("fail", "");
    ran.line(&["\"level\":\"ERROR\"", "the plane failed", "on purpose"]);
    ran.ends_with(ExitCode::FAILURE);
    let mut ran = Ran::start("panic", "--threads 2");
    ran.line(&["\"level\":\"ERROR\"", "panicked", "on purpose", "tests/process.rs"]);
    ran.ends_with(ExitCode::FAILURE);
}

#[test]
fn bad_configuration_exits_with_64_and_a_taken_port_with_1() {
    for args in ["--listen nowhere", "--log =,=", "--otlp-endpoint http://[broken", "--what"] {
        Ran::start("wait", args).ends_with(ExitCode::from(BAD_CONFIG));
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let args = format!("--listen {}", taken.local_addr().unwrap());
    Ran::start("wait", &args).ends_with(ExitCode::FAILURE);
}
