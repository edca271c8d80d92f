//! What the provider answers: a status and a JSON body, shaped like Stripe's.

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An answer, good or bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
    /// Whether it repeats an earlier answer to the same idempotency key.
    pub(crate) replayed: bool,
}

impl Answer {
    pub(crate) fn new(status: StatusCode, body: &Value) -> Self {
        Self { status, body: body.to_string(), replayed: false }
    }

    pub(crate) fn ok(body: &Value) -> Self {
        Self::new(StatusCode::OK, body)
    }

    /// An error of the given type and code.
    pub(crate) fn error(status: StatusCode, kind: &str, code: &str, message: &str) -> Self {
        Self::new(status, &json!({"error": {"type": kind, "code": code, "message": message}}))
    }

    pub(crate) fn invalid(code: &str, message: &str) -> Self {
        Self::error(StatusCode::BAD_REQUEST, "invalid_request_error", code, message)
    }

    pub(crate) fn invalid_parameter(name: &str, value: &str) -> Self {
        let message = format!("invalid {name}: {value}");
        let error = json!({"type": "invalid_request_error", "code": "parameter_invalid",
            "message": message, "param": name});
        Self::new(StatusCode::BAD_REQUEST, &json!({ "error": error }))
    }

    pub(crate) fn missing_parameter(name: &str) -> Self {
        Self::invalid("parameter_missing", &format!("missing required param: {name}"))
    }

    pub(crate) fn no_such(what: &str, id: &str) -> Self {
        let message = format!("no such {what}: '{id}'");
        Self::error(StatusCode::NOT_FOUND, "invalid_request_error", "resource_missing", &message)
    }

    /// The call does not fit the state the intent is in.
    pub(crate) fn unexpected_state(message: &str, intent: Value) -> Self {
        let error = json!({"type": "invalid_request_error",
            "code": "payment_intent_unexpected_state", "message": message,
            "payment_intent": intent});
        Self::new(StatusCode::BAD_REQUEST, &json!({ "error": error }))
    }

    /// The intent's card was declined; the intent carries why.
    pub(crate) fn declined(intent: Value) -> Self {
        let mut error = intent.get("last_payment_error").cloned().unwrap_or_default();
        if let Some(error) = error.as_object_mut() {
            error.insert("payment_intent".to_owned(), intent);
        }
        Self::new(StatusCode::PAYMENT_REQUIRED, &json!({ "error": error }))
    }

    /// Another call is changing this intent right now.
    pub(crate) fn locked(id: &str) -> Self {
        let message = format!("another request is accessing '{id}' right now; try again");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::error(status, "invalid_request_error", "lock_timeout", &message)
    }

    /// Another call with this idempotency key is under way.
    pub(crate) fn key_in_use(key: &str) -> Self {
        let message = format!("a request with the idempotency key '{key}' is under way; try again");
        let status = StatusCode::CONFLICT;
        Self::error(status, "idempotency_error", "idempotency_key_in_use", &message)
    }

    /// The idempotency key was used for something else before.
    pub(crate) fn key_mismatch(key: &str) -> Self {
        let message = format!("the idempotency key '{key}' was used with other parameters before");
        let code = "idempotency_key_mismatch";
        Self::error(StatusCode::BAD_REQUEST, "idempotency_error", code, &message)
    }

    /// The simulator's limits are reached.
    pub(crate) fn too_many(what: &str) -> Self {
        let message = format!("too many {what}");
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::error(status, "invalid_request_error", "rate_limit", &message)
    }

    /// Something broke on the provider's side.
    pub(crate) fn broken(message: &str) -> Self {
        let error = json!({"type": "api_error", "message": message});
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error }))
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response =
            (self.status, [(CONTENT_TYPE, "application/json")], self.body).into_response();
        if self.replayed {
            let header = HeaderName::from_static("idempotent-replayed");
            response.headers_mut().insert(header, axum::http::HeaderValue::from_static("true"));
        }
        response
    }
}
