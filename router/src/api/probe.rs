//! Probes: the way from the edge to a cell and back, and nothing else.

use super::asked::{Edge, deadline};
use crate::column::Incoming;
use crate::metrics::CallName;
use proto::fault::{Fault, Reason};
use proto::limits::PROBE_BYTES_MAX;
use proto::token::Role;
use proto::wire::cell::{Call, Probe, answer, call};
use proto::wire::fleet::probe_service_server::ProbeService;
use proto::wire::fleet::{ProbeRequest, ProbeResponse};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The probe service.
#[derive(Clone, Debug)]
pub(crate) struct ProbeApi {
    pub(crate) edge: Arc<Edge>,
    /// Whether a probe needs no token.
    pub(crate) open: bool,
}

#[tonic::async_trait]
impl ProbeService for ProbeApi {
    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        let (call, probe) = Incoming::of(CallName::Probe, request);
        self.edge.run(&call, self.answer(&call, probe)).await
    }
}

impl ProbeApi {
    async fn answer(&self, call: &Incoming, probe: ProbeRequest) -> Result<ProbeResponse, Fault> {
        let cell = probe.cell.strip_prefix("cells/").unwrap_or(&probe.cell);
        if !self.open {
            // A cell in which the caller's org does not live does not exist for it.
            self.edge.let_in(call, &[Role::Buyer, Role::Merchant], |directory, _, org| {
                let theirs = cell.is_empty() || org.cells.iter().any(|known| **known == *cell);
                if theirs { Ok(()) } else { Err(directory.missing(Reason::NotFound).into()) }
            })?;
        }
        if probe.payload.len() > PROBE_BYTES_MAX {
            return Err(Fault::field("payload", "must be at most 1 KiB"));
        }
        let kind = call::Kind::Probe(Probe { payload: probe.payload });
        let deadline = deadline(call);
        let call = Call { kind: Some(kind), ..Call::default() };
        match self.edge.probe(cell, &call, deadline).await? {
            answer::Kind::Probe(echo) => Ok(ProbeResponse { payload: echo.payload }),
            _ => Err(Reason::Internal.into()),
        }
    }
}
