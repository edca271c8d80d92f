//! How merchants' calls look over HTTP. Their paths name the org, which must be that of the token.

use std::time::Duration;

use proto::codec::explain_http;
use proto::limits::{
    EVENTS_AGAIN_MS, EVENTS_ALIVE_MS, EVENTS_WRITTEN_MAX, JSON_ANSWER_BYTES_MAX, JSON_BODY_MS,
    JSON_BYTES_MAX, PATH_BYTES_MAX, REQUEST_BYTES_MAX,
};
use proto::wire::DESCRIPTORS;
use proto::wire::admin::sale_service_server::SERVICE_NAME;
use runtime::web::{WebLimits, WebOptions};

/// Merchants' calls over HTTP. No page in a browser is let in: a merchant's token has no business there.
pub(crate) fn options() -> WebOptions {
    WebOptions {
        title: "Floodgate sales",
        descriptors: DESCRIPTORS,
        services: vec![SERVICE_NAME],
        own: None,
        cached: Vec::new(),
        origins: Vec::new(),
        explain: explain_http,
        limits: WebLimits {
            path_bytes_max: PATH_BYTES_MAX,
            body_bytes_max: JSON_BYTES_MAX,
            body_time_max: Duration::from_millis(JSON_BODY_MS),
            message_bytes_max: REQUEST_BYTES_MAX,
            answer_bytes_max: JSON_ANSWER_BYTES_MAX,
            alive_every: Duration::from_millis(EVENTS_ALIVE_MS),
            written_max: EVENTS_WRITTEN_MAX,
            again_ms: EVENTS_AGAIN_MS,
        },
    }
}
