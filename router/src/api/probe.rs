//! Probes: the way from the edge to a cell and back, and nothing else.

use super::asked::{Edge, deadline, split};
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
        self.edge.run(CallName::Probe, self.answer(request)).await
    }
}

impl ProbeApi {
    async fn answer(&self, request: Request<ProbeRequest>) -> Result<ProbeResponse, Fault> {
        let (headers, probe) = split(request);
        let cell = probe.cell.strip_prefix("cells/").unwrap_or(&probe.cell);
        if !self.open {
            let roles = [Role::Buyer, Role::Merchant];
            let (directory, caller) = self.edge.caller(&headers, &roles)?;
            self.edge.buyers.take((&caller.org, &caller.subject))?;
            // A cell in which the caller's org does not live does not exist for it.
            let org = caller.org.as_ref().and_then(|org| directory.org(org));
            if !cell.is_empty()
                && !org.is_some_and(|org| org.cells.iter().any(|known| **known == *cell))
            {
                return Err(directory.missing(Reason::NotFound).into());
            }
        }
        if probe.payload.len() > PROBE_BYTES_MAX {
            return Err(Fault::field("payload", "must be at most 1 KiB"));
        }
        let kind = call::Kind::Probe(Probe { payload: probe.payload });
        let call = Call { kind: Some(kind), ..Call::default() };
        match self.edge.probe(cell, &call, deadline(&headers)).await? {
            answer::Kind::Probe(echo) => Ok(ProbeResponse { payload: echo.payload }),
            _ => Err(Reason::Internal.into()),
        }
    }
}
