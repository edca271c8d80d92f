//! A server with nothing but what every port has.

use std::net::SocketAddr;

use floodgate_runtime::drain::Drain;
use floodgate_runtime::metric::Metrics;
use floodgate_runtime::server::{self, ServerOptions};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
}

impl Served {
    pub(crate) async fn standard(options: ServerOptions) -> Self {
        let (listener, served) = Self::bind().await;
        let routes = server::standard_routes(&[], &["floodgate.test.v1.Test"], &served.drain);
        let (metrics, drain) = (served.metrics.clone(), served.drain.clone());
        let server = server::serve(listener, routes.unwrap(), options, metrics, drain);
        served.drain.spawn("server", server);
        served
    }

    pub(crate) async fn bind() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::new("test", "0").unwrap();
        (listener, Self { address, metrics, drain: Drain::new() })
    }

    pub(crate) async fn channel(&self) -> Channel {
        let channel = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        channel.connect().await.unwrap()
    }

    pub(crate) async fn health(&self) -> HealthClient<Channel> {
        HealthClient::new(self.channel().await)
    }

    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.text().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
        line.map(|value| value.parse().unwrap())
    }
}

pub(crate) fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}
