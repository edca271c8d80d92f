//! Which pages may read answers (CORS). Callers say who they are with a token in a header, never with what a browser adds
//! by itself, so a page of anywhere may be let in.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use tonic::body::Body;

const ANY: &str = "*";
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH");
const EXPOSED: HeaderValue =
    HeaderValue::from_static("grpc-message, grpc-status, grpc-status-details-bin, retry-after");
/// For how long a browser need not ask again: two hours, which is the most that one of them believes.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may read answers.
#[derive(Clone, Debug)]
pub(super) struct Cors(Vec<String>);

impl Cors {
    /// These origins; `*` is any.
    pub(super) fn new(origins: Vec<String>) -> Cors {
        Cors(origins)
    }

    /// The answer to a browser that asks before it asks; none if this is no such question.
    pub(super) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let asks = method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if !asks {
            return None;
        }
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        if self.allowed(headers).is_some() {
            let say = answer.headers_mut();
            say.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            // A header gives no right that its sender did not have.
            if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
                say.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            }
            say.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
        }
        self.mark(headers, &mut answer);
        Some(answer)
    }

    /// Says on an answer who may read it.
    pub(super) fn mark(&self, asked: &HeaderMap, answer: &mut Response<Body>) {
        self.mark_for(self.allowed(asked), answer);
    }

    /// As [`Self::mark`], for an origin that [`Self::allowed`] found.
    pub(super) fn mark_for(&self, origin: Option<HeaderValue>, answer: &mut Response<Body>) {
        let headers = answer.headers_mut();
        if !self.is_any() && !self.0.is_empty() {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// What an answer says of the origin that asks; none if there is none or it may not.
    pub(super) fn allowed(&self, asked: &HeaderMap) -> Option<HeaderValue> {
        let origin = asked.get(ORIGIN)?;
        if self.is_any() {
            return Some(HeaderValue::from_static(ANY));
        }
        self.0.iter().any(|one| one.as_bytes() == origin.as_bytes()).then(|| origin.clone())
    }

    fn is_any(&self) -> bool {
        self.0.iter().any(|one| one == ANY)
    }
}
