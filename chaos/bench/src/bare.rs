//! The yardstick of the edge: a bare tonic server that answers the same message, on one thread.

use anyhow::Result;
use proto::wire::fleet::probe_service_server::{ProbeService, ProbeServiceServer};
use proto::wire::fleet::{ProbeRequest, ProbeResponse};
use std::net::SocketAddr;
use tonic::{Request, Response, Status};

struct Echo;

#[tonic::async_trait]
impl ProbeService for Echo {
    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { payload: request.into_inner().payload }))
    }
}

/// Serves until killed.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = tonic::transport::Server::builder().tcp_nodelay(true);
    runtime.block_on(server.clone().add_service(ProbeServiceServer::new(Echo)).serve(address))?;
    Ok(())
}
