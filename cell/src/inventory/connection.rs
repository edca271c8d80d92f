//! The connection to a cell's Redis: one, multiplexed, made again when it breaks.
//!
//! A connection belongs to one run of one server. Whoever loaded a bucket there names that run with every call, so a
//! server that was replaced behind our back is noticed before it grants anything. One that could forget grants to make
//! room is not worked with.
//!
//! `deploy/redis/cell.acl` lists what the user that cells work as may do there: these commands, on these keys.

use super::settings::{JUDGED, ServerInfo};
use crate::fitness::FitnessGauges;
use crate::seeded;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo, RedisError, Value};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The function library, in the order in which its parts need each other.
pub(crate) const LIBRARY: &str = concat!(
    "#!lua name=floodgate\n",
    include_str!("record.lua"),
    include_str!("hold.lua"),
    include_str!("settle.lua"),
    include_str!("join.lua"),
    include_str!("move.lua"),
    include_str!("load.lua"),
    include_str!("look.lua"),
);
/// How long a call may take: a batch takes about a millisecond, a paused server for ever.
const RESPONSE: Duration = Duration::from_millis(1_000);
const CONNECT: Duration = Duration::from_millis(500);

/// Why a function did not answer.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// Redis does not know the bucket, or is another run than the one that it was loaded into: load it anew.
    #[error("redis has forgotten the bucket: {0}")]
    Forgotten(String),
    /// The bucket has another epoch there: ask Postgres who keeps it.
    #[error("redis has the bucket under another epoch: {0}")]
    Stale(String),
    /// It may have run or not: send the same batch again.
    #[error("no answer from redis: {0}")]
    Unknown(String),
}

/// A cell's Redis, as the buckets of one class of sales use it.
#[derive(Debug)]
pub struct Inventory {
    client: Client,
    line: Mutex<Option<Line>>,
    gauges: Option<FitnessGauges>,
}

#[derive(Clone, Debug)]
struct Line {
    connection: MultiplexedConnection,
    run: Arc<str>,
}

impl Inventory {
    /// The inventory at `redis://user:password@host:port`. Connects when it is needed.
    ///
    /// # Errors
    /// When the address cannot be read.
    pub fn new(address: &str) -> Result<Inventory, RedisError> {
        let nodelay = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = address.into_connection_info()?.set_tcp_settings(nodelay);
        // The library's name would be one command more that a user must be allowed.
        let user = info.redis_settings().clone().set_skip_set_lib_name();
        let client = Client::open(info.set_redis_settings(user))?;
        Ok(Inventory { client, line: Mutex::new(None), gauges: None })
    }

    /// Shows from now on what is read of the server's settings.
    #[must_use]
    pub fn charted(self, gauges: FitnessGauges) -> Inventory {
        Inventory { gauges: Some(gauges), ..self }
    }

    /// The run of the server that we are connected to, after connecting if need be.
    ///
    /// # Errors
    /// [`InventoryError::Unknown`] when it cannot be reached.
    pub async fn run(&self) -> Result<Arc<str>, InventoryError> {
        Ok(self.line().await?.run)
    }

    /// Reads the settings of the server that we are connected to once more. One that could forget grants, or is another by
    /// now, is left: whoever comes next connects anew, and is refused for as long as it is so.
    ///
    /// # Errors
    /// [`InventoryError::Unknown`], which says what to set, or that it does not answer.
    pub async fn look_again(&self) -> Result<(), InventoryError> {
        let Some(Line { mut connection, run }) = self.line.lock().await.clone() else {
            return Ok(());
        };
        let unknown = |why: String| InventoryError::Unknown(why);
        let info = self.info(&mut connection).await.map_err(|error| unknown(error.to_string()))?;
        let left = match info.judge().refusal() {
            Some(why) => why,
            None if *info.run != *run => "it is another server".to_owned(),
            None => return Ok(()),
        };
        self.leave(&run).await;
        Err(unknown(left))
    }

    /// Calls a function in the server's run `run`.
    pub(super) async fn call(
        &self,
        run: &str,
        command: &redis::Cmd,
    ) -> Result<Value, InventoryError> {
        let mut line = self.line().await?;
        if *line.run != *run {
            return Err(InventoryError::Forgotten("it was started anew".into()));
        }
        match line.connection.send_packed_command(command).await.and_then(Value::extract_error) {
            Ok(value) => Ok(value),
            Err(error) => Err(self.judge(error, &line.run).await),
        }
    }

    async fn line(&self) -> Result<Line, InventoryError> {
        let mut line = self.line.lock().await;
        if let Some(line) = &*line {
            return Ok(line.clone());
        }
        let made =
            self.connect().await.map_err(|error| InventoryError::Unknown(error.to_string()))?;
        tracing::info!(run = %made.run, "connected to redis");
        Ok(line.insert(made).clone())
    }

    async fn connect(&self) -> Result<Line, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(RESPONSE));
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let info = self.info(&mut connection).await?;
        if let Some(why) = info.judge().refusal() {
            return Err((ErrorKind::InvalidClientConfig, "unfit", why).into());
        }
        let load = redis::cmd("FUNCTION")
            .arg("LOAD")
            .arg("REPLACE")
            .arg(&*seeded::lua(LIBRARY))
            .to_owned();
        let _: Value = load.query_async(&mut connection).await?;
        Ok(Line { connection, run: info.run.into() })
    }

    /// What the server says of itself, which is charted.
    async fn info(&self, connection: &mut MultiplexedConnection) -> Result<ServerInfo, RedisError> {
        let info = redis::cmd("INFO").arg("server").arg("memory").arg("persistence").to_owned();
        let info: String = info.query_async(connection).await?;
        let info = ServerInfo::read(&info);
        if let Some(gauges) = &self.gauges {
            gauges.show("redis", &JUDGED, &info.judge());
        }
        Ok(info)
    }

    /// Drops the connection, unless another one was made meanwhile.
    async fn leave(&self, run: &Arc<str>) {
        let mut line = self.line.lock().await;
        if line.as_ref().is_some_and(|line| Arc::ptr_eq(&line.run, run)) {
            *line = None;
        }
    }

    /// What an error means. A broken connection is dropped, so that the next call makes a new one.
    async fn judge(&self, error: RedisError, run: &Arc<str>) -> InventoryError {
        let text = error.to_string();
        match error.code() {
            Some("MISSING" | "GAP") => return InventoryError::Forgotten(text),
            Some("STALE") => return InventoryError::Stale(text),
            // Whoever flushed the functions has flushed more.
            Some("ERR") if text.contains("Function not found") => {}
            Some(_) => return InventoryError::Unknown(text),
            None => {}
        }
        self.leave(run).await;
        InventoryError::Unknown(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What this crate itself sends, and what a balancer in between may ask.
    const SENT: [&str; 5] = ["fcall", "function|load", "info", "ping", "unlink"];

    #[test]
    fn the_user_of_cells_may_call_what_is_called_and_nothing_else() {
        let acl = include_str!("../../../deploy/redis/cell.acl");
        let user = acl.lines().find(|line| line.starts_with("user cell ")).unwrap();
        let allowed: BTreeSet<&str> =
            user.split(' ').filter_map(|word| word.strip_prefix('+')).collect();
        assert!(!allowed.iter().any(|word| word.starts_with('@')), "{user}");
        assert!(user.contains(" -@all ") && user.contains(" ~fg:* resetchannels "), "{user}");
        let called: BTreeSet<String> = LIBRARY
            .split("redis.call('")
            .skip(1)
            .filter_map(|rest| rest.split('\'').next().map(str::to_lowercase))
            .collect();
        assert!(called.len() > 5, "{called:?}");
        let needed: BTreeSet<&str> = called.iter().map(String::as_str).chain(SENT).collect();
        assert_eq!(allowed, needed);
    }
}
