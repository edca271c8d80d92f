//! A page in a browser (headless Chromium) that buys by gRPC-Web. The page comes from another origin than the router's,
//! so the browser asks first whether it may, as it would for any shop's page.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::HeaderValue;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proto::token::Role;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::books::Told;
use crate::shop::{ORG, Shop};

const PAGE: &str = include_str!("page.html");
/// How long a browser may take, on a machine that has other work.
const PATIENCE: Duration = Duration::from_secs(90);
/// What pages told and nobody has read yet.
const TOLD_MAX: usize = 4;

/// Opens the page in a browser; returns what it says that it bought.
pub(crate) async fn buys(shop: &Shop, id: &str) -> anyhow::Result<Told> {
    install().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (tell, mut told) = mpsc::channel(TOLD_MAX);
    let serving = tokio::spawn(serve(listener, tell));
    let bearer = shop.bearer("page", Role::Buyer);
    let token = bearer.trim_start_matches("Bearer ");
    let query = format!("router={}&sale=orgs/{ORG}/sales/{id}&token={token}", shop.router);
    let folder = tempfile::tempdir()?;
    let mut browser = open(folder.path(), &format!("http://{address}/?{query}"))?;
    let said = tokio::select! {
        said = timeout(PATIENCE, told.recv()) => said.context("the page told nothing in time")?,
        ended = browser.wait() => bail!("the browser ended by itself: {ended:?}"),
    };
    browser.kill().await?;
    serving.abort();
    let said = said.context("nobody served the page")?;
    serde_json::from_slice(&said).with_context(|| String::from_utf8_lossy(&said).into_owned())
}

async fn install() -> anyhow::Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/packages.sh");
    let output = Command::new("sh").arg(script).arg("chromium").output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn open(profile: &Path, url: &str) -> anyhow::Result<Child> {
    let mut chromium = Command::new("chromium");
    // Without its sandbox: inside a container there is often none to be had, and the page is ours.
    chromium.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    chromium.args(["--no-first-run", "--disable-background-networking"]);
    chromium.arg(format!("--user-data-dir={}", profile.display())).arg(url);
    let quiet = std::process::Stdio::null;
    chromium.stdin(quiet()).stdout(quiet()).stderr(quiet()).kill_on_drop(true);
    chromium.spawn().context("chromium")
}

/// Serves the page, and passes on what it tells.
async fn serve(listener: TcpListener, tell: mpsc::Sender<Bytes>) {
    while let Ok((stream, _)) = listener.accept().await {
        let tell = tell.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            let tell = tell.clone();
            async move {
                if request.uri().path() == "/told"
                    && let Ok(body) = request.into_body().collect().await
                {
                    tell.send(body.to_bytes()).await.ok();
                }
                let mut page = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
                page.headers_mut().insert("content-type", HeaderValue::from_static("text/html"));
                Ok::<_, Infallible>(page)
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}
