//! What runs: the versions of planes and stores, and what Postgres promises about a commit, as they say themselves.

use std::io;
use std::net::SocketAddr;

use local::Platform;
use sqlx::{Connection, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::report::Versions;
use crate::scene::{Scene, SceneError};

/// etcd's answer about its version is shorter than this.
const ANSWER_BYTES_MAX: u64 = 4_096;

/// What a commit promises.
const SETTINGS: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];

/// Asks all of them; a store that does not tell is left out.
pub(super) async fn read(platform: &Platform, scene: &Scene<'_>) -> Result<Versions, SceneError> {
    let planes: Vec<String> = scene.versions().await?.into_iter().collect();
    let mut versions = vec![("floodgate".to_owned(), planes.join(" and "))];
    let stack = platform.stack();
    let Some(stores) = scene.stores()?.into_iter().next() else { return Ok(versions) };
    if let Some(version) = redis_version(&stores.redis_url).await {
        versions.push(("redis".to_owned(), version));
    }
    let failed = |source| SceneError::Postgres { cell: stores.cell.clone(), source };
    let mut session = PgConnection::connect(&stores.postgres_url).await.map_err(failed)?;
    for (name, setting) in [("postgres", "server_version")]
        .into_iter()
        .chain(SETTINGS.into_iter().map(|setting| (setting, setting)))
    {
        let show = sqlx::query_scalar("select current_setting($1)").bind(setting);
        let value: String = show.fetch_one(&mut session).await.map_err(failed)?;
        let value = value.split(' ').next().unwrap_or_default().to_owned();
        versions.push((name.to_owned(), value));
    }
    if let Ok(version) = etcd_version(stack.endpoint("etcd")?.address).await {
        versions.push(("etcd".to_owned(), version));
    }
    Ok(versions)
}

async fn redis_version(url: &str) -> Option<String> {
    let client = redis::Client::open(url).ok()?;
    let mut connection = client.get_multiplexed_async_connection().await.ok()?;
    let info: redis::InfoDict =
        redis::cmd("INFO").arg("server").query_async(&mut connection).await.ok()?;
    info.get("redis_version")
}

/// One request by hand: `{"etcdserver":"3.4.23",…}`.
async fn etcd_version(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /version HTTP/1.0\r\nhost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    let version: serde_json::Value = serde_json::from_str(body)?;
    Ok(version["etcdserver"].as_str().unwrap_or("?").to_owned())
}
