//! The edge: what a call costs in the router and the cell together, beside a direct call to a bare server and beside
//! HAProxy and nginx in front of one; with and without TLS, with tokens that the router knows and with others.

mod fresh;
mod request;
mod server;

use crate::cpu;
use crate::figure::{Budget, Figure};
use crate::h2load::{self, Shape};
use crate::sale::Cell;
use anyhow::{Result, ensure};
use local::{Authority, CertificateFiles};
use proto::wire::admin::sale::Class;
use request::check;
use server::Server;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a request, without the frame's head.
const REQUEST_BYTES: usize = 170;
const CALL: &str = "/floodgate.fleet.v1.ProbeService/Probe";
const POLL: &str = "/floodgate.storefront.v1.StorefrontService/GetTicket";
/// A bare server that is slower than this says that the machine is busy with something else.
const VOID_ABOVE_US: f64 = 15.0;

const SHAPES: [(Shape, f64, f64); 3] = [
    (Shape { connections: 8, streams: 32 }, 1.3, 0.6),
    (Shape { connections: 200, streams: 1 }, 1.5, 0.6),
    (Shape { connections: 1000, streams: 1 }, 2.0, 0.7),
];
const ALL_LAYERS: f64 = 1.6;
/// Calls with tokens that were never seen, for each second of a figure: about as many as one thread verifies.
const FRESH_PER_S: u64 = 8_000;
/// All quotas are counted and none is used up: one address and one buyer make all calls.
const LAYERS: [&str; 14] = [
    "--threads",
    "1",
    "--buyer-calls-per-s",
    "10000000",
    "--buyer-calls-burst",
    "10000000",
    "--address-calls-per-s",
    "10000000",
    "--org-calls-per-s",
    "10000000",
    "--router-calls-per-s",
    "10000000",
    "--connections-per-address-max",
    "10000",
];
const OPEN: [&str; 5] =
    ["--threads", "1", "--open-probe", "--connections-per-address-max", "10000"];

/// The servers to compare, each on one thread.
struct Edge {
    cell: Cell,
    probe: PathBuf,
    bare: Server,
    haproxy: Server,
    nginx: Server,
    token: String,
    seconds: u64,
}

/// Where calls go, and whose time they cost.
struct Target {
    url: String,
    token: Option<String>,
    pids: Vec<u32>,
}

/// Takes all figures of the edge.
pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let edge = Edge::start(seconds).await?;
    for (shape, direct_most, haproxy_most) in SHAPES {
        edge.compare(shape, direct_most, haproxy_most).await?;
    }
    edge.fresh().await?;
    edge.polls().await?;
    edge.encrypted().await
}

impl Edge {
    async fn start(seconds: u64) -> Result<Edge> {
        let cell = Cell::start(&["--threads", "1"]).await?;
        let folder = cell.stack().folder();
        let probe = request::probe(folder)?;
        let bare = Server::bare(None).await?;
        let haproxy = Server::haproxy(folder, bare.address, None).await?;
        let nginx = Server::nginx(folder, bare.address).await?;
        let open = cell.start_router("router", &OPEN).await?.url;
        let layered = cell.start_router("router-2", &LAYERS).await?.url;
        let token = cell.token("prober");
        check(&open, None).await?;
        check(&layered, Some(&token)).await?;
        Ok(Edge { cell, probe, bare, haproxy, nginx, token, seconds })
    }

    async fn compare(&self, shape: Shape, direct_most: f64, haproxy_most: f64) -> Result<()> {
        let load = |target: Target| async move {
            us_per_call(&target, CALL, &self.probe, shape, self.seconds).await
        };
        let how = how(shape, self.seconds);
        let direct = load(self.direct()?).await?;
        let ours = load(self.router("router", None)?).await?;
        let by_haproxy = load(self.before_bare(&self.haproxy)?).await?;
        let by_nginx = load(self.before_bare(&self.nginx)?).await?;
        let before = request::refusals(self.cell.stack(), "router-2").await?;
        let layers = load(self.router("router-2", Some(&self.token))?).await?;
        let refused = request::refusals(self.cell.stack(), "router-2").await? - before;
        ensure!(refused == 0, "{refused} calls were refused");
        let is_void = shape.streams > 1 && direct > VOID_ABOVE_US;
        let limit = if is_void { Budget::AtMost(VOID_ABOVE_US) } else { Budget::None };
        say(format!("edge_bare_us_{shape}"), direct, "us/call", limit, how.clone());
        let all_layers = if shape.streams > 1 { Budget::AtMost(ALL_LAYERS) } else { Budget::None };
        let off = format!("router and cell {ours:.2} us a call, layers off");
        let on = format!("router and cell {layers:.2} us a call, token remembered, quotas counted");
        let (plain, haproxy, nginx) = (
            "the bare server's",
            "HAProxy h2 to h2 and the bare server",
            "nginx grpc_pass and the bare server",
        );
        for (name, ours, what, other, beside, budget) in [
            ("edge_cpu_vs_bare", ours, &off, direct, plain, Budget::AtMost(direct_most)),
            ("edge_cpu_vs_haproxy", ours, &off, by_haproxy, haproxy, Budget::AtMost(haproxy_most)),
            ("edge_cpu_vs_nginx", ours, &off, by_nginx, nginx, Budget::None),
            ("edge_layers_cpu_vs_bare", layers, &on, direct, plain, all_layers),
        ] {
            let how = format!("{what}, over {beside} {other:.2}; {how}");
            say(format!("{name}_{shape}"), ours / other, "x", budget, how);
        }
        Ok(())
    }

    /// Every call with a token that the router has never seen, beside the same tokens again.
    async fn fresh(&self) -> Result<()> {
        let tokens = usize::try_from(self.seconds * FRESH_PER_S)?;
        let Target { url, pids, .. } = self.router("router-2", None)?;
        let (fresh, again) = fresh::us_per_call(&self.cell, &url, &pids, tokens).await?;
        let how = format!(
            "router and cell {fresh:.2} us a call with a token never seen, over {again:.2} with the same {tokens} tokens again; all layers on, \
             own generator at 8x32, user+system time from /proc"
        );
        say("edge_token_never_seen_us".into(), fresh, "us/call", Budget::None, how.clone());
        say("edge_token_never_seen_vs_remembered".into(), fresh / again, "x", Budget::None, how);
        Ok(())
    }

    /// Polls that the router answers from memory.
    async fn polls(&self) -> Result<()> {
        let sale = "spoll";
        self.cell.open_sale(sale, 1_000, Class::Flash).await?;
        let mut target = self.router("router-2", Some(&self.token))?;
        let poll = request::poll(&self.cell, &target.url, sale, &self.token).await?;
        // The cell has no part in it.
        target.pids.truncate(1);
        let (shape, ..) = SHAPES[0];
        let before = request::refusals(self.cell.stack(), "router-2").await?;
        let us = us_per_call(&target, POLL, &poll, shape, self.seconds).await?;
        let refused = request::refusals(self.cell.stack(), "router-2").await? - before;
        ensure!(refused == 0, "{refused} polls were refused");
        let how = format!(
            "GetTicket by one buyer, {us:.2} us of the router's user+system time a call, from /proc, all layers on, one thread; h2load -t1 \
             -c{} -m{} -D{}",
            shape.connections, shape.streams, self.seconds
        );
        say("edge_polls_per_s_per_core".into(), 1_000_000.0 / us, "1/s", Budget::None, how);
        Ok(())
    }

    /// The same with TLS, which ends in the router.
    async fn encrypted(&self) -> Result<()> {
        let folder = self.cell.stack().folder();
        let authority = Authority::found(&folder.join("tls"))?;
        let files = authority.issue("router", "spiffe://floodgate/router")?;
        let bare = Server::bare(Some(&files)).await?;
        let haproxy = Server::haproxy(folder, self.bare.address, Some(&files)).await?;
        let CertificateFiles { cert, key } = &files;
        let (cert, key) = (cert.display().to_string(), key.display().to_string());
        let tls = ["--tls-cert", &cert, "--tls-key", &key];
        self.cell.start_router("router-3", &[OPEN.as_slice(), &tls].concat()).await?;
        let https = |target: Target| {
            let url = target.url.replacen("http://", "https://", 1);
            Target { url, ..target }
        };
        for (shape, ..) in SHAPES {
            let load = |target: Target| async move {
                us_per_call(&target, CALL, &self.probe, shape, self.seconds).await
            };
            let how = how(shape, self.seconds);
            let clear = load(self.router("router", None)?).await?;
            let ours = load(https(self.router("router-3", None)?)).await?;
            let (url, pids) = (format!("https://{}", bare.address), vec![bare.pid()?]);
            let direct = load(Target { url, token: None, pids }).await?;
            let by_haproxy = load(https(self.before_bare(&haproxy)?)).await?;
            let what =
                format!("router and cell {ours:.2} us a call, TLS to the router, layers off");
            for (name, other, beside) in [
                ("edge_tls_cpu_vs_clear", clear, "its own without TLS"),
                ("edge_tls_cpu_vs_bare", direct, "the bare server's with TLS"),
                ("edge_tls_cpu_vs_haproxy", by_haproxy, "HAProxy with TLS and the bare server"),
            ] {
                let how = format!("{what}, over {beside} {other:.2}; {how}");
                say(format!("{name}_{shape}"), ours / other, "x", Budget::None, how);
            }
        }
        Ok(())
    }

    fn direct(&self) -> Result<Target> {
        let url = format!("http://{}", self.bare.address);
        Ok(Target { url, token: None, pids: vec![self.bare.pid()?] })
    }

    fn before_bare(&self, proxy: &Server) -> Result<Target> {
        let url = format!("http://{}", proxy.address);
        Ok(Target { url, token: None, pids: vec![proxy.pid()?, self.bare.pid()?] })
    }

    /// A router and the cell behind it.
    fn router(&self, name: &str, token: Option<&str>) -> Result<Target> {
        let url = format!("http://{}", self.cell.stack().endpoint(name)?.address);
        let token = token.map(str::to_owned);
        Ok(Target { url, token, pids: vec![self.cell.pid(name)?, self.cell.pid("cell-1/p1")?] })
    }
}

fn say(name: String, value: f64, unit: &'static str, budget: Budget, how: String) {
    Figure { name, value, unit, budget, how }.say();
}

fn how(shape: Shape, seconds: u64) -> String {
    format!(
        "h2load -t1 -c{} -m{} -D{seconds}, {REQUEST_BYTES}-byte request, user+system time from /proc, one thread each",
        shape.connections, shape.streams
    )
}

async fn us_per_call(
    target: &Target,
    call: &str,
    body: &Path,
    shape: Shape,
    seconds: u64,
) -> Result<f64> {
    // h2load does not count its warm-up second, so the processor time of that second is not counted either: the clock
    // starts when it is over and stops before the end.
    let url = format!("{}{call}", target.url);
    let load = h2load::run(&url, body, shape, seconds, target.token.as_deref());
    let watch = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let (before_s, began) = (cpu::used_s(&target.pids)?, tokio::time::Instant::now());
        tokio::time::sleep(Duration::from_millis(seconds * 1_000 - 1_000)).await;
        Ok::<_, anyhow::Error>((
            cpu::used_s(&target.pids)? - before_s,
            began.elapsed().as_secs_f64(),
        ))
    };
    let (calls, watched) = tokio::join!(load, watch);
    let (used_s, over_s) = watched?;
    #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
    let per_s = calls? as f64 / seconds as f64;
    Ok(used_s / over_s / per_s * 1_000_000.0)
}
