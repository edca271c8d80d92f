//! The column: what every call goes through, from the socket down to the keeper of its bucket. Read it from top to bottom.
//!
//! ```text
//!  accept         a place among all connections and those of an address; TLS; speaks   runtime: server/accept, tls,
//!                 HTTP in time, or goes                                                connection
//!  turnstile      with too little time for all, some connections wait unread: nothing  runtime: server/turnstile
//!                 else refuses at so little cost
//!  limits         frames, streams, headers, bytes: before anything is decoded          runtime: server/frames; api: 16 KiB
//!  spoken         gRPC passes; gRPC-Web and JSON become it, once it is known whose     runtime: web; Edge::own_org
//!                 they are: by the address and authenticate steps of below
//!  ── a call ──
//!  under way      counted to its end, because the memory of all calls is bounded       Edge::run
//!  address        before names and tokens are read: a signature costs many refusals
//!  authenticate   before all that is counted or found by org or buyer                  Edge::let_in, and on to its end
//!  tenant         the token's org, never a header's or the request's
//!  quotas         buyer, then org: who asks too much uses up nothing that others share
//!  shed           everybody's room and rate: under pressure what is worth least goes first
//!  theirs         what the call names, if it is the org's own (INV-9)
//!  ── answered here, from memory: tickets, states; refused here: what is over, sold out, not its turn ──
//!  sale           what is passed on costs its cells: a sale's share of that            Edge::pass_on, and on to its end
//!  bucket         the buyer's, and who keeps it; where it takes no joins, the line before its own   overflow
//!  link           room there for its worth, its org's queue, a frame; once more if the link is lost
//! ```
//!
//! A refusal leaves at its step and has changed nothing below it; when to ask again is spread in one place, where it
//! becomes a status ([`refused`]).

use crate::api::{Asked, Edge};
use crate::directory::{Directory, OrgEntry, SaleEntry};
use crate::link::Kind;
use crate::metrics::CallName;
use http::HeaderMap;
use http::request::Parts;
use proto::fault::{Fault, Reason};
use proto::id::{OrgId, SaleId};
use proto::token::{Caller, Role};
use proto::wire::cell::{Call, answer, call};
use rand::RngExt;
use runtime::server::Peer;
use runtime::telemetry::{root, trace};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

/// Who may show and buy: everybody in a shop. What each call allows is narrower, and its own to say.
const IN_SHOPS: [Role; 2] = [Role::Buyer, Role::Merchant];

/// Who is at the other end of a connection, if anybody asks, and a call's headers.
type OtherEnd<'a> = (Option<IpAddr>, &'a HeaderMap);

/// A call as it came in, apart from its message.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) name: CallName,
    pub(crate) headers: HeaderMap,
    /// Who is at the other end of the connection; none where nobody asks.
    peer: Option<IpAddr>,
    pub(crate) at: Instant,
}

/// A call that was let in: whose it is, to what of theirs, and by which decisions.
#[derive(Debug)]
pub(crate) struct Entered<T> {
    pub(crate) directory: Arc<Directory>,
    pub(crate) caller: Arc<Caller>,
    pub(crate) theirs: T,
}

impl Incoming {
    /// A call of this name, and its message.
    pub(crate) fn of<T>(name: CallName, request: Request<T>) -> (Incoming, T) {
        let (metadata, extensions, message) = request.into_parts();
        let peer = extensions.get().map(|Peer(address)| *address);
        (Incoming { name, headers: metadata.into_headers(), peer, at: Instant::now() }, message)
    }
}

impl Edge {
    /// The frame of the column: runs a call to its end, counts it, and turns a refusal into a status.
    pub(crate) async fn run<T, Answered>(
        &self,
        call: &Incoming,
        answered: Answered,
    ) -> Result<Response<T>, Status>
    where
        Answered: Future<Output = Result<T, Fault>>,
    {
        // As long as it is under way it has its place.
        let under_way = self.quotas.enter();
        // Whoever floods us without a good token is refused before any signature is looked at.
        let client = self.client((call.peer, &call.headers));
        let answer = match self.quotas.address(client, self.quotas.now_ns(call.at)) {
            Ok(()) => answered.await,
            Err(fault) => Err(fault),
        };
        drop(under_way);
        let reason = answer.as_ref().err().map(|fault| fault.reason);
        self.metrics.answered(call.name, call.at.elapsed(), reason);
        answer.map(Response::new).map_err(refused)
    }

    /// The first steps for a call over HTTP, whose path leaves out whose it is: the org of its token. The address is
    /// counted here, before the token is looked at, and taken out, so that the call itself is not counted twice.
    pub(crate) fn own_org(&self, head: &mut Parts) -> Result<OrgId, Status> {
        let now_ns = self.quotas.now_ns(Instant::now());
        let peer = head.extensions.remove().map(|Peer(address)| address);
        let end = (peer, &head.headers);
        let known = || -> Result<OrgId, Fault> {
            self.quotas.address(self.client(end), now_ns)?;
            let directory = self.directory.load();
            let (caller, _) = self.authenticate(end, &IN_SHOPS, &directory, now_ns)?;
            caller.org.clone().ok_or_else(|| Reason::RoleNotAllowed.into())
        };
        known().map_err(|fault| {
            self.metrics.refused(fault.reason);
            refused(fault)
        })
    }

    /// The upper half of the column: lets a call in, of somebody in one of `roles`, to what is `theirs`.
    pub(crate) fn let_in<T>(
        &self,
        call: &Incoming,
        roles: &[Role],
        theirs: impl FnOnce(&Directory, &Caller, &OrgEntry) -> Result<T, Fault>,
    ) -> Result<Entered<T>, Fault> {
        let (worth, now_ns) = (call.name.worth(), self.quotas.now_ns(call.at));
        // One state of what was decided, for all steps of this call; nobody is waited for (INV-10).
        let directory = self.directory.load_full();
        // Everything below is counted and found by the org and the subject of the verified token.
        let end = (call.peer, &call.headers);
        let (caller, org) = self.authenticate(end, roles, &directory, now_ns)?;
        // The buyer's own before their org's before everybody's: who asks too often uses up only what is theirs.
        self.quotas.buyer(&caller, now_ns)?;
        self.quotas.org(org, worth, now_ns)?;
        // What is everybody's is kept for what is worth most: the page goes first, and payments last.
        self.quotas.all(worth, now_ns)?;
        // Behind the quotas, so that guessing names is counted; what belongs to others is not there (INV-9).
        let theirs = theirs(&directory, &caller, org)?;
        Ok(Entered { directory, caller, theirs })
    }

    /// The lower half: passes a buyer's call on to the keeper of their bucket.
    pub(crate) async fn pass_on(
        &self,
        asked: &Asked,
        kind: Kind,
        what: call::Kind,
    ) -> Result<answer::Kind, Fault> {
        // What was answered above cost the cells nothing; this does, and they are shared.
        self.quotas.sale(asked.sale.id.as_str(), self.quotas.now_ns(asked.at))?;
        // Everyday commerce has streams of its own, all the way down.
        let kind = if asked.sale.standard { Kind::Standard } else { kind };
        // The keeper as far as is known; a process that may be asked before one that is right.
        let (bucket, process) = self.keeper(asked, kind)?;
        let span = root(|| tracing::info_span!("ask", sale = asked.sale.id.as_str(), bucket));
        let call = Call {
            id: 0,
            time_left_ms: 0,
            traceparent: trace::traceparent_of(&span).unwrap_or_default(),
            sale: asked.sale.id.to_string(),
            bucket,
            buyer: asked.buyer.0.to_vec().into(),
            kind: Some(what),
        };
        let answer = self.reach(asked, (kind, process), &call).await;
        // One bucket has nothing; whether all of the sale has nothing is known here alone.
        match answer {
            Err(fault)
                if fault.reason == Reason::NoUnitNow && self.states.is_sold_out(&asked.sale) =>
            {
                Err(Reason::SoldOut.into())
            }
            answer => answer,
        }
    }

    /// Who calls, by the token that came along. A signature that was looked at in vain costs the address where it came from.
    fn authenticate<'a>(
        &self,
        end: OtherEnd<'_>,
        roles: &[Role],
        directory: &'a Directory,
        now_ns: u64,
    ) -> Result<(Arc<Caller>, &'a OrgEntry), Fault> {
        let caller = self.auth.caller(end.1, roles, directory, self.clock.now_ms());
        if matches!(caller, Err(Reason::TokenWrongKey)) {
            self.quotas.bad_token(self.client(end), now_ns);
        }
        Ok(caller?)
    }

    /// Whose call it is, by address: what a proxy says that is trusted, else who is at the other end.
    fn client(&self, (peer, headers): OtherEnd<'_>) -> Option<IpAddr> {
        peer.map(|peer| self.proxies.client(peer, headers))
    }
}

/// A refusal as it leaves, its time spread in this one place; everybody in a line is told another time already.
fn refused(fault: Fault) -> Status {
    match fault.reason {
        Reason::NotAdmitted => fault.into(),
        _ => fault.spread(rand::rng().random_range(0..=1_000)).into(),
    }
}

/// A sale of the caller's own org: with [`Edge::let_in`].
pub(crate) fn sale(
    directory: &Directory,
    caller: &Caller,
    (org, sale): (&OrgId, &SaleId),
) -> Result<Arc<SaleEntry>, Fault> {
    if caller.org.as_ref() != Some(org) {
        return Err(Reason::NotFound.into());
    }
    Ok(directory.sale(org, sale)?.clone())
}

#[cfg(test)]
mod tests;
