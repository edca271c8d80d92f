//! What the cell's own audit has found, as its processes tell it.

use local::ServerState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cell::{CellUnderTest, name_of};

/// A process's number by its name in the text of its metrics, labels and all.
pub(crate) async fn metric(cell: &CellUnderTest, process: &str, name: &str) -> Option<f64> {
    let address = cell.stack.endpoint(&name_of(process)).unwrap().metrics.unwrap();
    let mut line = TcpStream::connect(address).await.ok()?;
    line.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
    let mut text = String::new();
    line.read_to_string(&mut text).await.ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

pub(crate) async fn differences(
    cell: &CellUnderTest,
    process: &str,
    invariant: &str,
) -> Result<f64, String> {
    let name = format!("floodgate_audit_differences{{invariant=\"{invariant}\"}}");
    metric(cell, process, &name).await.ok_or_else(|| format!("{process} tells no {name}"))
}

/// The audits of all processes that run have found nothing: whatever was done to the cell, its stores agree.
pub(crate) async fn nothing_was_found(cell: &CellUnderTest) {
    for process in ["p1", "p2", "p3"] {
        if cell.stack.state(&name_of(process)).is_ok_and(|state| state == ServerState::Running) {
            no_differences(cell, process).await;
        }
    }
}

pub(crate) async fn no_differences(cell: &CellUnderTest, process: &str) {
    for invariant in ["INV-1", "INV-2", "INV-3", "INV-6", "INV-8"] {
        assert_eq!(
            differences(cell, process, invariant).await,
            Ok(0.0),
            "{invariant} in {process}"
        );
    }
}
