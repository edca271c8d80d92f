//! Refusals as HTTP has them: a status, and a body after RFC 9457 with what the `google.rpc.Status` says.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Map, Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The type of the bodies.
pub(super) const PROBLEM: &str = "application/problem+json";

/// Why a request gets no answer.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What HTTP calls it.
    pub(super) http: StatusCode,
    /// What it is.
    pub(super) status: Status,
    /// The methods that would do, where that is what is wrong.
    pub(super) allow: Option<String>,
}

impl Refusal {
    /// A refusal that is about HTTP and nothing else.
    pub(super) fn new(http: StatusCode, code: Code, message: impl Into<String>) -> Refusal {
        Refusal { http, status: Status::new(code, message), allow: None }
    }

    /// Something about the request that is not what the call takes.
    pub(super) fn malformed(message: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, message)
    }

    /// A field that is not what the call takes.
    pub(super) fn field(path: &str, complaint: impl Into<String>) -> Refusal {
        let complaint = complaint.into();
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation(path, &complaint);
        let message = format!("{path}: {complaint}");
        Status::with_error_details(Code::InvalidArgument, message, details).into()
    }

    /// The refusal as an answer, with the reason that `explain` gives it.
    pub(super) fn answer(self, explain: fn(Status) -> Status) -> Response<Body> {
        let status = explain(self.status);
        let details = status.get_error_details();
        let body = body(self.http, &status, &details).to_string();
        let mut answer = Response::new(Body::new(Full::new(Bytes::from(body))));
        *answer.status_mut() = self.http;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.http == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(delay) = retry_delay(&details) {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds_up(delay)));
        }
        if let Some(Ok(allow)) = self.allow.map(HeaderValue::try_from) {
            headers.insert(ALLOW, allow);
        }
        answer
    }

    /// The body alone, for a stream that has begun.
    pub(super) fn event(self, explain: fn(Status) -> Status) -> String {
        let status = explain(self.status);
        body(self.http, &status, &status.get_error_details()).to_string()
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal { http: http_status(status.code()), status, allow: None }
    }
}

/// What HTTP calls a gRPC code, as `google.rpc.Code` has it but for one: that FAILED_PRECONDITION is a 400 there. Here it is
/// what a well-made request meets that came too late, or too early: sold out, closed, an order that is paid already. A
/// 400 says that the client is broken, and is what alerts on clients look for; a 409 says that the request and the state of
/// what it is about do not go together, which is so. (A 412 is about conditions in a request's own headers.)
pub(super) fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        // The caller went away: nobody reads this.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn body(http: StatusCode, status: &Status, details: &ErrorDetails) -> Value {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| body.insert(name.to_owned(), value);
    set("type", json!("about:blank"));
    set("title", json!(http.canonical_reason().unwrap_or("Refused")));
    set("status", json!(http.as_u16()));
    set("detail", json!(status.message()));
    set("code", json!(name(status.code())));
    if let Some(info) = details.error_info() {
        set("reason", json!(info.reason));
        set("domain", json!(info.domain));
    }
    if let Some(delay) = retry_delay(details) {
        set("retryAfter", json!(format!("{}.{:03}s", delay.as_secs(), delay.subsec_millis())));
    }
    if let Some(bad) = details.bad_request() {
        let violation = |one: &tonic_types::FieldViolation| json!({"field": one.field, "description": one.description});
        set("violations", bad.field_violations.iter().map(violation).collect());
    }
    Value::Object(body)
}

fn retry_delay(details: &ErrorDetails) -> Option<Duration> {
    details.retry_info().and_then(|retry| retry.retry_delay)
}

/// Whole seconds, so that nobody comes too early.
fn seconds_up(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

/// The code as `google.rpc.Code` writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
