//! How many calls a second one address may make at the control plane, whoever it says it is: they are counted before a
//! token is looked at, which takes a read of etcd and a signature each time.
//!
//! A bad token costs no more than a good one here, and counts no more. Each instance counts by itself.

use std::convert::Infallible;
use std::future::ready;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use proto::fault::{Fault, Reason};
use proto::limits::{QUOTA_SHARED_RETRY_MS, SUBJECTS_REMEMBERED_MAX, SUBJECTS_SWEEP_MS};
use rand::RngExt;
use runtime::rate::{Allowance, Memory, Rates};
use runtime::server::{Peer, Proxies, Source};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};

/// What addresses have used up.
#[derive(Debug)]
pub(crate) struct Addresses {
    begin: Instant,
    rates: Rates,
    proxies: Proxies,
}

/// A service whose calls are counted by address; all are let through where nobody counts.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    service: S,
    addresses: Option<Arc<Addresses>>,
}

impl Addresses {
    /// So many calls a second of each, and as many at once; none: as many as come. What these proxies say of their
    /// clients is believed.
    pub(crate) fn new(per_s: u32, proxies: Proxies) -> Option<Addresses> {
        let sweep_every = Duration::from_millis(SUBJECTS_SWEEP_MS);
        let memory = Memory { subjects_max: SUBJECTS_REMEMBERED_MAX, sweep_every };
        let rates = || Rates::new(Allowance::new(per_s, per_s), memory);
        (per_s > 0).then(|| Addresses { begin: Instant::now(), rates: rates(), proxies })
    }

    /// A call from an address.
    fn take(&self, client: IpAddr, now: Instant) -> Result<(), Fault> {
        let now = now.saturating_duration_since(self.begin);
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.rates.take(Source::from(client), now_ns).map_err(|wait_ns| {
            let wait_ms = u32::try_from(wait_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX);
            Fault::later(Reason::AddressRate, wait_ms.max(QUOTA_SHARED_RETRY_MS))
        })
    }

    fn let_in<B>(&self, request: &Request<B>) -> Result<(), Fault> {
        let Some(Peer(peer)) = request.extensions().get() else { return Ok(()) };
        self.take(self.proxies.client(*peer, request.headers()), Instant::now())
    }
}

impl<S> Counted<S> {
    /// `service`, whose calls are counted.
    pub(crate) fn new(service: S, addresses: Option<Addresses>) -> Counted<S> {
        Counted { service, addresses: addresses.map(Arc::new) }
    }
}

impl<S, B> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match self.addresses.as_ref().map_or(Ok(()), |addresses| addresses.let_in(&request)) {
            Ok(()) => Box::pin(self.service.call(request)),
            Err(fault) => {
                let fault = fault.spread(rand::rng().random_range(0..=1_000));
                Box::pin(ready(Ok(Status::from(fault).into_http())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_rate_and_others_are_not_concerned() {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let addresses = Addresses::new(10, proxies).unwrap();
        let request = |peer: &str, said: Option<&str>| {
            let mut request = Request::builder().extension(Peer(peer.parse().unwrap()));
            if let Some(said) = said {
                request = request.header("x-forwarded-for", said);
            }
            request.body(()).unwrap()
        };
        let passes = |peer, said| addresses.let_in(&request(peer, said));
        for call in 0..10 {
            assert_eq!(passes("192.0.2.1", None), Ok(()), "{call}");
        }
        let refused = passes("192.0.2.1", None).unwrap_err();
        assert_eq!(refused.reason, Reason::AddressRate);
        assert!(refused.retry_after_ms >= QUOTA_SHARED_RETRY_MS);
        assert!(passes("192.0.2.2", None).is_ok());
        // Who says that they are somebody else is believed only as a proxy.
        assert!(passes("192.0.2.1", Some("198.51.100.1")).is_err());
        assert!(passes("10.0.0.1", Some("192.0.2.1")).is_err());
        assert!(passes("10.0.0.1", Some("198.51.100.1")).is_ok());
        assert!(addresses.let_in(&Request::new(())).is_ok(), "nobody to count");
        assert!(Addresses::new(0, Proxies::default()).is_none());
    }
}
