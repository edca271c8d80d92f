//! Planes speak TLS, know one another by name and nobody else, and take renewed certificates without losing a call.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use floodgate_chaos::identity::Signer;
use hyper_util::rt::TokioIo;
use local::{Authority, CertificateFiles, PlaneBinaries, PlaneExtras, Platform, PlatformPlan};
use proto::token::Role;
use proto::wire::fleet::ProbeRequest;
use proto::wire::fleet::probe_service_client::ProbeServiceClient;
use runtime::clock::Clock;
use runtime::tls::{ROUTER_NAME, TlsClient, TlsFiles, TlsStream, cell_name};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

const SOON: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

const CELL: &str = "cell-1";
const PROCESS: &str = "cell-1/p1";

async fn platform() -> Platform {
    let router = PlaneExtras { args: vec!["--open-probe".to_owned()], env: Vec::new() };
    let plan = PlatformPlan { processes: 1, tls: true, router, ..PlatformPlan::default() };
    Platform::start(plan).await.unwrap()
}

/// A client that shows a certificate of this authority under `name`, and knows servers by `ca`.
fn client(ca: &Authority, authority: &Authority, name: &str) -> TlsClient {
    let CertificateFiles { cert, key } = authority.issue("client", name).unwrap();
    TlsClient::open(TlsFiles { cert, key, ca: Some(ca.ca()) }).unwrap()
}

async fn channel(
    address: SocketAddr,
    tls: &TlsClient,
    name: &str,
) -> Result<Channel, tonic::transport::Error> {
    let (tls, name) = (tls.clone(), name.to_owned());
    let dial = move |_: Uri| {
        let (tls, name) = (tls.clone(), name.clone());
        async move {
            let stream = TcpStream::connect(address).await?;
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(stream, name).await?))
        }
    };
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector(service_fn(dial)).await
}

/// Whether a call comes through from here over the router to the cell.
async fn probe(platform: &Platform) -> Result<(), String> {
    let authority = platform.authority().unwrap();
    let tls = client(authority, authority, "spiffe://floodgate/stranger");
    let address = platform.stack().endpoint("router").unwrap().address;
    let router_name = name_of(platform);
    let channel = channel(address, &tls, &router_name).await.map_err(|e| format!("{e:?}"))?;
    call(&mut ProbeServiceClient::new(channel)).await
}

async fn call(client: &mut ProbeServiceClient<Channel>) -> Result<(), String> {
    let request = ProbeRequest { payload: b"echo".to_vec().into(), ..ProbeRequest::default() };
    let mut request = tonic::Request::new(request);
    request.set_timeout(SOON);
    client.probe(request).await.map(drop).map_err(|status| status.to_string())
}

/// What the router's certificate file calls it now.
fn name_of(platform: &Platform) -> String {
    let pem = std::fs::read(platform.authority().unwrap().files("router").cert).unwrap();
    let der = rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
    let certificate = webpki::EndEntityCert::try_from(&der).unwrap();
    certificate.valid_uri_names().next().unwrap().to_owned()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(POLL).await;
    }
}

async fn metric(platform: &Platform, plane: &str, series: &str) -> Option<f64> {
    let (_, text) = platform.stack().ask_plane(plane, "GET", "/metrics").await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
    line.map(|value| value.parse().unwrap())
}

/// Issues files anew and waits until a plane has them in use.
async fn renew(platform: &Platform, (stem, name): (&str, &str), (plane, port): (&str, &str)) {
    let series = format!(r#"floodgate_tls_renewed_total{{port="{port}"}}"#);
    let before = metric(platform, plane, &series).await.unwrap();
    platform.authority().unwrap().issue(stem, name).unwrap();
    // A certificate may be read before its key: then it is read again.
    let unfit = format!(r#"floodgate_tls_unfit_files{{port="{port}"}}"#);
    until("renewed", async || {
        metric(platform, plane, &series).await.unwrap() > before
            && metric(platform, plane, &unfit).await == Some(0.0)
    })
    .await;
}

/// A connection of a client who trusts the CA, knows servers by their address as browsers do, and shows no certificate.
async fn browser(address: SocketAddr, ca: &Authority) -> TlsStream {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(ca.ca()).unwrap();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// The certificate that a server shows to browsers.
async fn shown(address: SocketAddr, ca: &Authority) -> Vec<u8> {
    let stream = browser(address, ca).await;
    let session = stream.get_ref().1;
    assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]), "the server has the choice");
    session.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn renewed_certificates_cost_no_call_and_bad_ones_change_nothing() {
    let platform = platform().await;
    let authority = platform.authority().unwrap();
    let router = platform.stack().endpoint("router").unwrap();
    assert!(router.url.starts_with("https://"), "{}", router.url);
    until("linked", async || probe(&platform).await.is_ok()).await;
    let days =
        metric(&platform, "router", r#"floodgate_tls_certificate_days_left{port="storefront"}"#);
    assert!((0.9..=1.0).contains(&days.await.unwrap()));

    let tls = client(authority, authority, "spiffe://floodgate/stranger");
    let mut caller =
        ProbeServiceClient::new(channel(router.address, &tls, ROUTER_NAME).await.unwrap());
    let (stop, stopped) = watch::channel(false);
    let calling = tokio::spawn(async move {
        let mut calls = 0_u32;
        while !*stopped.borrow() {
            call(&mut caller).await?;
            calls += 1;
            sleep(Duration::from_millis(5)).await;
        }
        Ok::<_, String>(calls)
    });

    let first = shown(router.address, authority).await;
    renew(&platform, ("router", ROUTER_NAME), ("router", "storefront")).await;
    until("the link's side, too", async || {
        metric(&platform, "router", r#"floodgate_tls_renewed_total{port="cells"}"#).await
            >= Some(1.0)
    })
    .await;
    renew(&platform, (CELL, &cell_name(CELL)), (PROCESS, "link")).await;
    let second = shown(router.address, authority).await;
    assert_ne!(first, second);

    // Half a file, no file, a key that is another's: the second certificate stays.
    let files = authority.files("router");
    let good = std::fs::read(&files.cert).unwrap();
    let unfit = r#"floodgate_tls_unfit_files{port="storefront"}"#;
    for bad in [Some(&good[..good.len() / 2]), None, Some(&std::fs::read(authority.ca()).unwrap())]
    {
        match bad {
            Some(bytes) => std::fs::write(&files.cert, bytes).unwrap(),
            None => std::fs::remove_file(&files.cert).unwrap(),
        }
        until("it is told", async || metric(&platform, "router", unfit).await == Some(1.0)).await;
        assert_eq!(shown(router.address, authority).await, second);
        std::fs::write(&files.cert, &good).unwrap();
        until("it is good", async || metric(&platform, "router", unfit).await == Some(0.0)).await;
    }
    assert!(platform.stack().logged("router", "certificate files cannot be used").unwrap() >= 3);
    probe(&platform).await.unwrap();
    command_line(&platform).await;
    stop.send(true).unwrap();
    assert!(calling.await.unwrap().unwrap() > 0, "called all the time");
    platform.shutdown().await.unwrap();
}

/// The command line speaks TLS, too.
async fn command_line(platform: &Platform) {
    let pkcs8 = std::fs::read(&platform.key().private).unwrap();
    let expires_s = Clock::system().now_ms() / 1_000 + 600;
    let token = Signer::of_platform(&pkcs8).unwrap().token("ops", Role::Operator, expires_s);
    let program = PlaneBinaries::find().program("floodgate").unwrap();
    let ran = tokio::process::Command::new(program)
        .args(["cells", "list", "--ca"])
        .arg(platform.authority().unwrap().ca())
        .env("FLOODGATE_ENDPOINT", platform.stack().endpoint("control-plane").unwrap().url)
        .env("FLOODGATE_TOKEN", token)
        .output()
        .await
        .unwrap();
    assert!(ran.status.success() && String::from_utf8_lossy(&ran.stdout).contains(CELL), "{ran:?}");
}

/// Whether a cell's process lets this client in: it says so by speaking first, as HTTP/2 servers do.
async fn lets_in(stream: std::io::Result<TlsStream>) -> bool {
    let Ok(mut stream) = stream else { return false };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let spoken = async {
        stream.write_all(preface).await?;
        stream.read_exact(&mut [0; 9]).await
    };
    timeout(SOON, spoken).await.unwrap().is_ok()
}

/// Whoever begins a handshake and does not go on with it loses the connection.
async fn half_a_hello(platform: &Platform) {
    for (plane, port) in [("router", "storefront"), (PROCESS, "link")] {
        let series =
            format!(r#"floodgate_connections_closed_total{{port="{port}",why="handshake"}}"#);
        let before = metric(platform, plane, &series).await.unwrap();
        let address = platform.stack().endpoint(plane).unwrap().address;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0xde, 0xad]).await.unwrap();
        let mut said = Vec::new();
        timeout(SOON, stream.read_to_end(&mut said)).await.expect("it is closed").ok();
        let counted = async || metric(platform, plane, &series).await > Some(before);
        until("it is counted", counted).await;
    }
}

#[tokio::test]
async fn planes_know_one_another_by_name_and_nobody_else() {
    let platform = platform().await;
    let authority = platform.authority().unwrap();
    until("linked", async || probe(&platform).await.is_ok()).await;
    let cell = platform.stack().endpoint(PROCESS).unwrap().address;
    let folder = tempfile::tempdir().unwrap();
    let other = Authority::found(folder.path()).unwrap();
    let mine = cell_name(CELL);
    for (what, tls, name, expected) in [
        ("a router", client(authority, authority, ROUTER_NAME), &mine, true),
        ("a cell", client(authority, authority, &mine), &mine, false),
        (
            "nearly a router",
            client(authority, authority, "spiffe://floodgate/router/1"),
            &mine,
            false,
        ),
        ("another CA's router", client(authority, &other, ROUTER_NAME), &mine, false),
        ("who trusts another CA", client(&other, authority, ROUTER_NAME), &mine, false),
        (
            "who wants another cell",
            client(authority, authority, ROUTER_NAME),
            &cell_name("cell-10"),
            false,
        ),
    ] {
        let stream = TcpStream::connect(cell).await.unwrap();
        let stream = tls.connect(stream, name.clone()).await;
        assert_eq!(lets_in(stream).await, expected, "{what}");
    }
    let unnamed = browser(cell, authority).await;
    assert!(!lets_in(Ok(unnamed)).await, "without a certificate");
    // In the clear nobody is heard.
    let mut clear = TcpStream::connect(cell).await.unwrap();
    clear.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    timeout(SOON, clear.read_to_end(&mut said)).await.unwrap().ok();
    assert!(said.first().is_none_or(|kind| *kind == 21), "an alert at most: {said:?}");
    let failed = r#"floodgate_connections_closed_total{port="link",why="handshake"}"#;
    assert!(metric(&platform, PROCESS, failed).await >= Some(5.0));

    half_a_hello(&platform).await;

    // The same with real planes: a router under another name, then a cell under another name.
    let stack = platform.stack();
    for (stem, wrong, right, by) in [
        (
            "router",
            "spiffe://floodgate/somebody".to_owned(),
            ROUTER_NAME.to_owned(),
            ("router", "cells"),
        ),
        (CELL, cell_name("cell-2"), cell_name(CELL), (PROCESS, "link")),
    ] {
        renew(&platform, (stem, &wrong), by).await;
        stack.restart("router").await.unwrap();
        let linked = probe(&platform).await;
        assert!(linked.is_err(), "{stem} is called {wrong}");
        until("it says why", async || stack.logged("router", "certificate").unwrap() > 0).await;
        renew(&platform, (stem, &right), by).await;
        until("linked again", async || probe(&platform).await.is_ok()).await;
    }
    platform.shutdown().await.unwrap();
}
