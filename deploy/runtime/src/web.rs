//! What is spoken on a port: gRPC, gRPC-Web, and JSON over HTTP, all of which end in the same gRPC service.
//!
//! ```text
//! request ─▶ gRPC?     ─────────────────────────────────────────────▶ service
//!            gRPC-Web? ─▶ frames unpacked ──────────────────────────▶ service
//!            otherwise ─▶ table ─▶ path, query, body ─▶ one message ─▶ service ─▶ JSON, events or a problem
//! ```
//!
//! So there is one implementation of every call. gRPC passes as it is, after one look at its content type; nothing of it
//! is boxed here. How calls look over HTTP stands in the `.proto` files (`google.api.http`) and is compiled into a table
//! once, so a request costs one walk along its path. Proto3 JSON goes in and out; a refusal is a problem after RFC 9457
//! with the reason that the call gave; `/openapi.json` says all of it to programs.
//!
//! What stands in a path may be secret, as a ticket is: what is logged is the route, in which variables have no values.
//!
//! Who may call is none of its business: headers and extensions go on to the service as they came.

mod answer;
mod binding;
mod cors;
mod frame;
mod openapi;
mod problem;
mod request;
mod table;
mod template;
mod timed;

use std::convert::Infallible;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::header::{self, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use prost_reflect::DescriptorPool;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Service, StdError};
use tonic::{Code, Status};
use tonic_web::GrpcWebLayer;
use tower::Layer;
use tower::util::MapRequest;

use crate::metric::{Counter, Counters, Metrics};
pub(crate) use frame::framed;

use binding::Binding;
use cors::Cors;
use frame::Messages;
use problem::Refusal;
use table::Table;
use timed::Timed;

/// Where the document lies.
const DOCUMENT: &str = "/openapi.json";
const GRPC: &[u8] = b"application/grpc";
const GRPC_WEB: &[u8] = b"application/grpc-web";

/// The name of the caller's own resource (`orgs/acme`) by the head of a request. It is asked before the body is read, and
/// may take out of the extensions what it has dealt with.
pub type Own = Arc<dyn Fn(&mut Parts) -> Result<String, Status> + Send + Sync>;

/// How a call is spoken that is not gRPC, as metrics label it: an extension of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpokenAs(pub &'static str);

/// What a port speaks besides gRPC.
#[derive(Clone)]
pub struct WebOptions {
    /// The title of the document.
    pub title: &'static str,
    /// The encoded `FileDescriptorSet` of the services, with its options.
    pub descriptors: &'static [u8],
    /// The full names of the services that have bindings.
    pub services: Vec<&'static str>,
    /// The caller's own name, which paths may leave out; from a verified token, and from nowhere else.
    pub own: Option<Own>,
    /// The `Cache-Control` of calls (full names) whose answers may be kept for a while.
    pub cached: Vec<(&'static str, &'static str)>,
    /// The origins whose pages may read answers; `*` is any, and none is none.
    pub origins: Vec<String>,
    /// Gives a refusal without a reason its reason.
    pub explain: fn(Status) -> Status,
    /// What no request may exceed.
    pub limits: WebLimits,
}

/// What no request may exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebLimits {
    /// Bytes of a path with its query.
    pub path_bytes_max: usize,
    /// Bytes of a JSON body.
    pub body_bytes_max: usize,
    /// Time in which a body must have come, of JSON or of gRPC-Web.
    pub body_time_max: Duration,
    /// Bytes of the message that a request makes.
    pub message_bytes_max: usize,
    /// Bytes of one message of an answer.
    pub answer_bytes_max: usize,
    /// How often a stream says that it lives while it has nothing else to say.
    pub alive_every: Duration,
    /// Messages of streams that are kept as JSON.
    pub written_max: usize,
    /// When a client whose stream broke should come again, in milliseconds: somewhen within.
    pub again_ms: Range<u64>,
}

/// The bindings cannot be what the `.proto` files say; this is a defect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the HTTP bindings make no sense; this is a defect: {what} {why}")]
pub struct WebError {
    what: String,
    why: String,
}

impl WebError {
    fn new(what: &str, why: impl Into<String>) -> WebError {
        WebError { what: what.to_owned(), why: why.into() }
    }
}

/// A gRPC service that is spoken to in other ways too. A port has one for as long as its process lives.
#[derive(Clone, Debug)]
pub struct Web<S> {
    grpc: S,
    // As long as the process: no call pays for counting references to it.
    spoken: &'static Spoken,
}

/// How it is spoken to.
struct Spoken {
    table: Table,
    document: Bytes,
    own: Own,
    cors: Cors,
    explain: fn(Status) -> Status,
    limits: WebLimits,
    as_json: Counter,
    as_grpc_web: Counter,
}

impl<S> Web<S> {
    /// `grpc`, spoken to as the options say.
    ///
    /// # Errors
    /// [`WebError`] when the descriptors have bindings that cannot be.
    pub fn new(grpc: S, options: WebOptions, metrics: &Metrics) -> Result<Web<S>, WebError> {
        let pool = DescriptorPool::decode(options.descriptors)
            .map_err(|why| WebError::new("the descriptors", why.to_string()))?;
        let (mut table, mut all) = (Table::default(), Vec::new());
        for service in &options.services {
            for mut binding in binding::bindings(&pool, service)? {
                let name = binding.call.full_name();
                let cached = options.cached.iter().find(|(call, _)| *call == name);
                binding.cache = cached.map(|(_, cache)| HeaderValue::from_static(cache));
                if binding.is_own() && options.own.is_none() {
                    return Err(WebError::new(name, "leaves out what nobody says"));
                }
                all.push(Arc::new(binding));
            }
        }
        for binding in &all {
            if !table.add(binding.clone()) {
                return Err(WebError::new(&binding.route, "is not alone on its path"));
            }
        }
        let document = openapi::document(options.title, &all);
        let nobody: Own = Arc::new(|_| Err(Status::unauthenticated("nobody says who calls")));
        let (name, help) =
            ("floodgate_web_calls_total", "Calls that came as something else than gRPC");
        let calls = Counters::new(metrics, name, help);
        let spoken = Spoken {
            as_json: calls.with(&[("protocol", "json")]),
            as_grpc_web: calls.with(&[("protocol", "grpc-web")]),
            table,
            document: document.to_string().into(),
            own: options.own.unwrap_or(nobody),
            cors: Cors::new(options.origins),
            explain: options.explain,
            limits: options.limits,
        };
        Ok(Web { grpc, spoken: Box::leak(Box::new(spoken)) })
    }
}

impl<S, B> Service<Request<B>> for Web<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>
        + Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    <S as Service<Request<Body>>>::Future: Send,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError> + fmt::Display,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<
        <S as Service<Request<B>>>::Future,
        BoxFuture<'static, Result<Response<Body>, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if is_grpc(request.headers()) {
            return Either::Left(self.grpc.call(request));
        }
        let (grpc, spoken) = (self.grpc.clone(), self.spoken);
        Either::Right(Box::pin(async move { Ok(spoken.answer(grpc, request).await) }))
    }
}

/// Most calls are gRPC, of exactly this type.
fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else { return false };
    kind == GRPC
        || kind.strip_prefix(GRPC).is_some_and(|more| matches!(more.first(), Some(b'+' | b';')))
}

fn is_grpc_web(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(GRPC_WEB))
}

impl Spoken {
    async fn answer<S, B>(&self, grpc: S, mut request: Request<B>) -> Response<Body>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + fmt::Display,
    {
        if let Some(answer) = self.cors.preflight(request.method(), request.headers()) {
            return answer;
        }
        let origin = self.cors.allowed(request.headers());
        let mut answer = if is_grpc_web(request.headers()) {
            self.as_grpc_web.add(1);
            request.extensions_mut().insert(SpokenAs("grpc-web"));
            let within = self.limits.body_time_max;
            let timed = move |request: Request<Body>| {
                request.map(|body| Body::new(Timed::new(body, within)))
            };
            let mut unpacked = GrpcWebLayer::new().layer(MapRequest::new(grpc, timed));
            let Ok(answer) = unpacked.call(request).await;
            answer
        } else {
            self.as_json.add(1);
            request.extensions_mut().insert(SpokenAs("json"));
            let answered = self.json(grpc, request).await;
            answered.unwrap_or_else(|refusal| refusal.answer(self.explain))
        };
        self.cors.mark_for(origin, &mut answer);
        answer
    }

    async fn json<S, B>(&self, mut grpc: S, request: Request<B>) -> Result<Response<Body>, Refusal>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
        S::Future: Send,
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<StdError>,
    {
        let (mut head, body) = request.into_parts();
        let uri = head.uri.clone();
        let (path, query) = (uri.path(), uri.query());
        if path.len() + query.map_or(0, str::len) > self.limits.path_bytes_max {
            let long = "the path is longer than any that leads somewhere";
            return Err(Refusal::new(StatusCode::URI_TOO_LONG, Code::OutOfRange, long));
        }
        if path == DOCUMENT {
            return self.document(&head.method);
        }
        let found = self.table.find(path).ok_or_else(|| {
            Refusal::from(Status::not_found("nothing is served at this path; see /openapi.json"))
        })?;
        let Some(binding) = found.binding(&head.method).cloned() else {
            return Err(only(found.methods()));
        };
        tracing::debug!(method = %binding.method, route = binding.route, "called over HTTP");
        // Who calls is known before anything is read for them.
        let own = if binding.is_own() { (self.own)(&mut head)? } else { String::new() };
        let body = request::read(body, &self.limits).await?;
        let path = (&*found.segments, query);
        let message = request::message(&binding, &head.headers, path, &body, &own)?;
        let framed = framed(&message)
            .filter(|_| message.len() <= self.limits.message_bytes_max)
            .ok_or_else(request::too_large)?;
        let Ok(answer) = grpc.call(call(head, &binding, framed)).await;
        frame::ended(answer.headers())?;
        let messages = Messages::new(answer.into_body(), self.limits.answer_bytes_max);
        if binding.streams {
            return Ok(answer::events(binding, messages, &self.limits, self.explain));
        }
        Ok(answer::whole(&binding, messages).await?)
    }

    fn document(&self, method: &Method) -> Result<Response<Body>, Refusal> {
        if method != Method::GET {
            return Err(only("GET".to_owned()));
        }
        let mut answer = Response::new(Body::new(Full::new(self.document.clone())));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(answer::JSON));
        Ok(answer)
    }
}

/// The method is not one of those that do.
fn only(methods: String) -> Refusal {
    let what = format!("this path takes {methods}");
    let status = StatusCode::METHOD_NOT_ALLOWED;
    Refusal { allow: Some(methods), ..Refusal::new(status, Code::InvalidArgument, what) }
}

/// The request as a gRPC call: its headers go along, but for those that are about its body and its connection.
fn call(head: Parts, binding: &Binding, framed: Bytes) -> Request<Body> {
    let mut request = Request::from_parts(head, Body::new(Full::new(framed)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = binding.uri.clone();
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    for about_the_body in [
        header::ACCEPT_ENCODING,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::HOST,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(about_the_body);
    }
    headers.remove("grpc-encoding");
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    request
}

impl fmt::Debug for WebOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("WebOptions");
        shown.field("title", &self.title).field("services", &self.services);
        shown.field("origins", &self.origins).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl fmt::Debug for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spoken").field("table", &self.table).finish_non_exhaustive()
    }
}
