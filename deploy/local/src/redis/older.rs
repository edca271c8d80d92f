//! What a Redis remembered earlier: saved into a file, and later put in its place as a backup would be.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::{LocalError, Stack};

/// What Redis writes and, when it is there at a start, reads.
const FILE: &str = "dump.rdb";

/// How long a save may take.
const SAVE_LIMIT: Duration = Duration::from_secs(30);

impl Stack {
    /// Has a cell's Redis write what it remembers into a file, which is moved out of its way: it starts empty still.
    ///
    /// # Errors
    /// When the cell has none or it does not save.
    pub async fn save_redis(&self, cell: &str) -> Result<PathBuf, LocalError> {
        let name = format!("{cell}/redis");
        let url = self.redis_admin_url(cell)?;
        let saved = timeout(SAVE_LIMIT, save(&url)).await.map_err(io::Error::from);
        saved.and_then(|saved| saved).map_err(LocalError::io(format!("save {name}")))?;
        let folder = self.folder().join(&name);
        let older = folder.join("older.rdb");
        let moved = std::fs::rename(folder.join(FILE), &older);
        moved.map_err(LocalError::io(format!("move what {name} saved")))?;
        Ok(older)
    }

    /// Kills a cell's Redis and starts it with a file that was saved before, as if a backup were put in its place.
    ///
    /// # Errors
    /// When the cell has none, the file cannot be read, or it does not become ready.
    pub async fn replace_redis(&self, cell: &str, file: &Path) -> Result<(), LocalError> {
        let name = format!("{cell}/redis");
        self.kill(&name).await?;
        let place = self.folder().join(&name).join(FILE);
        let copied = std::fs::copy(file, &place);
        copied.map_err(LocalError::io(format!("put {} in place", file.display())))?;
        let started = self.restart(&name).await;
        // The next start is that of an empty one again.
        std::fs::remove_file(&place).map_err(LocalError::io("remove what was put in place"))?;
        started
    }
}

/// Saves, in a session of `redis://user:password@address`.
async fn save(url: &str) -> io::Result<()> {
    let session = url.strip_prefix("redis://").and_then(|rest| rest.split_once('@'));
    let named = session.and_then(|(user, address)| Some((user.split_once(':')?, address)));
    let ((user, password), address) = named.ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(address).await?;
    for command in [format!("AUTH {user} {password}\r\n"), "SAVE\r\n".to_owned()] {
        stream.write_all(command.as_bytes()).await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        if &answer != b"+OK\r\n" {
            return Err(io::Error::other("it does not save"));
        }
    }
    Ok(())
}
