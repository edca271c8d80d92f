//! How the storefront is spoken to over HTTP.
//!
//! Paths leave out the org, which is that of the caller's verified token, and can be said in no other way.

use crate::api::Edge;
use proto::codec::explain_http;
use proto::limits::{
    EVENTS_AGAIN_MS, EVENTS_ALIVE_MS, EVENTS_WRITTEN_MAX, JSON_ANSWER_BYTES_MAX, JSON_BODY_MS,
    JSON_BYTES_MAX, PATH_BYTES_MAX, REQUEST_BYTES_MAX,
};
use proto::wire::storefront::storefront_service_server::SERVICE_NAME;
use runtime::web::{WebLimits, WebOptions};
use std::sync::Arc;
use std::time::Duration;

/// What a page shows may be a second old, and after that for a minute while it is asked for anew.
const SHOWN: &str = "max-age=1, stale-while-revalidate=60";

/// The storefront over HTTP, for pages of these origins.
pub(crate) fn options(edge: Arc<Edge>, origins: Vec<String>) -> WebOptions {
    WebOptions {
        title: "Floodgate storefront",
        descriptors: proto::wire::DESCRIPTORS,
        services: vec![SERVICE_NAME],
        own: Some(Arc::new(move |head| Ok(format!("orgs/{}", edge.own_org(head)?)))),
        cached: vec![("floodgate.storefront.v1.StorefrontService.GetSaleState", SHOWN)],
        origins,
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
