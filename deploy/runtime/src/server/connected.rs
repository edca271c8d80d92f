//! Which connection a call came on, for the few calls of which a connection may have only so many.
//!
//! Only calls to the paths that were named are told: to tell a call costs it three small allocations.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::Request;
use tonic::codegen::Service;

/// The address and port at the other end of a call's connection, of which no two that are open have the same: an extension
/// of its request ([`super::ServerOptions::connected`]). A balancer's, where there is one in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection(pub SocketAddr);

/// Whether a call's connection is about to end, because of its age or with the process: an extension of its request beside
/// [`Connection`]. An answer that goes on and on should come to its end then; otherwise it is broken off.
#[derive(Clone, Debug, Default)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// Whether it is so by now. Nobody is woken when it becomes so.
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It is so from now on.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A service on one connection, some of whose calls are told of it.
#[derive(Clone, Debug)]
pub(super) struct Connected<S> {
    service: S,
    connection: Option<(Connection, Leaving)>,
    paths: &'static [&'static str],
}

impl<S> Connected<S> {
    /// Calls whose paths end like one of `paths` are told of the connection of `peer`, which is `leaving` or not yet.
    pub(super) fn new(
        service: S,
        peer: Option<SocketAddr>,
        leaving: Leaving,
        paths: &'static [&'static str],
    ) -> Connected<S> {
        Connected { service, connection: peer.map(|peer| (Connection(peer), leaving)), paths }
    }
}

impl<S, B> Service<Request<B>> for Connected<S>
where
    S: Service<Request<B>, Error = Infallible>,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if let Some((connection, leaving)) = &self.connection
            && self.paths.iter().any(|end| path.ends_with(end))
        {
            let (connection, leaving) = (*connection, leaving.clone());
            request.extensions_mut().insert(connection);
            request.extensions_mut().insert(leaving);
        }
        self.service.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use super::*;

    #[derive(Clone)]
    struct Tells;

    impl Service<Request<()>> for Tells {
        type Response = Option<Connection>;
        type Error = Infallible;
        type Future = Ready<Result<Option<Connection>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            ready(Ok(request.extensions().get().copied()))
        }
    }

    #[tokio::test]
    async fn only_calls_to_named_paths_are_told() {
        let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
        for (path, told) in [
            ("/a.Service/Watch", true),
            ("/v1/things/a/events", true),
            ("/v1/things/a/events?x=/none", true),
            ("/a.Service/Get", false),
            ("/", false),
        ] {
            for peer in [Some(peer), None] {
                let leaving = Leaving::default();
                let mut service = Connected::new(Tells, peer, leaving, &["/Watch", "/events"]);
                let request = Request::get(path).body(()).unwrap();
                let Ok(connection) = service.call(request).await;
                assert_eq!(connection, peer.filter(|_| told).map(Connection), "{path}");
            }
        }
    }
}
