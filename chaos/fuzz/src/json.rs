//! Requests over HTTP as a router and the control plane take them, up to the message of the call: JSON, its path, query
//! and headers, and gRPC-Web.
//!
//! An input is a request as a person would write it down: `POST /v1/sales/s01/reserve`, a line for each header, an empty
//! line, and the body.

mod ear;
mod rows;

use std::cell::OnceCell;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage, SerializeOptions, Value,
};
use proto::codec::explain_http;
use proto::limits::{
    EVENTS_ALIVE_MS, JSON_ANSWER_BYTES_MAX, JSON_BODY_MS, JSON_BYTES_MAX, PATH_BYTES_MAX,
    REQUEST_BYTES_MAX,
};
use proto::wire::{DESCRIPTORS, admin, storefront};
use runtime::metric::Metrics;
use runtime::server::deadline;
use runtime::web::{Web, WebLimits, WebOptions};
use tokio::runtime::{Builder, Runtime};
use tonic::codegen::Service;

use crate::Seed;
use crate::bounded::within;
use ear::{Ear, Heard};

/// What a request may hold: a tree of JSON is many times its text, and of a small object most is the object.
const HOLDS: (usize, usize) = (160, 96 * 1_024);
/// The caller's org.
const OWN: &str = "orgs/acme";
const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const GRPC_WEB: &str = "application/grpc-web";

/// The server that is spoken to.
struct Stage {
    web: Web<Ear>,
    ear: Ear,
    pool: DescriptorPool,
    runtime: Runtime,
}

thread_local! {
    static STAGE: OnceCell<Stage> = const { OnceCell::new() };
}

/// A request makes a message or a problem. A message is one of the call's, within its limits, of nobody else's, and what
/// it says as JSON makes the same message again.
///
/// # Panics
/// When a promise is broken.
pub fn json(bytes: &[u8]) {
    let Some(request) = request(bytes) else { return };
    timeout_is_bounded(request.headers());
    STAGE.with(|stage| stage.get_or_init(Stage::new).try_request(bytes.len(), request));
}

fn request(bytes: &[u8]) -> Option<Request<Bytes>> {
    let end = bytes.windows(2).position(|two| two == b"\n\n");
    let (head, body) = bytes.split_at(end.unwrap_or(bytes.len()));
    let mut lines = std::str::from_utf8(head).ok()?.split('\n');
    let (method, uri) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        request = request.header(name, value);
    }
    request.body(Bytes::copy_from_slice(body.get(2..).unwrap_or_default())).ok()
}

/// `grpc-timeout` is at most eight digits and a unit.
fn timeout_is_bounded(headers: &HeaderMap) {
    let Some(deadline) = deadline(headers) else { return };
    let text = headers["grpc-timeout"].to_str().unwrap();
    assert!((2..=9).contains(&text.len()), "{text}");
    assert!(deadline <= Duration::from_secs(99_999_999 * 3_600), "{text}");
}

impl Stage {
    fn new() -> Stage {
        let ear = Ear::default();
        let options = WebOptions {
            title: "Fuzzed",
            descriptors: DESCRIPTORS,
            services: vec![
                storefront::storefront_service_server::SERVICE_NAME,
                admin::sale_service_server::SERVICE_NAME,
            ],
            own: Some(std::sync::Arc::new(|_| Ok(OWN.to_owned()))),
            cached: Vec::new(),
            origins: vec!["*".to_owned()],
            explain: explain_http,
            limits: WebLimits {
                path_bytes_max: PATH_BYTES_MAX,
                body_bytes_max: JSON_BYTES_MAX,
                body_time_max: Duration::from_millis(JSON_BODY_MS),
                message_bytes_max: REQUEST_BYTES_MAX,
                answer_bytes_max: JSON_ANSWER_BYTES_MAX,
                alive_every: Duration::from_millis(EVENTS_ALIVE_MS),
                // Nothing is kept from one input to the next.
                written_max: 1,
                again_ms: 1..2,
            },
        };
        let web = Web::new(ear.clone(), options, &Metrics::new("fuzz", "0").unwrap()).unwrap();
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let stage = Stage { web, ear, pool, runtime };
        // What is made once is not what a request costs.
        stage.ask(Request::get("/v1/sales/s01/events").body(Bytes::new()).unwrap());
        stage
    }

    /// Sends a request: its answer, whole, and what the service heard.
    fn ask(&self, request: Request<Bytes>) -> (Response<Bytes>, Option<Heard>) {
        let answer = self.runtime.block_on(async {
            let Ok(answer) = self.web.clone().call(request.map(Full::new)).await;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_or(Bytes::new(), |body| body.to_bytes());
            Response::from_parts(head, body)
        });
        (answer, self.ear.take())
    }

    fn try_request(&self, bytes: usize, request: Request<Bytes>) {
        let kind = request.headers().get(CONTENT_TYPE).map_or(&[][..], |kind| kind.as_bytes());
        if kind.starts_with(GRPC_WEB.as_bytes()) {
            let text = kind.starts_with(b"application/grpc-web-text");
            let (_, heard) = within(bytes, HOLDS, || self.ask(request.clone()));
            return heard.into_iter().for_each(|heard| web_frames(&request, text, &heard));
        }
        if kind.starts_with(b"application/grpc") {
            return;
        }
        let (answer, heard) = within(bytes, HOLDS, || self.ask(request.clone()));
        answered(&answer, heard.is_some());
        if let Some(heard) = heard {
            let (call, message) = self.understood(&heard);
            own(&call, &message);
            once(request.uri().query().unwrap_or_default());
            self.again(&request, &call, &message);
        }
    }

    /// The call and the message that were heard.
    fn understood(&self, heard: &Heard) -> (MethodDescriptor, DynamicMessage) {
        let (service, name) = heard.path[1..].split_once('/').unwrap();
        let service = self.pool.get_service_by_name(service).unwrap();
        let call = service.methods().find(|call| call.name() == name).unwrap();
        let (head, message) = heard.body.as_ref().unwrap().split_at(5);
        assert_eq!(head[0], 0, "compressed");
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        assert_eq!(usize::try_from(length), Ok(message.len()), "one message and no more");
        assert!(message.len() <= REQUEST_BYTES_MAX);
        let message = DynamicMessage::decode(call.input(), message).unwrap();
        assert_eq!(message.unknown_fields().count(), 0, "{message}");
        (call, message)
    }

    /// What a message says as JSON makes the same message, and what the first request said in it is there.
    fn again(&self, first: &Request<Bytes>, call: &MethodDescriptor, message: &DynamicMessage) {
        let body = self.body(call);
        let said = match &*body {
            "" => return,
            "*" => message.clone(),
            field => {
                let value = message.get_field_by_name(field).unwrap();
                let Some(value) = value.as_message() else { return };
                value.clone()
            }
        };
        heeded(first.body(), &said);
        let mut json = serde_json::Serializer::new(Vec::new());
        said.serialize_with_options(&mut json, &SerializeOptions::new()).unwrap();
        let json = json.into_inner();
        if json.len() > JSON_BYTES_MAX {
            return;
        }
        let mut request = first.clone();
        request.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(JSON));
        request.headers_mut().remove(CONTENT_ENCODING);
        *request.body_mut() = json.clone().into();
        let (answer, heard) = self.ask(request);
        let told = || (String::from_utf8_lossy(&json), String::from_utf8_lossy(answer.body()));
        let Some(heard) = heard else { panic!("not understood again: {:?}", told()) };
        let (_, second) = self.understood(&heard);
        assert_eq!(second.encode_to_vec(), message.encode_to_vec(), "{:?}", told());
    }

    /// What the call's binding says of the body.
    fn body(&self, call: &MethodDescriptor) -> String {
        let http = self.pool.get_extension_by_name("google.api.http").unwrap();
        let rule = call.options().get_extension(&http).into_owned();
        let body = rule.as_message().and_then(|rule| rule.get_field_by_name("body"));
        body.as_deref().and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// An answer is JSON, events, or a problem that says so.
fn answered(answer: &Response<Bytes>, heard: bool) {
    let kind = answer.headers().get(CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap());
    match answer.status() {
        StatusCode::OK if kind == "text/event-stream" => assert!(heard),
        StatusCode::OK => {
            assert_eq!(kind, JSON);
            serde_json::from_slice::<serde_json::Value>(answer.body()).unwrap();
        }
        // A page of elsewhere asked what it may.
        StatusCode::NO_CONTENT => assert!(!heard),
        status => {
            assert!(!heard && status.is_client_error(), "{status}: {:?}", answer.body());
            assert_eq!(kind, PROBLEM);
            let body: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
            assert_eq!(body["status"], status.as_u16());
        }
    }
}

/// A storefront's path leaves the org out, so whatever else a request says, it is the caller's own (INV-9).
fn own(call: &MethodDescriptor, message: &DynamicMessage) {
    if call.parent_service().name() != "StorefrontService" {
        return;
    }
    let field = if call.input().get_field_by_name("sale").is_some() { "sale" } else { "name" };
    let name = message.get_field_by_name(field).unwrap();
    let name = name.as_str().unwrap();
    assert!(name.starts_with("orgs/acme/sales/"), "{}: {name}", call.name());
    let parts = if field == "sale" { 4 } else { 6 };
    assert_eq!(name.split('/').count(), parts, "{}: {name}", call.name());
}

/// No text of a body is lost, or overruled by what the path or a header says.
fn heeded(body: &Bytes, message: &DynamicMessage) {
    let Ok(serde_json::Value::Object(body)) = serde_json::from_slice(body) else { return };
    for (name, value) in body {
        let kind = message.descriptor();
        let field = kind.get_field_by_json_name(&name).or_else(|| kind.get_field_by_name(&name));
        let there = field.map(|field| message.get_field(&field).into_owned());
        if let (serde_json::Value::String(value), Some(Value::String(there))) = (value, there) {
            assert!(value == there || value.is_empty(), "{name}: {value:?} became {there:?}");
        }
    }
}

/// No parameter of a query stands there twice.
fn once(query: &str) {
    let mut names: Vec<_> = query.split('&').map(|pair| pair.split('=').next()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "{query}");
}

/// Frames of gRPC-Web reach the service as they were sent; as text, as what the text means.
fn web_frames(request: &Request<Bytes>, text: bool, heard: &Heard) {
    let Some(body) = &heard.body else { return };
    if !text {
        assert_eq!(body, request.body());
    } else if let Ok(meant) = STANDARD.decode(request.body()) {
        assert_eq!(*body, meant);
    }
}

/// Requests of every call, and what a client may get wrong.
pub fn seeds() -> Vec<Seed> {
    let framed = |message: &[u8]| {
        let length = u32::try_from(message.len()).unwrap();
        [&[0], &length.to_be_bytes()[..], message].concat()
    };
    let join = storefront::JoinRequest { sale: "orgs/acme/sales/s01".into() };
    let join = framed(&join.encode_to_vec());
    let web = |kind: &str, body: &[u8]| {
        let path = "/floodgate.storefront.v1.StorefrontService/Join";
        let head = format!("POST {path}\ncontent-type: application/{kind}\nx-grpc-web: 1\n\n");
        [head.as_bytes(), body].concat()
    };
    let mut seeds: Vec<Seed> = vec![
        ("gRPC-Web", web("grpc-web+proto", &join)),
        ("gRPC-Web as text", web("grpc-web-text+proto", STANDARD.encode(&join).as_bytes())),
        ("gRPC-Web, text cut short", web("grpc-web-text", b"AAAAAA")),
        ("gRPC-Web, padded twice", web("grpc-web-text", b"AA==AAAAAA==")),
        ("gRPC-Web, a length that lies", web("grpc-web", b"\0\xff\xff\xff\xff")),
        ("gRPC-Web, trailers from a client", web("grpc-web", b"\x80\0\0\0\x0fgrpc-status: 0\r\n")),
    ];
    seeds.extend(rows::ROWS.iter().map(|(name, text)| {
        let text = text.replace('\u{2026}', &format!("\ncontent-type: {JSON}\n\n"));
        (*name, text.into_bytes())
    }));
    let nested = format!("{}1{}", r#"{"sale":"#.repeat(200), "}".repeat(200));
    let large = format!(r#"{{"requestId":"{}"}}"#, "r".repeat(REQUEST_BYTES_MAX));
    for (name, body) in [("nested", nested), ("too large", large)] {
        let head = format!("POST /v1/sales/s01/reserve\ncontent-type: {JSON}\n\n");
        seeds.push((name, (head + &body).into_bytes()));
    }
    seeds
}
