//! Trace context on its way through our own frames, in W3C's `traceparent` form.
//!
//! Whether a call is traced is decided where it enters the platform, before a span is made. A call
//! that is not traced carries nothing and makes no span, so tracing costs it one relaxed load.
//! A sampled call carries 55 characters, and whoever works for it makes child spans.

use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind, TraceContextExt, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, SamplingResult, ShouldSample};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The bits of the share of roots that are sampled; [`OFF`] while nothing is traced.
static RATIO: AtomicU64 = AtomicU64::new(OFF);

/// No bits of a ratio.
const OFF: u64 = u64::MAX;

/// Whether this process traces anything.
pub fn is_enabled() -> bool {
    RATIO.load(Ordering::Relaxed) != OFF
}

/// Starts a trace for one call in `1 / ratio`, and returns the disabled span for all others. The
/// span is made by `make` (`|| tracing::info_span!("reserve")`), which is not called otherwise.
pub fn root(make: impl FnOnce() -> Span) -> Span {
    let bits = RATIO.load(Ordering::Relaxed);
    if bits == OFF || rand::random::<f64>() >= f64::from_bits(bits) {
        return Span::none();
    }
    with_parent(make(), Context::new().with_value(Chosen))
}

/// Continues the trace of `traceparent`, if there is one and it is sampled; else returns the
/// disabled span without calling `make`.
pub fn child_of(traceparent: Option<&str>, make: impl FnOnce() -> Span) -> Span {
    let Some(traceparent) = traceparent else { return Span::none() };
    if !is_enabled() {
        return Span::none();
    }
    let Some(parent) = parse(traceparent).filter(SpanContext::is_sampled) else {
        return Span::none();
    };
    with_parent(make(), Context::new().with_remote_span_context(parent))
}

/// The trace context to send along with what is done now; none unless it is sampled.
pub fn traceparent_of_current() -> Option<String> {
    if !is_enabled() {
        return None;
    }
    traceparent_of(&Span::current())
}

/// The trace context to send along with what is done in `span`; none unless it is sampled.
pub fn traceparent_of(span: &Span) -> Option<String> {
    if !is_enabled() || span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let at = span.span_context();
    let flags = at.trace_flags().to_u8();
    let sampled = at.is_valid() && at.is_sampled();
    sampled.then(|| format!("00-{}-{}-{flags:02x}", at.trace_id(), at.span_id()))
}

pub(super) fn enable(ratio: f64) {
    RATIO.store(ratio.clamp(0.0, 1.0).to_bits(), Ordering::Relaxed);
}

/// Children follow their parents; roots are sampled when [`root`] chose them, else by the ratio.
pub(super) fn sampler(ratio: f64) -> impl ShouldSample + 'static {
    Sampler::parent_based(Root(Sampler::TraceIdRatioBased(ratio)))
}

/// Marks a context whose call was chosen already, so that the dice are not thrown twice.
struct Chosen;

#[derive(Clone, Debug)]
struct Root(Sampler);

impl ShouldSample for Root {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if parent.is_some_and(|context| context.get::<Chosen>().is_some()) {
            return SamplingResult {
                decision: SamplingDecision::RecordAndSample,
                attributes: Vec::new(),
                trace_state: TraceState::default(),
            };
        }
        self.0.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}

fn with_parent(span: Span, parent: Context) -> Span {
    // It fails only when the span is disabled by its level, and then there is nothing to trace.
    drop(span.set_parent(parent));
    span
}

/// Reads `00-<32 hex>-<16 hex>-<2 hex>`; other versions may append fields.
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut fields = traceparent.split('-');
    let version = fields.next().filter(|field| is_hex(field, 2) && *field != "ff")?;
    let trace_id = fields.next().filter(|field| is_hex(field, 32))?;
    let span_id = fields.next().filter(|field| is_hex(field, 16))?;
    let flags = fields.next().filter(|field| is_hex(field, 2))?;
    if version == "00" && fields.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(
        TraceId::from_hex(trace_id).ok()?,
        SpanId::from_hex(span_id).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

fn is_hex(field: &str, length: usize) -> bool {
    let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    field.len() == length && field.bytes().all(lower_hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents_are_read_by_the_letter() {
        let sampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parsed = parse(sampled).unwrap();
        assert!(parsed.is_sampled() && parsed.is_remote());
        assert_eq!(parsed.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        assert!(!parse(unsampled).unwrap().is_sampled());
        let newer = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-follows";
        assert!(parse(newer).is_some());
        for broken in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
        ] {
            assert!(parse(broken).is_none(), "{broken}");
        }
    }
}
