//! A connection to etcd that notices when etcd does not answer.
//!
//! A paused etcd keeps its connections open and says nothing: every call has a limit, and idle
//! connections are pinged. Failures are errors of the call; trying again is the caller's business.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions};
use tokio::time::timeout;

/// The time that etcd may take to answer one call.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle time before a ping. Etcd closes connections that ping more often than every five seconds.
const KEEPALIVE: Duration = Duration::from_secs(6);

/// The time in which the ping must be answered.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// A call to etcd failed.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// It did not answer in time. Whether a write was done is unknown.
    #[error(
        "etcd did not answer in {CALL_TIMEOUT:?} ({what}); a write may have been done all the same"
    )]
    TimedOut {
        /// What was asked for.
        what: &'static str,
    },
    /// It answered with an error or could not be reached.
    #[error("etcd failed ({what}); try again: {source}")]
    Failed {
        /// What was asked for.
        what: &'static str,
        /// What it said.
        source: Box<etcd_client::Error>,
    },
}

/// A client of the cluster that the endpoints (`http://host:2379`) belong to. Nothing is connected
/// yet when this returns: the first call connects.
pub async fn connect(endpoints: &[String]) -> Result<Client, EtcdError> {
    let options = ConnectOptions::new()
        .with_connect_timeout(CALL_TIMEOUT)
        .with_keep_alive(KEEPALIVE, KEEPALIVE_TIMEOUT)
        .with_keep_alive_while_idle(true)
        .with_require_leader(true);
    within("connect", Client::connect(endpoints, Some(options))).await
}

/// Makes one call, for at most [`CALL_TIMEOUT`]. `what` names it in errors.
pub async fn within<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, EtcdError> {
    match timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(EtcdError::Failed { what, source: Box::new(source) }),
        Err(_) => Err(EtcdError::TimedOut { what }),
    }
}
