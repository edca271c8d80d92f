//! What is spoken on a port: JSON requests and their answers as a table, events, problems, gRPC-Web, pages of elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[path = "web/rows.rs"]
mod rows;
#[path = "web/service.rs"]
mod service;

use bytes::Bytes;
use floodgate_runtime::metric::Metrics;
use floodgate_runtime::server::Peer;
use floodgate_runtime::web::Web;
use futures_util::FutureExt;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use rows::{REFUSED, UNDERSTOOD};
use serde_json::{Value, json};
use service::{
    BODY_BYTES_MAX, BREAK, DESCRIPTORS, Hearing, NAME, Noting, REFUSE, compiled, framed, options,
    web,
};
use tonic::body::Body;
use tonic::codegen::Service;

const TOKEN: (&str, &str) = ("authorization", "Bearer of acme");
const JSON: (&str, &str) = ("content-type", "application/json");

/// An answer, read whole.
struct Told {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// What the service heard, as `Call {request}`; or the problem, as `status: detail`.
    fn word(&self) -> String {
        let json = self.json();
        if self.status == StatusCode::OK {
            return format!("{} {}", text(&json, "call"), text(&json, "request"));
        }
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(json["status"], self.status.as_u16());
        assert_eq!(json["type"], "about:blank");
        format!("{}: {}", self.status.as_u16(), text(&json, "detail"))
    }
}

fn text(json: &Value, name: &str) -> String {
    json[name].as_str().unwrap().to_owned()
}

async fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Told {
    let answer = send(method, path, headers, Body::new(Full::new(body.into()))).await;
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Told { status: parts.status, headers: parts.headers, body }
}

async fn send(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut web = web(*DESCRIPTORS).unwrap();
    let Ok(answer) = web.call(request.body(body).unwrap()).await;
    answer
}

#[tokio::test]
async fn requests_become_messages() {
    for (method, path, body, heard) in UNDERSTOOD {
        let told = ask(method, path, &[TOKEN, JSON], *body).await;
        assert_eq!(told.word(), *heard, "{method} {path} {body}");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_said_to_make_none() {
    for (method, path, body, said) in REFUSED {
        let told = ask(method, path, &[TOKEN, JSON], *body).await;
        assert!(told.word().starts_with(said), "{method} {path} {body}: {}", told.word());
        let field = said.split(": ").nth(1).filter(|_| said.matches(": ").count() == 2);
        if let Some(field) = field.filter(|field| !field.contains(' ')) {
            assert_eq!(told.json()["violations"][0]["field"], field, "{}", told.json());
        }
        let allow = said.strip_prefix("405: this path takes ");
        assert_eq!(told.headers.get("allow").map(|allow| allow.to_str().unwrap()), allow);
    }
}

#[tokio::test]
async fn nothing_is_read_beyond_its_limit() {
    let path = "/v1/things/t1/use";
    let large = format!(r#"{{"requestId": "{}"}}"#, "r".repeat(BODY_BYTES_MAX));
    let larger = format!(r#"{{"requestId": "{}"}}"#, "r".repeat(BODY_BYTES_MAX * 3 / 4));
    let nested = format!("{}1{}", r#"{"units":"#.repeat(200), "}".repeat(200));
    let deep = "[".repeat(2_000);
    let parts = format!("{}{{}}{}", r#"{"parts":["#.repeat(150), "]}".repeat(150));
    let long = format!("/v1/things/{}/look/x", "t".repeat(300));
    let query = format!("/v1/things/t/look/x?times={}", "1".repeat(300));
    let rows = [
        ("POST", path, large, "413: the request is too large"),
        ("POST", path, larger, "413: the request is too large"),
        ("POST", path, nested, "400: the body is no JSON: recursion limit exceeded"),
        ("POST", path, deep, "400: the body is no JSON: recursion limit exceeded"),
        ("POST", "/v1/orgs/o/things", parts, "400: the body is no JSON: recursion limit"),
        ("GET", &long, String::new(), "414: the path is longer"),
        ("GET", &query, String::new(), "414: the path is longer"),
    ];
    for (method, path, body, said) in rows {
        let told = ask(method, path, &[TOKEN, JSON], body).await;
        assert!(told.word().starts_with(said), "{method} {path}: {}", told.word());
    }
    // A body that never comes.
    let never = futures_util::stream::pending::<Result<Frame<Bytes>, tonic::Status>>();
    let answer = send("POST", path, &[TOKEN, JSON], Body::new(StreamBody::new(never))).await;
    assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    let never = futures_util::stream::pending::<Result<Frame<Bytes>, tonic::Status>>();
    let grpc_web = [("content-type", "application/grpc-web+proto")];
    let body = Body::new(StreamBody::new(never));
    let answer = send("POST", &format!("/{NAME}/Echo"), &grpc_web, body).await;
    assert_eq!(answer.headers()["grpc-status"], "4", "{answer:?}");
}

#[tokio::test]
async fn a_body_is_json_or_nothing() {
    let path = "/v1/things/t1/use";
    let kinds = ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"];
    for kind in kinds {
        let told = ask("POST", path, &[TOKEN, ("content-type", kind)], "{}").await;
        assert!(told.word().starts_with("415: send the body as application/json"), "{kind}");
    }
    let zipped = [TOKEN, JSON, ("content-encoding", "gzip")];
    assert_eq!(ask("POST", path, &zipped, "{}").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let said = [TOKEN, ("content-type", "Application/JSON; charset=utf-8")];
    assert_eq!(ask("POST", path, &said, "{}").await.status, StatusCode::OK);
    assert_eq!(ask("POST", path, &[TOKEN], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_org_is_the_tokens_and_no_header_or_path_says_another() {
    let path = "/v1/things/t1/use";
    let none = ask("POST", path, &[JSON], "").await;
    assert_eq!(none.word(), "401: no token");
    assert_eq!(none.headers["www-authenticate"], "Bearer");
    let sneaky = [TOKEN, ("x-org", "other"), ("org", "other"), ("host", "other")];
    let told = ask("POST", path, &sneaky, "").await;
    assert_eq!(told.word(), r#"Use {"thing":"orgs/acme/things/t1"}"#);
}

#[tokio::test]
async fn an_idempotency_key_is_the_request_id() {
    let with = async |key: &str, body: &str| {
        let headers = [TOKEN, JSON, ("idempotency-key", key)];
        ask("POST", "/v1/things/t1/use", &headers, body.to_owned()).await.word()
    };
    let heard = r#"Use {"thing":"orgs/acme/things/t1","requestId":"k-1"}"#;
    assert_eq!(with("k-1", "").await, heard);
    assert_eq!(with("\"k-1\"", "").await, heard);
    assert_eq!(with("k-1", r#"{"requestId": "k-1"}"#).await, heard);
    let other = with("k-1", r#"{"requestId": "k-2"}"#).await;
    assert_eq!(other, "400: requestId: is not what the Idempotency-Key says");
    let twice = [TOKEN, ("idempotency-key", "a"), ("idempotency-key", "a")];
    let twice = ask("POST", "/v1/things/t1/use", &twice, "").await;
    assert_eq!(twice.word(), "400: send one Idempotency-Key, in ASCII");
}

#[tokio::test]
async fn answers_are_proto3_json_with_their_zeros() {
    let told = ask("POST", "/v1/echo", &[JSON], r#"{"timeLeft": "0.250s", "raw": "AAE="}"#).await;
    let expected = json!({
        "name": "", "units": 0, "parts": [], "timeLeft": "0.250s", "kind": "KIND_UNSPECIFIED",
        "large": "0", "raw": "AAE=", "live": false,
    });
    assert_eq!(told.json(), expected);
    assert_eq!(told.headers["content-type"], "application/json");
    assert_eq!(told.headers["cache-control"], "no-store");
    let look = ask("GET", "/v1/things/t1/look/x", &[TOKEN], "").await;
    assert_eq!(look.headers["cache-control"], "max-age=1");
    assert_eq!(look.headers["vary"], "authorization");
}

#[tokio::test]
async fn refusals_are_problems() {
    let rows = [
        (3, 400),
        (16, 401),
        (7, 403),
        (5, 404),
        (6, 409),
        (10, 409),
        (9, 409),
        (8, 429),
        (13, 500),
        (12, 501),
        (14, 503),
        (4, 504),
    ];
    for (code, status) in rows {
        let code = code.to_string();
        let told = ask("GET", "/v1/things/t1/look/x", &[TOKEN, (REFUSE, &code)], "").await;
        assert_eq!(told.word(), format!("{status}: not now"));
        assert_eq!(told.headers["retry-after"], "2");
        assert_eq!(told.headers["cache-control"], "no-store");
        let json = told.json();
        assert_eq!((text(&json, "reason"), text(&json, "domain")), ("WHY".into(), "things".into()));
        assert_eq!(text(&json, "retryAfter"), "1.250s");
    }
    let late = ask("GET", "/v1/things/t1/look/x", &[TOKEN, (BREAK, "")], "").await;
    assert_eq!(late.word(), "500: after all not");
}

#[tokio::test]
async fn streams_are_events() {
    let events = async |path: &str| {
        let told = ask("GET", path, &[TOKEN, ("last-event-id", "99")], "").await;
        assert_eq!(told.status, StatusCode::OK);
        assert_eq!(told.headers["content-type"], "text/event-stream");
        String::from_utf8(told.body.to_vec()).unwrap()
    };
    let one = |times: i32| {
        let request = json!({"thing": "orgs/acme/things/t1", "times": times}).to_string();
        format!("data: {}\n\n", json!({"call": "Watch", "request": request}))
    };
    let two = events("/v1/things/t1/events?times=2").await;
    assert_eq!(two, format!("retry: 7\n{0}{0}", one(2)));
    let quiet = events("/v1/things/t1/events?times=3").await;
    let (told, alive) = quiet.split_once(": alive\n\n").unwrap();
    assert_eq!(told, format!("retry: 7\n{0}{0}{0}", one(3)));
    assert!(alive.replace(": alive\n\n", "").is_empty(), "{alive}");
    let broken = events("/v1/things/t1/events?times=-1").await;
    let (told, problem) = broken.split_once("event: problem\ndata: ").unwrap();
    assert_eq!(told, format!("retry: 7\n{}", one(-1)));
    let problem: Value = serde_json::from_str(problem.trim_end()).unwrap();
    assert_eq!((problem["status"].as_u64(), text(&problem, "detail")), (Some(503), "away".into()));
    let refused = ask("GET", "/v1/things/t1/events", &[TOKEN, (REFUSE, "5")], "").await;
    assert_eq!(refused.word(), "404: not now");
}

#[tokio::test]
async fn pages_of_known_origins_may_read_answers() {
    let path = "/v1/things/t1/use";
    let asked = ("access-control-request-headers", "authorization,x-grpc-web");
    let from = |origin| [asked, ("origin", origin), ("access-control-request-method", "POST")];
    let preflight = ask("OPTIONS", path, &from("https://shop.example"), "").await;
    assert_eq!(preflight.status, StatusCode::NO_CONTENT);
    let (say, headers) = (preflight.headers, "access-control-allow-headers");
    assert_eq!(say["access-control-allow-origin"], "https://shop.example");
    assert_eq!(say["vary"], "origin");
    assert_eq!(say[headers], asked.1);
    let foreign = ask("OPTIONS", path, &from("https://evil.example"), "").await;
    assert!(!foreign.headers.contains_key("access-control-allow-origin"));
    assert!(!foreign.headers.contains_key(headers));
    for (origin, may) in [("https://shop.example", true), ("https://evil.example", false)] {
        for (method, path) in [("POST", path), ("GET", "/nowhere")] {
            let told = ask(method, path, &[TOKEN, ("origin", origin)], "").await;
            assert_eq!(told.headers.contains_key("access-control-allow-origin"), may);
            assert_eq!(told.headers["vary"], "origin");
        }
    }
}

#[tokio::test]
async fn grpc_passes_and_grpc_web_is_unpacked() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let path = format!("/{NAME}/Echo");
    let frame = framed(b"\x10\x05");
    let grpc = ask("POST", &path, &[("content-type", "application/grpc")], frame.clone()).await;
    assert_eq!((grpc.status, &grpc.body), (StatusCode::OK, &frame));
    let plain = [("content-type", "application/grpc-web+proto")];
    let web = ask("POST", &path, &plain, frame.clone()).await;
    let end = web.body.strip_prefix(&*frame).unwrap();
    assert_eq!((end[0], &end[5..]), (0x80, &b"grpc-status:0\r\n"[..]), "{end:?}");
    let text = "application/grpc-web-text";
    let coded = [("content-type", text), ("accept", text), ("origin", "https://shop.example")];
    let told = ask("POST", &path, &coded, STANDARD.encode(&frame)).await;
    let first = STANDARD.encode(&frame);
    let rest = told.body.strip_prefix(first.as_bytes()).unwrap();
    assert_eq!(&STANDARD.decode(rest).unwrap()[5..], b"grpc-status:0\r\n");
    let exposed = told.headers["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("grpc-status") && exposed.contains("grpc-message"), "{exposed}");
    let mut refusal = plain.to_vec();
    refusal.push((REFUSE, "14"));
    let told = ask("POST", &path, &refusal, frame).await;
    assert_eq!(told.headers["grpc-status"], "14");
}

/// gRPC is neither boxed nor waited for here: its future is the service's own.
#[tokio::test]
async fn grpc_is_passed_on_at_once() {
    let request = Request::post(format!("/{NAME}/Echo"))
        .header("content-type", "application/grpc")
        .body(Body::new(Full::new(framed(b""))));
    let mut web = web(*DESCRIPTORS).unwrap();
    let answering = web.call(request.unwrap());
    assert!(matches!(answering, futures_util::future::Either::Left(_)));
    assert_eq!(answering.now_or_never().unwrap().unwrap().status(), StatusCode::OK);
}

/// Who is at the other end goes on to the service, whatever is spoken.
#[tokio::test]
async fn extensions_of_requests_go_along() {
    let peer = Peer("192.0.2.1".parse().unwrap());
    let (grpc, json) = (format!("/{NAME}/Echo"), "/v1/echo");
    for (path, kind, body) in [
        (&*grpc, "application/grpc", framed(b"")),
        (&*grpc, "application/grpc-web", framed(b"")),
        (json, "application/json", Bytes::from_static(b"{}")),
    ] {
        let noting = Noting::default();
        let metrics = Metrics::new("test", "0").unwrap();
        let mut web = Web::new(noting.clone(), options(*DESCRIPTORS), &metrics).unwrap();
        let request = Request::post(path).header("content-type", kind).extension(peer);
        let Ok(answer) = web.call(request.body(Body::new(Full::new(body))).unwrap()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{kind}");
        assert_eq!(noting.peers(), [Some(peer)], "{kind}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_counted() {
    let metrics = Metrics::new("test", "0").unwrap();
    let mut web = Web::new(Hearing, options(*DESCRIPTORS), &metrics).unwrap();
    let grpc_web = "application/grpc-web";
    for kind in ["application/grpc", grpc_web, "application/json", "text/html", grpc_web, grpc_web]
    {
        let request = Request::post(format!("/{NAME}/Echo")).header("content-type", kind);
        let body = Body::new(Full::new(framed(b"")));
        let Ok(answer) = web.call(request.body(body).unwrap()).await;
        drop(answer);
    }
    let text = metrics.text().unwrap();
    for (protocol, count) in [("json", 2), ("grpc-web", 3)] {
        let line = format!("floodgate_web_calls_total{{protocol=\"{protocol}\"}} {count}");
        assert!(text.contains(&line), "no {line} in\n{text}");
    }
}

#[tokio::test]
async fn the_document_says_what_is_served() {
    let told = ask("GET", "/openapi.json", &[], "").await;
    let document = told.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let expected = [
        "/v1/echo",
        "/v1/orgs/{org}/things",
        "/v1/orgs/{org}/things/{thing}",
        "/v1/things/{thing}/events",
        "/v1/things/{thing}/look/{secret}",
        "/v1/things/{thing}/use",
        "/v1/things/{thing}:use",
    ];
    let mut paths = paths;
    paths.sort_unstable();
    assert_eq!(paths, expected);
    let make = &document["paths"]["/v1/orgs/{org}/things"]["post"];
    assert_eq!(make["operationId"], "Make");
    assert_eq!(make["description"], "Makes a thing.");
    let names: Vec<_> =
        make["parameters"].as_array().unwrap().iter().map(|one| text(one, "name")).collect();
    assert_eq!(names, ["org", "requestId", "validateOnly", "words", "Idempotency-Key"]);
    let body = &make["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["$ref"], "#/components/schemas/Thing");
    let thing = &document["components"]["schemas"]["Thing"];
    assert_eq!(thing["required"], json!(["units"]));
    assert_eq!(thing["properties"]["kind"]["enum"], json!(["KIND_UNSPECIFIED", "KIND_GOOD"]));
    assert_eq!(thing["properties"]["parts"]["items"]["$ref"], "#/components/schemas/Thing.Part");
    assert!(document["components"]["schemas"]["Thing.Part"].is_object());
}

#[test]
fn bindings_that_make_no_sense_are_refused_at_the_start() {
    let things = include_str!("web/things.proto");
    let with = |from: &str, to: &str| {
        assert!(things.contains(from), "{from}");
        web(compiled(&things.replace(from, to))).map(drop).map_err(|why| why.to_string())
    };
    let rows = [
        ("/v1/{thing=things/*}/look/{secret}", "/v1/{thing=**}", "no template"),
        ("/v1/{thing=things/*}/look/{secret}", "/v1/{thing=thongs/*}", "is no name"),
        ("/v1/{thing=things/*}/look/{secret}", "/v1/{nothing}", "is no name"),
        ("/v1/{thing=things/*}/look/{secret}", "/v1/{times}", "is no name"),
        ("/v1/{thing=things/*}/look/{secret}", "/v1/{thing=things/*}/events", "not alone"),
        ("/v1/{thing=things/*}/look/{secret}", "/v1/things/look/{secret}", "not alone"),
        ("body: \"thing\"", "body: \"parent\"", "no message"),
        ("get: \"/v1/{thing=things/*}/events\"", "custom: {kind: \"X\" path: \"/\"}", "not known"),
    ];
    assert_eq!(web(*DESCRIPTORS).map(drop), Ok(()));
    for (from, to, why) in rows {
        let refused = with(from, to).unwrap_err();
        assert!(refused.contains(why), "{to}: {refused}");
    }
}
