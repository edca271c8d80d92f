//! From a call's answer to an HTTP answer: one message as JSON, or a stream of them as events (server-sent events).
//!
//! A stream's answer begins with what is so now, so whoever comes again needs nothing of what came before: `Last-Event-ID`
//! is taken and not needed, and events bear no ids. `retry:` says when to come again once a stream has ended, as it does
//! with its connection; a page's EventSource does so by itself. What many watch is written as JSON once. A stream that ends
//! with a refusal says so in a last event called `problem`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderValue, Response};
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use super::WebLimits;
use super::binding::Binding;
use super::frame::Messages;
use super::problem::Refusal;

pub(super) const JSON: &str = "application/json";
pub(super) const EVENTS: &str = "text/event-stream";

/// Says that the connection lives.
const ALIVE: Bytes = Bytes::from_static(b": alive\n\n");

/// Messages that were written as JSON not long ago.
#[derive(Debug, Default)]
pub(super) struct Written(Mutex<HashMap<Bytes, Bytes>>);

/// The one message of an answer, as JSON.
pub(super) async fn whole(
    binding: &Binding,
    mut messages: Messages,
) -> Result<Response<Body>, Status> {
    let message = messages.next().await?;
    let message = message.ok_or_else(|| Status::internal("the call ended without an answer"))?;
    // What came counts only if the call ends well.
    if messages.next().await?.is_some() {
        return Err(Status::internal("the call has more than one answer"));
    }
    let json = json(binding.call.output(), &message)?;
    let mut answer = Response::new(Body::new(Full::new(Bytes::from(json))));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    match &binding.cache {
        Some(cache) => {
            headers.insert(CACHE_CONTROL, cache.clone());
            headers.append(VARY, HeaderValue::from(AUTHORIZATION));
        }
        None => drop(headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"))),
    }
    Ok(answer)
}

/// The messages of an answer, as events.
pub(super) fn events(
    binding: Arc<Binding>,
    messages: Messages,
    limits: &WebLimits,
    explain: fn(Status) -> Status,
) -> Response<Body> {
    let (alive, written_max) = (limits.alive_every, limits.written_max);
    // Clients that lose their connections together come again one after another.
    let again_ms = rand::random_range(limits.again_ms.clone());
    let begin = Some((messages, Some(format!("retry: {again_ms}\n"))));
    let events = stream::unfold(begin, move |watching| {
        let binding = binding.clone();
        async move {
            let (mut messages, first) = watching?;
            let told = match timeout(alive, messages.next()).await {
                Err(_) => return Some((Ok(Frame::data(ALIVE)), Some((messages, first)))),
                Ok(Ok(None)) => return None,
                Ok(Ok(Some(message))) => binding
                    .written
                    .get(binding.call.output(), message, written_max)
                    .map_err(Refusal::from),
                Ok(Err(status)) => Err(status.into()),
            };
            Some(match told {
                Ok(event) => {
                    let event = match first {
                        Some(first) => [first.as_bytes(), &event].concat().into(),
                        None => event,
                    };
                    (Ok(Frame::data(event)), Some((messages, None)))
                }
                Err(refusal) => {
                    let event = format!("event: problem\ndata: {}\n\n", refusal.event(explain));
                    (Ok::<_, Status>(Frame::data(event.into())), None)
                }
            })
        }
    });
    let mut answer = Response::new(Body::new(StreamBody::new(events)));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

impl Written {
    /// A message as an event.
    fn get(&self, kind: MessageDescriptor, message: Bytes, max: usize) -> Result<Bytes, Status> {
        let there = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&message).cloned();
        if let Some(event) = there {
            return Ok(event);
        }
        let json = json(kind, &message)?;
        let event = Bytes::from([b"data: ", &*json, b"\n\n"].concat());
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() >= max {
            written.clear();
        }
        // Its own bytes, not a part of what was read with it.
        written.insert(Bytes::copy_from_slice(&message), event.clone());
        Ok(event)
    }
}

/// A message as proto3 JSON, with the fields that are zero.
fn json(kind: MessageDescriptor, message: &[u8]) -> Result<Vec<u8>, Status> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut json = serde_json::Serializer::new(Vec::new());
    let broken = |what: String| Status::internal(format!("the answer cannot be written: {what}"));
    let message = DynamicMessage::decode(kind, message).map_err(|why| broken(why.to_string()))?;
    message.serialize_with_options(&mut json, &options).map_err(|why| broken(why.to_string()))?;
    Ok(json.into_inner())
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_reflect::DescriptorPool;
    use prost_reflect::prost_types::Duration;

    use super::*;

    #[test]
    fn what_was_written_is_kept_within_its_limit() {
        let pool = DescriptorPool::global();
        let kind = pool.get_message_by_name("google.protobuf.Duration").unwrap();
        let written = Written::default();
        let event = |seconds| {
            let message = Duration { seconds, nanos: 0 }.encode_to_vec();
            written.get(kind.clone(), message.into(), 3).unwrap()
        };
        for seconds in 0..20 {
            assert_eq!(event(seconds), format!("data: \"{seconds}s\"\n\n"));
            // What is there is not written again.
            assert_eq!(event(seconds).as_ptr(), event(seconds).as_ptr());
            assert!(written.0.lock().unwrap().len() <= 3);
        }
    }
}
