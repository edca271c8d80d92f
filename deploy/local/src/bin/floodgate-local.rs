//! `floodgate-local`: a platform on this machine, and a way to hurt it from a second terminal.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use comfy_table::{Table, presets};
use floodgate_local::control::{self, ControlRequest, ControlSocket, ServerReport};
use floodgate_local::{Platform, PlatformPlan, StackOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;

/// Starts a whole platform on this machine, on free ports, and hurts it on request.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a platform and stay until Ctrl-C.
    Up(Up),
    /// List the servers of a running platform.
    Ps(Where),
    /// Kill a server at once, with everything it started (SIGKILL).
    Kill(Which),
    /// Stop a server in good order.
    Stop(Which),
    /// Stop a server in its tracks; its connections stay open (SIGSTOP).
    Pause(Which),
    /// Let a paused server go on (SIGCONT).
    Resume(Which),
    /// Start a server again, on its port, with its files.
    Restart(Which),
}

#[derive(Debug, Args)]
struct Up {
    /// Cells, each with a Redis, a Postgres and its processes.
    #[arg(long, default_value_t = 1)]
    cells: u32,
    /// Processes in each cell.
    #[arg(long, default_value_t = 2)]
    processes: u32,
    /// Edge routers.
    #[arg(long, default_value_t = 1)]
    routers: u32,
    /// Start etcd, the payment provider and the cells' stores, but no plane.
    #[arg(long)]
    stores_only: bool,
    /// An empty folder for all files, kept afterwards [default: one in the temporary folder, removed].
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Where {
    /// The run folder [default: that of the one platform running].
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Which {
    /// The server's name, as `ps` shows it.
    name: String,
    #[command(flatten)]
    platform: Where,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Up(args) => up(args).await,
        Command::Ps(platform) => {
            let servers = control::ask(&platform.find().await?, &ControlRequest::Ps).await?;
            say(table(&servers));
            Ok(())
        }
        Command::Kill(which) => which.ask(|name| ControlRequest::Kill { name }).await,
        Command::Stop(which) => which.ask(|name| ControlRequest::Stop { name }).await,
        Command::Pause(which) => which.ask(|name| ControlRequest::Pause { name }).await,
        Command::Resume(which) => which.ask(|name| ControlRequest::Resume { name }).await,
        Command::Restart(which) => which.ask(|name| ControlRequest::Restart { name }).await,
    }
}

async fn up(args: Up) -> anyhow::Result<()> {
    let options =
        StackOptions { keep: args.folder.is_some(), folder: args.folder, ..Default::default() };
    let plan = PlatformPlan {
        cells: args.cells,
        processes: args.processes,
        routers: args.routers,
        stores_only: args.stores_only,
        options,
        ..Default::default()
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let end = async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    };
    tokio::pin!(end);

    // An end while it starts drops the platform, which kills what has been started.
    let platform = tokio::select! {
        started = Platform::start(plan) => started?,
        () = &mut end => return Ok(()),
    };
    let control = ControlSocket::bind(platform.stack())?;
    welcome(&platform);
    tokio::select! {
        () = &mut end => say("stopping"),
        () = control.serve(platform.stack()) => {}
        () = tell_exits(&platform) => {}
    }
    Ok(platform.shutdown().await?)
}

fn welcome(platform: &Platform) {
    let stack = platform.stack();
    say(table(&control::report(stack)));
    say(format!("files and logs: {}", stack.folder().display()));
    say(format!("platform key:   {}", platform.key().private.display()));
    say("passwords:      users.conf in the folder of each Redis");
    say("In a second terminal: floodgate-local ps | kill | stop | pause | resume | restart NAME");
    say("Ctrl-C stops everything.");
}

async fn tell_exits(platform: &Platform) {
    let mut exits = platform.stack().exits();
    loop {
        match exits.recv().await {
            Ok(exit) => say(format!(
                "{} (process {}) ended by itself: {}; it stays down until you restart it",
                exit.name, exit.pid, exit.status
            )),
            Err(RecvError::Lagged(more)) => say(format!("{more} more servers ended by themselves")),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Writes a line to whoever still listens: a closed terminal is no reason to leave servers behind.
fn say(what: impl Display) {
    writeln!(std::io::stdout(), "{what}").ok();
}

impl Where {
    async fn find(self) -> anyhow::Result<PathBuf> {
        if let Some(folder) = self.folder {
            return Ok(folder);
        }
        let mut running = control::running_folders().await;
        let only =
            running.pop().context("no platform is running; start one: floodgate-local up")?;
        if running.is_empty() {
            return Ok(only);
        }
        running.push(only);
        let names: Vec<String> = running.iter().map(|path| path.display().to_string()).collect();
        bail!("several platforms are running; choose one with --folder: {}", names.join(", "))
    }
}

impl Which {
    async fn ask(self, request: impl FnOnce(String) -> ControlRequest) -> anyhow::Result<()> {
        let folder = self.platform.find().await?;
        let servers = control::ask(&folder, &request(self.name.clone())).await?;
        let shown: Vec<_> = servers.into_iter().filter(|one| one.name == self.name).collect();
        say(table(&shown));
        Ok(())
    }
}

fn table(servers: &[ServerReport]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["NAME", "STATE", "PID", "ADDRESS", "METRICS"]);
    for server in servers {
        let pid = server.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let metrics = server.metrics.map(|address| format!("http://{address}")).unwrap_or_default();
        table.add_row([&server.name, &server.state, &pid, &server.url, &metrics]);
    }
    table
}
