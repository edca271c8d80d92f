//! The connection to a cell's Redis: one, multiplexed, made again when it breaks.
//!
//! A connection belongs to one run of one server. Whoever loaded a bucket there names that run with every call, so a
//! server that was replaced behind our back is noticed before it grants anything.

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, Value};
use std::{sync::Arc, time::Duration};
use tokio::sync::Mutex;

/// The function library, in the order in which its parts need each other.
const LIBRARY: &str = concat!(
    "#!lua name=floodgate\n",
    include_str!("record.lua"),
    include_str!("hold.lua"),
    include_str!("settle.lua"),
    include_str!("join.lua"),
    include_str!("load.lua"),
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
}

#[derive(Clone, Debug)]
struct Line {
    connection: MultiplexedConnection,
    run: Arc<str>,
}

impl Inventory {
    /// The inventory at `redis://host:port`. Connects when it is needed.
    ///
    /// # Errors
    /// When the address cannot be read.
    pub fn new(address: &str) -> Result<Inventory, RedisError> {
        let nodelay = redis::io::tcp::TcpSettings::default().set_nodelay(true);
        let info = address.into_connection_info()?.set_tcp_settings(nodelay);
        Ok(Inventory { client: Client::open(info)?, line: Mutex::new(None) })
    }

    /// The run of the server that we are connected to, after connecting if need be.
    ///
    /// # Errors
    /// [`InventoryError::Unknown`] when it cannot be reached.
    pub async fn run(&self) -> Result<Arc<str>, InventoryError> {
        Ok(self.line().await?.run)
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
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default();
        let load = redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(LIBRARY).to_owned();
        let _: Value = load.query_async(&mut connection).await?;
        Ok(Line { connection, run: run.trim().into() })
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
        let mut line = self.line.lock().await;
        if line.as_ref().is_some_and(|line| Arc::ptr_eq(&line.run, run)) {
            *line = None;
        }
        InventoryError::Unknown(text)
    }
}
