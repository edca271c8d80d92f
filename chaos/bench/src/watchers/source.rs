//! Sockets from several addresses of this machine: one address has only so many ports, and a router lets in only so many
//! connections of one.

use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};

/// How many addresses.
pub(super) const COUNT: u8 = 32;

/// Connects number `number` to `address`.
pub(super) async fn connect(address: SocketAddr, number: usize) -> Result<TcpStream> {
    let source = Ipv4Addr::new(127, 0, 1, u8::try_from(number % usize::from(COUNT))? + 1);
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
