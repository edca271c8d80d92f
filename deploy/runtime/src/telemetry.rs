//! What a process tells about itself: logs, traces and metrics.
//!
//! Logs are JSON lines on standard output. Traces go to a collector only when one is named, and only
//! those that were sampled; see [`trace`] for what carries them from process to process. Metrics are
//! read by a scrape; see [`crate::metric`]. Telemetry never decides anything and never stops work.

pub mod trace;

use std::time::Duration;

use opentelemetry::global;
use opentelemetry::metrics::Meter;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::metric::{Counter, Metrics, MetricsError};

pub use trace::{child_of, root, traceparent_of_current};

/// How long an export to the collector may take before its spans are dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the last export may hold up the end of the process.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What libraries say about themselves, unless the directives ask for it.
const QUIET: &str = "opentelemetry=warn";

/// Spans with targets that do not start so belong to libraries and are not traced.
const OWN_TARGETS: &str = "floodgate";

/// What telemetry is set up with.
#[derive(Clone, Debug)]
pub struct TelemetryOptions {
    /// The plane's name, as in `floodgate_build_info`.
    pub plane: &'static str,
    /// The plane's version.
    pub version: &'static str,
    /// Directives that say what is logged, as `info` or `info,floodgate_cell=debug`.
    pub log: String,
    /// The collector of traces, as `http://host:4317`; without one nothing is traced.
    pub otlp_endpoint: Option<String>,
    /// The share of traces that start here and are sampled, from 0 to 1.
    pub trace_ratio: f64,
}

/// The telemetry of this process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    traces: Option<SdkTracerProvider>,
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log directives cannot be understood.
    #[error(
        "cannot read the log directives {directives:?}; write them like info,h2=warn: {source}"
    )]
    Log {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has telemetry already.
    #[error("telemetry was set up before; set it up once, at the start of the process")]
    Again,
    /// The collector's address cannot be used.
    #[error("cannot export traces to {endpoint:?}; name it like http://host:4317: {reason}")]
    Collector {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The metrics did not come up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl Telemetry {
    /// Sets up logs, traces and metrics, once per process, from within a tokio runtime (the
    /// exporter's connection lives there).
    pub fn start(options: &TelemetryOptions) -> Result<Self, TelemetryError> {
        let metrics = Metrics::new(options.plane, options.version)?;
        let filter = EnvFilter::builder()
            .parse(format!("{QUIET},{}", options.log))
            .map_err(|source| TelemetryError::Log { directives: options.log.clone(), source })?;
        let logs = tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(filter);
        let traces = tracer_provider(options)?;
        let spans = traces.as_ref().map(|traces| {
            tracing_opentelemetry::layer()
                .with_tracer(traces.tracer("floodgate"))
                .with_threads(false)
                .with_filter(FilterFn::new(|metadata| metadata.target().starts_with(OWN_TARGETS)))
        });
        tracing_subscriber::registry()
            .with(logs)
            .with(spans)
            .try_init()
            .map_err(|_| TelemetryError::Again)?;
        if traces.is_some() {
            trace::enable(options.trace_ratio);
        }
        global::set_meter_provider(metrics.provider());
        log_panics(&metrics);
        Ok(Self { metrics, traces })
    }

    /// The process' metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends the spans that wait, for at most two seconds.
    pub async fn stop(self) {
        let Some(traces) = self.traces else { return };
        // It blocks until the collector has answered, which needs the runtime to go on.
        let flush =
            tokio::task::spawn_blocking(move || traces.shutdown_with_timeout(FLUSH_TIMEOUT));
        match flush.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last spans were not exported"),
            Err(error) => tracing::warn!(%error, "the export of the last spans panicked"),
        }
    }
}

/// A plain OpenTelemetry meter of this process, for what is measured rarely. Without
/// [`Telemetry::start`] it measures nothing.
pub fn meter(scope: &'static str) -> Meter {
    global::meter(scope)
}

fn tracer_provider(
    options: &TelemetryOptions,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(endpoint) = options.otlp_endpoint.clone() else { return Ok(None) };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint.clone())
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| TelemetryError::Collector { endpoint, reason: error.to_string() })?;
    let resource = Resource::builder()
        .with_service_name(format!("floodgate-{}", options.plane))
        .with_attribute(opentelemetry::KeyValue::new("service.version", options.version))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(trace::sampler(options.trace_ratio))
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// Panics are log lines and counted like everything else; the default hook would write to standard
/// error.
fn log_panics(metrics: &Metrics) {
    let panics = Counter::new(
        metrics,
        "floodgate_panics_total",
        "Panics in this process, also those that spoiled one call only",
        &[],
    );
    std::panic::set_hook(Box::new(move |panic| {
        panics.add(1);
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no message)");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        tracing::error!(panic = message, location, thread, "panicked");
    }));
}
