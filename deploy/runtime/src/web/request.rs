//! From an HTTP request to the message of a call: the body, the query and the path, each of which may say only what is
//! its own, and nothing that the call does not know.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use percent_encoding::percent_decode_str;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, Value as Field};
use serde_json::{Map, Value};
use tokio::time::timeout;
use tonic::Code;
use tonic::codegen::{Body, StdError};

use super::WebLimits;
use super::binding::{Binding, Bound, Content};
use super::problem::Refusal;

/// The header with which a client says that it makes the same call again.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The body of a request, read whole.
pub(super) async fn read<B>(body: B, limits: &WebLimits) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<StdError>,
{
    let whole = Box::pin(Limited::new(body, limits.body_bytes_max)).collect();
    match timeout(limits.body_time_max, whole).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::malformed("the body broke off")),
        Err(_) => {
            let late = "the body took too long to come";
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, late))
        }
    }
}

/// The message that a request makes. `own` is the caller's own name, for paths that leave it out.
pub(super) fn message(
    binding: &Binding,
    headers: &HeaderMap,
    (segments, query): (&[&str], Option<&str>),
    body: &[u8],
    own: &str,
) -> Result<Vec<u8>, Refusal> {
    let mut message = match &binding.body {
        Content::None if body.is_empty() => DynamicMessage::new(binding.call.input()),
        Content::None => return Err(Refusal::malformed("this call takes no body")),
        Content::All => object(binding.call.input(), json(headers, body)?, "")?,
        Content::Field(field) => {
            let Kind::Message(kind) = field.kind() else { return Err(too_large()) };
            let inner = object(kind, json(headers, body)?, field.json_name())?;
            let mut message = DynamicMessage::new(binding.call.input());
            message.set_field(field, Field::Message(inner));
            message
        }
    };
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        let asked = self::query(binding, query)?;
        message.merge(&*asked.encode_to_vec()).map_err(|_| Refusal::malformed("the query"))?;
    }
    if let Some(field) = &binding.request_id
        && let Some(id) = idempotency_key(headers)?
    {
        fill(&mut message, std::slice::from_ref(field), id, "the Idempotency-Key")?;
    }
    for bound in &binding.variables {
        fill(&mut message, &bound.fields, value(bound, segments, own)?, "the path")?;
    }
    Ok(message.encode_to_vec())
}

/// A message over the limit.
pub(super) fn too_large() -> Refusal {
    let what = "the request is too large; no call needs this much";
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::OutOfRange, what)
}

/// The body as JSON; one that is empty is an empty object.
fn json(headers: &HeaderMap, body: &[u8]) -> Result<Value, Refusal> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") || headers.contains_key(CONTENT_ENCODING) {
        let what = "send the body as application/json, without a content-encoding";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, what));
    }
    // It refuses what is nested too deep.
    serde_json::from_slice(body)
        .map_err(|error| Refusal::malformed(format!("the body is no JSON: {error}")))
}

/// A message out of its JSON, which stands at `at` in the request.
fn object(kind: MessageDescriptor, json: Value, at: &str) -> Result<DynamicMessage, Refusal> {
    if !json.is_object() {
        return Err(Refusal::malformed("the body must be a JSON object"));
    }
    if let Some(path) = unknown(&kind, &json, at) {
        return Err(Refusal::field(&path, "is not a field of this call"));
    }
    let mut track = serde_path_to_error::Track::new();
    let read = serde_path_to_error::Deserializer::new(json, &mut track);
    DynamicMessage::deserialize(kind, read).map_err(|error| {
        let path = track.path().to_string();
        match path.as_str() {
            "." => Refusal::malformed(format!("the body: {error}")),
            path => Refusal::field(&joined(at, path), error.to_string()),
        }
    })
}

/// The path of a field that the message does not have.
fn unknown(kind: &MessageDescriptor, json: &Value, at: &str) -> Option<String> {
    if kind.package_name() == "google.protobuf" {
        return None;
    }
    json.as_object()?.iter().find_map(|(name, value)| {
        let path = joined(at, name);
        let Some(field) = named(kind, name) else { return Some(path) };
        match (field.kind(), value) {
            (Kind::Message(inner), Value::Array(all)) if field.is_list() => {
                let mut all = all.iter().enumerate();
                all.find_map(|(n, one)| unknown(&inner, one, &format!("{path}[{n}]")))
            }
            (Kind::Message(inner), value) if !field.is_map() => unknown(&inner, value, &path),
            _ => None,
        }
    })
}

fn joined(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn named(kind: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    kind.get_field_by_json_name(name).or_else(|| kind.get_field_by_name(name))
}

/// The message that a query makes: each of its names is a field that neither path nor body have.
fn query(binding: &Binding, query: &str) -> Result<DynamicMessage, Refusal> {
    let kind = binding.call.input();
    let mut fields = Map::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(&name.replace('+', " "))?, decoded(&value.replace('+', " "))?);
        let field = named(&kind, &name).filter(|field| free(binding, field));
        let Some(field) = field else {
            return Err(Refusal::field(&name, "is not a parameter of this call"));
        };
        let value = match field.kind() {
            Kind::Bool => match value.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err(Refusal::field(&name, "must be true or false")),
            },
            _ => Value::String(value),
        };
        let there = fields.entry(field.json_name());
        if field.is_list() {
            let all = there.or_insert_with(|| Value::Array(Vec::new())).as_array_mut();
            all.into_iter().for_each(|all| all.push(value.clone()));
        } else if matches!(there, serde_json::map::Entry::Occupied(_)) {
            return Err(Refusal::field(&name, "stands in the query twice"));
        } else {
            there.or_insert(value);
        }
    }
    object(kind, Value::Object(fields), "")
}

/// Whether a query may set the field.
pub(super) fn free(binding: &Binding, field: &FieldDescriptor) -> bool {
    let in_path = binding.variables.iter().any(|bound| bound.fields.first() == Some(field));
    let in_body = match &binding.body {
        Content::None => false,
        Content::All => true,
        Content::Field(body) => body == field,
    };
    let simple = match field.kind() {
        Kind::Message(kind) => kind.package_name() == "google.protobuf",
        _ => true,
    };
    !in_path && !in_body && simple && !field.is_map()
}

/// The key, with or without the quotes that a structured field has.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().ok().filter(|_| keys.next().is_none());
    let key = key.ok_or_else(|| Refusal::malformed("send one Idempotency-Key, in ASCII"))?;
    let bare = key.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(key);
    Ok(Some(bare.to_owned()))
}

/// What the path says of a field.
fn value(bound: &Bound, segments: &[&str], own: &str) -> Result<String, Refusal> {
    let mut name = String::new();
    if bound.is_own {
        name.push_str(own);
    }
    for segment in segments.get(bound.segments.clone()).unwrap_or_default() {
        let segment = decoded(segment)?;
        // A name within a segment would be another resource's.
        if segment.contains('/') {
            return Err(Refusal::malformed("a part of the path has a slash in it"));
        }
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(&segment);
    }
    Ok(name)
}

/// Sets a field that nobody else may have set to something else.
fn fill(
    message: &mut DynamicMessage,
    fields: &[FieldDescriptor],
    value: String,
    by: &str,
) -> Result<(), Refusal> {
    let Some((field, inner)) = fields.split_first() else { return Ok(()) };
    if !inner.is_empty() {
        let there = message.get_field_mut(field).as_message_mut();
        return there.map_or(Ok(()), |there| fill(there, inner, value, by));
    }
    let there = message.get_field(field);
    let said = there.as_str().unwrap_or_default();
    if !said.is_empty() && said != value {
        return Err(Refusal::field(field.json_name(), format!("is not what {by} says")));
    }
    message.set_field(field, Field::String(value));
    Ok(())
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| Refusal::malformed("the path or the query is not UTF-8"))
}
