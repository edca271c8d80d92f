//! The services that every port has, and routes as a service for connections.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::{HeaderMap, Request, Response};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::drain::Drain;

/// The descriptors given to reflection cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("reflection cannot read the descriptors of the services; this is a defect: {0}")]
pub struct ReflectionError(#[from] tonic_reflection::server::Error);

/// `grpc.health.v1`, which follows the drain's readiness for the server and for each of `services`
/// (full names), and reflection (v1 and v1alpha) of the encoded `FileDescriptorSet`s. Add the
/// plane's own services to the answer.
pub fn standard_routes(
    descriptors: &[&[u8]],
    services: &[&'static str],
    drain: &Drain,
) -> Result<Routes, ReflectionError> {
    let reflection = || {
        let own = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        descriptors
            .iter()
            .fold(own, |builder, set| builder.register_encoded_file_descriptor_set(set))
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    let names = services.iter().copied().chain([""]).collect();
    drain.spawn("health", report(reporter, names, drain.readiness().watch(), drain.token()));
    Ok(Routes::new(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?))
}

/// Tells health checks what the readiness is, until `end`.
async fn report(
    mut reporter: HealthReporter,
    names: Vec<&'static str>,
    mut ready: watch::Receiver<bool>,
    end: CancellationToken,
) {
    loop {
        let ended = end.is_cancelled();
        let serving = *ready.borrow_and_update() && !ended;
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in &names {
            reporter.set_service_status(name, status).await;
        }
        if ended {
            break;
        }
        tokio::select! {
            _ = ready.changed() => {}
            () = end.cancelled() => {}
        }
    }
    // Ends the checks that watch, which would keep their connections open; they hear the last
    // status first.
    for name in &names {
        reporter.clear_service_status(name).await;
    }
}

/// Routes that keep the deadline the caller gave: when it is over, the handler is dropped and the
/// caller gets DEADLINE_EXCEEDED.
#[derive(Clone, Debug)]
pub struct Routed(Routes);

impl Routed {
    /// Routes as a service for [`super::serve_service`].
    pub fn new(routes: Routes) -> Self {
        Self(routes.prepare())
    }
}

impl<B> Service<Request<B>> for Routed
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        <Routes as Service<Request<Body>>>::Future,
        BoxFuture<'static, Result<Response<Body>, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let deadline = deadline(request.headers());
        let answer = self.0.call(request.map(Body::new));
        let Some(deadline) = deadline else { return Either::Left(answer) };
        Either::Right(Box::pin(async move {
            match timeout(deadline, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    Ok(Status::deadline_exceeded("the time that the caller gave is over")
                        .into_http())
                }
            }
        }))
    }
}

/// The time that the caller gives its call (`grpc-timeout`); none if it said nothing sensible.
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    const DIGITS_MAX: usize = 8;
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_by_the_letter() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers)
        };
        assert_eq!(read("2H"), Some(Duration::from_secs(7_200)));
        assert_eq!(read("3M"), Some(Duration::from_secs(180)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("150m"), Some(Duration::from_millis(150)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("8n"), Some(Duration::from_nanos(8)));
        for broken in ["", "S", "1", "1x", "123456789S", "-1S", "+1S", "1 S"] {
            assert_eq!(read(broken), None, "{broken:?}");
        }
        assert_eq!(deadline(&HeaderMap::new()), None);
    }
}
