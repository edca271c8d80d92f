//! The edge: what a call costs in the router and the cell together, beside a direct call to a bare server and beside
//! HAProxy in front of one.

use crate::cpu;
use crate::figure::{Budget, Figure};
use crate::h2load::{self, Shape};
use crate::sale::Cell;
use anyhow::{Context, Result, ensure};
use prost::Message;
use proto::wire::fleet::ProbeRequest;
use proto::wire::fleet::probe_service_client::ProbeServiceClient;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// Bytes of a request, without the frame's head.
const REQUEST_BYTES: usize = 170;
const CALL: &str = "/floodgate.fleet.v1.ProbeService/Probe";
/// A bare server that is slower than this says that the machine is busy with something else.
const VOID_ABOVE_US: f64 = 15.0;

const SHAPES: [(Shape, f64, f64); 3] = [
    (Shape { connections: 8, streams: 32 }, 1.3, 0.6),
    (Shape { connections: 200, streams: 1 }, 1.5, 0.6),
    (Shape { connections: 1000, streams: 1 }, 2.0, 0.7),
];
const ALL_LAYERS: f64 = 1.6;

/// The servers to compare, each on one thread.
struct Edge {
    cell: Cell,
    body: PathBuf,
    bare: Program,
    haproxy: HaProxy,
    open: SocketAddr,
    layered: SocketAddr,
    token: String,
}

/// Takes all figures of the edge.
pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let edge = Edge::start().await?;
    for (shape, direct_most, haproxy_most) in SHAPES {
        edge.compare(shape, seconds, direct_most, haproxy_most).await?;
    }
    Ok(())
}

impl Edge {
    async fn start() -> Result<Edge> {
        let cell = Cell::start(&["--threads", "1"]).await?;
        let body = request_body(cell.stack().folder())?;
        let bare = Program::bare().await?;
        let haproxy = HaProxy::start(cell.stack().folder(), bare.address).await?;
        let open = cell.start_router("router", &["--threads", "1", "--open-probe"]).await?.address;
        let unlimited = ["--buyer-calls-per-s", "1000000", "--buyer-calls-burst", "1000000"];
        let layers = [["--threads", "1"].as_slice(), &unlimited].concat();
        let layered = cell.start_router("router-2", &layers).await?.address;
        let token = cell.token("prober");
        check(&format!("http://{open}"), None).await?;
        check(&format!("http://{layered}"), Some(&token)).await?;
        Ok(Edge { cell, body, bare, haproxy, open, layered, token })
    }

    async fn compare(
        &self,
        shape: Shape,
        seconds: u64,
        direct_most: f64,
        haproxy_most: f64,
    ) -> Result<()> {
        let load = |address, token: Option<String>, pids: Vec<u32>| async move {
            us_per_call(address, &self.body, shape, seconds, token.as_deref(), &pids).await
        };
        let cell = self.cell.pid("cell-1/p1")?;
        let direct = load(self.bare.address, None, vec![self.bare.pid()?]).await?;
        let ours = load(self.open, None, vec![self.cell.pid("router")?, cell]).await?;
        let proxied =
            load(self.haproxy.address, None, vec![self.haproxy.pid()?, self.bare.pid()?]).await?;
        let how = format!(
            "h2load -t1 -c{} -m{} -D{seconds}, {REQUEST_BYTES}-byte request, user+system time from /proc, one thread each",
            shape.connections, shape.streams
        );
        let is_void = shape.streams > 1 && direct > VOID_ABOVE_US;
        let limit = if is_void { Budget::AtMost(VOID_ABOVE_US) } else { Budget::None };
        say(format!("edge_bare_us_{shape}"), direct, "us/call", limit, how.clone());
        let compared = |with: &str, other: f64| {
            format!(
                "router and cell {ours:.2} us a call, layers off, over {with} {other:.2}; {how}"
            )
        };
        let to_bare = compared("the bare server's", direct);
        say(
            format!("edge_cpu_vs_bare_{shape}"),
            ours / direct,
            "x",
            Budget::AtMost(direct_most),
            to_bare,
        );
        let to_haproxy = compared("HAProxy h2 to h2 and the bare server", proxied);
        say(
            format!("edge_cpu_vs_haproxy_{shape}"),
            ours / proxied,
            "x",
            Budget::AtMost(haproxy_most),
            to_haproxy,
        );
        if shape.streams > 1 {
            let layers = load(
                self.layered,
                Some(self.token.clone()),
                vec![self.cell.pid("router-2")?, cell],
            )
            .await?;
            let how = format!(
                "router and cell {layers:.2} us a call, token remembered, quotas counted, over {direct:.2}; {how}"
            );
            say(
                format!("edge_layers_cpu_vs_bare_{shape}"),
                layers / direct,
                "x",
                Budget::AtMost(ALL_LAYERS),
                how,
            );
        }
        Ok(())
    }
}

fn say(name: String, value: f64, unit: &'static str, budget: Budget, how: String) {
    Figure { name, value, unit, budget, how }.say();
}

async fn us_per_call(
    address: SocketAddr,
    body: &Path,
    shape: Shape,
    seconds: u64,
    token: Option<&str>,
    pids: &[u32],
) -> Result<f64> {
    // h2load does not count its warm-up second, so the processor time of that second is not counted either: the clock
    // starts when it is over and stops before the end.
    let url = format!("http://{address}{CALL}");
    let load = h2load::run(&url, body, shape, seconds, token);
    let watch = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let (before_s, began) = (cpu::used_s(pids)?, tokio::time::Instant::now());
        tokio::time::sleep(Duration::from_millis(seconds * 1_000 - 1_000)).await;
        Ok::<_, anyhow::Error>((cpu::used_s(pids)? - before_s, began.elapsed().as_secs_f64()))
    };
    let (calls, watched) = tokio::join!(load, watch);
    let (used_s, over_s) = watched?;
    #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
    let per_s = calls? as f64 / seconds as f64;
    Ok(used_s / over_s / per_s * 1_000_000.0)
}

fn request_body(folder: &Path) -> Result<PathBuf> {
    let mut request =
        ProbeRequest { cell: String::new(), payload: vec![7; REQUEST_BYTES - 3].into() };
    while request.encoded_len() > REQUEST_BYTES {
        request.payload = request.payload.slice(1..);
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(request.encoded_len())?.to_be_bytes());
    frame.extend(request.encode_to_vec());
    let path = folder.join("probe.grpc");
    std::fs::write(&path, frame)?;
    Ok(path)
}

/// h2load does not look at gRPC's status, so we do, once.
async fn check(url: &str, token: Option<&str>) -> Result<()> {
    let channel = tonic::transport::Endpoint::from_shared(url.to_owned())?.connect().await?;
    let mut client = ProbeServiceClient::new(channel);
    let payload: prost::bytes::Bytes = vec![1; 9].into();
    for _ in 0..50 {
        let mut request =
            tonic::Request::new(ProbeRequest { cell: String::new(), payload: payload.clone() });
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
        }
        match client.probe(request).await {
            Ok(answer) => {
                ensure!(answer.into_inner().payload == payload, "a probe came back altered");
                return Ok(());
            }
            Err(status) if status.code() == tonic::Code::Unavailable => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) => anyhow::bail!("a probe was refused: {status}"),
        }
    }
    anyhow::bail!("no probe was answered")
}

struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    async fn bare() -> Result<Program> {
        let address = free_address()?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--bare", &address.to_string()])
            .kill_on_drop(true)
            .spawn()?;
        check(&format!("http://{address}"), None).await.or(wait_and_check(address).await)?;
        Ok(Program { child, address })
    }

    fn pid(&self) -> Result<u32> {
        self.child.id().context("the program has ended")
    }
}

async fn wait_and_check(address: SocketAddr) -> Result<()> {
    for _ in 0..50 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return check(&format!("http://{address}"), None).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("nothing listens at {address}")
}

struct HaProxy {
    program: Program,
    address: SocketAddr,
}

impl HaProxy {
    async fn start(folder: &Path, behind: SocketAddr) -> Result<HaProxy> {
        let address = free_address()?;
        let config = folder.join("haproxy.cfg");
        std::fs::write(
            &config,
            format!(
                "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 2s\n\
                 frontend edge\n  bind {address} proto h2\n  default_backend cell\nbackend cell\n  server bare {behind} proto h2\n"
            ),
        )?;
        let child = Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("haproxy is not installed")?;
        wait_and_check(address).await?;
        Ok(HaProxy { program: Program { child, address }, address })
    }

    fn pid(&self) -> Result<u32> {
        self.program.pid()
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
