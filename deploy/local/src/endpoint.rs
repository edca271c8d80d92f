//! Where a server can be reached, and how that may be shown: an address may hold a password.

use std::net::SocketAddr;

/// Where a server can be reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The address it serves on.
    pub address: SocketAddr,
    /// The address of its metrics and of `/readyz`, when it is a plane.
    pub metrics: Option<SocketAddr>,
    /// The address as clients of its kind take it: `redis://…`, `postgres://…`, `http://…`. It may hold a password.
    pub url: String,
}

impl Endpoint {
    /// The address as it may be shown and logged.
    #[must_use]
    pub fn shown_url(&self) -> String {
        let parts = self.url.split_once("://");
        let parts = parts.and_then(|(kind, rest)| Some((kind, rest.rsplit_once('@')?)));
        parts.map_or_else(
            || self.url.clone(),
            |(kind, (who, place))| {
                let name = who.split(':').next().unwrap_or_default();
                format!("{kind}://{name}@{place}")
            },
        )
    }
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint")
            .field("address", &self.address)
            .field("metrics", &self.metrics)
            .field("url", &self.shown_url())
            .finish()
    }
}
