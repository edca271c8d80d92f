//! What the router is compared with: a bare server, and proxies in front of one, each on one thread.

use super::check;
use anyhow::{Context, Result};
use local::CertificateFiles;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// A program that answers, until it is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Server {
    /// A bare tonic server; with a certificate it speaks TLS.
    pub(super) async fn bare(certificate: Option<&CertificateFiles>) -> Result<Server> {
        let address = free_address()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--bare", &address.to_string()]);
        if let Some(CertificateFiles { cert, key }) = certificate {
            command.arg("--bare-cert").arg(cert).arg("--bare-key").arg(key);
        }
        Server::start(command, address, certificate.is_some()).await
    }

    /// HAProxy, h2 to h2, before a server; with a certificate it ends TLS.
    pub(super) async fn haproxy(
        folder: &Path,
        behind: SocketAddr,
        certificate: Option<&CertificateFiles>,
    ) -> Result<Server> {
        let address = free_address()?;
        let config = folder.join(format!("haproxy-{}.cfg", address.port()));
        let tls = certificate.map(|files| together(folder, files)).transpose()?;
        let bind = match &tls {
            Some(pem) => format!("bind {address} ssl crt {pem} alpn h2"),
            None => format!("bind {address} proto h2"),
        };
        std::fs::write(
            &config,
            format!(
                "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 2s\n\
                 frontend edge\n  {bind}\n  default_backend cell\nbackend cell\n  server bare {behind} proto h2\n"
            ),
        )?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        Server::start(command, address, tls.is_some()).await
    }

    /// nginx with `grpc_pass`, one process without a master, before a server.
    pub(super) async fn nginx(folder: &Path, behind: SocketAddr) -> Result<Server> {
        let address = free_address()?;
        let own = folder.join("nginx");
        std::fs::create_dir_all(&own)?;
        let config = own.join("nginx.conf");
        std::fs::write(
            &config,
            format!(
                "daemon off;\nmaster_process off;\nworker_processes 1;\nerror_log stderr crit;\npid {own}/pid;\n\
                 events {{ worker_connections 8192; }}\n\
                 http {{\n  access_log off;\n  client_body_temp_path {own}/body;\n  proxy_temp_path {own}/proxy;\n  fastcgi_temp_path {own}/fastcgi;\n  \
                 uwsgi_temp_path {own}/uwsgi;\n  scgi_temp_path {own}/scgi;\n  \
                 upstream cell {{ server {behind}; keepalive 256; keepalive_requests 1000000000; }}\n  \
                 server {{ listen {address} http2 backlog=4096; keepalive_requests 1000000000; location / {{ grpc_pass grpc://cell; }} }}\n}}\n",
                own = own.display()
            ),
        )?;
        // Debian has it where only root looks.
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"];
        let program = program.into_iter().find(|path| Path::new(path).exists()).unwrap_or("nginx");
        let mut command = Command::new(program);
        command.arg("-e").arg("stderr").arg("-p").arg(&own).arg("-c").arg(&config);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Server::start(command, address, false).await
    }

    /// Its process.
    pub(super) fn pid(&self) -> Result<u32> {
        self.child.id().context("a server has ended")
    }

    async fn start(mut command: Command, address: SocketAddr, tls: bool) -> Result<Server> {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command.kill_on_drop(true).spawn();
        let child = child.with_context(|| format!("{program} is not installed"))?;
        for _ in 0..100 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                // h2load says of one that speaks TLS whether it answers.
                if !tls {
                    check(&format!("http://{address}"), None).await?;
                }
                return Ok(Server { child, address });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::bail!("{program} does not listen at {address}")
    }
}

/// HAProxy wants certificate and key in one file.
fn together(folder: &Path, files: &CertificateFiles) -> Result<String> {
    let pem = folder.join("haproxy.pem");
    let text = [std::fs::read_to_string(&files.cert)?, std::fs::read_to_string(&files.key)?];
    std::fs::write(&pem, text.concat())?;
    Ok(pem.display().to_string())
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
